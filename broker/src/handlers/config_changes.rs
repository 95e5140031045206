//! What AlterConfigs and IncrementalAlterConfigs have in common: resources in, outcomes out.

use std::collections::HashMap;

use super::config_resource::{ResourceError, parse_resource};
use super::message::message;
use crate::metadata::{ConfigChange, ConfigEdits, ConfigError, MetadataHandle};

/// One resource of a request.
pub(crate) struct ResourceChange {
    pub(crate) kind: i8,
    pub(crate) name: String,
    pub(crate) edits: Result<ConfigEdits, ResourceError>,
}

/// What became of it.
pub(crate) struct ResourceOutcome {
    pub(crate) kind: i8,
    pub(crate) name: String,
    pub(crate) error_code: i16,
    pub(crate) error_message: Option<String>,
}

/// Applies the changes, each by itself; outcomes in the order of the request.
pub(crate) async fn apply_changes(
    metadata: &MetadataHandle,
    resources: Vec<ResourceChange>,
    validate_only: bool,
) -> Vec<ResourceOutcome> {
    let mut counts: HashMap<(i8, String), usize> = HashMap::new();
    for resource in &resources {
        *counts.entry((resource.kind, resource.name.clone())).or_default() += 1;
    }
    let mut outcomes = Vec::with_capacity(resources.len());
    let mut changes = Vec::new();
    let mut places = Vec::new();
    for (place, ResourceChange { kind, name, edits }) in resources.into_iter().enumerate() {
        let is_repeated = counts.get(&(kind, name.clone())).is_some_and(|count| *count > 1);
        let change = if is_repeated {
            Err(ResourceError::Repeated)
        } else {
            edits.and_then(|edits| {
                Ok(ConfigChange { resource: parse_resource(kind, &name)?, edits })
            })
        };
        let outcome = match change {
            Ok(change) => {
                changes.push(change);
                places.push(place);
                ResourceOutcome { kind, name, error_code: 0, error_message: None }
            }
            Err(error) => failed(kind, name, &error),
        };
        outcomes.push(outcome);
    }
    if changes.is_empty() {
        return outcomes;
    }
    let results = match metadata.alter_configs(changes, validate_only).await {
        Ok(results) => results,
        Err(error) => {
            places.iter().map(|_| Err(ConfigError::Unavailable(error.to_string()))).collect()
        }
    };
    for (place, result) in places.into_iter().zip(results) {
        if let Err(error) = result {
            let ResourceOutcome { kind, name, .. } = &outcomes[place];
            outcomes[place] = failed(*kind, name.clone(), &ResourceError::Change(error));
        }
    }
    outcomes
}

fn failed(kind: i8, name: String, error: &ResourceError) -> ResourceOutcome {
    let (error_code, error_message) = (error.code().code(), message(error));
    ResourceOutcome { kind, name, error_code, error_message }
}
