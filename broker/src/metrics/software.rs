//! Which client software is connected, by what clients say of themselves (KIP-511).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Exposition, Kind};

/// Kinds of software that are told apart at a time; what comes beyond is counted as `other`.
const KINDS_MAX: usize = 64;
/// A longer name or version is counted as `other`.
const WORD_BYTES_MAX: usize = 64;
const OTHER: &str = "other";

/// Open connections by client software. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct ClientSoftware {
    /// Connections by name and version; taken once when a connection says its software, once when it
    /// ends, and for a scrape.
    kinds: Arc<Mutex<BTreeMap<Kindred, u64>>>,
}

/// Name and version.
type Kindred = (Arc<str>, Arc<str>);

/// A connection that has said its software; dropping it takes it from the count.
#[derive(Debug)]
pub struct NamedConnection {
    all: ClientSoftware,
    kind: Kindred,
}

impl ClientSoftware {
    /// Counts a connection whose client says that it is this software.
    #[must_use]
    pub fn connected(&self, name: &str, version: &str) -> NamedConnection {
        let mut kinds = self.kinds.lock();
        let is_short = name.len().max(version.len()) <= WORD_BYTES_MAX;
        let mut kind: Kindred = (name.into(), version.into());
        let is_known = kinds.contains_key(&kind);
        if !is_short || (!is_known && kinds.len() >= KINDS_MAX) {
            kind = (OTHER.into(), OTHER.into());
        }
        *kinds.entry(kind.clone()).or_default() += 1;
        NamedConnection { all: self.clone(), kind }
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        let name = "varve_client_software_info";
        out.family(
            name,
            Kind::Gauge,
            "Open connections by the software that clients say they are.",
        );
        for ((software, version), count) in &*self.kinds.lock() {
            out.count(name, &[("name", software), ("version", version)], *count);
        }
    }
}

impl Drop for NamedConnection {
    fn drop(&mut self) {
        let mut kinds = self.all.kinds.lock();
        if let Some(count) = kinds.get_mut(&self.kind) {
            *count -= 1;
            if *count == 0 {
                kinds.remove(&self.kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(software: &ClientSoftware) -> Vec<String> {
        let mut out = Exposition::default();
        software.write(&mut out);
        let text = out.into_text();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn connections_are_counted_as_long_as_they_are_open() {
        let software = ClientSoftware::default();
        let first = software.connected("librdkafka", "2.6.0");
        let second = software.connected("librdkafka", "2.6.0");
        let expected = |count| {
            format!("varve_client_software_info{{name=\"librdkafka\",version=\"2.6.0\"}} {count}")
        };
        assert_eq!(told(&software), [expected(2)]);
        drop(first);
        assert_eq!(told(&software), [expected(1)]);
        drop(second);
        assert!(told(&software).is_empty());
    }

    #[test]
    fn a_client_cannot_make_series_without_end() {
        let software = ClientSoftware::default();
        let many: Vec<_> =
            (0..3 * KINDS_MAX).map(|number| software.connected("x", &number.to_string())).collect();
        let long = software.connected(&"x".repeat(WORD_BYTES_MAX + 1), "1");
        assert_eq!(told(&software).len(), KINDS_MAX + 1);
        drop((many, long));
        assert!(told(&software).is_empty());
    }
}
