//! The cluster as its answers tell it, for the judgements of [`Survey`].

use std::collections::BTreeMap;
use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use varve_broker::survey::{Survey, SurveyedBroker, SurveyedPartition};
use varve_client::{Admin, ClusterDescription, ConfigResource, Reassignment};

use super::super::exit::CliError;
use super::super::topic::failed;

/// The key by which a broker goes into maintenance.
pub(super) const MAINTENANCE: &str = "varve.maintenance";

/// How long brokers, and the controller, are waited for, all at once.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(1_500);

/// A cluster, and where its brokers are.
pub(super) struct Gathered {
    pub(super) survey: Survey,
    pub(super) cluster: ClusterDescription,
}

/// Asks for everything.
pub(super) async fn gather(admin: &Admin) -> Result<Gathered, CliError> {
    let cluster = admin.describe_all_brokers().await.map_err(failed)?;
    // What is not known of the quorum is not judged: nobody may lead it at present.
    let quorum = tokio::time::timeout(ANSWER_MAX, admin.describe_quorum());
    let (quorum, brokers, partitions) =
        tokio::join!(quorum, survey_brokers(admin, &cluster, ANSWER_MAX), partitions(admin));
    let quorum = quorum.ok().and_then(Result::ok);
    let survey = Survey {
        controller: quorum.as_ref().map(|quorum| quorum.leader),
        voters: quorum.iter().flat_map(|quorum| &quorum.voters).map(|voter| voter.id).collect(),
        brokers: brokers?,
        partitions: partitions?,
    };
    Ok(Gathered { survey, cluster })
}

/// Asks all brokers at once whether they live. Without a controller nobody counts a broker as dead; it
/// does not answer all the same.
pub(super) async fn survey_brokers(
    admin: &Admin,
    cluster: &ClusterDescription,
    patience: Duration,
) -> Result<Vec<SurveyedBroker>, CliError> {
    let ask = |broker: &varve_client::BrokerDescription| {
        let (id, rack, is_fenced) = (broker.id, broker.rack.clone(), broker.is_fenced);
        async move {
            let asked = tokio::time::timeout(patience, is_in_maintenance(admin, id));
            let is_draining = if is_fenced { None } else { asked.await.ok() }.transpose()?;
            let (is_fenced, is_draining) = (is_draining.is_none(), is_draining.unwrap_or(false));
            Ok(SurveyedBroker { id, rack, is_fenced, is_draining })
        }
    };
    all(cluster.brokers.iter().map(ask)).await.into_iter().collect()
}

/// Polls futures together until all are done.
async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in futures.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        let is_done = futures.iter().all(|(_, done)| done.is_some());
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}

/// Whether a broker that is alive is in maintenance.
pub(super) async fn is_in_maintenance(admin: &Admin, id: i32) -> Result<bool, CliError> {
    let entries = admin.describe_config(&ConfigResource::Broker(id)).await.map_err(failed)?;
    let is_set = |entry: &varve_client::ConfigEntry| {
        entry.name == MAINTENANCE && entry.value.as_deref() == Some("true")
    };
    Ok(entries.iter().any(is_set))
}

async fn partitions(admin: &Admin) -> Result<Vec<SurveyedPartition>, CliError> {
    let topics = admin.list_topics().await.map_err(failed)?;
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let replicas = least(admin, &names, "min.insync.replicas").await?;
    let domains = least(admin, &names, "min.insync.domains").await?;
    // Who is about to be moved is known to the controller; without one nothing moves.
    let moves = tokio::time::timeout(ANSWER_MAX, admin.list_reassignments()).await;
    let moves = moves.map_or_else(|_| Ok(Vec::new()), |moves| moves.map_err(failed))?;
    let moves: BTreeMap<(&str, i32), &Reassignment> =
        moves.iter().map(|one| ((&*one.partition.topic, one.partition.partition), one)).collect();
    let mut found = Vec::new();
    for (name, described) in admin.describe_topic_partitions(&names).await.map_err(failed)? {
        // A topic may be deleted meanwhile.
        let Ok(described) = described else { continue };
        for partition in described.partitions {
            let under_way = moves.get(&(name.as_str(), partition.partition));
            found.push(SurveyedPartition {
                topic: name.clone(),
                partition: partition.partition,
                leader: partition.leader,
                replicas: partition.replicas,
                isr: partition.isr,
                eligible: partition.eligible,
                adding: under_way.map(|one| one.adding.clone()).unwrap_or_default(),
                removing: under_way.map(|one| one.removing.clone()).unwrap_or_default(),
                min_insync_replicas: replicas.get(&name).copied().unwrap_or(1),
                min_insync_domains: domains.get(&name).copied().unwrap_or(1),
            });
        }
    }
    Ok(found)
}

/// A topic's demand on acknowledgements; other brokers than varve's do not have all of them.
async fn least(
    admin: &Admin,
    names: &[&str],
    key: &str,
) -> Result<BTreeMap<String, usize>, CliError> {
    let values = admin.describe_topic_setting(names, key).await.map_err(failed)?;
    let number = |(name, value): (String, Result<Option<String>, _>)| {
        Some((name, value.ok()??.parse().ok()?))
    };
    Ok(values.into_iter().filter_map(number).collect())
}
