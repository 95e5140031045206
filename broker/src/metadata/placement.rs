//! Which brokers the metadata offers for new replicas.

use varve_replication::Candidate;

use super::broker_image::BrokerImage;
use super::image::MetadataImage;

/// Every registered broker, by id.
#[must_use]
pub(super) fn registered(image: &MetadataImage) -> Vec<Candidate> {
    image.brokers().map(|broker| candidate(broker)).collect()
}

/// The brokers that are to be given new replicas, by id: those that are alive and not in maintenance,
/// as long as they are `needed` many; else those that are alive, else all.
#[must_use]
pub(super) fn candidates(image: &MetadataImage, needed: usize) -> Vec<Candidate> {
    let of = |is_wanted: fn(&BrokerImage) -> bool| {
        let wanted = image.brokers().filter(|broker| is_wanted(broker));
        wanted.map(|broker| candidate(broker)).collect::<Vec<_>>()
    };
    let ready = of(|broker| broker.is_active() && !broker.is_draining);
    if ready.len() >= needed {
        return ready;
    }
    let alive = of(|broker| !broker.is_fenced);
    if alive.len() >= needed { alive } else { registered(image) }
}

fn candidate(broker: &BrokerImage) -> Candidate {
    Candidate { id: broker.id, rack: broker.rack.clone() }
}
