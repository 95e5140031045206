//! A shard on a simulated disk, next to a model of what it has promised. Fuzzing uses it too.

mod batches;
mod choices;
mod model;
mod workload;

use std::collections::BTreeMap;

use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs};
use varve_storage::config::{LogConfig, ShardId, ShardOptions};
use varve_storage::{
    AppendBatchesError, AppendError, AppendOrigin, CommitDone, CommitJob, LogShard, MaintenanceJob,
    SimDisk,
};

pub(crate) use batches::{batch, batch_at, partition, read_all};
pub(crate) use choices::{Choices, Random};
pub(crate) use model::{ModelBatch, ModelLog};
pub(crate) use workload::run;

use model::check_log;

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) shard: Option<LogShard<SimDisk>>,
    pub(crate) options: ShardOptions,
    pub(crate) logs: BTreeMap<i32, ModelLog>,
    pub(crate) deleted: Vec<i32>,
    pub(crate) now: i64,
    pub(crate) stamp: u64,
    pub(crate) job: Option<CommitJob<SimDisk>>,
    pub(crate) done: Option<CommitDone>,
    pub(crate) maintenance: Vec<MaintenanceJob<SimDisk>>,
    /// The log that was being created or deleted.
    pub(crate) in_doubt: Option<i32>,
    pub(crate) config: LogConfig,
}

/// The power is off.
#[derive(Debug)]
pub(crate) struct Cut;

pub(crate) fn tiny_options() -> ShardOptions {
    ShardOptions {
        journal_file_bytes: 24 << 10,
        journal_append_bytes_max: 1500,
        journal_commit_bytes_max: 8 << 10,
        checkpoint_bytes_max: 60 << 10,
        checkpoint_interval_ms: 4_000,
        open_files_max: 8,
        allocation_step_bytes_max: 16 << 10,
        compaction_slice_bytes_max: 20 << 10,
        fast_append_bytes: 1 << 10,
        ..ShardOptions::default()
    }
}

pub(crate) fn tiny_config() -> LogConfig {
    LogConfig {
        segment_bytes: 12 << 10,
        index_interval_bytes: 600,
        retention_ms: -1,
        message_timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    }
}

impl World {
    /// A log of batches of 10 offsets, some in closed segments, all durable.
    pub(crate) fn filled() -> Self {
        let mut world = Self::open(SimDisk::new(5), tiny_options()).unwrap();
        world.create(0).unwrap();
        for _ in 0..40 {
            world.append(0, 10, 60, Some(7)).unwrap();
            world.commit().unwrap();
            world.maintain(100).unwrap();
        }
        world.maintain(10_000).unwrap();
        world
    }

    pub(crate) fn open(disk: SimDisk, options: ShardOptions) -> Result<Self, Cut> {
        let mut world = Self {
            disk,
            shard: None,
            options,
            logs: BTreeMap::new(),
            deleted: Vec::new(),
            now: 10_000,
            stamp: 1,
            job: None,
            done: None,
            maintenance: Vec::new(),
            in_doubt: None,
            config: tiny_config(),
        };
        world.reopen()?;
        Ok(world)
    }

    pub(crate) fn reopen(&mut self) -> Result<(), Cut> {
        self.job = None;
        self.done = None;
        self.maintenance.clear();
        self.shard = None;
        let now = TimestampMs(self.now);
        let opened = LogShard::open(self.disk.clone(), ShardId(0), self.options.clone(), now);
        match opened {
            Ok((mut shard, report)) => {
                assert!(report.damaged.is_empty(), "{report:#?}");
                let partitions: Vec<_> = shard.logs().map(|log| log.partition()).collect();
                for tip in partitions {
                    shard.log_mut(&tip).unwrap().set_config(self.config.clone());
                }
                self.shard = Some(shard);
                Ok(())
            }
            Err(_) if self.disk.is_off() => Err(Cut),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn shard(&mut self) -> &mut LogShard<SimDisk> {
        self.shard.as_mut().unwrap()
    }

    pub(crate) fn create(&mut self, number: i32) -> Result<(), Cut> {
        self.in_doubt = Some(number);
        let config = self.config.clone();
        let created = self.shard().create_log(partition(number), config).map(|_| ());
        if self.disk.is_off() {
            return Err(Cut);
        }
        created.unwrap();
        self.in_doubt = None;
        self.deleted.retain(|deleted| *deleted != number);
        self.logs.insert(number, ModelLog::default());
        Ok(())
    }

    pub(crate) fn delete(&mut self, number: i32) -> Result<(), Cut> {
        self.in_doubt = Some(number);
        let deleted = self.shard().delete_log(&partition(number));
        if self.disk.is_off() {
            return Err(Cut);
        }
        deleted.unwrap();
        self.in_doubt = None;
        self.logs.remove(&number);
        self.deleted.push(number);
        Ok(())
    }

    pub(crate) fn append(
        &mut self,
        number: i32,
        count: i32,
        value_bytes: usize,
        producer: Option<i64>,
    ) -> Result<(), Cut> {
        self.stamp += 1;
        let (stamp, now) = (self.stamp, TimestampMs(self.now));
        let log = self.logs.get_mut(&number).unwrap();
        let producer = producer.map(|id| (id, 0, log.sequences.get(&id).copied().unwrap_or(0)));
        let batch = batch_at(stamp, count, value_bytes, producer, self.now);
        let epoch = log.epoch;
        let appended = self.shard.as_mut().unwrap().append(
            &partition(number),
            &batch,
            LeaderEpoch(epoch),
            AppendOrigin::Leader,
            now,
        );
        let appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::DirectoryFailed(_)) => return Err(Cut),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(appended.base_offset.0, log.end);
        assert!(!appended.duplicate);
        log.end += i64::from(count);
        if let Some((id, _, sequence)) = producer {
            log.sequences.insert(id, sequence + count);
        }
        log.batches.push(ModelBatch {
            base_offset: appended.base_offset.0,
            next_offset: log.end,
            records: batch.records_bytes(),
            producer,
            epoch,
            count,
            stamp,
            value_bytes,
        });
        Ok(())
    }

    pub(crate) fn take_commit(&mut self) {
        if self.job.is_none() && self.done.is_none() {
            self.job = self.shard().take_commit();
        }
    }

    pub(crate) fn run_commit(&mut self) {
        if let Some(job) = self.job.take() {
            self.done = Some(job.run());
        }
    }

    pub(crate) fn finish_commit(&mut self) -> Result<(), Cut> {
        let Some(done) = self.done.take() else { return Ok(()) };
        let Ok(durable) = self.shard().finish_commit(done) else { return Err(Cut) };
        for (tip, end) in durable {
            if let Some(log) = self.logs.get_mut(&tip.partition.0) {
                assert!(end.0 <= log.end);
                log.durable = log.durable.max(end.0);
            }
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), Cut> {
        self.take_commit();
        self.run_commit();
        self.finish_commit()?;
        self.take_commit();
        self.run_commit();
        self.finish_commit()
    }

    pub(crate) fn maintain(&mut self, advance_ms: i64) -> Result<(), Cut> {
        self.run_maintenance()?;
        self.now += advance_ms;
        let now = TimestampMs(self.now);
        for job in self.shard().maintain(now) {
            let done = job.run();
            if self.shard().finish_maintenance(done).is_err() {
                return Err(Cut);
            }
        }
        self.note_starts();
        Ok(())
    }

    pub(crate) fn truncate(&mut self, number: i32, offset: i64) -> Result<(), Cut> {
        let now = TimestampMs(self.now);
        let log = self.logs.get_mut(&number).unwrap();
        if offset >= log.end {
            let shard = self.shard.as_mut().unwrap();
            let log = shard.log_mut(&partition(number)).unwrap();
            return match log.truncate_to(Offset(offset), now) {
                Ok(end) => {
                    assert_eq!(end, log.log_end());
                    Ok(())
                }
                Err(_) => Err(Cut),
            };
        }
        let mut cut = log.clone();
        cut.batches.retain(|batch| batch.next_offset <= offset);
        let last = cut.batches.last().map_or(cut.base, |batch| batch.next_offset);
        cut.end = last.max(cut.start);
        cut.durable = cut.end;
        cut.epoch += 1;
        cut.sequences.clear();
        for batch in &cut.batches {
            if let Some((id, _, sequence)) = batch.producer {
                cut.sequences.insert(id, sequence + batch.count);
            }
        }
        log.alternative = Some(Box::new(cut.clone()));
        // From here on the cut-off part is not promised any more.
        log.durable = log.durable.min(cut.end);
        let shard = self.shard.as_mut().unwrap();
        let truncated = shard.log_mut(&partition(number)).unwrap().truncate_to(Offset(offset), now);
        if self.disk.is_off() {
            return Err(Cut);
        }
        assert_eq!(truncated.unwrap().0, cut.end);
        *self.logs.get_mut(&number).unwrap() = cut;
        Ok(())
    }

    pub(crate) fn reset(&mut self, number: i32, offset: i64) -> Result<(), Cut> {
        let log = self.logs.get_mut(&number).unwrap();
        let epoch = log.epoch + 1;
        let fresh = ModelLog {
            base: offset,
            start: offset,
            end: offset,
            durable: offset,
            epoch,
            ..ModelLog::default()
        };
        log.alternative = Some(Box::new(fresh.clone()));
        let now = TimestampMs(self.now);
        let shard = self.shard.as_mut().unwrap();
        let reset = shard.log_mut(&partition(number)).unwrap().reset_to(Offset(offset), now);
        if self.disk.is_off() {
            return Err(Cut);
        }
        reset.unwrap();
        *self.logs.get_mut(&number).unwrap() = fresh;
        Ok(())
    }

    /// Appends some batches as a follower does, each behind a gap.
    pub(crate) fn follow(
        &mut self,
        number: i32,
        gaps: &[i64],
        value_bytes: usize,
        producer: Option<i64>,
    ) -> Result<(), Cut> {
        let log = self.logs.get_mut(&number).unwrap();
        let mut fetched = log.clone();
        let mut records = Vec::new();
        for gap in gaps {
            self.stamp += 1;
            let (stamp, count, epoch) = (self.stamp, 2, fetched.epoch);
            let next = |id| fetched.sequences.get(&id).copied().unwrap_or(0);
            let producer = producer.map(|id| (id, 0, next(id)));
            let batch = batch_at(stamp, count, value_bytes, producer, self.now);
            let base_offset = fetched.end + gap;
            let head = batch.stamped_header(Offset(base_offset), LeaderEpoch(epoch), None);
            records.extend_from_slice(&head);
            records.extend_from_slice(&batch.records_bytes());
            fetched.end = base_offset + i64::from(count);
            if let Some((id, _, sequence)) = producer {
                fetched.sequences.insert(id, sequence + count);
            }
            fetched.batches.push(ModelBatch {
                base_offset,
                next_offset: fetched.end,
                records: batch.records_bytes(),
                producer,
                epoch,
                count,
                stamp,
                value_bytes,
            });
        }
        let now = TimestampMs(self.now);
        let shard = self.shard.as_mut().unwrap();
        match shard.append_batches(&partition(number), &records.into(), now) {
            Ok(appended) => assert_eq!(appended.log_end.0, fetched.end),
            Err(AppendBatchesError::DirectoryFailed(_)) => return Err(Cut),
            Err(error) => panic!("{error}"),
        }
        *log = fetched;
        Ok(())
    }

    /// Takes maintenance and leaves it undone for a while; one round at a time.
    pub(crate) fn take_maintenance(&mut self, advance_ms: i64) {
        if self.maintenance.is_empty() {
            self.now += advance_ms;
            let now = TimestampMs(self.now);
            self.maintenance = self.shard().maintain(now);
            self.note_starts();
        }
    }

    pub(crate) fn run_maintenance(&mut self) -> Result<(), Cut> {
        for job in std::mem::take(&mut self.maintenance) {
            let done = job.run();
            if self.shard().finish_maintenance(done).is_err() {
                return Err(Cut);
            }
        }
        Ok(())
    }

    fn note_starts(&mut self) {
        for (number, log) in &mut self.logs {
            let found = self.shard.as_ref().unwrap().log(&partition(*number)).unwrap();
            log.start = log.start.max(found.log_start().0);
        }
    }

    pub(crate) fn advance_start(&mut self, number: i32, offset: i64) -> Result<(), Cut> {
        let shard = self.shard.as_mut().unwrap();
        let advanced = shard.log_mut(&partition(number)).unwrap().advance_log_start(Offset(offset));
        if self.disk.is_off() {
            return Err(Cut);
        }
        advanced.unwrap();
        let log = self.logs.get_mut(&number).unwrap();
        log.start = log.start.max(offset);
        Ok(())
    }

    /// Compares every log with its model, allowing for what was not promised.
    #[track_caller]
    pub(crate) fn check(&mut self, context: &str) {
        for (number, log) in &self.logs {
            let tip = partition(*number);
            let Some(found) = self.shard.as_ref().unwrap().log(&tip) else {
                let excused = self.in_doubt == Some(*number) || log.durable <= log.start.min(0);
                assert!(excused, "{context}: log {number} is missing, durable to {}", log.durable);
                continue;
            };
            let reader = found.reader();
            let first = check_log(&reader, log);
            let second = log.alternative.as_ref().map(|other| check_log(&reader, other));
            if first.is_err() && second.as_ref().is_none_or(Result::is_err) {
                panic!("{context}: log {number}: {first:?} {second:?}");
            }
        }
        for number in &self.deleted {
            if self.in_doubt != Some(*number) {
                let found = self.shard.as_ref().unwrap().log(&partition(*number));
                assert!(found.is_none(), "{context}: log {number} came back");
            }
        }
    }

    /// Makes the model what the log is now, after a restart: whatever survived is promised.
    pub(crate) fn adopt(&mut self) {
        let shard = self.shard.as_ref().unwrap();
        let mut logs = BTreeMap::new();
        for (number, log) in &self.logs {
            let Some(found) = shard.log(&partition(*number)) else { continue };
            let reader = found.reader();
            let is_first = check_log(&reader, log).is_ok();
            let mut model =
                if is_first { log.clone() } else { *log.alternative.clone().expect("checked") };
            model.alternative = None;
            model.end = reader.log_end().0;
            model.start = reader.log_start().0;
            model.durable = model.end;
            model.batches.retain(|batch| batch.next_offset <= model.end);
            model.epoch += 1;
            model.sequences.clear();
            for batch in &model.batches {
                if let Some((id, _, sequence)) = batch.producer {
                    model.sequences.insert(id, sequence + batch.count);
                }
            }
            logs.insert(*number, model);
        }
        self.logs = logs;
        if let Some(number) = self.in_doubt.take()
            && !self.logs.contains_key(&number)
        {
            if shard.log(&partition(number)).is_some() {
                self.logs.insert(number, ModelLog::default());
                self.deleted.retain(|deleted| *deleted != number);
            } else {
                self.deleted.push(number);
            }
        }
    }

    /// Every producer's last batch of each log is recognised when it comes again.
    pub(crate) fn check_duplicates(&mut self, context: &str) {
        let now = TimestampMs(self.now);
        for (number, log) in &self.logs {
            let mut last: BTreeMap<i64, &ModelBatch> = BTreeMap::new();
            for batch in &log.batches {
                if let Some((id, ..)) = batch.producer {
                    last.insert(id, batch);
                }
            }
            for batch in last.into_values() {
                let again =
                    batch_at(batch.stamp, batch.count, batch.value_bytes, batch.producer, 0);
                let epoch = LeaderEpoch(log.epoch);
                let shard = self.shard.as_mut().unwrap();
                let answer =
                    shard.append(&partition(*number), &again, epoch, AppendOrigin::Leader, now);
                let answer = answer.unwrap_or_else(|error| panic!("{context}: {error} {batch:?}"));
                assert!(answer.duplicate, "{context}: log {number}: {batch:?} was taken twice");
                assert_eq!(answer.base_offset.0, batch.base_offset, "{context}");
                assert_eq!(answer.last_offset.0, batch.next_offset - 1, "{context}");
            }
        }
    }
}
