//! What the suite needs to know of a broker, whoever it is.

use crate::Failure;
use crate::process::Process;

/// One broker under test, with its data on the disk that is measured.
pub(crate) trait Broker {
    /// Its name in the table.
    fn name(&self) -> &'static str;
    /// Starts it on what it has stored, if it does not run; returns when it answers requests.
    fn start(&mut self) -> Result<(), Failure>;
    /// Ends it with SIGKILL.
    fn kill(&mut self) -> Result<(), Failure>;
    /// Ends it in order and forgets what it stored.
    fn discard(&mut self) -> Result<(), Failure>;
    /// Its bootstrap address.
    fn bootstrap(&self) -> &str;
    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    fn process(&self) -> Process;
    /// Topic configuration for acknowledging from the page cache; what this broker does at its
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

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
