//! kcat (librdkafka) produces and consumes.

use std::process::Command;
use std::time::Duration;

use varve_tests::peers::{find, run_ok};
use varve_tests::process::BrokerProcess;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn every_codec_comes_back() {
    let Some(kcat) = find("kcat::every_codec_comes_back", "kcat") else { return };
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(folder.path(), &[]);
    let address = broker.address().to_string();
    let lines: Vec<String> =
        (0..2_000).map(|index| format!("key{index}:value {index} of a line of text")).collect();
    let input = lines.join("\n") + "\n";
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        let mut produce = Command::new(&kcat);
        produce.args(["-b", &address, "-P", "-t", &topic, "-z", codec, "-K:", "-X", "acks=all"]);
        run_ok(&mut produce, input.as_bytes(), LIMIT);
        let mut consume = Command::new(&kcat);
        consume.args(["-b", &address, "-C", "-t", &topic, "-e", "-q", "-K:", "-o", "beginning"]);
        assert_eq!(run_ok(&mut consume, b"", LIMIT), input, "{codec}");
    }
}

#[test]
fn headers_offsets_and_metadata() {
    let Some(kcat) = find("kcat::headers_offsets_and_metadata", "kcat") else { return };
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(folder.path(), &[]);
    broker.connect().create_topic("named", 3, &[]).unwrap();
    let address = broker.address().to_string();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&kcat);
        command.args(["-b", &address]).args(arguments);
        command
    };
    let listed = run_ok(&mut command(&["-L", "-t", "named"]), b"", LIMIT);
    assert!(listed.contains("topic \"named\" with 3 partitions"), "{listed}");
    for value in ["one", "two", "three"] {
        let mut produce = command(&["-P", "-t", "named", "-p", "1", "-H", "h=1", "-H", "h=2"]);
        run_ok(&mut produce, value.as_bytes(), LIMIT);
    }
    let format = "%p %o %s %h\n";
    let mut consume =
        command(&["-C", "-t", "named", "-p", "1", "-o", "1", "-e", "-q", "-f", format]);
    assert_eq!(run_ok(&mut consume, b"", LIMIT), "1 1 two h=1,h=2\n1 2 three h=1,h=2\n");
    // The last one, by an offset that counts from the end.
    let mut consume = command(&["-C", "-t", "named", "-p", "1", "-o", "-1", "-e", "-q"]);
    assert_eq!(run_ok(&mut consume, b"", LIMIT), "three\n");
    let query = run_ok(&mut command(&["-Q", "-t", "named:1:-1"]), b"", LIMIT);
    assert_eq!(query, "named [1] offset 3\n");
}

#[test]
fn a_group_resumes() {
    let Some(kcat) = find("kcat::a_group_resumes", "kcat") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start(folder.path(), &[]);
    broker.connect().create_topic("shared", 1, &[]).unwrap();
    let address = broker.address().to_string();
    let produce = |text: &str| {
        let mut command = Command::new(&kcat);
        command.args(["-b", &address, "-P", "-t", "shared"]);
        run_ok(&mut command, text.as_bytes(), LIMIT);
    };
    let consume = |count: &str| {
        let mut command = Command::new(&kcat);
        command.args(["-b", &address, "-G", "readers", "-c", count, "-q", "-X"]);
        command.args(["auto.offset.reset=earliest", "shared"]);
        run_ok(&mut command, b"", LIMIT)
    };
    produce("a\nb\n");
    assert_eq!(consume("2"), "a\nb\n");
    produce("c\nd\n");
    // The committed offset survives a crash.
    broker.kill();
    broker.restart();
    assert_eq!(consume("2"), "c\nd\n");
}
