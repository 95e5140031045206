//! Who holds acknowledged records on disk.
//!
//! A record that was acknowledged with `acks=all` lies below the high watermark, and every in-sync replica has
//! on stable storage what lies below it. So whoever is in sync at a moment after the acknowledgement holds the
//! record on disk; unless its topic is written with `write.caching`, which promises the page cache only.

use std::collections::{BTreeMap, BTreeSet};

use varve_client::{Admin, AdminError};

use super::format::Receipt;

/// Asks for receipts.
pub(super) struct Receipts {
    admin: Admin,
    /// By topic: whether its records lie on disk once they are acknowledged.
    is_durable: BTreeMap<String, bool>,
}

impl Receipts {
    pub(super) fn new(admin: Admin) -> Self {
        Self { admin, is_durable: BTreeMap::new() }
    }

    /// The receipts of all partitions of these topics, as of now; none for a topic whose records may be in the
    /// page cache only.
    pub(super) async fn ask(
        &mut self,
        topics: &BTreeSet<String>,
    ) -> Result<BTreeMap<(String, i32), Receipt>, AdminError> {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.learn_durability(&names).await?;
        let described = self.admin.describe_topic_partitions(&names).await?;
        let cluster = self.admin.describe_all_brokers().await?;
        let rack_of = |id: i32| {
            let broker = cluster.brokers.iter().find(|broker| broker.id == id)?;
            broker.rack.clone()
        };
        let mut receipts = BTreeMap::new();
        for (name, topic) in described {
            if self.is_durable.get(&name) != Some(&true) {
                continue;
            }
            for partition in topic?.partitions {
                let mut holders = partition.isr;
                holders.sort_unstable();
                let racks: BTreeSet<String> = holders.iter().copied().filter_map(rack_of).collect();
                let brokers: Vec<String> = holders.iter().map(i32::to_string).collect();
                let receipt = Receipt {
                    brokers: brokers.join(","),
                    racks: racks.into_iter().collect::<Vec<_>>().join(","),
                };
                receipts.insert((name.clone(), partition.partition), receipt);
            }
        }
        Ok(receipts)
    }

    async fn learn_durability(&mut self, names: &[&str]) -> Result<(), AdminError> {
        let is_new = |name: &&str| !self.is_durable.contains_key(*name);
        let new: Vec<&str> = names.iter().copied().filter(is_new).collect();
        for (name, value) in self.admin.describe_topic_setting(&new, "write.caching").await? {
            // Another broker than varve's does not say.
            let is_durable = value?.is_some_and(|value| value == "false");
            self.is_durable.insert(name, is_durable);
        }
        Ok(())
    }
}
