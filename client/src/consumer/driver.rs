//! The consumer's background: keeps leaders known, fetchers running and commits going, watches for stalls, and at
//! the end commits and leaves.

use super::events::Event;
use super::membership::GroupMember;
use super::{Shared, committer, fetcher, positions};
use crate::clock::{self, Instant};
use crate::config::CommitPolicy;
use crate::error::CommitError;
use crate::net::{Backoff, Lane};
use crate::spawn::spawn;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long the last commit of a dropped consumer may take.
const FAREWELL_MAX: Duration = Duration::from_secs(30);

/// Between two questions who leads, while somebody has to be found.
const REFRESH_BACKOFF: Duration = Duration::from_millis(10);
const REFRESH_BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Runs until the consumer is closed or dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut fetchers: BTreeMap<i32, JoinHandle<()>> = BTreeMap::new();
    let positions = spawn(positions::run(Arc::clone(&shared)));
    let membership = shared.group.clone().filter(|_| shared.is_subscribed()).map(|group| {
        let shared = Arc::clone(&shared);
        spawn(async move { GroupMember::new(&shared, &group).run().await })
    });
    let keeping = keep_metadata(Arc::clone(&shared));
    let committing = commit_regularly(Arc::clone(&shared));
    let watching = watch_for_stalls(Arc::clone(&shared));
    let fetching = keep_fetchers(&shared, &mut fetchers);
    tokio::select! {
        biased;
        () = shared.closed() => {}
        // None of these ends.
        () = keeping => {}
        () = committing => {}
        () = watching => {}
        () = fetching => {}
    }
    for fetcher in fetchers.values() {
        fetcher.abort();
    }
    positions.abort();
    match membership {
        // It commits before it leaves.
        Some(membership) => {
            let _ = membership.await;
        }
        None => commit_at_last(&shared).await,
    }
    let unused = [Lane::Fetch(shared.lane), Lane::Group(shared.lane)];
    shared.cluster.close_lanes(|lane| unused.contains(&lane));
}

/// Commits what the policy allows, once, and keeps the outcome for `close`.
pub(super) async fn commit_at_last(shared: &Shared) {
    let policy = shared.config.commit;
    if policy == CommitPolicy::Manual || shared.group.is_none() {
        return;
    }
    let committing = committer::commit(shared, |state| state.committable(policy, false, None));
    let outcome = match tokio::time::timeout(FAREWELL_MAX, committing).await {
        Ok(Ok(report)) => {
            match report.partitions.iter().find_map(|(at, result)| Some((at, result.err()?))) {
                None => Ok(()),
                Some((at, code)) => {
                    let mut context =
                        crate::error::ErrorContext::partition(&at.topic, at.partition);
                    context.group.clone_from(&shared.group);
                    Err(CommitError::Refused { code, context: Box::new(context) })
                }
            }
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(CommitError::Closed),
    };
    if let Err(error) = &outcome {
        tracing::warn!(group = ?shared.group, %error, "the last commit failed");
    }
    *shared.last_commit.lock() = Some(outcome);
}

/// Asks for leaders when somebody found them wrong, and from time to time.
async fn keep_metadata(shared: Arc<Shared>) {
    let config = shared.cluster.config();
    let mut changes = shared.changes.subscribe();
    let mut backoff = Backoff::new(REFRESH_BACKOFF, REFRESH_BACKOFF_MAX);
    let mut refreshed_at: Option<Instant> = None;
    loop {
        changes.mark_seen();
        let metadata = shared.cluster.metadata();
        let (must_refresh, topics) = {
            let mut state = shared.state.lock();
            let must_refresh =
                std::mem::take(&mut state.must_refresh) || state.has_leaderless(&metadata);
            let topics: BTreeSet<Arc<str>> =
                state.topics.iter().cloned().chain(shared.subscription()).collect();
            (must_refresh, topics)
        };
        let due_at = refreshed_at.map(|at| at + config.metadata_max_age);
        let is_due = due_at.is_none_or(|at| at <= clock::now());
        if topics.is_empty() || !(must_refresh || is_due) {
            let changed = changes.changed();
            match due_at {
                Some(at) if !topics.is_empty() => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                _ => {
                    let _ = changed.await;
                }
            }
            if !must_refresh {
                backoff.reset();
            }
            continue;
        }
        let names: BTreeSet<&str> = topics.iter().map(|name| &**name).collect();
        let allow = shared.config.allow_auto_create_topics;
        match shared.cluster.refresh(Some(&names), allow).await {
            Ok(_) => refreshed_at = Some(clock::now()),
            Err(error) => tracing::debug!(%error, "the consumer cannot ask for leaders"),
        }
        shared.bump();
        // However often leaders are found wrong, brokers are asked at a bounded rate.
        tokio::time::sleep(backoff.next(shared.cluster.jitter())).await;
    }
}

/// Runs one fetcher for each broker that has something of ours.
async fn keep_fetchers(shared: &Arc<Shared>, fetchers: &mut BTreeMap<i32, JoinHandle<()>>) {
    let mut changes = shared.changes.subscribe();
    let mut metadata = shared.cluster.watch();
    loop {
        changes.mark_seen();
        let known = Arc::clone(&metadata.borrow_and_update());
        let brokers = shared.state.lock().brokers(&known);
        fetchers.retain(|broker, fetcher| {
            let is_needed = brokers.contains(broker) && !fetcher.is_finished();
            if !is_needed {
                fetcher.abort();
            }
            is_needed
        });
        for broker in brokers {
            fetchers
                .entry(broker)
                .or_insert_with(|| spawn(fetcher::run(Arc::clone(shared), broker)));
        }
        // What was seen here the next round does not bump.
        tokio::select! {
            biased;
            _ = metadata.changed() => shared.bump(),
            _ = changes.changed() => {}
        }
    }
}

async fn commit_regularly(shared: Arc<Shared>) {
    let Some(every) = shared.config.commit.every().filter(|_| shared.group.is_some()) else {
        return std::future::pending().await;
    };
    let every = every.max(Duration::from_millis(1));
    loop {
        tokio::time::sleep(every).await;
        let policy = shared.config.commit;
        match committer::commit(&shared, |state| state.committable(policy, false, None)).await {
            Ok(report) => {
                for (partition, result) in &report.partitions {
                    if let Err(code) = result {
                        let mut context = crate::error::ErrorContext::partition(
                            &partition.topic,
                            partition.partition,
                        );
                        context.group.clone_from(&shared.group);
                        let error =
                            CommitError::Refused { code: *code, context: Box::new(context) };
                        shared.events.tell(Event::CommitFailed(error));
                    }
                }
            }
            // Offsets are handed over with the partitions; the next tick commits the rest.
            Err(CommitError::Rebalancing { .. }) => {}
            Err(error) => shared.events.tell(Event::CommitFailed(error)),
        }
    }
}

/// Tells when a partition has something to read and nothing comes.
async fn watch_for_stalls(shared: Arc<Shared>) {
    let limit = shared.config.stall_timeout;
    if limit.is_zero() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(limit / 4).await;
        let now = clock::now();
        let mut stalled = Vec::new();
        {
            let mut state = shared.state.lock();
            for (at, partition) in &mut state.partitions {
                // What is fetched and not taken is the caller's pace, not a stall.
                if !partition.is_returnable() || partition.has_fetched() {
                    partition.progress_at = now;
                    continue;
                }
                let since = now.saturating_duration_since(partition.progress_at);
                let could_go_on =
                    partition.fetch_offset < 0 || partition.fetch_offset < partition.high_watermark;
                if could_go_on && since >= limit && !partition.is_stall_told {
                    partition.is_stall_told = true;
                    stalled.push(Event::Stalled {
                        partition: at.clone(),
                        position: partition.fetch_offset,
                        high_watermark: partition.high_watermark,
                        since,
                    });
                }
            }
        }
        for event in stalled {
            tracing::warn!(?event, "a partition does not go on");
            shared.events.tell(event);
        }
    }
}
