//! All hosts of a cluster, and what the bed demands of them when all is healed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use varve_protocol::messages::MetadataRequest;

use crate::bed::host::Host;
use crate::bed::network::Network;
use crate::clock::{now, pause};
use crate::connection::Connection;

/// How long a cluster may take to come up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the cluster.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A cluster: broker `n` runs on host `n`.
#[derive(Debug)]
pub struct Fleet {
    hosts: Vec<Host>,
}

/// Who leads a partition and who is in sync, as a broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The leader; −1 for nobody.
    pub leader: i32,
    /// The replicas, the preferred one first.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
}

/// All partitions that a broker knows.
pub type Metadata = BTreeMap<(String, i32), State>;

impl Fleet {
    /// Makes hosts for `count` brokers below `folder` and starts them.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(count: u8, folder: &Path) -> Result<Self, String> {
        let make = |number| Host::make(number, count, &folder.join(format!("broker-{number}")));
        let mut hosts: Vec<Host> = (1..=count).map(make).collect();
        for host in &mut hosts {
            host.start(&[]);
        }
        for host in &mut hosts {
            host.wait_serving(START_LIMIT)?;
        }
        Ok(Self { hosts })
    }

    /// All hosts.
    pub fn hosts(&mut self) -> &mut [Host] {
        &mut self.hosts
    }

    /// The numbers of all hosts.
    pub fn numbers(&self) -> Vec<u8> {
        self.hosts.iter().map(Host::number).collect()
    }

    /// Host `number`.
    ///
    /// # Panics
    /// When there is none.
    pub fn host(&mut self, number: u8) -> &mut Host {
        &mut self.hosts[usize::from(number) - 1]
    }

    /// The addresses of all brokers, as clients take them.
    pub fn bootstrap(&self) -> String {
        let addresses = self.hosts.iter().map(|host| host.address().to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// A connection to any broker.
    ///
    /// # Errors
    /// That none takes connections.
    pub fn connect(&self) -> Result<Connection, String> {
        let mut connections = self.hosts.iter().map(|host| Connection::open(host.address()));
        connections.find_map(Result::ok).ok_or_else(|| "no broker takes connections".to_owned())
    }

    /// Who leads a partition, as any broker knows it.
    ///
    /// # Errors
    /// That nobody knows.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<u8, String> {
        let state = self.connect()?.partition_state(topic, partition);
        let leader = state.map_err(|error| error.to_string())?.leader;
        u8::try_from(leader).map_err(|_| format!("{topic}-{partition} has no leader"))
    }

    /// Looks whether a broker ended by itself.
    ///
    /// # Errors
    /// Which one did, with its last words.
    pub fn check(&mut self) -> Result<(), String> {
        self.hosts.iter_mut().try_for_each(Host::ended)
    }

    /// Waits until every broker serves and knows every partition led, with all of its replicas in sync, all of them the same.
    ///
    /// # Errors
    /// What is still missing after `limit`.
    pub fn wait_whole(&mut self, limit: Duration) -> Result<Duration, String> {
        let begun = now();
        loop {
            let missing = match self.look() {
                Ok(()) => return Ok(now() - begun),
                Err(missing) => missing,
            };
            self.check()?;
            if now() - begun > limit {
                return Err(format!("not whole after {limit:?}: {missing}"));
            }
            pause(LOOK_PAUSE);
        }
    }

    /// What keeps the cluster from being whole.
    fn look(&self) -> Result<(), String> {
        let mut first: Option<Metadata> = None;
        for host in &self.hosts {
            let told = |error| format!("broker {}: {error}", host.number());
            let known = metadata(host).map_err(told)?;
            for ((topic, partition), state) in &known {
                if state.leader < 0 || state.isr.len() < state.replicas.len() {
                    return Err(told(format!("{topic}-{partition} is {state:?}")));
                }
            }
            if first.as_ref().is_some_and(|first| *first != known) {
                return Err(told("it knows another state than broker 1".to_owned()));
            }
            first.get_or_insert(known);
        }
        Ok(())
    }
}

/// All partitions, as this broker knows them.
fn metadata(host: &Host) -> Result<Metadata, String> {
    let mut connection = Connection::open(host.address()).map_err(|error| error.to_string())?;
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let answer = connection.call(8, &request).map_err(|error| error.to_string())?;
    let mut known = Metadata::new();
    for topic in answer.topics {
        let name = topic.name.unwrap_or_default();
        for found in topic.partitions {
            let mut isr = found.isr_nodes;
            isr.sort_unstable();
            let state = State { leader: found.leader_id, replicas: found.replica_nodes, isr };
            known.insert((name.clone(), found.partition_index), state);
        }
    }
    Ok(known)
}

/// The network between hosts, healed.
pub fn heal_network(network: &Network) {
    network.mend();
    for host in network.all() {
        network.smooth(host);
    }
}
