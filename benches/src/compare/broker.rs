//! What the suite needs to know of brokers, whoever they are.

use crate::Failure;
use crate::process::Processes;

/// One broker or a cluster of them under test, with their data on the disk that is measured.
pub(crate) trait Brokers {
    /// Their name in the table.
    fn name(&self) -> &'static str;
    /// Starts them on what they have stored, if they do not run; returns when they answer requests.
    fn start(&mut self) -> Result<(), Failure>;
    /// Ends all with SIGKILL.
    fn kill(&mut self) -> Result<(), Failure>;
    /// Ends one broker with SIGKILL, by its id in the metadata.
    fn kill_one(&mut self, id: i32) -> Result<(), Failure>;
    /// Starts one broker again after [`Self::kill_one`].
    fn revive_one(&mut self, id: i32) -> Result<(), Failure>;
    /// Ends them in order and forgets what they stored.
    fn discard(&mut self) -> Result<(), Failure>;
    /// Their bootstrap addresses.
    fn bootstrap(&self) -> &str;
    /// Their processes.
    ///
    /// # Panics
    /// When they do not run.
    fn processes(&self) -> Processes;
    /// Topic configuration for acknowledging from the page cache; what these brokers do at their
    /// defaults gives none.
    fn page_cache(&self) -> &'static [(&'static str, &'static str)];
}

/// Waits until `address` takes connections, or `seconds` have passed.
pub(crate) fn wait_for_port(address: &str, seconds: u64) -> Result<(), Failure> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while std::net::TcpStream::connect(address).is_err() {
        if std::time::Instant::now() > end {
            return Err(format!("{address} did not open within {seconds} s").into());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

/// The first of `count` ports in a row that were free a moment ago.
pub(crate) fn free_ports(count: u16) -> Result<u16, Failure> {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let last = first.checked_add(count).ok_or("no ports in a row");
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if last.is_ok_and(|last| (first..last).all(is_free)) {
            return Ok(first);
        }
    }
    Err(format!("no {count} free ports in a row").into())
}

/// `count` addresses of loopback from `port` on, as clients take them.
pub(crate) fn addresses(port: u16, count: u16) -> String {
    let addresses: Vec<_> = (port..port + count).map(|port| format!("127.0.0.1:{port}")).collect();
    addresses.join(",")
}
