use super::*;

#[track_caller]
fn refused(text: &str) -> String {
    let sources = Sources::builder().text("varve.toml", text).build();
    sources.load().expect_err("must be refused").to_string()
}

#[track_caller]
fn accepted(text: &str) -> BrokerConfig {
    let sources = Sources::builder().text("varve.toml", text).build();
    match sources.load() {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(accepted(""), BrokerConfig::default());
}

#[test]
fn sizes_and_durations_take_units_and_plain_numbers() {
    let config = accepted(
        r#"
        data_dir = "/srv/varve"
        [limits]
        request_bytes_max = "64MiB"
        connection_idle_ms = "1.5h"
        shutdown_ms = 250
        [topic_defaults]
        retention_ms = -1
        retention_bytes = "1GB"
        "#,
    );
    assert_eq!(config.limits.request_bytes_max, ByteSize::mib(64));
    assert_eq!(config.limits.connection_idle_ms, DurationMs(5_400_000));
    assert_eq!(config.limits.shutdown_ms, DurationMs(250));
    assert_eq!(config.topic_defaults.retention_ms, None);
    assert_eq!(config.topic_defaults.retention_bytes, Some(ByteSize(1_000_000_000)));
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let told = refused(
        "data_dir = 7\n\
         retentoin_ms = \"7d\"\n\
         [listeners.kafka]\n\
         bnid = \"127.0.0.1:9092\"\n\
         [limits]\n\
         connections_max = \"many\"\n",
    );
    let expected = r#"error[VV0103]: `data_dir` wants a path in quotes, and found 7
 --> varve.toml:1:12
1 | data_dir = 7
  |            ^

error[VV0102]: unknown key `retentoin_ms`
 --> varve.toml:2:1
2 | retentoin_ms = "7d"
  | ^^^^^^^^^^^^
  = did you mean `retention.ms`? it is a setting of a topic: varve topic alter-config TOPIC --set retention.ms=7d

error[VV0102]: unknown key `listeners.kafka.bnid`
 --> varve.toml:4:1
4 | bnid = "127.0.0.1:9092"
  | ^^^^
  = did you mean `listeners.kafka.bind`?

error[VV0103]: `limits.connections_max` wants an integer from 0 to 4294967295, and found "many"
 --> varve.toml:6:19
6 | connections_max = "many"
  |                   ^^^^^^

The configuration has 4 problems; nothing was started."#;
    assert_eq!(told, expected);
}

#[test]
fn topic_and_kafka_keys_name_the_command_or_the_right_key() {
    let told = refused("\"retention.ms\" = 5\n\"log.dirs\" = \"/x\"\n");
    assert!(told.contains("varve topic alter-config TOPIC --set retention.ms=5"), "{told}");
    assert!(told.contains("Kafka's `log.dirs` is `data_dir` here"), "{told}");
}

#[test]
fn syntax_errors_are_told_beside_others() {
    let told = refused("data_dir = = 3\nrack = 4\n");
    assert!(told.contains("error[VV0101]"), "{told}");
    assert!(told.contains("varve.toml:2:8"), "{told}");
}

#[test]
fn listening_beyond_loopback_must_be_allowed() {
    let text = "[listeners.kafka]\nbind = \"0.0.0.0:9092\"\nadvertised = \"broker:9092\"\n";
    let told = refused(text);
    assert!(told.contains("security.allow_insecure = true"), "{told}");
    assert!(told.contains("varve.toml:2:8"), "{told}");
    accepted(&format!("{text}[security]\nallow_insecure = true\n"));
}

#[test]
fn a_cluster_has_one_three_or_five_voters() {
    let config = accepted(
        r#"
        [node]
        id = 2
        [cluster]
        id = "AQIDBAUGBwgJCgsMDQ4PEA"
        voters = ["1@10.0.0.1:9192", "2@[::1]:9192", "3@c.example:9192"]
        [listeners.internal]
        bind = "127.0.0.1:0"
        advertised = "b.example:9192"
        "#,
    );
    let voters: Vec<String> = config.cluster.voters.iter().map(Voter::to_string).collect();
    assert_eq!(voters, ["1@10.0.0.1:9192", "2@[::1]:9192", "3@c.example:9192"]);
    assert_eq!(config.cluster.voters[2].id, 3);
    assert_eq!(config.cluster.voters[2].address, "c.example:9192");
    for (voters, sentence) in [
        (r#"["1@a:1", "2@b:1"]"#, "has 2 voters"),
        (r#"["1@a:1", "1@b:1", "3@c:1"]"#, "names voter 1 twice"),
        (r#"["1@a:1", "2@b:1", "3@a:1"]"#, "gives voters 1 and 3 the same address a:1"),
        (r#"["1@a:1", "2@b", "3@c:1"]"#, r#"found ["1@a:1", "2@b", "3@c:1"]"#),
        (r#"["a:1"]"#, r#"wants a list such as"#),
        (r#"["-1@a:1"]"#, r#"wants a list such as"#),
        (r#"["1@a:0"]"#, r#"wants a list such as"#),
    ] {
        let told = refused(&format!("[cluster]\nvoters = {voters}\n"));
        assert!(told.contains("`cluster.voters`") && told.contains(sentence), "{voters}: {told}");
    }
    let told = refused("[cluster]\nid = \"prod\"\n");
    assert!(told.contains("`cluster.id` is not the id of a cluster"), "{told}");
}

#[test]
fn voters_can_be_one_word() {
    let sets = ["cluster.voters=1@a:1, 2@b:1,3@c:1".to_owned()];
    let loaded = Sources::builder().sets(sets).build().load().expect("a list");
    assert_eq!(loaded.config.cluster.voters.len(), 3);
    let none = Sources::builder().sets(["cluster.voters=".to_owned()]).build().load();
    assert_eq!(none.expect("an empty list").config.cluster.voters, []);
}

/// A cluster of one has no internal listener, so nothing about it can be wrong.
#[test]
fn the_internal_listener_of_a_cluster_must_be_reachable() {
    let text = "[listeners.internal]\nbind = \"0.0.0.0:9192\"\n";
    accepted(text);
    let told = refused(&format!("{text}[cluster]\nvoters = [\"1@a:9192\"]\n"));
    assert!(told.contains("`listeners.internal.advertised` is needed"), "{told}");
    assert!(told.contains("`listeners.internal.bind` listens beyond this machine"), "{told}");
}

/// All that is wrong is told at once, and a broker that shows nobody who it is stays on loopback.
#[test]
fn brokers_show_each_other_certificates_or_none() {
    let cluster = "[cluster]\nvoters = [\"1@a:9192\"]\n";
    let internal = "[listeners.internal]\nbind = \"10.0.0.1:9192\"\n";
    let told = refused(&format!("{cluster}{internal}quic = true\n"));
    assert!(told.contains("`listeners.internal.quic` needs certificates"), "{told}");
    assert!(told.contains("`listeners.internal.bind` listens beyond this machine"), "{told}");
    let told = refused(&format!(
        "{cluster}{internal}[listeners.internal.tls]\ncert = \"c.pem\"\npeer_name = \"broker\"\n"
    ));
    assert!(told.contains("`listeners.internal.tls.key` is not set"), "{told}");
    assert!(told.contains("`listeners.internal.tls.ca` is not set"), "{told}");
    assert!(told.contains("`listeners.internal.tls.peer_name` must be a DNS name"), "{told}");
    let tls = "[listeners.internal.tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\nca = \"ca.pem\"\n";
    let config = accepted(&format!("{cluster}{internal}quic = true\n{tls}"));
    assert!(config.listeners.internal.quic);
    assert_eq!(config.listeners.internal.tls.peer_name, "broker-{id}.varve.internal");
}

#[test]
fn later_layers_win() {
    let sources = Sources::builder()
        .text("varve.toml", "rack = \"file\"\nshards = 1\nworkers = 1\nnum_partitions = 2\n")
        .env([
            ("VARVE_RACK".to_owned(), "env".to_owned()),
            ("VARVE_SHARDS".to_owned(), "2".to_owned()),
            ("VARVE_WORKERS".to_owned(), "2".to_owned()),
            ("VARVE_LISTENERS__KAFKA__BIND".to_owned(), "127.0.0.1:1".to_owned()),
            ("VARVE_BROKERS".to_owned(), "elsewhere:9092".to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
        ])
        .sets(["shards=3".to_owned(), "workers=3".to_owned()])
        .flag("--port", "workers", 4)
        .build();
    let loaded = sources.load().expect("all layers are right");
    assert_eq!(loaded.config.num_partitions, 2);
    assert_eq!(loaded.config.rack.as_deref(), Some("env"));
    assert_eq!(loaded.config.shards, 3);
    assert_eq!(loaded.config.workers, 4);
    assert_eq!(loaded.config.listeners.kafka.bind.port(), 1);
    let dump = loaded.dump(true);
    assert!(dump.contains("num_partitions = 2  # varve.toml:4"), "{dump}");
    assert!(dump.contains("rack = \"env\"  # environment VARVE_RACK"), "{dump}");
    assert!(dump.contains("node.id = 1  # default"), "{dump}");
}

#[test]
fn unknown_variables_are_refused() {
    // The tests' own variables, and the command line's, are nothing to a broker.
    let others = ["VARVE_TEST_BROKER", "VARVE_SEED", "VARVE_BROKERS", "VARVE_PROFILE"];
    let others = others.map(|name| (name.to_owned(), "x".to_owned()));
    assert!(Sources::builder().env(others).build().load().is_ok());
    let sources = Sources::builder().env([("VARVE_DATADIR".to_owned(), "/x".to_owned())]).build();
    let told = sources.load().expect_err("no such key").to_string();
    assert!(told.contains("environment variable VARVE_DATADIR"), "{told}");
    assert!(told.contains("did you mean `data_dir`?"), "{told}");
}

#[test]
fn what_is_dumped_loads_to_the_same() {
    let rack = Some("a \"quoted\" rack".to_owned());
    let mut config = BrokerConfig { rack, ..BrokerConfig::default() };
    config.topic_defaults.retention_ms = None;
    config.http.bind = None;
    config.cluster.voters = vec![Voter { id: 1, address: "a:1".to_owned() }];
    let loaded = Loaded { config: config.clone(), origins: Default::default() };
    assert_eq!(accepted(&loaded.dump(true)), config);
}

#[test]
fn the_reference_is_the_default_and_lies_in_the_repository() {
    let reference = BrokerConfig::reference();
    assert_eq!(accepted(&reference), BrokerConfig::default());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/varve.toml");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &reference).expect("the reference is written");
    }
    let stored = std::fs::read_to_string(path).expect("config/varve.toml is there");
    assert!(stored == reference, "config/varve.toml is not what the schema says: run with BLESS=1");
}

#[test]
fn the_files_of_a_cluster_fit_together() {
    let configs: Vec<BrokerConfig> = (1..=3)
        .map(|id| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/cluster");
            let path = format!("{folder}/broker-{id}.toml");
            accepted(&std::fs::read_to_string(path).expect("the file is there"))
        })
        .collect();
    for (id, config) in (1..).zip(&configs) {
        assert_eq!(config.node.id, id);
        assert_eq!(config.cluster.voters, configs[0].cluster.voters);
        let own = config.cluster.voters.iter().find(|voter| voter.id == id).expect("a voter");
        assert_eq!(own.address, config.listeners.internal.bind.to_string());
    }
    let ports = configs.iter().flat_map(|config| {
        let http = config.http.bind.expect("it has HTTP").port();
        [config.listeners.kafka.bind.port(), config.listeners.internal.bind.port(), http]
    });
    let distinct: std::collections::BTreeSet<u16> = ports.collect();
    assert_eq!(distinct.len(), 9);
}
