//! Who is alive, as the controller sees it.
//!
//! A broker whose process died is known by its broken connection, one that fell silent by a deadline
//! of its heartbeats. A value: time is told to it.
//!
//! ```text
//! registered (fenced) ── heartbeat ─► alive ── silent for a second, or process gone ─► fenced
//!        ▲                              ▲ └─ wants to end ─► in controlled shutdown ─► ends
//!        └── registers anew ────────────┴──────── heartbeat ◄──────────────────────────┘
//! ```
//! Source: KIP-631 (heartbeats, fencing); Kafka's balancing of preferred leaders.

use std::collections::BTreeMap;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::BrokerId;

use super::change::MetadataChange;
use super::image::MetadataImage;
use super::plan::{leads_nothing_movable, unbalanced};

/// A broker that is silent for so long counts as dead.
const SILENCE_MS_MAX: i64 = 1_000;
/// Preferred leaders are restored when nothing has changed for so long: longer than librdkafka waits
/// before it connects again to a broker that was away (10 s), since it could not produce until then.
const BALANCE_AFTER_MS: i64 = 15_000;

/// What a broker says of itself every now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who.
    pub broker: BrokerId,
    /// Of its registration.
    pub epoch: i64,
    /// The last entry of the metadata log that it shows.
    pub applied: u64,
    /// It wants to end in order.
    pub wants_shutdown: bool,
}

/// What it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// Why it is not heard, if it is not.
    pub code: ErrorCode,
    /// It has applied what made it count as dead, or its registration.
    pub is_caught_up: bool,
    /// It counts as dead.
    pub is_fenced: bool,
    /// It leads nothing any more, and may end.
    pub may_end: bool,
}

impl HeartbeatAnswer {
    /// It is not heard.
    pub(super) fn refused(code: ErrorCode) -> Self {
        Self { code, is_caught_up: false, is_fenced: true, may_end: false }
    }
}

/// When each broker was heard last.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// Empty while another broker is the controller.
    heard_ms: BTreeMap<BrokerId, i64>,
    /// Fenced brokers that speak, and the entry that they have to have applied before they count as alive: by then they
    /// know that they lead nothing.
    must_show: BTreeMap<BrokerId, u64>,
    /// When something last changed.
    stirred_ms: i64,
    /// When time was told last.
    ticked_ms: i64,
}

impl Liveness {
    /// This broker is the controller from now on. Nobody is judged by what it did not hear before.
    pub(super) fn on_elected(&mut self, now_ms: i64, image: &MetadataImage) {
        self.heard_ms = image.brokers().map(|broker| (broker.id, now_ms)).collect();
        self.must_show.clear();
        self.stirred_ms = now_ms;
        self.ticked_ms = now_ms;
    }

    /// Another broker is the controller.
    pub(super) fn on_resigned(&mut self) {
        self.heard_ms.clear();
        self.must_show.clear();
    }

    /// A broker speaks; the log ends with entry `last`.
    pub(super) fn on_heartbeat(
        &mut self,
        heartbeat: Heartbeat,
        last: u64,
        now_ms: i64,
        image: &MetadataImage,
    ) -> (HeartbeatAnswer, Option<MetadataChange>) {
        let Heartbeat { broker: id, epoch, applied, wants_shutdown } = heartbeat;
        let refused = HeartbeatAnswer::refused;
        let Some(broker) = image.broker(id) else {
            return (refused(ErrorCode::BrokerIdNotRegistered), None);
        };
        if broker.epoch != epoch {
            return (refused(ErrorCode::StaleBrokerEpoch), None);
        }
        self.heard_ms.insert(id, now_ms);
        let is_caught_up = if broker.is_fenced {
            applied >= *self.must_show.entry(id).or_insert(last)
        } else {
            self.must_show.remove(&id);
            true
        };
        let answer = HeartbeatAnswer {
            code: ErrorCode::None,
            is_caught_up,
            is_fenced: broker.is_fenced,
            may_end: wants_shutdown && leads_nothing_movable(image, id),
        };
        let change = if wants_shutdown && !broker.in_controlled_shutdown {
            Some(MetadataChange::ShutDownBroker { id, epoch })
        } else if broker.is_fenced && is_caught_up && !wants_shutdown {
            self.stirred_ms = now_ms;
            Some(MetadataChange::UnfenceBroker { id, epoch })
        } else {
            None
        };
        (answer, change)
    }

    /// The process of a broker that was registered with this epoch is known to be dead. Whether
    /// another one has taken its place is not said by that.
    pub(super) fn on_peer_lost(
        &mut self,
        (id, epoch): (BrokerId, i64),
        now_ms: i64,
        image: &MetadataImage,
    ) -> Option<MetadataChange> {
        let broker = image.broker(id).filter(|it| !it.is_fenced && it.epoch == epoch)?;
        self.stirred_ms = now_ms;
        Some(MetadataChange::FenceBroker { id, epoch: broker.epoch, why: "its process died" })
    }

    /// Time passes.
    pub(super) fn on_tick(&mut self, now_ms: i64, image: &MetadataImage) -> Vec<MetadataChange> {
        self.excuse_own_absence(now_ms);
        let mut changes = Vec::new();
        for broker in image.brokers().filter(|broker| !broker.is_fenced) {
            let heard_ms = *self.heard_ms.entry(broker.id).or_insert(now_ms);
            if now_ms - heard_ms > SILENCE_MS_MAX {
                let (id, epoch) = (broker.id, broker.epoch);
                changes.push(MetadataChange::FenceBroker { id, epoch, why: "it is silent" });
                self.stirred_ms = now_ms;
            }
        }
        if changes.is_empty() && now_ms - self.stirred_ms > BALANCE_AFTER_MS {
            self.stirred_ms = now_ms;
            if !unbalanced(image, 1).is_empty() {
                changes.push(MetadataChange::PreferLeaders);
            }
        }
        changes
    }

    /// A controller that did not run itself (a pause, a slow disk) cannot say who was silent meanwhile.
    fn excuse_own_absence(&mut self, now_ms: i64) {
        let absent_ms = now_ms - self.ticked_ms;
        if absent_ms > SILENCE_MS_MAX / 2 {
            self.heard_ms.values_mut().for_each(|heard_ms| {
                *heard_ms = now_ms.min(*heard_ms + absent_ms);
            });
        }
        self.ticked_ms = now_ms;
    }
}
