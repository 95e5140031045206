//! Disks that harm what they were given without a word: a bit is another one, a write never came, or came to the wrong
//! place.
//!
//! One log at a time, of a replica whose others hold it whole and as far: no broker can help harm to the last good copy.
//! Until it is mended nothing else strikes but the death of that process or machine.

use varve_broker::simulation::SteppedBroker;
use varve_protocol::vocabulary::TopicIdPartition;
use varve_storage::{Disk, Harm};

use super::coverage::Branch;
use super::invariants::{Verdict, violated};
use super::nemesis::Blow;
use super::profile::Fault;
use super::world::{Event, World, index_of};

const LOOK_US: u64 = 100_000;
/// How long, and how often, a fault waits for a moment at which all is well.
const WAIT_US: u64 = 20_000;
const WAITS_MAX: u32 = 100;
/// By then nothing of the file is in the page cache any more.
const LOOKS_CACHED: u64 = 20;
/// The whole log is read in every so manieth look from then on.
const LOOKS_APART: u64 = 10;
/// Of a segment's header page.
const HEADER_SECTORS: u64 = 8;
/// From the look for damage that finds it to a log that is whole.
const MENDED_US_MAX: u64 = 60_000_000;

/// A log that its disk has harmed.
#[derive(Debug)]
pub(super) struct Harmed {
    machine: usize,
    tip: TopicIdPartition,
    dir: String,
    /// File and sector.
    place: (String, u64),
    since_us: u64,
    looks: u64,
    /// The run of the process at which nothing of the log was in the page cache any more.
    uncached_in: Option<u64>,
    has_withdrawn: bool,
}

impl Harmed {
    pub(super) fn allows(&self, fault: Fault, target: usize) -> bool {
        target == self.machine && matches!(fault, Fault::Kill | Fault::PowerCut)
    }
}

impl World {
    /// A disk does harm, as soon as that cannot be to the last good copy.
    pub(super) fn harm_when_well(&mut self, index: usize, waited: u32) {
        if self.harmed.is_some() || self.nemesis.is_done {
            return;
        }
        let tips = self.clients.tips();
        let tip = tips.iter().copied().find(|tip| self.is_held_by_all(*tip, index));
        match tip.filter(|_| self.is_well()) {
            Some(tip) => self.harm(index, tip),
            None if waited < WAITS_MAX => {
                self.after(WAIT_US, Event::Blow(Blow::Harm(index, waited + 1)));
            }
            None => {}
        }
    }

    fn harm(&mut self, index: usize, tip: TopicIdPartition) {
        let machine = &self.machines[index];
        let dir = format!("p/{:032x}-{}", tip.topic_id.0, tip.partition.0);
        let entries = machine.disk.list(&dir).expect("a replica has a directory");
        let names = entries.iter().filter_map(|entry| entry.name.strip_suffix(".log"));
        let segments: Vec<(String, i64)> = names
            .filter_map(|name| Some((format!("{dir}/{name}.log"), name.parse().ok()?)))
            .collect();
        // What a leader, or who is to lead again, appends behind harm nobody could read.
        let partition = self.invariants.newest.image.partition(&tip);
        let may_lead = partition.is_none_or(|partition| {
            partition.leader == Some(machine.id) || partition.replicas.first() == Some(&machine.id)
        });
        let last = segments.iter().map(|(_, base)| *base).max();
        // Nor does anybody read what is deleted, until a crash has forgotten that.
        let start = self.invariants.replicas.get(tip, machine.id).map_or(0, |log| log.start);
        let may_be_harmed =
            |(_, base): &&(_, i64)| *base >= start && (!may_lead || Some(*base) != last);
        let segments: Vec<_> = segments.iter().filter(may_be_harmed).collect();
        if segments.is_empty() {
            return;
        }
        let (path, _) = segments[self.random.index(segments.len())];
        let sectors = machine.disk.settled_sectors(path);
        if sectors.is_empty() {
            return;
        }
        let sector = sectors[self.random.index(sectors.len())];
        let other = sectors[self.random.index(sectors.len())];
        let harm = match self.random.index(3) {
            0 => Harm::Lose { sector },
            1 if other != sector => Harm::Misdirect { from: other, to: sector },
            _ => Harm::Flip { sector, bit: self.random.draw() },
        };
        let is_seen = self.random.one_in(2);
        machine.disk.harm(path, harm, is_seen);
        let id = machine.id;
        self.trace.line(self.now_us, format_args!("{id}'s disk: {harm:?} in {path}, {is_seen}"));
        self.trace.note(&[sector, u64::from(is_seen)]);
        self.coverage.hit(Branch::Harmed);
        self.invariants.replicas.on_harm(tip, id);
        self.machines[index].is_harmed = true;
        let since_us = self.now_us;
        let place = (path.clone(), sector);
        self.harmed = Some(Harmed {
            machine: index,
            tip,
            dir,
            place,
            since_us,
            looks: 0,
            uncached_in: None,
            has_withdrawn: false,
        });
        self.after(LOOK_US, Event::LookAtHarm);
    }

    pub(super) fn look_at_harm(&mut self) -> Verdict {
        let Some(mut harmed) = self.harmed.take() else { return Ok(()) };
        let Harmed { machine: index, tip, since_us, .. } = harmed;
        harmed.looks += 1;
        let machine = &self.machines[index];
        let id = machine.id;
        // A segment's header is looked at by nobody but a start.
        let is_header = harmed.place.1 < HEADER_SECTORS;
        let run = machine.run;
        let reads = harmed.looks >= LOOKS_CACHED && harmed.looks.is_multiple_of(LOOKS_APART);
        if reads && let Ok(entries) = machine.disk.list(&harmed.dir) {
            for entry in entries.iter().filter(|entry| entry.name.ends_with(".log")) {
                machine.disk.evict(&format!("{}/{}", harmed.dir, entry.name));
            }
            let is_first = harmed.uncached_in.is_none();
            harmed.uncached_in.get_or_insert(run);
            if is_first && is_header {
                self.harmed = Some(harmed);
                self.after(LOOK_US, Event::LookAtHarm);
                self.lose_power(index);
                return Ok(());
            }
        }
        let machine = &self.machines[index];
        let is_looked_at = !is_header || harmed.uncached_in.is_some_and(|before| before < run);
        let newest = &self.invariants.newest;
        if !harmed.has_withdrawn && !newest.holds(tip, id) {
            harmed.has_withdrawn = true;
            self.coverage.hit(Branch::HarmWithdrawn);
        }
        // It may have been moved away meanwhile.
        let is_gone = |broker: &SteppedBroker| {
            let is_current = broker.is_serving() && newest.index == broker.metadata_version();
            is_current && broker.replica(&tip).is_none()
        };
        let is_whole = |broker: &SteppedBroker| {
            let view = broker.replica(&tip);
            view.is_some_and(|view| broker.records(&tip, view.log.0).is_some())
        };
        let broker = machine.broker.as_ref();
        let is_settled = machine.disk.is_settled(&harmed.place.0, harmed.place.1);
        let was_read = reads && harmed.looks > LOOKS_CACHED && is_settled && is_looked_at;
        if broker.is_some_and(is_gone) || (was_read && broker.is_some_and(is_whole)) {
            self.coverage.hit(Branch::HarmMended);
            self.trace.line(self.now_us, format_args!("{id}'s {tip} is whole"));
            self.invariants.replicas.on_mended(tip, id);
            self.machines[index].is_harmed = false;
            return Ok(());
        }
        let scrub_us = self.profile.scrub_ms.unsigned_abs() * 1_000;
        if self.now_us - since_us > 2 * scrub_us + MENDED_US_MAX {
            let view = self.machines[index].broker.as_ref().and_then(|broker| broker.replica(&tip));
            let what = format!(
                "{tip} on {id}, {} s later: {view:?}",
                (self.now_us - since_us) / 1_000_000
            );
            return violated("what a disk has harmed is mended from another replica", what);
        }
        self.harmed = Some(harmed);
        self.after(LOOK_US, Event::LookAtHarm);
        Ok(())
    }

    /// Everybody runs, hears the others and has a disk that works.
    fn is_well(&self) -> bool {
        let now_us = self.now_us;
        self.network.is_flowing()
            && self.machines.iter().all(|machine| {
                let runs = machine.broker.as_ref().is_some_and(SteppedBroker::is_serving);
                runs && machine.paused_until_us <= now_us
                    && machine.slow_until_us <= now_us
                    && !machine.has_failed
                    && machine.disk.is_well()
            })
    }

    /// All replicas of a partition, of which this machine has one, are in sync and hold the same.
    fn is_held_by_all(&self, tip: TopicIdPartition, index: usize) -> bool {
        let Some(partition) = self.invariants.newest.image.partition(&tip) else { return false };
        let id = self.machines[index].id;
        let Some(own) = self.invariants.replicas.get(tip, id) else { return false };
        let (start, end) = (own.start, own.end());
        let is_whole = |other| {
            let log = self.invariants.replicas.get(tip, other);
            log.is_some_and(|log| (log.start, log.end(), log.durable) == (start, end, end))
        };
        let holds =
            |other: &_| self.machines[index_of(*other)].broker.is_some() && is_whole(*other);
        end > 0
            && partition.replicas.len() > 1
            && partition.isr.len() == partition.replicas.len()
            && partition.replicas.contains(&id)
            && !partition.is_reassigning()
            && partition.replicas.iter().all(holds)
    }
}
