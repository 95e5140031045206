//! Members of a group, of the client crate: each commits what it has read, at once.

use std::collections::BTreeMap;
use std::time::Duration;

use varve_client::{CommitPolicy, Consumer, Event as Told, Events, OffsetReset, TopicPartition};

use crate::bed::clients::reader::{partition, poll};
use crate::bed::clients::{AGAIN, CRATE, Orders, Scene, connect};
use crate::judge::{At, Event};

/// How long a commit may take before reading goes on without its answer.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);

/// Reads as a member of the group until all is over; a member that can do no more is followed by another.
pub(super) async fn work(group: &str, scene: &Scene, orders: &Orders) {
    let Some(client) = connect(scene, orders).await else { return };
    while !orders.is_over() {
        let built = client
            .consumer(group)
            .subscribe([scene.topic.as_str()])
            .auto_offset_reset(OffsetReset::Earliest)
            .commit(CommitPolicy::Manual)
            .session_timeout(Duration::from_secs(10))
            .fetch_max_wait(Duration::from_millis(100))
            .build()
            .await;
        let Ok(mut consumer) = built else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let process = scene.scribe.open(CRATE);
        let mut events = consumer.events();
        scene.scribe.note(process, Event::Subscribe { group: group.to_owned() });
        let mut is_able = true;
        while is_able && !orders.is_over() {
            // What the group gave and took is told before what was read after it.
            let group_says = || tell_group(process, &mut events, scene);
            is_able = match poll(process, &mut consumer, scene, group_says).await {
                Ok(reached) => {
                    commit(process, group, &consumer, reached, scene).await;
                    true
                }
                Err(error) => !error.is_fatal(),
            };
        }
        scene.scribe.note(process, Event::Retired);
        // Leaving needs a broker; a member that cannot leave is taken for dead in time.
        let _ = tokio::time::timeout(Duration::from_secs(2), consumer.close()).await;
    }
}

/// Tells which partitions came and went.
fn tell_group(process: u32, events: &mut Events, scene: &Scene) {
    let places = |partitions: Vec<TopicPartition>| {
        partitions.iter().map(|at| At::new(&*at.topic, at.partition)).collect()
    };
    while let Some(event) = events.try_next() {
        let event = match event {
            Told::Assigned(partitions) => Event::Assigned { partitions: places(partitions) },
            Told::Revoked(partitions) | Told::Lost(partitions) => {
                Event::Revoked { partitions: places(partitions) }
            }
            _ => continue,
        };
        scene.scribe.note(process, event);
    }
}

async fn commit(
    process: u32,
    group: &str,
    consumer: &Consumer,
    reached: BTreeMap<At, i64>,
    scene: &Scene,
) {
    if reached.is_empty() {
        return;
    }
    let group = group.to_owned();
    for (at, &offset) in &reached {
        scene
            .scribe
            .note(process, Event::CommitSent { group: group.clone(), at: at.clone(), offset });
    }
    let offsets: Vec<_> = reached.iter().map(|(at, offset)| (partition(at), *offset)).collect();
    let report = tokio::time::timeout(COMMIT_LIMIT, consumer.commit_offsets(&offsets)).await;
    // What fails may have been done or not; the judge knows both.
    let Ok(Ok(report)) = report else { return };
    for (at, result) in report.partitions {
        if let Ok(offset) = result {
            let at = At::new(&*at.topic, at.partition);
            scene.scribe.note(process, Event::CommitAcked { group: group.clone(), at, offset });
        }
    }
}
