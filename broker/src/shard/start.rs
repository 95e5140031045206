//! Starting a data directory's shards, and ending them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use varve_protocol::vocabulary::BrokerId;
use varve_storage::config::{ShardId, ShardOptions};
use varve_storage::{LogShard, OpenError, RealDisk, RecoveryReport};

use super::core::{CoreSettings, ShardCore};
use super::handle::Partitions;
use super::thread::{Message, ShardShell, run_commits};
use crate::clock;
use crate::metrics::{CrcSource, Metrics};
use crate::spawn;

/// Messages that wait for a shard. What they hold is bounded by the request memory; this bounds
/// only their number.
const QUEUE_MAX: usize = 1 << 16;

/// Why the shards cannot be started.
#[derive(Debug, Error)]
pub enum ShardError {
    /// The logs of a shard cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system has no room for another thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What all shards of a broker are started with.
pub(crate) struct ShardSettings {
    pub(crate) broker: BrokerId,
    pub(crate) disk: RealDisk,
    /// Its `shard_count` says how many.
    pub(crate) options: ShardOptions,
    /// A follower that was not caught up for so long leaves the ISR.
    pub(crate) lag_ms_max: i64,
    pub(crate) metrics: Arc<Metrics>,
    /// Runs maintenance on its blocking threads.
    pub(crate) runtime: tokio::runtime::Handle,
}

/// The way into a shard.
type ShardQueue = mpsc::Sender<Message>;

/// The running shards.
#[derive(Debug)]
pub(crate) struct Shards {
    queues: Vec<ShardQueue>,
    threads: Vec<JoinHandle<()>>,
}

type Opened = Result<(LogShard<RealDisk>, RecoveryReport), OpenError>;

impl Shards {
    /// Recovers all shards, in parallel, and starts their threads.
    pub(crate) fn start(settings: ShardSettings) -> Result<(Self, Partitions), ShardError> {
        let count = settings.options.shard_count;
        let logs = open_all(&settings)?;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(QUEUE_MAX)).unzip();
        let partitions = Partitions::new(senders.clone());
        let mut shards = Self { queues: senders, threads: Vec::new() };
        for (number, (logs, queue)) in logs.into_iter().zip(receivers).enumerate() {
            shards.start_one(&settings, number, logs, queue, &partitions)?;
        }
        Ok((shards, partitions))
    }

    fn start_one(
        &mut self,
        settings: &ShardSettings,
        number: usize,
        logs: LogShard<RealDisk>,
        queue: mpsc::Receiver<Message>,
        partitions: &Partitions,
    ) -> Result<(), ShardError> {
        let own_queue = self.queues[number].clone();
        let (sync, jobs) = std_mpsc::sync_channel(1);
        let metrics = Arc::clone(&settings.metrics);
        let committed = own_queue.clone();
        self.threads.push(spawn::thread(&format!("sync-{number}"), move || {
            run_commits(&jobs, &committed, &metrics);
        })?);
        let core_settings =
            CoreSettings { broker: settings.broker, lag_ms_max: settings.lag_ms_max };
        let mut shell = ShardShell {
            number,
            core: ShardCore::new(core_settings, logs),
            queue,
            own_queue,
            partitions: partitions.clone(),
            metrics: Arc::clone(&settings.metrics),
            runtime: settings.runtime.clone(),
            sync,
            handles: HashMap::new(),
            maintenance_jobs: 0,
            maintained_ms: clock::monotonic_ms(),
            has_failed: false,
        };
        // Partitions that were found can be used when this returns.
        shell.deliver(&mut Vec::new());
        self.threads.push(spawn::thread(&format!("log-{number}"), move || shell.run())?);
        Ok(())
    }

    /// Commits what was appended, writes checkpoints, and ends the threads.
    pub(crate) async fn close(self) {
        let mut closing = Vec::new();
        for queue in &self.queues {
            let (closed, is_closed) = oneshot::channel();
            if queue.send(Message::Close(closed)).await.is_ok() {
                closing.push(is_closed);
            }
        }
        for is_closed in closing {
            // An error means that the thread has ended already.
            let _ = is_closed.await;
        }
        let threads = self.threads;
        spawn::blocking(move || {
            for thread in threads {
                // A panic has ended the process.
                let _ = thread.join();
            }
        })
        .await;
    }
}

fn tell_recovery(report: &RecoveryReport, logs: &LogShard<RealDisk>) {
    let RecoveryReport { logs: count, scanned_bytes, replayed_bytes, torn_tails, .. } = report;
    tracing::info!(shard = %logs.id(), logs = count, scanned_bytes, replayed_bytes, torn_tails,
        "logs recovered");
    for damaged in &report.damaged {
        tracing::error!(
            ?damaged,
            "a log is damaged: what lies below the damage is served, nothing \
            is appended; `varve storage check` tells more"
        );
    }
}

fn open_all(settings: &ShardSettings) -> Result<Vec<LogShard<RealDisk>>, ShardError> {
    let mut opening: Vec<JoinHandle<Opened>> = Vec::new();
    for number in 0..settings.options.shard_count {
        let (disk, options) = (settings.disk.clone(), settings.options.clone());
        opening.push(spawn::thread(&format!("open-{number}"), move || {
            LogShard::open(disk, ShardId(number), options, clock::wall())
        })?);
    }
    let mut shards = Vec::new();
    for thread in opening {
        let opened = match thread.join() {
            Ok(opened) => opened,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let (logs, report) = opened?;
        tell_recovery(&report, &logs);
        settings.metrics.storage.crc_failed(CrcSource::Disk, report.damaged.len() as u64);
        shards.push(logs);
    }
    Ok(shards)
}
