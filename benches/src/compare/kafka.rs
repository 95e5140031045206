//! Apache Kafka under test: one combined broker and controller (KRaft) at its own defaults and
//! its own JVM flags, from Maven artefacts.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::arguments::Arguments;
use crate::broker::{Broker, free_port, wait_for_port};
use crate::process::Process;
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
    child: Option<Child>,
}

impl Kafka {
    pub(crate) fn new(arguments: &Arguments) -> Result<Kafka, Failure> {
        let jars = fetch_jars()?;
        let port = free_port()?;
        let folder = arguments.folder.join(format!("kafka-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        let controller = free_port()?;
        let mut properties = format!(
            "process.roles=broker,controller\nnode.id=0\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.quorum.voters=0@127.0.0.1:{controller}\n\
             log.dirs={}/data\n",
            folder.display()
        );
        for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            properties += &format!("{topic}.replication.factor=1\n");
        }
        properties += "transaction.state.log.min.isr=1\nshare.coordinator.state.topic.min.isr=1\n";
        properties += "group.initial.rebalance.delay.ms=0\n";
        fs::write(folder.join("server.properties"), properties)?;
        let bootstrap = format!("127.0.0.1:{port}");
        Ok(Kafka { jars, folder, bootstrap, child: None })
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.arg("-cp").arg(format!("{}/lib/*", self.jars.display()));
        java.arg(format!("-Dlog4j2.configurationFile={}/log4j2.xml", self.jars.display()));
        java
    }

    fn format(&self) -> Result<(), Failure> {
        let output = self
            .java()
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.folder.join("server.properties"))
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }

    fn end(&mut self, signal: &str) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        send_signal(signal, child.id())?;
        child.wait()?;
        Ok(())
    }
}

impl Broker for Kafka {
    fn name(&self) -> &'static str {
        "Apache Kafka 4.3.1"
    }

    fn start(&mut self) -> Result<(), Failure> {
        if self.child.is_some() {
            return Ok(());
        }
        if !self.folder.join("data").exists() {
            self.format()?;
        }
        let log = fs::File::create(self.folder.join("output.txt"))?;
        let child = self
            .java()
            .args(JVM_FLAGS)
            .arg("kafka.Kafka")
            .arg(self.folder.join("server.properties"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        wait_for_port(&self.bootstrap, 120)
    }

    fn kill(&mut self) -> Result<(), Failure> {
        self.end("KILL")
    }

    fn discard(&mut self) -> Result<(), Failure> {
        self.end("TERM")?;
        fs::remove_dir_all(self.folder.join("data"))?;
        Ok(())
    }

    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn process(&self) -> Process {
        Process { id: self.child.as_ref().expect("started").id() }
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
