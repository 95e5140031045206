//! What a broker's HTTP port tells of its cluster, under `/v1`. Any broker answers, by the metadata that it
//! shows. It reads only: whoever wants to change something asks over Kafka's protocol.

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Shown, json_answer};
use crate::survey::{PartitionState, Survey, SurveyedPartition};

fn starting() -> Response {
    let body = json!({"error": "this broker is starting, and knows of no cluster yet"});
    json_answer(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// 200 where all is well, 503 where something is not.
pub(super) async fn health(State(observed): Shown) -> Response {
    let Some(survey) = observed.survey() else { return starting() };
    let health = survey.health();
    let status = if health.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &health.json())
}

/// 200 where nothing comes of stopping the broker, 409 where something would.
pub(super) async fn safe_to_stop(State(observed): Shown, Path(id): Path<i32>) -> Response {
    let Some(survey) = observed.survey() else { return starting() };
    match survey.safe_to_stop(id) {
        Some(verdict) if verdict.is_safe() => json_answer(StatusCode::OK, &verdict.json()),
        Some(verdict) => json_answer(StatusCode::CONFLICT, &verdict.json()),
        None => {
            let body = json!({"error": format!("broker {id} is not registered")});
            json_answer(StatusCode::NOT_FOUND, &body)
        }
    }
}

/// All brokers with their states.
pub(super) async fn brokers(State(observed): Shown) -> Response {
    let Some(survey) = observed.survey() else { return starting() };
    let broker = |broker: &crate::survey::SurveyedBroker| {
        let holds = |one: &&SurveyedPartition| one.replicas.contains(&broker.id);
        let leads = |one: &&SurveyedPartition| one.leader == Some(broker.id);
        json!({
            "id": broker.id,
            "rack": broker.rack,
            "state": broker.state(),
            "maintenance": broker.is_draining,
            "controller": survey.controller == Some(broker.id),
            "voter": survey.voters.contains(&broker.id),
            "replicas": survey.partitions.iter().filter(holds).count(),
            "leads": survey.partitions.iter().filter(leads).count(),
        })
    };
    json_answer(StatusCode::OK, &survey.brokers.iter().map(broker).collect())
}

/// The partitions, or those in the state that `?state=` names.
pub(super) async fn partitions(State(observed): Shown, RawQuery(query): RawQuery) -> Response {
    let Some(survey) = observed.survey() else { return starting() };
    let words = query.unwrap_or_default();
    let wanted = words.split('&').find_map(|word| word.strip_prefix("state="));
    let state = match wanted {
        None => None,
        Some(name) => {
            let known = PartitionState::ALL.iter().find(|(_, known)| *known == name);
            let Some((state, _)) = known else {
                let names: Vec<_> = PartitionState::ALL.iter().map(|(_, name)| *name).collect();
                let body = json!({"error": format!("no state is called {name}"), "states": names});
                return json_answer(StatusCode::BAD_REQUEST, &body);
            };
            Some(*state)
        }
    };
    json_answer(StatusCode::OK, &listed(&survey, state))
}

fn listed(survey: &Survey, state: Option<PartitionState>) -> Value {
    let is_wanted = |one: &&SurveyedPartition| state.is_none_or(|state| one.is(state));
    let partition = |one: &SurveyedPartition| {
        let states = PartitionState::ALL.iter().filter(|(state, _)| one.is(*state));
        json!({
            "topic": one.topic,
            "partition": one.partition,
            "leader": one.leader,
            "replicas": one.replicas,
            "isr": one.isr,
            "eligible": one.eligible,
            "adding": one.adding,
            "removing": one.removing,
            "min_insync_replicas": one.min_insync_replicas,
            "states": states.map(|(_, name)| *name).collect::<Vec<_>>(),
        })
    };
    survey.partitions.iter().filter(is_wanted).map(partition).collect()
}
