//! Requests by API: how many, with which errors, how long and where, how large.

use std::sync::OnceLock;
use std::time::Duration;

use varve_protocol::ApiKey;

use super::{Counter, Exposition, Histogram, Kind, SizeHistogram};

/// API keys that are counted one by one; Kafka's highest is below.
const APIS_MAX: usize = 128;
/// Error codes that are counted one by one: -1 (unknown) to 158.
const ERRORS_MAX: usize = 160;

/// Where the time of a request goes, in this order (Kafka's RequestMetrics). There is no phase for
/// throttling as long as no quota holds an answer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Behind earlier requests of its connection, or of its log shard.
    Queue,
    /// Worked on by this broker.
    Local,
    /// Waiting: for other replicas and the disk, for records to come, for other members of a group,
    /// for the controller; and for the answers before it on its connection.
    Remote,
    /// Handing the answer to the transport.
    Send,
}

impl Phase {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Queue, "queue"),
        (Self::Local, "local"),
        (Self::Remote, "remote"),
        (Self::Send, "send"),
    ];
}

/// Series of one API; made when the first request of that API comes.
#[derive(Debug)]
struct ApiSeries {
    errors: Box<[Counter]>,
    duration: Histogram,
    phases: [Histogram; Phase::ALL.len()],
    size_bytes: SizeHistogram,
}

impl Default for ApiSeries {
    fn default() -> Self {
        Self {
            errors: (0..=ERRORS_MAX).map(|_| Counter::default()).collect(),
            duration: Histogram::default(),
            phases: Default::default(),
            size_bytes: SizeHistogram::default(),
        }
    }
}

/// Requests by API.
#[derive(Debug)]
pub struct RequestMetrics {
    apis: Box<[OnceLock<ApiSeries>]>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self { apis: (0..APIS_MAX).map(|_| OnceLock::new()).collect() }
    }
}

impl RequestMetrics {
    /// Counts one answered request: its API key, the answer's first error code, and the time from
    /// the frame's last byte to the answer's first.
    pub fn observe(&self, api: i16, error: i16, duration: Duration) {
        let Some(series) = self.series(api) else { return };
        let slot = usize::try_from(i32::from(error) + 1).unwrap_or(0).min(ERRORS_MAX);
        series.errors[slot].increment();
        series.duration.observe(duration);
    }

    /// Counts the bytes of a request's frame.
    pub fn observe_size(&self, api: i16, bytes: usize) {
        if let Some(series) = self.series(api) {
            series.size_bytes.observe(bytes as u64);
        }
    }

    /// Counts how long a request was in a phase.
    pub fn observe_phase(&self, api: i16, phase: Phase, duration: Duration) {
        if let Some(series) = self.series(api) {
            series.phases[phase as usize].observe(duration);
        }
    }

    fn series(&self, api: i16) -> Option<&ApiSeries> {
        let slot = self.apis.get(usize::try_from(api).ok()?)?;
        Some(slot.get_or_init(ApiSeries::default))
    }

    fn seen(&self) -> impl Iterator<Item = (String, &ApiSeries)> {
        self.apis.iter().enumerate().filter_map(|(key, slot)| Some((api_name(key), slot.get()?)))
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        let name = "varve_requests_total";
        out.family(name, Kind::Counter, "Requests answered, by API and first error.");
        for (api, series) in self.seen() {
            for (slot, count) in series.errors.iter().enumerate() {
                let count = count.value();
                if count > 0 || slot == 1 {
                    let error = error_name(slot);
                    out.count(name, &[("api", &api), ("error", &error)], count);
                }
            }
        }
        let name = "varve_request_duration_seconds";
        out.family(name, Kind::Histogram, "From a request's last byte to its answer.");
        for (api, series) in self.seen() {
            series.duration.write(out, name, &[("api", &api)]);
        }
        let name = "varve_request_phase_seconds";
        out.family(name, Kind::Histogram, "Where the time of requests goes.");
        for (api, series) in self.seen() {
            for (phase, label) in Phase::ALL {
                let labels = [("api", api.as_str()), ("phase", label)];
                series.phases[phase as usize].write(out, name, &labels);
            }
        }
        let name = "varve_request_size_bytes";
        out.family(name, Kind::Histogram, "Bytes of request frames.");
        for (api, series) in self.seen() {
            series.size_bytes.write(out, name, &[("api", &api)]);
        }
    }
}

fn error_name(slot: usize) -> String {
    match i32::try_from(slot).unwrap_or(i32::MAX) - 1 {
        0 => "none".to_owned(),
        code => code.to_string(),
    }
}

fn api_name(key: usize) -> String {
    match i16::try_from(key).ok().and_then(ApiKey::from_code) {
        Some(api) => api.name().to_owned(),
        None => format!("api_{key}"),
    }
}
