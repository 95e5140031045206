//! Which versions a broker speaks: ApiVersions, beginning high and falling back as KIP-511 says.

use super::connection::Connection;
use crate::error::ConnectError;
use bytes::{Buf, Bytes};
use std::collections::BTreeMap;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use varve_protocol::wire::{ApiKey, Message, Reader};

/// The version of ApiVersions that is tried first. Every broker answers a version that it does not know in version
/// 0, with its own highest.
const FIRST_VERSION: i16 = 4;

/// The highest version of each API that this client fills and reads right. The codec may know later ones, in which
/// the same facts lie elsewhere.
pub(super) fn highest_version(api: ApiKey) -> i16 {
    match api {
        ApiKey::Produce => 13,
        ApiKey::Fetch => 17,
        ApiKey::ListOffsets => 10,
        ApiKey::Metadata => 13,
        // From 10 on topics go by id.
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        ApiKey::FindCoordinator => 5,
        ApiKey::JoinGroup => 9,
        ApiKey::Heartbeat
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeLogDirs => 4,
        ApiKey::LeaveGroup | ApiKey::SyncGroup | ApiKey::ListGroups | ApiKey::InitProducerId => 5,
        ApiKey::DescribeGroups | ApiKey::DeleteTopics => 6,
        ApiKey::CreateTopics => 7,
        ApiKey::ApiVersions => FIRST_VERSION,
        ApiKey::CreatePartitions => 3,
        ApiKey::DeleteRecords
        | ApiKey::DeleteGroups
        | ApiKey::ElectLeaders
        | ApiKey::DescribeCluster
        | ApiKey::DescribeQuorum => 2,
        ApiKey::IncrementalAlterConfigs | ApiKey::AlterPartitionReassignments => 1,
        // Not asked by this client, or in version 0 only.
        _ => 0,
    }
}

/// The ranges that a broker speaks, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BrokerVersions {
    ranges: BTreeMap<i16, (i16, i16)>,
}

impl BrokerVersions {
    fn from_wire(response: &ApiVersionsResponse) -> Self {
        let ranges = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        BrokerVersions { ranges }
    }

    /// The highest version that both sides speak.
    pub(super) fn choose(&self, api: ApiKey, client_min: i16, client_max: i16) -> Option<i16> {
        let (broker_min, broker_max) = *self.ranges.get(&api.code())?;
        let version = broker_max.min(client_max);
        (version >= broker_min && version >= client_min).then_some(version)
    }

    pub(super) fn describe(&self, api: ApiKey) -> String {
        match self.ranges.get(&api.code()) {
            Some((min, max)) => format!("{min} to {max}"),
            None => "does not have it".to_owned(),
        }
    }
}

/// Asks for the broker's versions.
pub(super) async fn negotiate(connection: &Connection) -> Result<BrokerVersions, ConnectError> {
    let mut version = FIRST_VERSION;
    loop {
        let bytes = ask(connection, version).await?;
        let refused = |code, reason: String| ConnectError::Handshake {
            address: connection.address().to_string(),
            code,
            reason,
        };
        match read(bytes, version).map_err(|reason| refused(None, reason))? {
            Answer::Versions(versions) => return Ok(versions),
            Answer::Lower(lower) if lower < version => version = lower,
            Answer::Lower(_) => {
                let code = ErrorCode::UnsupportedVersion;
                return Err(refused(Some(code), format!("ApiVersions v{version} is refused")));
            }
            Answer::Refused(code) => return Err(refused(Some(code), format!("{code:?}"))),
        }
    }
}

async fn ask(connection: &Connection, version: i16) -> Result<Bytes, ConnectError> {
    let request = ApiVersionsRequest {
        client_software_name: "varve-client".to_owned(),
        client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let setup = |error| ConnectError::Handshake {
        address: connection.address().to_string(),
        code: None,
        reason: format!("{error}"),
    };
    let pending = connection.submit(version, &request).map_err(setup)?;
    let timeout = connection.request_timeout();
    let mut bytes =
        connection.answer_bytes(ApiKey::ApiVersions, pending, timeout).await.map_err(setup)?;
    // The header is the correlation id alone, in every version.
    bytes.advance(4);
    Ok(bytes)
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Versions(BrokerVersions),
    /// Try again with this version.
    Lower(i16),
    Refused(ErrorCode),
}

/// Reads an answer to ApiVersions. Its header has no tagged fields in any version, and a refusal of the version is
/// written in version 0.
fn read(bytes: Bytes, version: i16) -> Result<Answer, String> {
    let code = match bytes.get(..2) {
        Some(code) => i16::from_be_bytes([code[0], code[1]]),
        None => return Err(format!("an answer of {} bytes", bytes.len())),
    };
    let written_in = if code == ErrorCode::UnsupportedVersion.code() { 0 } else { version };
    let mut reader = Reader::new(bytes);
    let response = <ApiVersionsResponse as Message>::decode(&mut reader, written_in)
        .map_err(|error| error.to_string())?;
    Ok(match ErrorCode::from_code(code) {
        ErrorCode::None => Answer::Versions(BrokerVersions::from_wire(&response)),
        ErrorCode::UnsupportedVersion => {
            // Brokers before KIP-511 do not say what they would take; version 0 always works.
            let own =
                response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code());
            Answer::Lower(own.map_or(0, |own| own.max_version.min(version - 1).max(0)))
        }
        code => Answer::Refused(code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_version_is_read_in_version_0() {
        // Error 35, one key: ApiVersions 0 to 3.
        let bytes = Bytes::from_static(&[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3]);
        assert_eq!(read(bytes, 4), Ok(Answer::Lower(3)));
        // Error 35 and no keys, as brokers before KIP-511 answer.
        let bytes = Bytes::from_static(&[0, 35, 0, 0, 0, 0]);
        assert_eq!(read(bytes, 4), Ok(Answer::Lower(0)));
        assert!(read(Bytes::from_static(&[0]), 4).is_err());
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        // No error; ApiVersions 0 to 2.
        let bytes = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2]);
        let Ok(Answer::Versions(versions)) = read(bytes, 0) else { panic!("not read") };
        assert_eq!(versions.choose(ApiKey::ApiVersions, 0, 4), Some(2));
        assert_eq!(versions.choose(ApiKey::ApiVersions, 0, 1), Some(1));
        assert_eq!(versions.choose(ApiKey::Produce, 3, 9), None);
    }
}
