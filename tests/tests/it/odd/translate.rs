//! Ids that a broker chooses are others in the replay: what Kafka chose is replaced by what was
//! chosen here. Brokers 2 and 3 are not there either: topics get their replica on broker 1.

use std::collections::HashMap;

use bytes::Bytes;
use varve_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchResponse, InitProducerIdResponse,
    JoinGroupResponse, MetadataResponse, ProduceRequest,
};
use varve_protocol::records::{BatchHeader, HEADER_BYTES, patch_producer};
use varve_protocol::vocabulary::ProducerId;
use varve_protocol::wire::{
    ApiKey, Message, Reader, Request, RequestHeader, ResponseHeader, encode_request,
};

use super::corpus::frames;

/// What was learned so far.
#[derive(Default)]
pub(super) struct Translation {
    /// Byte strings of equal length: topic ids, member ids, fetch sessions.
    strings: Vec<(Vec<u8>, Vec<u8>)>,
    producer_ids: HashMap<i64, i64>,
}

impl Translation {
    /// The request as this broker must see it.
    pub(super) fn apply(&self, request: &Bytes) -> Vec<u8> {
        let mut bytes = request.to_vec();
        for (theirs, ours) in &self.strings {
            let mut from = 0;
            while let Some(place) = find(&bytes[from..], theirs) {
                let at = from + place;
                bytes[at..at + theirs.len()].copy_from_slice(ours);
                from = at + theirs.len();
            }
        }
        let rewritten = match frames(&Bytes::from(bytes.clone())).as_deref() {
            Some([frame]) => self.rewrite(frame),
            _ => None,
        };
        rewritten.unwrap_or(bytes)
    }

    /// Changes what lies in fields; `None` when nothing has to be.
    fn rewrite(&self, frame: &Bytes) -> Option<Vec<u8>> {
        let mut reader = Reader::new(frame.clone());
        let header = RequestHeader::decode(&mut reader).ok()?;
        match ApiKey::from_code(header.api_key)? {
            ApiKey::CreateTopics => {
                let mut request = whole::<CreateTopicsRequest>(&mut reader, &header)?;
                for topic in &mut request.topics {
                    if matches!(topic.replication_factor, 2 | 3) {
                        topic.replication_factor = 1;
                    }
                    for assignment in &mut topic.assignments {
                        assignment.broker_ids.retain(|id| !matches!(id, 2 | 3));
                    }
                }
                encoded(&header, &request)
            }
            ApiKey::Produce if !self.producer_ids.is_empty() => {
                let mut request = whole::<ProduceRequest>(&mut reader, &header)?;
                let mut is_changed = false;
                for topic in &mut request.topic_data {
                    for partition in &mut topic.partition_data {
                        let batch = partition.records.as_ref()?;
                        if let Some(batch) = self.with_producer(batch) {
                            partition.records = Some(batch);
                            is_changed = true;
                        }
                    }
                }
                is_changed.then(|| encoded(&header, &request))?
            }
            _ => None,
        }
    }

    fn with_producer(&self, batch: &Bytes) -> Option<Bytes> {
        let header = BatchHeader::parse(batch.get(..HEADER_BYTES)?).ok()?;
        let ours = *self.producer_ids.get(&header.producer_id.0)?;
        let mut bytes = batch.to_vec();
        patch_producer(&mut bytes, ProducerId(ours), header.producer_epoch, header.base_sequence)
            .ok()?;
        Some(bytes.into())
    }

    /// Notes what both brokers chose in their answers to `request`.
    pub(super) fn learn(&mut self, request: &Bytes, theirs: &Bytes, ours: &Bytes) {
        let Ok(header) = RequestHeader::decode(&mut Reader::new(request.clone())) else { return };
        match ApiKey::from_code(header.api_key) {
            Some(ApiKey::CreateTopics) => {
                self.learn_topics::<CreateTopicsResponse>(&header, theirs, ours, |response| {
                    let topics = response.topics.into_iter();
                    topics.map(|topic| (topic.name, topic.topic_id.0)).collect()
                });
            }
            Some(ApiKey::Metadata) => {
                self.learn_topics::<MetadataResponse>(&header, theirs, ours, |response| {
                    let topics = response.topics.into_iter();
                    topics.map(|topic| (topic.name.unwrap_or_default(), topic.topic_id.0)).collect()
                });
            }
            Some(ApiKey::JoinGroup) => {
                let read = |frame| response::<JoinGroupResponse>(&header, frame);
                let (Some(theirs), Some(ours)) = (read(theirs), read(ours)) else { return };
                self.learn_bytes(theirs.member_id.as_bytes(), ours.member_id.as_bytes());
            }
            Some(ApiKey::Fetch) => {
                let read = |frame| response::<FetchResponse>(&header, frame);
                let (Some(theirs), Some(ours)) = (read(theirs), read(ours)) else { return };
                self.learn_bytes(&theirs.session_id.to_be_bytes(), &ours.session_id.to_be_bytes());
            }
            Some(ApiKey::InitProducerId) => {
                let read = |frame| response::<InitProducerIdResponse>(&header, frame);
                let (Some(theirs), Some(ours)) = (read(theirs), read(ours)) else { return };
                if theirs.producer_id >= 0 && ours.producer_id >= 0 {
                    self.producer_ids.insert(theirs.producer_id, ours.producer_id);
                }
            }
            _ => {}
        }
    }

    fn learn_topics<M: Message>(
        &mut self,
        header: &RequestHeader,
        theirs: &Bytes,
        ours: &Bytes,
        ids: fn(M) -> Vec<(String, u128)>,
    ) {
        let read = |frame| response::<M>(header, frame).map(ids);
        let (Some(theirs), Some(ours)) = (read(theirs), read(ours)) else { return };
        for (name, id) in &theirs {
            if let Some((_, own)) = ours.iter().find(|(own_name, _)| own_name == name) {
                self.learn_bytes(&id.to_be_bytes(), &own.to_be_bytes());
            }
        }
    }

    fn learn_bytes(&mut self, theirs: &[u8], ours: &[u8]) {
        // Zero is no id, and an error answers no id.
        let is_none = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        if theirs == ours || is_none(theirs) || is_none(ours) {
            return;
        }
        assert_eq!(theirs.len(), ours.len(), "ids of another length cannot be put in place");
        if !self.strings.iter().any(|(known, _)| known == theirs) {
            self.strings.push((theirs.to_vec(), ours.to_vec()));
        }
    }
}

/// The response in `frame` to a request with this header.
fn response<M: Message>(header: &RequestHeader, frame: &Bytes) -> Option<M> {
    let api = ApiKey::from_code(header.api_key)?;
    let mut reader = Reader::new(frame.clone());
    ResponseHeader::decode(&mut reader, api, header.api_version).ok()?;
    <M as Message>::decode(&mut reader, header.api_version).ok()
}

fn whole<R: Request>(reader: &mut Reader, header: &RequestHeader) -> Option<R> {
    let request = <R as Message>::decode(reader, header.api_version).ok()?;
    (reader.remaining() == 0).then_some(request)
}

fn encoded<R: Request>(header: &RequestHeader, request: &R) -> Option<Vec<u8>> {
    Some(encode_request(header, request).ok()?.to_bytes().ok()?.to_vec())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
