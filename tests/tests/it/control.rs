//! What people do to a cluster: elections by order, moves of replicas, maintenance, taking a broker out.
//! Real processes, asked through the client crate, the command line, HTTP and Apache Kafka's tools.

use std::process::{Command, Output};
use std::time::Duration;

use varve_client::{
    Admin, Client, ConfigChange, ConfigResource, ElectionType, ErrorCode, IsolationLevel, NewTopic,
    OffsetSpec, PartitionDescription, ProducerRecord, TopicPartition,
};
use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
use varve_protocol::vocabulary::TimestampMs;
use varve_tests::clock::{now, wait_for};
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::http;
use varve_tests::peers::{kafka_tools, run, run_ok};
use varve_tests::process::BrokerProcess;
use varve_tests::process::binary;

const TOPIC: &str = "moved";
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster with one topic of these replicas, asked through the client crate.
struct World {
    cluster: Cluster,
    runtime: tokio::runtime::Runtime,
    client: Client,
    admin: Admin,
    _folder: tempfile::TempDir,
}

impl World {
    fn start(replicas: &[&[i32]], configs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(folder.path(), 3, &[]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bootstrap = cluster.bootstrap();
        let client = runtime.block_on(Client::connect(&bootstrap)).unwrap();
        let admin = client.admin();
        let topic = (0..).zip(replicas).fold(NewTopic::new(TOPIC), |topic, (number, replicas)| {
            topic.assignment(number, replicas.to_vec())
        });
        let topic = configs.iter().fold(topic, |topic, (key, value)| topic.config(*key, *value));
        runtime.block_on(admin.create_topic(topic)).unwrap();
        Self { cluster, runtime, client, admin, _folder: folder }
    }

    /// Writes records and waits until they are acknowledged.
    fn produce(&self, count: usize) {
        self.runtime.block_on(async {
            let producer = self.client.producer().build().await.unwrap();
            for number in 0..count {
                let record = ProducerRecord::new(TOPIC, format!("record {number}")).partition(0);
                producer.send(record).await.unwrap();
            }
            producer.close().await.unwrap();
        });
    }

    fn partition(&self, number: i32) -> PartitionDescription {
        let described = self.runtime.block_on(self.admin.describe_topic_partitions(&[TOPIC]));
        let topic = described.unwrap().pop().unwrap().1.unwrap();
        topic.partitions.into_iter().find(|one| one.partition == number).unwrap()
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl Fn(&PartitionDescription) -> bool) {
        wait_for(what, PATIENCE, || {
            let partition = self.partition(0);
            condition(&partition).then_some(())
        });
    }

    /// Waits until all brokers show all of the metadata.
    fn settle(&self) {
        wait_for("equal metadata", PATIENCE, || {
            let shown = |broker: &BrokerProcess| {
                let metrics = http::get(broker.http(), "/metrics").1;
                let value = |name| {
                    let mut lines = metrics.lines();
                    lines.find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                (value("varve_raft_applied_index "), value("varve_raft_last_log_index "))
            };
            let all: Vec<_> = self.cluster.brokers().iter().map(shown).collect();
            let first = &all[0].0;
            let is_equal = all.iter().all(|(applied, last)| applied == first && last == first);
            (first.is_some() && is_equal).then_some(())
        });
    }

    fn elect(&self, election: ElectionType) -> Option<ErrorCode> {
        let at = [TopicPartition::new(TOPIC, 0)];
        let results = self.runtime.block_on(self.admin.elect_leaders(election, Some(&at)));
        results.unwrap().pop().unwrap().1.err().map(|error| error.code().unwrap())
    }

    fn reassign(&self, replicas: Option<&[i32]>) -> Option<ErrorCode> {
        let wish = [(TopicPartition::new(TOPIC, 0), replicas.map(<[i32]>::to_vec))];
        let results = self.runtime.block_on(self.admin.alter_reassignments(&wish));
        results.unwrap().pop().unwrap().1.err().map(|error| error.code().unwrap())
    }

    fn moves(&self) -> usize {
        self.runtime.block_on(self.admin.list_reassignments()).unwrap().len()
    }

    /// `varve cluster …`
    fn varve(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(["--brokers", &self.cluster.bootstrap(), "cluster"]).args(arguments);
        run(&mut command, b"", LIMIT)
    }

    #[track_caller]
    fn check(&self, arguments: &[&str], code: i32, words: &str) {
        let output = self.varve(arguments);
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
}

#[test]
fn replicas_move_and_moves_are_cancelled() {
    let world = World::start(&[&[1, 2]], &[]);
    world.produce(100);
    assert_eq!(world.reassign(None), Some(ErrorCode::NoReassignmentInProgress));
    assert_eq!(world.reassign(Some(&[9])), Some(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(world.reassign(Some(&[3, 2])), None);
    world.wait("the move", |one| one.replicas == [3, 2] && one.isr.len() == 2);
    assert_eq!(world.moves(), 0);
    world.wait("its leader", |one| one.leader == Some(3) && one.leader_epoch > 0);
    world.produce(100);
    // Held up by a throttle, a move can be called off.
    let throttle = ConfigChange::set("leader.replication.throttled.rate", "1");
    let named = ConfigChange::set("leader.replication.throttled.replicas", "*");
    let alter = |resource, change| {
        world.runtime.block_on(world.admin.alter_config(&resource, &[change], false)).unwrap();
    };
    alter(ConfigResource::Topic(TOPIC.to_owned()), named);
    alter(ConfigResource::Cluster, throttle);
    world.settle();
    assert_eq!(world.reassign(Some(&[1, 2])), None);
    world.wait("the added replica", |one| one.replicas == [1, 2, 3]);
    world.check(&["partitions", "move-status"], 0, "0 of 1");
    assert_eq!(world.reassign(None), None);
    world.wait("the end of the move", |one| one.replicas == [2, 3]);
    assert_eq!(world.moves(), 0);
    // Without the throttle it ends by itself.
    assert_eq!(world.reassign(Some(&[1, 2])), None);
    alter(ConfigResource::Cluster, ConfigChange::delete("leader.replication.throttled.rate"));
    world.wait("the second move", |one| one.replicas == [1, 2] && one.isr.len() == 2);
    // Whoever led is not asked again and again: that would take the call's whole time, a minute.
    let began = now();
    let ends = world.runtime.block_on(async {
        let at = [(TopicPartition::new(TOPIC, 0), OffsetSpec::Latest)];
        world.admin.list_offsets(&at, IsolationLevel::ReadUncommitted).await.unwrap()
    });
    assert_eq!(ends[0].1.as_ref().unwrap().offset, 200, "records are lost");
    assert!(now() - began < PATIENCE / 2, "it took {:?}", now() - began);
}

#[test]
fn leaders_are_elected_by_order() {
    let mut world = World::start(&[&[1, 2]], &[("min.insync.replicas", "2")]);
    world.produce(10);
    assert_eq!(world.elect(ElectionType::Preferred), Some(ErrorCode::ElectionNotNeeded));
    assert_eq!(world.elect(ElectionType::Unclean), Some(ErrorCode::ElectionNotNeeded));
    // Broker 2 leaves a set that commits nothing without it: it stays eligible.
    world.cluster.broker(2).kill();
    world.wait("broker 2 is eligible", |one| one.isr == [1] && one.eligible == [2]);
    world.check(&["health"], 10, "1 broker is down");
    world.cluster.broker(2).restart();
    world.wait("broker 2 is in sync", |one| one.isr.len() == 2 && one.eligible.is_empty());
    // One replica that has all, and is dead: the other one leads by order only.
    let change = ConfigChange::set("min.insync.replicas", "1");
    let resource = ConfigResource::Topic(TOPIC.to_owned());
    world.runtime.block_on(world.admin.alter_config(&resource, &[change], false)).unwrap();
    world.cluster.broker(2).kill();
    world.wait("broker 1 is alone", |one| one.isr == [1] && one.eligible.is_empty());
    world.produce(10);
    let began = world.cluster.broker(2).begin_restart();
    world.cluster.broker(1).kill();
    *world.cluster.broker(2) = began.wait();
    // Either broker 2 was in sync again before broker 1 died, or nobody may lead.
    world.wait("the end of broker 1", |one| one.leader != Some(1));
    if world.partition(0).leader.is_none() {
        assert_eq!(
            world.elect(ElectionType::Preferred),
            Some(ErrorCode::PreferredLeaderNotAvailable)
        );
        world.check(&["partitions", "--leaderless"], 0, TOPIC);
        world.check(&["partitions", "elect", TOPIC, "--unclean", "--yes"], 0, "ELECTED");
        world.wait("broker 2 leads", |one| one.leader == Some(2));
    }
}

#[test]
fn a_broker_is_looked_after_drained_and_taken_out() {
    let mut world = World::start(&[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    let narrow =
        NewTopic::new("narrow").assignment(0, vec![1, 3]).config("min.insync.replicas", "2");
    world.runtime.block_on(world.admin.create_topic(narrow)).unwrap();
    world.check(&["health"], 0, "yes");
    world.check(&["quorum"], 0, "MEMBERS");
    world.check(&["safe-to-stop", "1"], 10, "narrow/0");
    world.check(&["safe-to-stop", "9"], 1, "not registered");
    world.check(&["maintenance", "enter", "1"], 0, "in maintenance");
    world.wait("others lead", |one| one.leader == Some(2) && one.isr.len() == 3);
    world.check(&["maintenance", "status", "1"], 0, "yes");
    // It outlives the process.
    assert!(world.cluster.broker(1).terminate().success());
    world.cluster.broker(1).restart();
    world.wait("it is in sync", |one| one.isr.len() == 3);
    world.check(&["maintenance", "status", "1"], 0, "yes");
    world.check(&["maintenance", "leave", "1"], 0, "out of maintenance");
    world.wait("it leads again", |one| one.leader == Some(1));

    // A fourth broker takes over what the third one holds.
    assert_eq!(world.cluster.join(&[]), 4);
    world.produce(50);
    world.check(&["brokers"], 0, "rack-4");
    world.check(&["brokers", "remove", "3", "--yes"], 1, "alive");
    world.check(&["brokers", "drain", "3"], 0, "[1 2 4]");
    world.wait("the drained broker holds nothing", |one| one.replicas == [1, 2, 4]);
    world.wait("all are in sync", |one| one.isr.len() == 3);
    world.check(&["safe-to-stop", "3"], 0, "may be stopped");
    let health = http::get(world.cluster.broker(2).http(), "/v1/cluster/health");
    assert_eq!(health.0, 200, "{}", health.1);
    assert_eq!(http::get(world.cluster.broker(2).http(), "/v1/brokers/3/safe-to-stop").0, 200);
    assert!(world.cluster.broker(3).terminate().success());
    let metrics = wait_for("the broker counts as dead", PATIENCE, || {
        let metrics = http::get(world.cluster.broker(2).http(), "/metrics").1;
        metrics.contains("varve_cluster_brokers{state=\"down\"} 1").then_some(metrics)
    });
    assert!(
        metrics.contains("varve_cluster_partitions{state=\"under_replicated\"} 0"),
        "{metrics}"
    );
    // The client's connections are looked after while something is awaited only: a change that is sent on
    // one that broker 3 has closed may have taken effect or not, and is not repeated.
    world.runtime.block_on(world.admin.describe_quorum()).unwrap();
    let refused = world.runtime.block_on(world.admin.unregister_broker(3)).unwrap_err();
    assert!(refused.to_string().contains("varve cluster quorum remove-voter 3"), "{refused}");
    world.check(&["brokers", "remove", "3", "--yes"], 1, "--allow-even");
    world.check(&["brokers", "remove", "3", "--yes", "--allow-even"], 0, "taken out");
    // Broker 3 leaves the quorum's learners meanwhile, and one change is made at a time.
    wait_for("broker 4 to vote", PATIENCE, || {
        let output = world.varve(&["quorum", "add-voter", "4"]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || words.contains("try again"), "{words}");
        output.status.success().then_some(())
    });
    world.check(&["quorum"], 0, "leader");
    let brokers = world.varve(&["brokers", "--format", "json"]);
    let brokers = String::from_utf8_lossy(&brokers.stdout);
    assert!(!brokers.contains("\"id\": 3"), "{brokers}");
}

/// Acknowledgements count racks as they are, not as they were when a partition was made.
#[test]
fn a_broker_that_stands_in_another_rack_counts_there() {
    let configs = [("min.insync.replicas", "2"), ("min.insync.domains", "2")];
    let mut world = World::start(&[&[1, 2]], &configs);
    world.produce(5);
    world.cluster.broker(2).kill();
    world.wait("one is left", |one| one.isr.len() == 1);
    world.cluster.broker(2).set("rack", "\"rack-1\"");
    world.cluster.broker(2).restart();
    world.wait("two in one rack", |one| one.isr.len() == 2 && one.leader == Some(1));
    let mut builder = BatchBuilder::new(Compression::None);
    let (timestamp, value) = (TimestampMs(1_000), Some(&b"once"[..]));
    builder.push(NewRecord { timestamp, value, ..NewRecord::default() }).unwrap();
    let refused =
        world.cluster.broker(1).connect().produce(TOPIC, 0, builder.build().unwrap()).unwrap();
    assert_eq!(refused.error_code, ErrorCode::NotEnoughReplicas.code(), "{refused:?}");
    world.check(&["brokers"], 0, "rack-1");
    world.cluster.broker(2).kill();
    world.cluster.broker(2).set("rack", "\"rack-2\"");
    world.cluster.broker(2).restart();
    world.wait("two in two racks", |one| one.isr.len() == 2);
    world.produce(5);
}

#[test]
fn kafkas_tools_elect_and_move() {
    let Some(kafka) = kafka_tools("control::kafkas_tools_elect_and_move") else { return };
    let world = World::start(&[&[1, 2]], &[]);
    world.produce(10);
    let bootstrap = world.cluster.bootstrap();
    let tool = |class: &str, arguments: &[&str]| {
        let mut command = Command::new(&kafka);
        command.arg("tool").arg(format!("org.apache.kafka.{class}"));
        command.args(["--bootstrap-server", &bootstrap]).args(arguments);
        run_ok(&mut command, b"", LIMIT)
    };
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let write = |text: &str| std::fs::write(&plan, text).unwrap();
    let file = plan.to_str().unwrap();
    write(
        "{\"version\":1,\"partitions\":[{\"topic\":\"moved\",\"partition\":0,\
         \"replicas\":[3,2],\"log_dirs\":[\"any\",\"any\"]}]}",
    );
    let reassign = "tools.reassign.ReassignPartitionsCommand";
    tool(reassign, &["--reassignment-json-file", file, "--execute", "--throttle", "10000000"]);
    world.wait("the move", |one| one.replicas == [3, 2] && one.isr.len() == 2);
    let verified = tool(reassign, &["--reassignment-json-file", file, "--verify"]);
    assert!(verified.contains("is completed"), "{verified}");
    assert_eq!(world.reassign(Some(&[2, 3])), None);
    let elect = ["--topic", TOPIC, "--partition", "0", "--election-type", "preferred"];
    let elected = tool("tools.LeaderElectionCommand", &elect);
    // On a slow machine the controller may have restored the preferred leader before the tool has started.
    let answers = ["Successfully completed leader election", "Valid replica already elected"];
    assert!(answers.iter().any(|answer| elected.contains(answer)), "{elected}");
    assert_eq!(world.partition(0).leader, Some(2));
    let quorum = tool("tools.MetadataQuorumCommand", &["describe", "--status"]);
    assert!(quorum.contains("LeaderId:") && quorum.contains("CurrentVoters:"), "{quorum}");
}
