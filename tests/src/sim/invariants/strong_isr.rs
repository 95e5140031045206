//! R1, R2 (the TLA+ model's StrongIsr and WeakIsr): everything committed lies durably on every member of
//! the in-sync set that the quorum committed last: any of them may be elected.

use super::committed::Committed;
use super::membership::Newest;
use super::replica_log::Replicas;
use super::{Verdict, violated};

pub(super) fn check(newest: &Newest, replicas: &Replicas, committed: &Committed) -> Verdict {
    for topic in newest.image.topics() {
        for (tip, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
            let known = committed.of(tip);
            let end = committed.end(tip);
            for id in &partition.isr {
                let log = replicas.get(tip, *id);
                if log.is_some_and(|log| log.is_unread()) {
                    continue;
                }
                let (agreeing, durable) =
                    log.map_or((0, 0), |log| (agreeing(known, log), log.durable));
                if agreeing < known.len() || durable < end {
                    let what = format!(
                        "{tip}: {id} is in sync ({:?}, epoch {}), agrees in {agreeing} of {} \
                         batches and has {durable} of {end} durable",
                        partition.isr,
                        partition.partition_epoch,
                        known.len()
                    );
                    return violated("R1: who is in sync holds all that is committed", what);
                }
            }
        }
    }
    Ok(())
}

/// How many batches from the front are the committed ones.
fn agreeing(known: &[super::BatchMark], log: &super::replica_log::ReplicaLog) -> usize {
    let rest = known.iter().zip(&log.batches).skip(log.agreeing);
    log.agreeing + rest.take_while(|(known, own)| known == own).count()
}
