//! varve under test, by `varve dev`: syncing every group commit as it does by default.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::arguments::Arguments;
use crate::broker::{Brokers, addresses, free_ports, wait_for_port};
use crate::process::{Process, Processes};

pub(crate) struct Varve {
    binary: PathBuf,
    folder: PathBuf,
    nodes: u16,
    port: u16,
    bootstrap: String,
    child: Option<Child>,
}

impl Varve {
    pub(crate) fn new(arguments: &Arguments) -> Result<Varve, Failure> {
        if !arguments.varve.exists() {
            return Err(format!(
                "no binary at {}: cargo build --release -p varve-broker",
                arguments.varve.display()
            )
            .into());
        }
        // Each broker also has a port for HTTP and one for the other brokers.
        let port = free_ports(4 * arguments.nodes)?;
        let folder = arguments.folder.join(format!("varve-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (binary, nodes) = (arguments.varve.canonicalize()?, arguments.nodes);
        let bootstrap = addresses(port, nodes);
        Ok(Varve { binary, folder, nodes, port, bootstrap, child: None })
    }

    /// The brokers' own processes: `varve dev` is their parent and writes their ids down.
    fn process_ids(&self) -> Result<Vec<u32>, Failure> {
        let text = std::fs::read_to_string(self.folder.join("brokers.json"))?;
        let list: serde_json::Value = serde_json::from_str(&text)?;
        let brokers = list.as_array().ok_or("no list in brokers.json")?;
        let id = |broker: &serde_json::Value| {
            Ok(u32::try_from(broker["pid"].as_u64().ok_or("no pid in brokers.json")?)?)
        };
        brokers.iter().map(id).collect()
    }

    fn dev(&self, command: &str, id: i32) -> Result<(), Failure> {
        let mut dev = Command::new(&self.binary);
        dev.args(["dev", command, &id.to_string(), "--persist"]).arg(&self.folder);
        let output = dev.output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }

    fn wait_for_ports(&self) -> Result<(), Failure> {
        self.bootstrap.split(',').try_for_each(|address| wait_for_port(address, 60))
    }

    fn end(&mut self, signal: &str) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if signal == "KILL" {
            // The parent first, so that it has no chance to end its brokers in order.
            child.kill()?;
            for id in self.process_ids()? {
                send_signal(signal, id)?;
            }
        } else {
            send_signal(signal, child.id())?;
        }
        child.wait()?;
        for address in self.bootstrap.split(',') {
            while std::net::TcpStream::connect(address).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

impl Brokers for Varve {
    fn name(&self) -> &'static str {
        "varve"
    }

    fn start(&mut self) -> Result<(), Failure> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = std::fs::File::create(self.folder.join("output.txt"))?;
        let child = Command::new(&self.binary)
            .args(["dev", "--nodes", &self.nodes.to_string(), "--no-profile", "--persist"])
            .arg(&self.folder)
            .args(["--port", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        self.wait_for_ports()
    }

    fn kill_one(&mut self, id: i32) -> Result<(), Failure> {
        self.dev("kill", id)
    }

    fn revive_one(&mut self, id: i32) -> Result<(), Failure> {
        self.dev("revive", id)?;
        self.wait_for_ports()
    }

    fn kill(&mut self) -> Result<(), Failure> {
        self.end("KILL")
    }

    fn discard(&mut self) -> Result<(), Failure> {
        self.end("TERM")?;
        std::fs::remove_dir_all(&self.folder)?;
        std::fs::create_dir_all(&self.folder)?;
        Ok(())
    }

    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn processes(&self) -> Processes {
        let ids = self.process_ids().expect("varve dev writes brokers.json before it answers");
        Processes(ids.into_iter().map(|id| Process { id }).collect())
    }

    fn page_cache(&self) -> &'static [(&'static str, &'static str)] {
        &[("write.caching", "true")]
    }
}

impl Drop for Varve {
    fn drop(&mut self) {
        if self.end("TERM").is_ok() {
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}

/// Sends a signal by the `kill` command.
pub(crate) fn send_signal(signal: &str, id: u32) -> Result<(), Failure> {
    Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status()?;
    Ok(())
}
