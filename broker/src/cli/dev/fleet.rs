//! The brokers of `varve dev`: started together, watched, killed, revived, ended in order.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use varve_broker::config::{BrokerConfig, Voter};

use super::folder::{BrokerEntry, write_brokers};
use super::internal_transport::InternalTransport;
use crate::cli::child::{BrokerChild, Ports};
use crate::cli::exit::CliError;

/// The HTTP port of the first broker, where it is free; others take the next ones.
const HTTP_PORT: u16 = 9644;

/// One broker: its files, and its process while there is one.
#[derive(Debug)]
struct Member {
    id: u16,
    config: PathBuf,
    log: PathBuf,
    child: Option<BrokerChild>,
    ports: Ports,
}

/// All brokers.
#[derive(Debug)]
pub(super) struct Fleet {
    folder: PathBuf,
    members: Vec<Member>,
}

/// A broker that has ended without having been told to.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: u16,
    pub(super) status: ExitStatus,
}

impl Fleet {
    /// Writes the configuration files of `nodes` brokers; clients come to `port` and the next ones,
    /// or to any free ports with 0.
    pub(super) fn prepare(
        folder: &Path,
        nodes: u16,
        port: u16,
        transport: InternalTransport,
    ) -> Result<Self, CliError> {
        let voters = voters(nodes)?;
        if transport != InternalTransport::Tcp {
            transport.make_certificates(folder, nodes)?;
        }
        let mut members = Vec::new();
        for id in 1..=nodes {
            let kafka = SocketAddr::from((Ipv4Addr::LOCALHOST, nth_port(port, id)?));
            let config = folder.join(format!("broker-{id}.toml"));
            let text = config_text(folder, id, kafka, (&voters, transport));
            std::fs::write(&config, text)
                .map_err(|error| CliError::failed(format!("{}: {error}", config.display())))?;
            let log = folder.join(format!("broker-{id}.log"));
            let ports = Ports { kafka, http: None };
            members.push(Member { id, config, log, child: None, ports });
        }
        Ok(Self { folder: folder.to_owned(), members })
    }

    /// Starts all brokers and waits until they serve.
    pub(super) fn start(&mut self) -> Result<(), CliError> {
        for member in &mut self.members {
            member.child = Some(BrokerChild::spawn(&member.config, &member.log)?);
        }
        // Scripts may look for the processes as soon as the ports answer, so they are written down
        // first.
        self.write_down()?;
        for member in &mut self.members {
            member.begin();
        }
        for member in &mut self.members {
            member.wait_until_serving()?;
        }
        self.write_down()
    }

    /// Ends broker `id` with SIGKILL.
    pub(super) fn kill(&mut self, id: u16) -> Result<(), CliError> {
        let member = self.member(id)?;
        let mut child = member
            .child
            .take()
            .ok_or_else(|| CliError::failed(format!("broker {id} does not run")))?;
        child.kill()?;
        Ok(())
    }

    /// Starts broker `id` again and waits until it serves.
    pub(super) fn revive(&mut self, id: u16) -> Result<(), CliError> {
        let member = self.member(id)?;
        if member.child.as_mut().is_some_and(BrokerChild::is_running) {
            return Err(CliError::failed(format!("broker {id} runs already")));
        }
        member.child = Some(BrokerChild::spawn(&member.config, &member.log)?);
        self.write_down()?;
        let member = self.member(id)?;
        member.begin();
        member.wait_until_serving()?;
        self.write_down()
    }

    /// The brokers that have ended by themselves or by somebody's signal since the last call.
    pub(super) fn take_ended(&mut self) -> Result<Vec<Ended>, CliError> {
        let mut ended = Vec::new();
        for member in &mut self.members {
            if let Some(child) = &mut member.child
                && !child.is_running()
            {
                let status = child.wait()?;
                member.child = None;
                ended.push(Ended { id: member.id, status });
            }
        }
        Ok(ended)
    }

    /// How many run.
    pub(super) fn running_count(&self) -> usize {
        self.members.iter().filter(|member| member.child.is_some()).count()
    }

    /// Ends all in order: all are told at once, since each hands its partitions to those that
    /// still serve. Answers which did not end in order.
    pub(super) fn end(&mut self) -> Result<Vec<Ended>, CliError> {
        let mut failed = Vec::new();
        for member in &self.members {
            if let Some(child) = &member.child {
                child.terminate();
            }
        }
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                let status = child.wait()?;
                if !status.success() {
                    failed.push(Ended { id: member.id, status });
                }
            }
        }
        Ok(failed)
    }

    /// The brokers as scripts and people see them.
    pub(super) fn entries(&self) -> Vec<BrokerEntry> {
        let entry = |member: &Member| BrokerEntry {
            id: member.id,
            pid: member.child.as_ref().map_or(0, BrokerChild::id),
            kafka: member.ports.kafka.to_string(),
            http: member.ports.http.map(|http| http.to_string()),
        };
        self.members.iter().map(entry).collect()
    }

    fn member(&mut self, id: u16) -> Result<&mut Member, CliError> {
        let count = self.members.len();
        let found = self.members.iter_mut().find(|member| member.id == id);
        found.ok_or_else(|| CliError::usage(format!("there is no broker {id}, but 1 to {count}")))
    }

    fn write_down(&self) -> Result<(), CliError> {
        write_brokers(&self.folder, &self.entries())
    }
}

impl Member {
    fn begin(&mut self) {
        if let Some(child) = &mut self.child {
            child.say_begin();
        }
    }

    fn wait_until_serving(&mut self) -> Result<(), CliError> {
        if let Some(child) = &mut self.child {
            self.ports = child.wait_until_serving()?;
        }
        Ok(())
    }
}

fn nth_port(first: u16, id: u16) -> Result<u16, CliError> {
    if first == 0 {
        return Ok(0);
    }
    let port = first.checked_add(id - 1);
    port.ok_or_else(|| CliError::usage(format!("--port {first}: there is no port for broker {id}")))
}

/// All brokers are voters, up to five. One alone needs no listener for others.
fn voters(nodes: u16) -> Result<Vec<Voter>, CliError> {
    if nodes == 1 {
        return Ok(Vec::new());
    }
    // All are held until all are known, so that none is given twice.
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: Vec<_> = (0..nodes).map(bind).collect::<Result<_, _>>()?;
    let mut voters = Vec::new();
    for (id, listener) in (1..).zip(&listeners) {
        voters.push(Voter { id, address: listener.local_addr()?.to_string() });
    }
    Ok(voters)
}

fn config_text(
    folder: &Path,
    id: u16,
    kafka: SocketAddr,
    (voters, transport): (&[Voter], InternalTransport),
) -> String {
    let data_dir = folder.join(format!("broker-{id}"));
    let mut config = BrokerConfig { data_dir, ..BrokerConfig::default() };
    config.node.id = i32::from(id);
    config.listeners.kafka.bind = kafka;
    let wanted = HTTP_PORT + (id - 1);
    // Who takes any port for clients takes any for HTTP.
    let is_free = || TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).is_ok();
    let http = if kafka.port() != 0 && is_free() { wanted } else { 0 };
    config.http.bind = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, http)));
    if let Some(voter) = voters.iter().find(|voter| voter.id == i32::from(id)) {
        config.rack = Some(format!("rack-{id}"));
        config.cluster.voters = voters.to_vec();
        if let Ok(bind) = voter.address.parse() {
            config.listeners.internal.bind = bind;
        }
        transport.configure(&mut config.listeners.internal, folder, id);
    }
    // Nobody who tries something out wants to wait three seconds for members that do not come.
    config.groups.initial_rebalance_delay_ms.0 = 0;
    let defaults = BrokerConfig::default().values();
    let mut text = String::from("# Written by `varve dev`; written anew at each start.\n");
    for ((key, value), (_, default)) in config.values().into_iter().zip(defaults) {
        if value != default {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}
