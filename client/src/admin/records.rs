//! Deleting the oldest records of partitions.

use super::call::{Effect, Verdict, check, is_elsewhere};
use super::{Admin, PerSubject};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use crate::record::TopicPartition;
use varve_protocol::messages::{
    DeleteRecordsRequest,
    delete_records::{DeleteRecordsPartition, DeleteRecordsTopic},
};

impl Admin {
    /// Deletes all records below the given offset of each partition; offset -1 means all up to the high
    /// watermark. Answers with each partition's new first offset.
    ///
    /// # Errors
    /// The call as a whole; each partition's own refusal is in the result.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
    ) -> Result<PerSubject<TopicPartition, i64>, AdminError> {
        let mut results = Vec::with_capacity(before.len());
        for (partition, offset) in before {
            results.push((partition.clone(), self.delete_records_of(partition, *offset).await));
        }
        Ok(results)
    }

    async fn delete_records_of(&self, at: &TopicPartition, before: i64) -> Result<i64, AdminError> {
        const WHAT: &str = "deleting records";
        let timeout_ms = self.client.cluster().timeout_ms();
        self.call_leader(
            WHAT,
            at,
            // Deleting the same records again changes nothing.
            Effect::Idempotent,
            |_version| DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: at.topic.to_string(),
                    partitions: vec![DeleteRecordsPartition {
                        partition_index: at.partition,
                        offset: before,
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                timeout_ms,
                ..Default::default()
            },
            |response| {
                let result = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
                let Some(result) = result else {
                    return Err(AdminError::Missing { what: WHAT, subject: at.to_string() });
                };
                let context = ErrorContext::partition(&at.topic, at.partition).at(before);
                match check(WHAT, result.error_code, None, context) {
                    Ok(()) => Ok(Verdict::Done(result.low_watermark)),
                    Err(error) if is_elsewhere(result.error_code) => Ok(Verdict::Again(error)),
                    Err(error) => Err(error),
                }
            },
        )
        .await
    }

    /// Sends a request about one partition to its leader, following it when it moves.
    pub(super) async fn call_leader<R, T>(
        &self,
        what: &'static str,
        at: &TopicPartition,
        effect: Effect,
        build: impl Fn(i16) -> R,
        mut judge: impl FnMut(R::Response) -> Result<Verdict<T>, AdminError>,
    ) -> Result<T, AdminError>
    where
        R: varve_protocol::wire::Request,
    {
        let leader = Target::Leader { topic: &at.topic, partition: at.partition };
        self.call(what, leader, effect, build, |response, _, _| judge(response)).await
    }
}
