//! The network of a bed: a bridge, on it each host in a network namespace of its own, and what can go wrong between them.
//!
//! ```text
//! bed (clients) 10.77.0.254 ─ br0 ─┬─ v1 ─ eth0 in b1, 10.77.0.1
//!                                  ├─ v2 ─ eth0 in b2, 10.77.0.2   …
//!                                  └─ v100 ─ eth0 in b100: other people's clients
//! ```
//! A direction between two hosts is cut by a wrong entry in the sender's table of neighbours: its packets go to an address
//! that nobody has, silently, as on a broken cable; what comes the other way still arrives. That needs nothing but `ip`.

use std::net::{Ipv4Addr, SocketAddr};

use crate::bed::tool::{must, run};

/// The number of the host on which other people's clients run.
pub const GUESTS: u8 = 100;
/// The number of the bed itself.
pub const CLIENTS: u8 = 254;
/// An Ethernet address that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// The hosts' network. It ends with the enclosure.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<u8>,
}

impl Network {
    /// Lays a network for brokers 1 to `count`, the bed's own clients and guests.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn lay(count: u8) -> Self {
        must("ip", &["link", "add", "br0", "type", "bridge"]);
        must("ip", &["addr", "add", &format!("{}/24", address(CLIENTS)), "dev", "br0"]);
        must("ip", &["link", "set", "br0", "up"]);
        let hosts: Vec<u8> = (1..=count).chain([GUESTS]).collect();
        for &host in &hosts {
            let (space, link) = (space(host), format!("v{host}"));
            let own = format!("{}/24", address(host));
            must("ip", &["netns", "add", &space]);
            must(
                "ip",
                &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &space],
            );
            must("ip", &["link", "set", &link, "master", "br0", "up"]);
            must("ip", &["-n", &space, "addr", "add", &own, "dev", "eth0"]);
            must("ip", &["-n", &space, "link", "set", "eth0", "up"]);
            must("ip", &["-n", &space, "link", "set", "lo", "up"]);
        }
        Self { hosts }
    }

    /// All that can send: brokers, guests, and the bed's own clients.
    pub fn all(&self) -> impl Iterator<Item = u8> {
        self.hosts.iter().copied().chain([CLIENTS])
    }

    /// From now on nothing that `from` sends reaches `to`.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn cut(&self, from: u8, to: u8) {
        let (to, device) = (address(to).to_string(), device(from));
        let entry = ["replace", &to, "lladdr", NOBODY, "dev", device, "nud", "permanent"];
        neighbours(from, &entry).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Undoes [`Self::cut`] for all.
    pub fn mend(&self) {
        for from in self.all() {
            for to in self.all().filter(|to| *to != from) {
                // It is an error where there is no entry.
                let _ = neighbours(from, &["del", &address(to).to_string(), "dev", device(from)]);
            }
        }
    }

    /// Ends the connections that a host has at present, as a firewall does that has forgotten them.
    ///
    /// # Errors
    /// What the system said.
    pub fn reset_connections(&self, host: u8) -> Result<(), String> {
        inside(host, &["ss", "-K", "dst", "10.77.0.0/24"]).map(|_| ())
    }

    /// From now on a host sends no faster than this, with a queue of at most so many milliseconds.
    ///
    /// # Errors
    /// What the system said.
    pub fn slow_down(&self, host: u8, rate: &str, queue_ms: u32) -> Result<(), String> {
        let latency = format!("{queue_ms}ms");
        let shape = ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst"];
        inside(host, &[&shape[..], &["8kb", "latency", &latency]].concat()).map(|_| ())
    }

    /// From now on everything that a host sends takes this long.
    ///
    /// # Errors
    /// What the system said: not every kernel can do that.
    pub fn delay(&self, host: u8, delay_ms: u32) -> Result<(), String> {
        let delay = format!("{delay_ms}ms");
        let shape = ["tc", "qdisc", "replace", "dev", "eth0", "root", "netem", "delay", &delay];
        inside(host, &shape).map(|_| ())
    }

    /// From now on a host loses so many of a hundred packets that reach it.
    ///
    /// # Errors
    /// What the system said.
    pub fn lose(&self, host: u8, percent: u8) -> Result<(), String> {
        let percent = percent.to_string();
        inside(host, &["nft", "add", "table", "inet", "bed"])?;
        let chain = "{ type filter hook input priority 0 ; }";
        inside(host, &["nft", "add", "chain", "inet", "bed", "in", chain])?;
        let rule = ["numgen", "random", "mod", "100", "<", &percent, "drop"];
        inside(host, &[&["nft", "add", "rule", "inet", "bed", "in"][..], &rule].concat())
            .map(|_| ())
    }

    /// Undoes [`Self::slow_down`], [`Self::delay`] and [`Self::lose`].
    pub fn smooth(&self, host: u8) {
        // Each is an error where nothing was done.
        let _ = inside(host, &["tc", "qdisc", "del", "dev", "eth0", "root"]);
        let _ = inside(host, &["nft", "delete", "table", "inet", "bed"]);
    }
}

/// Where a host is.
pub fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

/// Where a host listens.
pub fn socket(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from((address(host), port))
}

/// The words that make a command run in a host's network. Nothing else of the host is its own.
pub fn prefix(host: u8) -> [String; 2] {
    ["nsenter".to_owned(), format!("--net=/run/netns/{}", space(host))]
}

fn inside(host: u8, command: &[&str]) -> Result<String, String> {
    let [program, space] = prefix(host);
    run(&program, &[&[space.as_str()], command].concat())
}

/// Changes a host's table of neighbours.
fn neighbours(host: u8, what: &[&str]) -> Result<String, String> {
    let space = space(host);
    let of_host: &[&str] = if host == CLIENTS { &[] } else { &["-n", &space] };
    run("ip", &[of_host, &["neigh"], what].concat())
}

const fn device(host: u8) -> &'static str {
    if host == CLIENTS { "br0" } else { "eth0" }
}

fn space(host: u8) -> String {
    format!("b{host}")
}
