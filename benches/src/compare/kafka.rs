//! Apache Kafka under test: combined brokers and controllers (KRaft) at their own defaults and their
//! own JVM flags, from Maven artefacts.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::arguments::Arguments;
use crate::broker::{Brokers, addresses, free_ports, wait_for_port};
use crate::process::{Process, Processes};
use crate::varve::send_signal;

const VERSION: &str = "4.3.1";
const CLUSTER_ID: &str = "dmFydmUtY29tcGFyZS0xMA";
const JVM_FLAGS: [&str; 8] = [
    "-server",
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

pub(crate) struct Kafka {
    jars: PathBuf,
    folder: PathBuf,
    bootstrap: String,
    /// By the node's id.
    children: Vec<Option<Child>>,
}

impl Kafka {
    pub(crate) fn new(arguments: &Arguments) -> Result<Kafka, Failure> {
        let jars = fetch_jars()?;
        let nodes = arguments.nodes;
        let port = free_ports(2 * nodes)?;
        let folder = arguments.folder.join(format!("kafka-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        let voters: Vec<_> =
            (0..nodes).map(|id| format!("{id}@127.0.0.1:{}", port + nodes + id)).collect();
        for id in 0..nodes {
            let (client, controller) = (port + id, port + nodes + id);
            let home = folder.join(format!("node-{id}"));
            let mut properties = format!(
                "process.roles=broker,controller\nnode.id={id}\nbroker.rack=r{id}\n\
                 listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{client}\n\
                 controller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                 controller.quorum.voters={}\n\
                 log.dirs={}/data\n",
                voters.join(","),
                home.display()
            );
            for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"]
            {
                properties += &format!("{topic}.replication.factor={nodes}\n");
            }
            properties +=
                "transaction.state.log.min.isr=1\nshare.coordinator.state.topic.min.isr=1\n";
            properties += "group.initial.rebalance.delay.ms=0\n";
            // The warm-up's records are deleted while it runs.
            properties += "log.retention.check.interval.ms=2000\n";
            properties += "log.segment.delete.delay.ms=1000\n";
            fs::create_dir_all(&home)?;
            fs::write(home.join("server.properties"), properties)?;
        }
        let children = (0..nodes).map(|_| None).collect();
        Ok(Kafka { jars, folder, bootstrap: addresses(port, nodes), children })
    }

    fn home(&self, id: usize) -> PathBuf {
        self.folder.join(format!("node-{id}"))
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.arg("-cp").arg(format!("{}/lib/*", self.jars.display()));
        java.arg(format!("-Dlog4j2.configurationFile={}/log4j2.xml", self.jars.display()));
        java
    }

    fn format(&self, id: usize) -> Result<(), Failure> {
        let output = self
            .java()
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.home(id).join("server.properties"))
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }

    fn spawn(&mut self, id: usize) -> Result<(), Failure> {
        if self.children[id].is_some() {
            return Ok(());
        }
        if !self.home(id).join("data").exists() {
            self.format(id)?;
        }
        let log = fs::File::create(self.home(id).join("output.txt"))?;
        let child = self
            .java()
            .args(JVM_FLAGS)
            .arg("kafka.Kafka")
            .arg(self.home(id).join("server.properties"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.children[id] = Some(child);
        Ok(())
    }

    fn end(&mut self, signal: &str) -> Result<(), Failure> {
        for child in self.children.iter().flatten() {
            send_signal(signal, child.id())?;
        }
        for child in &mut self.children {
            if let Some(mut child) = child.take() {
                child.wait()?;
            }
        }
        Ok(())
    }

    fn wait_for_ports(&self) -> Result<(), Failure> {
        self.bootstrap.split(',').try_for_each(|address| wait_for_port(address, 120))
    }
}

impl Brokers for Kafka {
    fn name(&self) -> &'static str {
        "Apache Kafka 4.3.1"
    }

    fn start(&mut self) -> Result<(), Failure> {
        (0..self.children.len()).try_for_each(|id| self.spawn(id))?;
        self.wait_for_ports()
    }

    fn kill(&mut self) -> Result<(), Failure> {
        self.end("KILL")
    }

    fn kill_one(&mut self, id: i32) -> Result<(), Failure> {
        let mut child = self.children[usize::try_from(id)?].take().ok_or("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn revive_one(&mut self, id: i32) -> Result<(), Failure> {
        self.spawn(usize::try_from(id)?)?;
        self.wait_for_ports()
    }

    fn discard(&mut self) -> Result<(), Failure> {
        self.end("TERM")?;
        for id in 0..self.children.len() {
            fs::remove_dir_all(self.home(id).join("data"))?;
        }
        Ok(())
    }

    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn processes(&self) -> Processes {
        let running = self.children.iter().map(|child| child.as_ref().expect("started"));
        Processes(running.map(|child| Process { id: child.id() }).collect())
    }

    fn page_cache(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.end("TERM").is_ok() {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// Brings the jars from Maven Central into the user's cache, once.
fn fetch_jars() -> Result<PathBuf, Failure> {
    let home = std::env::var("HOME").map_err(|_| "HOME is not set")?;
    let jars = PathBuf::from(home).join(".cache/varve-compare").join(VERSION);
    if jars.join("done").exists() {
        return Ok(jars);
    }
    fs::create_dir_all(&jars)?;
    let dependency = |group: &str, name: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let project = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>varve</groupId><artifactId>compare</artifactId><version>1</version>\
         <dependencies>{}{}{}</dependencies></project>",
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
        dependency("org.apache.logging.log4j", "log4j-core", "2.24.3"),
    );
    fs::write(jars.join("pom.xml"), project)?;
    fs::write(
        jars.join("log4j2.xml"),
        "<Configuration status=\"error\"><Appenders><Console name=\"c\"/></Appenders>\
         <Loggers><Root level=\"warn\"><AppenderRef ref=\"c\"/></Root></Loggers></Configuration>",
    )?;
    let status = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"])
        .current_dir(&jars)
        .status()?;
    if !status.success() {
        return Err("mvn could not bring Apache Kafka's artefacts".into());
    }
    fs::write(jars.join("done"), "")?;
    Ok(jars)
}
