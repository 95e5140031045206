//! SIGHUP: reads a running broker's configuration again, takes over what can change while it runs,
//! and tells what else has changed.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use varve_broker::config::{ConfigError, Loaded, LogOutputConfig};
use varve_broker::metrics::Metrics;

/// The one key that changes at once.
const LOG_FILTER: &str = "log.filter";
/// Has the last word on the filter, as long as the process lives.
const LOG_VARIABLE: &str = "VARVE_LOG";

/// Sets another filter of events.
pub(crate) type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The filter that holds: of the environment, else of the configuration.
pub(crate) fn filter_words(config: &LogOutputConfig) -> String {
    std::env::var(LOG_VARIABLE).unwrap_or_else(|_| config.filter.clone())
}

/// Reads the configuration again at every SIGHUP. Ends only with whoever waits for it.
pub(crate) async fn on_hangup(
    mut known: Loaded,
    read: impl Fn() -> Result<Loaded, ConfigError>,
    set_filter: SetFilter,
    metrics: Arc<Metrics>,
) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be waited for; it ends this process");
            return std::future::pending().await;
        }
    };
    while hangups.recv().await.is_some() {
        let outcome = read().map_err(|error| error.to_string()).and_then(|fresh| {
            take_over(&known, &fresh, &set_filter)?;
            known = fresh;
            Ok(())
        });
        metrics.runtime.config_reload_failed.set(u64::from(outcome.is_err()));
        if let Err(error) = outcome {
            tracing::error!(
                error,
                "the configuration was read again and is wrong; nothing changed"
            );
        }
    }
    std::future::pending().await
}

/// Takes over what can change now, and tells every difference.
fn take_over(known: &Loaded, fresh: &Loaded, set_filter: &SetFilter) -> Result<(), String> {
    let changes = changes(known, fresh);
    if changes.iter().any(|change| change.key == LOG_FILTER) {
        let words = filter_words(&fresh.config.log);
        let filter = EnvFilter::try_new(&words)
            .map_err(|error| format!("{words:?} is no filter of events: {error}"))?;
        set_filter(filter)?;
    }
    if changes.is_empty() {
        tracing::info!("the configuration was read again; nothing is different");
    }
    for Change { key, prior, new, effect } in changes {
        tracing::info!(key, prior, new, effect, "a configuration key is different");
    }
    Ok(())
}

/// One key that is not what it was.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    key: String,
    prior: String,
    new: String,
    /// When it counts.
    effect: &'static str,
}

fn changes(known: &Loaded, fresh: &Loaded) -> Vec<Change> {
    let pairs = known.config.values().into_iter().zip(fresh.config.values());
    let differing = pairs.filter(|((_, prior), (_, new))| prior != new);
    let change = |((key, prior), (_, new)): ((String, String), (String, String))| {
        let effect = match key.as_str() {
            LOG_FILTER if std::env::var_os(LOG_VARIABLE).is_some() => "none: VARVE_LOG holds",
            LOG_FILTER => "now",
            _ => "restart",
        };
        Change { key, prior, new, effect }
    };
    differing.map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use varve_broker::config::Sources;

    #[test]
    fn only_the_filter_changes_at_once() {
        let loaded = |text| Sources::builder().text("varve.toml", text).build().load().unwrap();
        let known = loaded("rack = \"a\"\n");
        let fresh = loaded("rack = \"b\"\n[log]\nfilter = \"debug\"\n");
        let found = changes(&known, &fresh);
        let found: Vec<_> = found.iter().map(|c| (c.key.as_str(), c.effect)).collect();
        assert_eq!(found, [("rack", "restart"), ("log.filter", "now")]);
        assert_eq!(changes(&fresh, &fresh), []);
    }
}
