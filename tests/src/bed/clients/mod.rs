//! Who works on the cluster while it is struck: producers and consumers of the client crate, within the bed, and of librdkafka,
//! as guests on a host of their own. All of them tell the scribe everything.

mod guest;
mod member;
mod producer;
mod reader;
mod watcher;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use varve_client::Client;

use crate::bed::scribe::Scribe;
use crate::clock::{now, pause, wait_for};
use crate::judge::At;
use crate::spawn;
use guest::Guest;
pub use producer::Style;
pub use reader::read_everything;

/// How long clients may take to end.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How long is waited before something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// What clients of the crate are called in a history; librdkafka's are called otherwise.
pub const CRATE: &str = "crate";
/// What librdkafka's clients are called.
pub const LIBRDKAFKA: &str = "librdkafka";

/// The groups of the crate's members and of librdkafka's.
const GROUPS: [&str; 2] = ["bed-crate", "bed-librdkafka"];
/// A producer that saw that it may send does so within this time.
const TURN_LIMIT: Duration = Duration::from_millis(50);

/// Where clients work.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The brokers' addresses.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// Who is told.
    pub scribe: Arc<Scribe>,
}

impl Scene {
    fn places(&self) -> Vec<At> {
        (0..self.partitions).map(|partition| At::new(self.topic.clone(), partition)).collect()
    }
}

/// What clients are told.
#[derive(Debug)]
struct Orders {
    /// Producers send.
    is_open: AtomicBool,
    is_over: AtomicBool,
}

impl Orders {
    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// All clients of a cluster.
#[derive(Debug)]
pub struct Crew {
    orders: Arc<Orders>,
    threads: Vec<JoinHandle<()>>,
    guests: Vec<Guest>,
}

impl Crew {
    /// Begins to work: producers of the crate in all styles, a reader, two members of a group, a watcher of offsets; and, with
    /// `python`, the interpreter of a place that has librdkafka, a producer and a member of another group.
    pub fn start(scene: &Scene, python: Option<&PathBuf>, rate: u64) -> Self {
        let orders =
            Arc::new(Orders { is_open: AtomicBool::new(true), is_over: AtomicBool::new(false) });
        let mut threads = Vec::new();
        for style in Style::ALL {
            let (scene, orders) = (scene.clone(), Arc::clone(&orders));
            threads.push(work(format!("{style:?} producer"), async move {
                producer::work(style, rate, &scene, &orders).await;
            }));
        }
        let (own, told) = (scene.clone(), Arc::clone(&orders));
        threads.push(work("reader", async move { reader::work(&own, &told).await }));
        for _ in 0..2 {
            let (own, told) = (scene.clone(), Arc::clone(&orders));
            threads.push(work("member", async move { member::work(GROUPS[0], &own, &told).await }));
        }
        let groups = if python.is_some() { &GROUPS[..] } else { &GROUPS[..1] };
        let (own, told) = (scene.clone(), Arc::clone(&orders));
        threads.push(work("watcher", async move { watcher::work(groups, &own, &told).await }));
        let mut guests = Vec::new();
        if let Some(python) = python {
            let rate = rate.to_string();
            guests.push(Guest::start(python, "produce", &[&rate], scene));
            guests.push(Guest::start(python, "member", &[GROUPS[1]], scene));
        }
        Self { orders, threads, guests }
    }

    /// Whether librdkafka's clients are among them.
    pub fn has_guests(&self) -> bool {
        !self.guests.is_empty()
    }

    /// How many of them produce.
    pub fn producers(&self) -> usize {
        Style::ALL.len() + usize::from(self.has_guests())
    }

    /// Producers send no more, and everything that they sent has got its answer.
    ///
    /// # Errors
    /// What has none in time.
    pub fn hold(&self, scene: &Scene, limit: Duration) -> Result<(), String> {
        self.orders.is_open.store(false, Ordering::Release);
        for guest in &self.guests {
            guest.order("hold");
        }
        let until = now() + limit;
        pause(TURN_LIMIT);
        while scene.scribe.waiting() > 0 || !self.guests.iter().all(Guest::is_held) {
            if now() > until {
                return Err(format!(
                    "{} records have no answer after {limit:?}",
                    scene.scribe.waiting()
                ));
            }
            pause(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Producers go on.
    pub fn go(&self) {
        for guest in &self.guests {
            guest.order("go");
        }
        self.orders.is_open.store(true, Ordering::Release);
    }

    /// Looks whether a client ended by itself.
    ///
    /// # Errors
    /// Which one did.
    pub fn check(&mut self) -> Result<(), String> {
        if let Some(thread) = self.threads.iter().find(|thread| thread.is_finished()) {
            return Err(format!(
                "the {} ended by itself",
                thread.thread().name().unwrap_or("client")
            ));
        }
        self.guests.iter_mut().try_for_each(Guest::check)
    }

    /// Ends all clients.
    ///
    /// # Panics
    /// When one does not end in time, or has failed.
    pub fn stop(self) {
        self.orders.is_over.store(true, Ordering::Release);
        drop(self.guests);
        for thread in self.threads {
            let what = format!("the {} to end", thread.thread().name().unwrap_or("client"));
            wait_for(&what, END_LIMIT, || thread.is_finished().then_some(()));
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Runs a client on a thread of its own, with a runtime that ends with it.
fn work(
    name: impl Into<String>,
    body: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    spawn::thread(name, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(body);
        // What clients leave to the background needs no cluster that may be gone.
        runtime.shutdown_timeout(Duration::from_millis(100));
    })
}

/// A client of the crate, as soon as any broker answers.
async fn connect(scene: &Scene, orders: &Orders) -> Option<Client> {
    while !orders.is_over() {
        if let Ok(client) = Client::connect(&scene.bootstrap).await {
            return Some(client);
        }
        tokio::time::sleep(AGAIN).await;
    }
    None
}
