//! The voters of the metadata quorum, as a node's file names them.

use std::fmt;

use super::schema::is_host_port;
use super::value::{ConfigValue, Raw};

/// A broker that votes in the metadata quorum: `ID@HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// The broker; not negative.
    pub id: i32,
    /// The `host:port` of its internal listener.
    pub address: String,
}

impl Voter {
    fn parse(text: &str) -> Option<Voter> {
        let (id, address) = text.trim().split_once('@')?;
        let id = id.parse().ok().filter(|id| *id >= 0)?;
        is_host_port(address).then(|| Voter { id, address: address.to_owned() })
    }

    /// What is wrong with a list of voters; nothing with an empty one.
    pub(super) fn problem(voters: &[Voter]) -> Option<String> {
        for (place, voter) in voters.iter().enumerate() {
            for earlier in &voters[..place] {
                if earlier.id == voter.id {
                    return Some(format!("names voter {} twice", voter.id));
                }
                if earlier.address == voter.address {
                    let (one, other, address) = (earlier.id, voter.id, &voter.address);
                    return Some(format!(
                        "gives voters {one} and {other} the same address {address}"
                    ));
                }
            }
        }
        let is_possible = matches!(voters.len(), 0 | 1 | 3 | 5);
        (!is_possible).then(|| {
            format!(
                "has {} voters; there must be one, three or five, since an even number survives no \
                 more failures than one less, and more than five make every change slower",
                voters.len()
            )
        })
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

impl ConfigValue for Vec<Voter> {
    const EXPECTED: &'static str =
        "a list such as [\"1@10.0.0.1:9192\", \"2@10.0.0.2:9192\", \"3@10.0.0.3:9192\"]";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Array(items) => items
                .iter()
                .map(|item| match item {
                    Raw::Text(text) => Voter::parse(text),
                    _ => None,
                })
                .collect(),
            Raw::Text(text) | Raw::Word(text) if text.trim().is_empty() => Some(Vec::new()),
            Raw::Word(text) => text.split(',').map(Voter::parse).collect(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(|voter| format!("\"{voter}\"")).collect();
        format!("[{}]", items.join(", "))
    }
}
