//! Readers of the client crate that assign all partitions to themselves: one that follows the log throughout, and one that
//! reads everything from the start to the end when all is healed.

use std::collections::BTreeMap;
use std::time::Duration;

use varve_client::{
    Client, ConsumeError, Consumer, ConsumerRecord, IsolationLevel, OffsetReset, OffsetSpec,
    TopicPartition,
};

use crate::bed::clients::{AGAIN, CRATE, Orders, Scene, connect};
use crate::bed::payload;
use crate::clock::{monotonic_ns, now};
use crate::judge::{At, Event, Found};

/// Records of one poll.
const BATCH_MAX: usize = 500;
/// How long a poll waits for the first record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How long the ends of the partitions may be asked for at a time.
const ENDS_LIMIT: Duration = Duration::from_secs(5);

/// Follows all partitions until all is over.
pub(super) async fn work(scene: &Scene, orders: &Orders) {
    let Some(client) = connect(scene, orders).await else { return };
    let Some(mut consumer) = assign(&client, scene, || orders.is_over()).await else { return };
    let process = open(scene);
    while !orders.is_over() {
        // What it cannot read now, it reads later.
        let _ = poll(process, &mut consumer, scene, || {}).await;
    }
    scene.scribe.note(process, Event::Retired);
}

/// Reads everything from the start of each partition to the end that its leader tells, and says so in the history; the ends.
///
/// # Errors
/// What could not be read in time.
pub fn read_everything(scene: &Scene, limit: Duration) -> Result<Vec<(At, i64)>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let result = runtime.block_on(async {
        let until = now() + limit;
        let client = Client::connect(&scene.bootstrap).await.map_err(|error| error.to_string())?;
        let ends = loop {
            match ends(&client, scene).await {
                Ok(ends) => break ends,
                Err(error) if now() > until => return Err(error),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let consumer = assign(&client, scene, || now() > until).await;
        let mut consumer = consumer.ok_or("no consumer can be made")?;
        let process = open(scene);
        let mut read: BTreeMap<At, i64> = BTreeMap::new();
        let mut trouble = String::new();
        while ends.iter().any(|(at, end)| read.get(at).copied().unwrap_or(0) < *end) {
            if now() > until {
                return Err(format!("read up to {read:?}, the ends are {ends:?}: {trouble}"));
            }
            match poll(process, &mut consumer, scene, || {}).await {
                Ok(reached) => read.extend(reached),
                Err(error) => trouble = error.to_string(),
            }
        }
        scene.scribe.note(process, Event::Drained { ends: ends.clone() });
        scene.scribe.note(process, Event::Retired);
        Ok(ends)
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// The ends of all partitions, as their leaders tell them.
async fn ends(client: &Client, scene: &Scene) -> Result<Vec<(At, i64)>, String> {
    let places = scene.places();
    let asked: Vec<_> = places.iter().map(|at| (partition(at), OffsetSpec::Latest)).collect();
    let admin = client.admin();
    let told = admin.list_offsets(&asked, IsolationLevel::ReadUncommitted);
    let told = tokio::time::timeout(ENDS_LIMIT, told).await.map_err(|error| error.to_string())?;
    let mut ends = Vec::new();
    for (at, result) in told.map_err(|error| error.to_string())? {
        let end = result.map_err(|error| error.to_string())?.offset;
        ends.push((At::new(&*at.topic, at.partition), end));
    }
    if ends.len() < places.len() {
        return Err("not all partitions answered".to_owned());
    }
    Ok(ends)
}

async fn assign(client: &Client, scene: &Scene, is_over: impl Fn() -> bool) -> Option<Consumer> {
    let places = scene.places();
    while !is_over() {
        let built = client
            .consumer("")
            .assign(places.iter().map(partition))
            .auto_offset_reset(OffsetReset::Earliest)
            .fetch_max_wait(POLL_WAIT)
            .build()
            .await;
        match built {
            Ok(consumer) => return Some(consumer),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
    None
}

fn open(scene: &Scene) -> u32 {
    let process = scene.scribe.open(CRATE);
    scene.scribe.note(process, Event::AssignFromStart { partitions: scene.places() });
    process
}

/// Polls once and tells what came, after `first` has told what must be told before; behind which offsets the records are.
pub(super) async fn poll(
    process: u32,
    consumer: &mut Consumer,
    scene: &Scene,
    first: impl FnOnce(),
) -> Result<BTreeMap<At, i64>, ConsumeError> {
    let since_ns = monotonic_ns();
    let received = consumer.recv_batch(BATCH_MAX, POLL_WAIT).await;
    first();
    match received {
        Ok(records) => Ok(tell(process, since_ns, &records.unwrap_or_default(), scene)),
        Err(error) => {
            if let ConsumeError::Damaged { context, .. } = &error {
                let at = context.topic.as_ref().zip(context.partition);
                let at = at.map(|(topic, partition)| At::new(topic.to_string(), partition));
                scene.scribe.note(process, Event::Corrupt { at, error: error.to_string() });
            }
            Err(error)
        }
    }
}

fn tell(
    process: u32,
    since_ns: u64,
    records: &[ConsumerRecord],
    scene: &Scene,
) -> BTreeMap<At, i64> {
    let mut found: Vec<Found> = Vec::new();
    let mut reached = BTreeMap::new();
    for record in records {
        let at = At::new(&*record.topic, record.partition);
        let seen = (record.offset, payload::read(record.value.as_deref().unwrap_or_default(), &at));
        match found.iter_mut().find(|found| found.at == at) {
            Some(found) => found.records.push(seen),
            None => found.push(Found { at: at.clone(), records: vec![seen] }),
        }
        reached.insert(at, record.offset + 1);
    }
    if !found.is_empty() {
        scene.scribe.note(process, Event::Poll { since_ns, found });
    }
    reached
}

pub(super) fn partition(at: &At) -> TopicPartition {
    TopicPartition::new(at.topic.as_str(), at.partition)
}
