//! A cluster of real broker processes, each in a rack of its own: started together, killed,
//! paused and brought back one by one.

use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::certificates::Certificates;
use crate::clock::wait_for;
use crate::connection::{Connection, PartitionState};
use crate::process::{BrokerProcess, StartingBroker};

/// How long the cluster may take to do what it does by itself.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PORTS: Range<u16> = 10_000..32_000;
const PORT_TRIES_MAX: usize = 1_000;

/// How the brokers of a cluster talk to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerTransport {
    /// In the open.
    #[default]
    Tcp,
    /// TLS over TCP, both sides with certificates.
    Tls,
    /// QUIC, both sides with certificates.
    Quic,
}

/// Broker processes of one cluster; broker `n` is at index `n - 1` and stands in rack `rack-n`.
#[derive(Debug)]
pub struct Cluster {
    brokers: Vec<BrokerProcess>,
    /// As configuration names them.
    voters: String,
    folder: PathBuf,
    transport: PeerTransport,
    /// Of brokers that do not talk in the open.
    certificates: Option<Certificates>,
}

impl Cluster {
    /// Starts `count` brokers, all of them voters, below `folder`, with these keys besides.
    ///
    /// # Panics
    /// When one of them does not come up.
    pub fn start(folder: &Path, count: usize, settings: &[(&str, &str)]) -> Self {
        Self::start_over(PeerTransport::Tcp, folder, count, settings)
    }

    /// As [`Self::start`], with brokers that talk to each other in this way.
    ///
    /// # Panics
    /// When one of them does not come up.
    pub fn start_over(
        transport: PeerTransport,
        folder: &Path,
        count: usize,
        settings: &[(&str, &str)],
    ) -> Self {
        let is_open = transport == PeerTransport::Tcp;
        let certificates = (!is_open).then(|| Certificates::make(&folder.join("certs")));
        let addresses = free_addresses(count);
        let voters: Vec<String> =
            (1..).zip(&addresses).map(|(id, address)| format!("\"{id}@{address}\"")).collect();
        let voters = format!("[{}]", voters.join(", "));
        let starting: Vec<_> = (1..)
            .zip(&addresses)
            .map(|(id, address): (usize, _)| {
                let (id_text, rack) = (id.to_string(), format!("\"rack-{id}\""));
                let bind = format!("\"{address}\"");
                let mut all = vec![
                    ("node.id", id_text.as_str()),
                    ("rack", rack.as_str()),
                    ("listeners.internal.bind", bind.as_str()),
                    ("cluster.voters", voters.as_str()),
                ];
                let id = i32::try_from(id).expect("brokers are few");
                let peer = peer_settings(transport, certificates.as_ref(), id);
                all.extend(peer.iter().map(|(key, value)| (key.as_str(), value.as_str())));
                all.extend_from_slice(settings);
                BrokerProcess::begin(&folder.join(format!("broker-{id}")), &all)
            })
            .collect();
        let brokers = starting.into_iter().map(StartingBroker::wait).collect();
        Self { brokers, voters, folder: folder.to_owned(), transport, certificates }
    }

    /// Adds the next broker, which is no voter, with these keys besides; its number.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn join(&mut self, settings: &[(&str, &str)]) -> i32 {
        let id = i32::try_from(self.brokers.len() + 1).expect("brokers are few");
        let broker = self.begin_join(id, &format!("broker-{id}"), settings).wait();
        self.brokers.push(broker);
        id
    }

    /// Starts a broker that is no voter of the file in a folder of its own, without waiting for it.
    pub fn begin_join(&self, id: i32, name: &str, settings: &[(&str, &str)]) -> StartingBroker {
        let peer = peer_settings(self.transport, self.certificates.as_ref(), id);
        let peer: Vec<_> = peer.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.begin_stranger(id, name, &[&peer[..], settings].concat())
    }

    /// As [`Self::begin_join`], without what the others show each other.
    pub fn begin_stranger(&self, id: i32, name: &str, settings: &[(&str, &str)]) -> StartingBroker {
        let (id, rack) = (id.to_string(), format!("\"rack-{id}\""));
        // Kept when it is started again: two brokers that no file names, and that both listen
        // elsewhere than the log says, find each other only by way of one that a file names.
        let bind = format!("\"{}\"", free_addresses(1)[0]);
        let mut all = vec![
            ("node.id", id.as_str()),
            ("rack", rack.as_str()),
            ("listeners.internal.bind", bind.as_str()),
            ("cluster.voters", self.voters.as_str()),
        ];
        all.extend_from_slice(settings);
        BrokerProcess::begin(&self.folder.join(name), &all)
    }

    /// Starts a broker whose file names no cluster, without waiting for it.
    pub fn begin_alone(&self, id: i32, name: &str) -> StartingBroker {
        BrokerProcess::begin(&self.folder.join(name), &[("node.id", id.to_string().as_str())])
    }

    /// What brokers show each other that do not talk in the open.
    pub const fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The voters as configuration names them.
    pub fn voters(&self) -> &str {
        &self.voters
    }

    /// Where the folders of the brokers are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All brokers, running or not.
    pub fn brokers(&self) -> &[BrokerProcess] {
        &self.brokers
    }

    /// Broker `id`.
    ///
    /// # Panics
    /// When there is none.
    pub fn broker(&mut self, id: i32) -> &mut BrokerProcess {
        &mut self.brokers[usize::try_from(id - 1).expect("brokers count from 1")]
    }

    /// The addresses of all brokers, as clients take them.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> =
            self.brokers.iter().map(|broker| broker.address().to_string()).collect();
        addresses.join(",")
    }

    /// Kills all brokers as nearly at one instant as one thread can.
    pub fn kill_all(&mut self) {
        for broker in &self.brokers {
            broker.signal_kill();
        }
        for broker in &mut self.brokers {
            broker.kill();
        }
    }

    /// Ends all brokers in order, all at once.
    ///
    /// # Panics
    /// When one of them does not end in order.
    pub fn terminate_all(&mut self) {
        for broker in &self.brokers {
            broker.signal_terminate();
        }
        for (id, broker) in (1..).zip(&mut self.brokers) {
            let status = broker.wait_for_end();
            assert!(status.success(), "broker {id} ended with {status} after SIGTERM");
        }
    }

    /// Starts all brokers again, after [`Self::kill_all`] or [`Self::terminate_all`].
    ///
    /// # Panics
    /// When one of them does not come up.
    pub fn restart_all(&mut self) {
        let starting: Vec<_> = self.brokers.iter().map(BrokerProcess::begin_restart).collect();
        self.brokers = starting.into_iter().map(StartingBroker::wait).collect();
    }

    /// A connection to a broker other than `shunned`, which may be dead or hang.
    ///
    /// # Panics
    /// When none takes connections.
    pub fn connect_beside(&self, shunned: Option<i32>) -> Connection {
        let others = (1..).zip(&self.brokers).filter(|(id, _)| Some(*id) != shunned);
        let mut connections = others.map(|(_, broker)| Connection::open(broker.address()));
        connections.find_map(Result::ok).expect("a broker takes connections")
    }

    /// A partition as the brokers beside `shunned` know it, once that satisfies `condition`.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    #[track_caller]
    pub fn wait_for_state(
        &self,
        (topic, partition): (&str, i32),
        shunned: Option<i32>,
        what: &str,
        condition: impl Fn(&PartitionState) -> bool,
    ) -> PartitionState {
        wait_for(what, PATIENCE, || {
            let state = self.connect_beside(shunned).partition_state(topic, partition).ok()?;
            condition(&state).then_some(state)
        })
    }

    /// The leader of a partition.
    ///
    /// # Panics
    /// When there is none after [`PATIENCE`].
    #[track_caller]
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        self.wait_for_state((topic, partition), None, "a leader", |state| state.leader >= 0).leader
    }

    /// Waits until a partition has so many in-sync replicas.
    ///
    /// # Panics
    /// When it has not after [`PATIENCE`].
    #[track_caller]
    pub fn wait_for_isr(&self, topic: &str, partition: i32, count: usize) {
        self.wait_for_state((topic, partition), None, "in-sync replicas", |state| {
            state.isr.len() == count
        });
    }
}

fn peer_settings(
    transport: PeerTransport,
    certificates: Option<&Certificates>,
    id: i32,
) -> Vec<(String, String)> {
    let mut settings = certificates.map(|made| made.peer_settings(id)).unwrap_or_default();
    if transport == PeerTransport::Quic {
        settings.push(("listeners.internal.quic".to_owned(), "true".to_owned()));
    }
    settings
}

/// Addresses of loopback that nobody listens on, below the ports that the system gives to
/// connections: those could be taken before a broker listens there.
///
/// # Panics
/// When there are none.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    // All are held until all are known, so that none is given twice.
    let mut listeners = Vec::new();
    for _ in 0..PORT_TRIES_MAX {
        let port: u16 = rand::random_range(PORTS);
        listeners.extend(TcpListener::bind(("127.0.0.1", port)));
        if listeners.len() == count {
            let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
            return listeners.iter().map(address).collect();
        }
    }
    panic!("loopback has no {count} free ports among {PORTS:?}");
}
