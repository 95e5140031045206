//! Brokers that die, come back, end in order, or go into maintenance.
//!
//! Each is one batch of records, whatever the number of partitions: all leaders move in one commit.

use varve_protocol::vocabulary::BrokerId;

use super::super::broker_image::BrokerImage;
use super::super::image::MetadataImage;
use super::super::record::{BrokerChangeRecord, MetadataRecord};
use super::shape::{Shaper, Standing, Standings, change, for_each_partition};
use crate::topic_config::StaticConfig;

/// Plans that a broker counts as dead from now on: others lead what it led, and it is in sync with
/// nothing that others are in sync with. Nothing if that is so, or if it has registered anew since.
#[must_use]
pub fn plan_fence(
    image: &MetadataImage,
    fixed: &StaticConfig,
    id: BrokerId,
    epoch: i64,
) -> Vec<MetadataRecord> {
    let Some(broker) = registered(image, id, epoch).filter(|broker| !broker.is_fenced) else {
        return Vec::new();
    };
    let mut records = vec![changed(broker, |record| record.is_fenced = Some(true))];
    let shaper = Shaper::new(image, fixed).with(id, Standing::Dead);
    for_each_partition(image, &shaper, |name, old, rule| {
        let is_leader = old.leader == Some(id);
        if !is_leader && !old.isr.contains(&id) {
            return;
        }
        let mut next = old.clone();
        shaper.take_out(&mut next, id, rule);
        if is_leader {
            next.leader = None;
            shaper.elect(&mut next, rule);
        }
        records.extend(change(name, old, &next, false));
    });
    records
}

/// Plans that a broker counts as alive: it leads what waited for it.
#[must_use]
pub fn plan_unfence(
    image: &MetadataImage,
    fixed: &StaticConfig,
    id: BrokerId,
    epoch: i64,
) -> Vec<MetadataRecord> {
    let Some(broker) = registered(image, id, epoch).filter(|broker| broker.is_fenced) else {
        return Vec::new();
    };
    let mut records = vec![changed(broker, |record| record.is_fenced = Some(false))];
    let is_reluctant = broker.in_controlled_shutdown || broker.is_draining;
    let standing = if is_reluctant { Standing::Reluctant } else { Standing::Ready };
    let shaper = Shaper::new(image, fixed).with(id, standing);
    for_each_partition(image, &shaper, |name, old, rule| {
        if old.leader.is_none() && old.replicas.contains(&id) {
            let mut next = old.clone();
            shaper.elect(&mut next, rule);
            records.extend(change(name, old, &next, false));
        }
    });
    records
}

/// Plans that a broker is about to end: others lead what they can of what it leads, and no
/// acknowledgement waits for it any more. It goes on leading what only it can.
#[must_use]
pub fn plan_shutdown(
    image: &MetadataImage,
    fixed: &StaticConfig,
    id: BrokerId,
    epoch: i64,
) -> Vec<MetadataRecord> {
    let broker = registered(image, id, epoch).filter(|broker| !broker.in_controlled_shutdown);
    let Some(broker) = broker else { return Vec::new() };
    let mut records = vec![changed(broker, |record| record.in_controlled_shutdown = Some(true))];
    let shaper = Shaper::new(image, fixed).with(id, Standing::Reluctant);
    for_each_partition(image, &shaper, |name, old, rule| {
        let is_leader = old.leader == Some(id);
        if !is_leader && !old.isr.contains(&id) {
            return;
        }
        let mut next = old.clone();
        shaper.take_out(&mut next, id, rule);
        if is_leader {
            shaper.elect(&mut next, rule);
            if next.leader.is_none() {
                return;
            }
        }
        records.extend(change(name, old, &next, false));
    });
    records
}

/// Plans that a broker goes into maintenance, or comes out of it. In maintenance others lead what they
/// can of what it leads; it stays in sync, so that nothing is at risk while it is looked after.
#[must_use]
pub fn plan_maintenance(
    image: &MetadataImage,
    fixed: &StaticConfig,
    id: BrokerId,
    is_draining: bool,
) -> Vec<MetadataRecord> {
    let broker = image.broker(id).filter(|broker| broker.is_draining != is_draining);
    let Some(broker) = broker else { return Vec::new() };
    let mut records = vec![changed(broker, |record| record.is_draining = Some(is_draining))];
    if !is_draining {
        // Its leaderships come back with the preferred ones.
        return records;
    }
    let standing = if broker.is_fenced { Standing::Dead } else { Standing::Reluctant };
    let shaper = Shaper::new(image, fixed).with(id, standing);
    for_each_partition(image, &shaper, |name, old, rule| {
        if old.leader != Some(id) {
            return;
        }
        let mut next = old.clone();
        shaper.elect(&mut next, rule);
        // Who is in sync and has no reason to go away itself is better than the leader, nobody else.
        let is_ready = next.leader.is_some_and(|next| shaper.standing(next) == Standing::Ready);
        if is_ready && next.isr == old.isr {
            records.extend(change(name, old, &next, false));
        }
    });
    records
}

/// Whether nobody else can lead anything that the broker leads: there is nothing to wait for before it
/// ends.
#[must_use]
pub fn leads_nothing_movable(image: &MetadataImage, id: BrokerId) -> bool {
    let standings = Standings::of(image);
    let is_ready = |member: &BrokerId| standings.get(*member) == Standing::Ready;
    let mut partitions = image.topics().flat_map(|topic| &topic.partitions);
    !partitions.any(|one| one.leader == Some(id) && one.isr.iter().any(is_ready))
}

fn registered(image: &MetadataImage, id: BrokerId, epoch: i64) -> Option<&BrokerImage> {
    image.broker(id).map(|broker| &**broker).filter(|broker| broker.epoch == epoch)
}

fn changed(broker: &BrokerImage, set: impl FnOnce(&mut BrokerChangeRecord)) -> MetadataRecord {
    let mut record = BrokerChangeRecord {
        id: broker.id,
        epoch: broker.epoch,
        is_fenced: None,
        in_controlled_shutdown: None,
        is_draining: None,
    };
    set(&mut record);
    MetadataRecord::BrokerChange(record)
}
