//! File descriptors: what the system allows, divided so that clients never take those that the
//! logs need. A connection too many is refused; a segment that cannot be opened would be an error.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything that is neither a client's connection nor a segment: journals, the
/// metadata log, sockets to peers, the runtime's own.
const OTHERS_MIN: u64 = 64;
const OTHERS_MAX: u64 = 512;
/// Segment files that one shard keeps open at most.
const SHARD_FILES_MAX: u64 = 4_000;
/// Fewer than this make a shard open and close files all the time.
const SHARD_FILES_MIN: u64 = 8;

/// How many descriptors are for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorPlan {
    /// Connections of clients.
    pub(crate) connections_max: usize,
    /// Open segment files of each shard.
    pub(crate) shard_files_max: usize,
}

impl DescriptorPlan {
    /// Raises the process's soft limit as far as it may, and divides what there is.
    pub(crate) fn make(connections_max: u32, shards: u32) -> Self {
        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::debug!(%error, "the soft limit of open files stays as it is");
            }
        }
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let plan = Self::divide(allowed, connections_max, shards);
        let wanted = usize::try_from(connections_max).unwrap_or(usize::MAX);
        if plan.connections_max < wanted {
            tracing::warn!(
                open_files = allowed,
                wanted,
                served = plan.connections_max,
                "fewer connections are taken than limits.connections_max says: the system allows \
                 too few open files; raise the limit (ulimit -n, LimitNOFILE=)"
            );
        }
        plan
    }

    /// Of `allowed` descriptors a part for the rest of the process, at most a quarter for
    /// segments, and what is left for clients, at least one.
    fn divide(allowed: u64, connections_max: u32, shards: u32) -> Self {
        let shards = u64::from(shards.max(1));
        let others = (allowed / 8).clamp(OTHERS_MIN, OTHERS_MAX);
        let rest = allowed.saturating_sub(others);
        let files = (rest / 4 / shards).clamp(SHARD_FILES_MIN, SHARD_FILES_MAX);
        let connections = rest.saturating_sub(files * shards).clamp(1, connections_max.into());
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self { connections_max: count(connections), shard_files_max: count(files) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allowed: u64, shards: u32, connections_max: usize, shard_files_max: usize) {
        let plan = DescriptorPlan::divide(allowed, 10_000, shards);
        assert_eq!(plan, DescriptorPlan { connections_max, shard_files_max });
    }

    #[test]
    fn clients_leave_the_logs_theirs() {
        check(1 << 20, 2, 10_000, 4_000);
        check(20_000, 2, 10_000, 2_436);
        check(20_000, 8, 10_000, 609);
        check(1_024, 2, 672, 112);
        check(256, 2, 144, 24);
        check(64, 2, 1, 8);
        check(u64::MAX, 1, 10_000, 4_000);
    }
}
