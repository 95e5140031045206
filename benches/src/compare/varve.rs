//! varve under test: one broker by `varve dev`, syncing every group commit as it does by default.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::arguments::Arguments;
use crate::broker::{Broker, free_port, wait_for_port};
use crate::process::Process;

pub(crate) struct Varve {
    binary: PathBuf,
    folder: PathBuf,
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
        let port = free_port()?;
        let folder = arguments.folder.join(format!("varve-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let bootstrap = format!("127.0.0.1:{port}");
        Ok(Varve { binary: arguments.varve.canonicalize()?, folder, port, bootstrap, child: None })
    }

    /// The broker's own process: `varve dev` is its parent and writes its id down.
    fn broker_id(&self) -> Result<u32, Failure> {
        let text = std::fs::read_to_string(self.folder.join("brokers.json"))?;
        let list: serde_json::Value = serde_json::from_str(&text)?;
        let id = list[0]["pid"].as_u64().ok_or("no pid in brokers.json")?;
        Ok(u32::try_from(id)?)
    }

    fn end(&mut self, signal: &str) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if signal == "KILL" {
            // The parent first, so that it has no chance to end its broker in order.
            child.kill()?;
            send_signal(signal, self.broker_id()?)?;
        } else {
            send_signal(signal, child.id())?;
        }
        child.wait()?;
        while std::net::TcpStream::connect(&self.bootstrap).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Broker for Varve {
    fn name(&self) -> &'static str {
        "varve"
    }

    fn start(&mut self) -> Result<(), Failure> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = std::fs::File::create(self.folder.join("output.txt"))?;
        let child = Command::new(&self.binary)
            .args(["dev", "--nodes", "1", "--no-profile", "--persist"])
            .arg(&self.folder)
            .args(["--port", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        wait_for_port(&self.bootstrap, 60)
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

    fn process(&self) -> Process {
        Process { id: self.broker_id().expect("varve dev writes brokers.json before it answers") }
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
