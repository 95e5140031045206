//! Asks again and again where partitions end and what groups have committed, by the client crate's administrative calls.

use std::time::Duration;

use varve_client::{IsolationLevel, OffsetSpec};

use crate::bed::clients::reader::partition;
use crate::bed::clients::{CRATE, Orders, Scene, connect};
use crate::clock::monotonic_ns;
use crate::judge::{At, Event};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Looks until all is over.
pub(super) async fn work(groups: &[&str], scene: &Scene, orders: &Orders) {
    let Some(client) = connect(scene, orders).await else { return };
    let admin = client.admin();
    let process = scene.scribe.open(CRATE);
    let places: Vec<_> = scene.places().iter().map(partition).collect();
    let ends: Vec<_> = places.iter().map(|at| (at.clone(), OffsetSpec::Latest)).collect();
    while !orders.is_over() {
        tokio::time::sleep(PAUSE).await;
        let since_ns = monotonic_ns();
        let told = admin.list_offsets(&ends, IsolationLevel::ReadUncommitted);
        // A look that fails says nothing.
        if let Ok(Ok(told)) = tokio::time::timeout(LIMIT, told).await {
            for (at, result) in told {
                let Ok(found) = result else { continue };
                let at = At::new(&*at.topic, at.partition);
                scene.scribe.note(process, Event::EndFetched { at, end: found.offset, since_ns });
            }
        }
        for group in groups {
            let since_ns = monotonic_ns();
            let told = admin.list_group_offsets(group, Some(&places));
            let Ok(Ok(told)) = tokio::time::timeout(LIMIT, told).await else { continue };
            for (at, result) in told {
                let Ok(found) = result else { continue };
                let (group, at) = ((*group).to_owned(), At::new(&*at.topic, at.partition));
                let offset = found.map_or(-1, |found| found.offset);
                scene.scribe.note(process, Event::CommitFetched { group, at, offset, since_ns });
            }
        }
    }
    scene.scribe.note(process, Event::Retired);
}
