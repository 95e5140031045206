//! Kafka's wire protocol in front of the stepped brokers: decodes a request, has the broker's core decide, encodes the
//! answer. One group of requests a file. What is not in [`SERVED`] is not announced, so that a client says that the broker
//! does not have it.

pub(crate) mod cluster;
mod fetch;
mod groups;
mod offsets;
mod produce;
mod topics;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use varve_broker::simulation::SteppedBroker;
use varve_protocol::messages::api_versions::ApiVersion;
use varve_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DeleteRecordsResponse, FetchRequest, MetadataRequest,
    OffsetCommitResponse, ProduceResponse,
};
use varve_protocol::wire::{ApiKey, DecodeError, Message, Reader, RequestHeader, encode_response};

use crate::world::{LinkId, World};

/// The requests that are answered. Each in the versions that the client of this workspace speaks, as far as they say the same
/// in the same way: a client that does not know a topic's id names it.
const SERVED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 7, 10),
    (ApiKey::Metadata, 9, 13),
    (ApiKey::OffsetCommit, 9, 9),
    (ApiKey::OffsetFetch, 8, 9),
    (ApiKey::FindCoordinator, 4, 5),
    (ApiKey::JoinGroup, 9, 9),
    (ApiKey::Heartbeat, 4, 4),
    (ApiKey::LeaveGroup, 3, 5),
    (ApiKey::SyncGroup, 5, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 7, 7),
    (ApiKey::DeleteTopics, 6, 6),
    (ApiKey::DeleteRecords, 2, 2),
    (ApiKey::InitProducerId, 4, 5),
    (ApiKey::OffsetForLeaderEpoch, 4, 4),
    (ApiKey::CreatePartitions, 3, 3),
    (ApiKey::DescribeConfigs, 4, 4),
    (ApiKey::IncrementalAlterConfigs, 1, 1),
    (ApiKey::DescribeCluster, 1, 2),
];

/// Requests under way.
#[derive(Debug, Default)]
pub(crate) struct Front {
    requests: BTreeMap<u64, Request>,
    /// By the number that a broker was asked with: the request, and which of its parts.
    parts: BTreeMap<u64, (u64, usize)>,
    last_number: u64,
    /// Connections on which something may be sent or begun.
    pub(crate) touched: VecDeque<LinkId>,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) link: LinkId,
    /// Index and run of the machine that was asked.
    machine: (usize, u64),
    /// That of the machine that decides, if it is another.
    decides: Option<usize>,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    kind: Kind,
}

/// What a request waits for.
#[derive(Debug)]
enum Kind {
    /// Nothing, so far.
    New,
    /// So many answers of logs, which are put into the response.
    Produce {
        response: ProduceResponse,
        open: usize,
        is_answered: bool,
    },
    /// Records, or the end of its patience.
    Fetch(FetchRequest),
    /// A topic and its leaders.
    Find(Vec<String>),
    /// Answers of logs.
    Delete {
        response: DeleteRecordsResponse,
        open: usize,
    },
    /// A coordinator.
    Commit(OffsetCommitResponse),
    Group,
    /// A controller.
    Cluster,
    /// Topics that are made before this is answered.
    Create(MetadataRequest),
    ProducerId,
}

impl Front {
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A number to ask a broker with.
    fn part(&mut self, request: u64, place: usize) -> u64 {
        let number = self.next_number();
        self.parts.insert(number, (request, place));
        number
    }

    /// Forgets requests; answers that still come are nobody's.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(&Request) -> bool) {
        self.requests.retain(|_, request| !is_gone(request));
        let requests = &self.requests;
        self.parts.retain(|_, (request, _)| requests.contains_key(request));
    }

    /// Forgets what a machine whose process is gone was asked or was to decide; the connections of these.
    pub(crate) fn take_lost(&mut self, machine: usize) -> Vec<LinkId> {
        let is_lost =
            |request: &Request| request.machine.0 == machine || request.decides == Some(machine);
        let lost = self.requests.values().filter(|request| is_lost(request));
        let mut links: Vec<_> = lost.map(|request| request.link).collect();
        links.dedup();
        self.forget(is_lost);
        links
    }
}

impl World {
    /// Begins a request whose turn has come.
    pub(crate) fn begin(&mut self, number: u64, link: LinkId, machine: (usize, u64), frame: Bytes) {
        if self.dispatch(number, link, machine, frame).is_err() {
            // As a broker does with what it cannot read.
            self.close_link(link);
        }
    }

    fn dispatch(
        &mut self,
        number: u64,
        link: LinkId,
        machine: (usize, u64),
        frame: Bytes,
    ) -> Result<(), DecodeError> {
        let mut body = Reader::new(frame);
        let header = RequestHeader::decode(&mut body)?;
        let RequestHeader { api_key, api_version: version, correlation_id, client_id } = header;
        let api = ApiKey::from_code(api_key);
        let served = SERVED.iter().find(|(served, ..)| Some(*served) == api);
        let Some((api, min, max)) = served.copied() else {
            self.close_link(link);
            return Ok(());
        };
        let (decides, kind) = (None, Kind::New);
        let request = Request { link, machine, decides, api, version, correlation_id, kind };
        self.front.requests.insert(number, request);
        let is_known = (min..=max).contains(&version);
        if api == ApiKey::ApiVersions {
            let response = api_versions(is_known);
            if is_known {
                let _: ApiVersionsRequest = Message::decode(&mut body, version)?;
            } else if let Some(request) = self.front.requests.get_mut(&number) {
                request.version = 0;
            }
            self.answer(number, &response);
            return Ok(());
        }
        if !is_known {
            self.close_link(link);
            return Ok(());
        }
        macro_rules! to {
            ($handle:ident) => {{
                let request = Message::decode(&mut body, version)?;
                self.$handle(number, request);
            }};
        }
        match api {
            ApiKey::Produce => to!(produce),
            ApiKey::Fetch => to!(fetch),
            ApiKey::ListOffsets => to!(list_offsets),
            ApiKey::OffsetForLeaderEpoch => to!(offsets_for_epochs),
            ApiKey::DeleteRecords => to!(delete_records),
            ApiKey::Metadata => to!(metadata),
            ApiKey::CreateTopics => to!(create_topics),
            ApiKey::DeleteTopics => to!(delete_topics),
            ApiKey::CreatePartitions => to!(create_partitions),
            ApiKey::DescribeConfigs => to!(describe_configs),
            ApiKey::IncrementalAlterConfigs => to!(alter_configs),
            ApiKey::DescribeCluster => to!(describe_cluster),
            ApiKey::InitProducerId => to!(init_producer_id),
            ApiKey::FindCoordinator => to!(find_coordinator),
            ApiKey::JoinGroup => {
                let request = Message::decode(&mut body, version)?;
                self.join_group(number, client_id.unwrap_or_default(), request);
            }
            ApiKey::SyncGroup => to!(sync_group),
            ApiKey::Heartbeat => to!(heartbeat),
            ApiKey::LeaveGroup => to!(leave_group),
            ApiKey::OffsetCommit => to!(offset_commit),
            ApiKey::OffsetFetch => to!(offset_fetch),
            other => unreachable!("{} is served by nobody", other.name()),
        }
        Ok(())
    }

    /// A request is answered.
    fn answer<M: Message>(&mut self, number: u64, response: &M) {
        let Some(request) = self.front.requests.remove(&number) else { return };
        let Request { link, api, version, correlation_id, .. } = request;
        let frame = encode_response(api, version, correlation_id, response);
        let frame = frame.expect("answers fit into their versions");
        let bytes = frame.to_bytes().expect("everything lies in memory");
        self.settle_link(link, number, Some(bytes));
    }

    /// A request that wants no answer is done.
    fn finish_silently(&mut self, number: u64) {
        if let Some(request) = self.front.requests.remove(&number) {
            self.settle_link(request.link, number, None);
        }
    }

    /// The broker that was asked, while it is the same run of its process.
    fn broker(&self, number: u64) -> Option<&SteppedBroker> {
        let (index, run) = self.front.requests.get(&number)?.machine;
        let machine = &self.machines[index];
        machine.broker.as_ref().filter(|_| machine.run == run)
    }

    fn version(&self, number: u64) -> i16 {
        self.front.requests.get(&number).map_or(0, |request| request.version)
    }

    fn wait_for(&mut self, number: u64, kind: Kind) {
        if let Some(request) = self.front.requests.get_mut(&number) {
            request.kind = kind;
        }
    }

    /// The request and the part of it that a broker was asked with this number, once.
    fn take_part(&mut self, part: u64) -> Option<(u64, usize)> {
        self.front.parts.remove(&part)
    }

    /// Records or metadata of a machine may have changed.
    pub(crate) fn look_at_waiting(&mut self, index: usize) {
        let waiting = self.front.requests.iter().filter(|(_, request)| {
            request.machine.0 == index && matches!(request.kind, Kind::Fetch(_) | Kind::Find(_))
        });
        let waiting: Vec<u64> = waiting.map(|(number, _)| *number).collect();
        for number in waiting {
            self.look(number, false);
        }
    }

    /// The patience of a request is at its end.
    pub(crate) fn on_overdue(&mut self, number: u64) {
        self.look(number, true);
    }

    fn look(&mut self, number: u64, is_overdue: bool) {
        let Some(request) = self.front.requests.get_mut(&number) else { return };
        match std::mem::replace(&mut request.kind, Kind::New) {
            Kind::Fetch(request) => self.look_for_records(number, request, is_overdue),
            Kind::Find(keys) => self.look_for_coordinators(number, keys, is_overdue),
            other => request.kind = other,
        }
    }
}

fn api_versions(is_known: bool) -> ApiVersionsResponse {
    use varve_protocol::error_code::ErrorCode;
    let key = |(api, min_version, max_version): &(ApiKey, i16, i16)| ApiVersion {
        api_key: api.code(),
        min_version: *min_version,
        max_version: *max_version,
    };
    let error = if is_known { ErrorCode::None } else { ErrorCode::UnsupportedVersion };
    ApiVersionsResponse {
        error_code: error.code(),
        api_keys: SERVED.iter().map(key).collect(),
        ..Default::default()
    }
}
