//! Many connections, slow ones, and a full disk.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use varve_protocol::ErrorCode;
use varve_protocol::messages::ApiVersionsRequest;
use varve_protocol::records::{BatchBuilder, Batches, Compression, NewRecord};
use varve_protocol::vocabulary::TimestampMs;
use varve_tests::clock::{now, pause, wait_for};
use varve_tests::connection::Connection;
use varve_tests::peers::skip;
use varve_tests::process::BrokerProcess;
use varve_tests::spawn;

/// A batch of incompressible records.
fn batch(random: &mut StdRng, records: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..records {
        let value: Vec<u8> = (0..value_bytes).map(|_| random.random()).collect();
        builder
            .push(NewRecord {
                timestamp: TimestampMs(1_700_000_000_000),
                key: Some(b"key"),
                value: Some(&value),
                headers: &[],
            })
            .unwrap();
    }
    builder.build().unwrap()
}

/// Connects half open: a frame is begun, and continued by a byte now and then.
fn half_open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // A Produce request of a megabyte, of which nothing but the start ever comes.
    stream.write_all(&(1_u32 << 20).to_be_bytes()).unwrap();
    stream.write_all(&[0, 0, 0, 9, 0, 0, 0, 1]).unwrap();
    stream
}

#[test]
fn idle_and_slow_connections_disturb_nobody() {
    const IDLE: usize = 2_000;
    const HALF_OPEN: usize = 500;
    /// What the connections may cost beside the load: 20 KiB each.
    const MEMORY_MAX: u64 = 20 * 1_024 * (IDLE + HALF_OPEN) as u64;
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start(folder.path(), &[]);
    let address = broker.address();
    broker.connect().create_topic("load", 2, &[]).unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let load = |partition: i32| {
        let is_over = is_over.clone();
        spawn::thread(format!("load {partition}"), move || {
            let mut random = StdRng::seed_from_u64(7);
            let batch = batch(&mut random, 10, 1_000);
            let mut connection = Connection::open(address).unwrap();
            let (mut produced, mut longest) = (0_i64, Duration::ZERO);
            while !is_over.load(Ordering::Acquire) {
                let begun = now();
                let answer = connection.produce("load", partition, batch.clone()).unwrap();
                assert_eq!(answer.error_code, 0);
                let (code, _, read) = connection.fetch("load", partition, produced, 1_000).unwrap();
                assert_eq!(code, ErrorCode::None);
                assert!(!read.is_empty());
                produced += 10;
                longest = longest.max(now() - begun);
            }
            (produced, longest)
        })
    };
    let loads = [load(0), load(1)];
    // The load's own memory comes first.
    wait_for("some load", Duration::from_secs(10), || {
        (broker.connect().offset_at("load", 0, -1).unwrap() > 500).then_some(())
    });
    let before = broker.figures();

    let mut idle: Vec<Connection> = (0..IDLE).map(|_| Connection::open(address).unwrap()).collect();
    for connection in &mut idle {
        connection.call(0, &ApiVersionsRequest::default()).unwrap();
    }
    let mut slow: Vec<TcpStream> = (0..HALF_OPEN).map(|_| half_open(address)).collect();
    let begun = now();
    while now() - begun < Duration::from_secs(3) {
        for stream in &mut slow {
            // A broker may close what is too slow, and then the write fails.
            let _ = stream.write_all(&[0]);
        }
        pause(Duration::from_millis(500));
    }
    let during = broker.figures();
    // The idle ones still work.
    for connection in idle.iter_mut().step_by(97) {
        connection.call(0, &ApiVersionsRequest::default()).unwrap();
    }
    is_over.store(true, Ordering::Release);
    for load in loads {
        let (produced, longest) = load.join().unwrap();
        println!("{produced} records beside {} connections; longest {longest:?}", IDLE + HALF_OPEN);
        assert!(produced > 100);
        assert!(longest < Duration::from_secs(2), "a produce and fetch took {longest:?}");
    }
    broker.assert_running();
    let cost = during.anonymous_bytes.saturating_sub(before.anonymous_bytes);
    println!("{before:?}\n{during:?}");
    assert!(cost < MEMORY_MAX, "the connections cost {cost} bytes");
    drop((idle, slow));
    wait_for("the connections' descriptors to be closed", Duration::from_secs(20), || {
        (broker.figures().descriptors < before.descriptors + 50).then_some(())
    });
}

/// A file system of its own, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn tmpfs(test: &str, place: &'a Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(place);
        succeeds(test, "mount", mount).then_some(Self(place))
    }

    /// An ext4 file system in `image`, as a loop device; it needs root and a loop device.
    fn ext4(test: &str, image: &Path, place: &'a Path, bytes: u64) -> Option<Self> {
        std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0"]).arg(image);
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop"]).arg(image).arg(place);
        let is_mounted = succeeds(test, "mkfs.ext4", make) && succeeds(test, "mount", mount);
        is_mounted.then_some(Self(place))
    }
}

/// Runs a command without which the test cannot be; tells so if it fails.
fn succeeds(test: &str, name: &str, mut command: Command) -> bool {
    let problem = match command.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    skip(test, &format!("{name}: {problem}"));
    false
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let name = "load::a_full_disk_is_survived";
    let Some(_disk) = SmallDisk::tmpfs(name, folder.path(), "192m") else { return };
    fill_and_resume(folder.path());
}

/// On tmpfs a write takes its page at once; ext4 allocates, journals and converts extents.
#[test]
fn a_full_ext4_is_survived() {
    let (folder, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = "load::a_full_ext4_is_survived";
    let image = images.path().join("ext4");
    let Some(_disk) = SmallDisk::ext4(name, &image, folder.path(), 256 << 20) else { return };
    fill_and_resume(folder.path());
}

/// Fills the disk at `place` under a broker, and makes room again.
fn fill_and_resume(place: &Path) {
    let mut broker = BrokerProcess::start(&place.join("broker"), &[]);
    let mut connection = broker.connect();
    connection.create_topic("full", 2, &[("segment.bytes", "4194304")]).unwrap();
    let mut random = StdRng::seed_from_u64(3);
    let batch = batch(&mut random, 10, 20_000);
    assert_eq!(connection.produce("full", 0, batch.clone()).unwrap().error_code, 0);

    // Something else takes most of the room, and the producer the rest.
    let ballast = place.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    let free = free_bytes(place);
    let chunk = vec![1_u8; 1 << 20];
    for _ in 0..free.saturating_sub(24 << 20) >> 20 {
        file.write_all(&chunk).unwrap();
    }
    let mut acknowledged = 1_i64;
    let code = loop {
        assert!(acknowledged < 1_000, "the disk does not fill up");
        let answer = connection.produce("full", 0, batch.clone()).unwrap();
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => acknowledged += 1,
            code => break code,
        }
    };
    println!("after {acknowledged} batches: {code:?}");
    assert!(code.is_retriable(), "a full disk answers {code:?}, which clients do not retry");
    broker.assert_running();

    // Consumers go on, and everything acknowledged is there.
    assert_eq!(read_to_end(&mut connection, "full"), acknowledged * 10);
    // Small requests do not fare better or worse in secret: an error, or a durable record.
    let answer = connection.produce("full", 1, batch.slice(..)).unwrap();
    println!("the other partition: {:?}", ErrorCode::from_code(answer.error_code));

    // It resumes by itself when there is room.
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    wait_for("produce to succeed once there is room", Duration::from_secs(30), || {
        let answer = connection.produce("full", 0, batch.clone()).unwrap();
        (answer.error_code == 0).then_some(())
    });
    acknowledged += 1;
    assert_eq!(read_to_end(&mut connection, "full"), acknowledged * 10);
    broker.kill();
    broker.restart();
    assert_eq!(read_to_end(&mut broker.connect(), "full"), acknowledged * 10);
}

fn free_bytes(place: &Path) -> usize {
    let figures = rustix::fs::statvfs(place).unwrap();
    usize::try_from(figures.f_bavail * figures.f_frsize).unwrap()
}

/// Reads partition 0 to its end; answers how many records there are.
fn read_to_end(connection: &mut Connection, topic: &str) -> i64 {
    let end = connection.offset_at(topic, 0, -1).unwrap();
    let mut position = 0;
    while position < end {
        let (code, _, bytes) = connection.fetch(topic, 0, position, 1_000).unwrap();
        assert_eq!(code, ErrorCode::None);
        let before = position;
        for batch in Batches::new(bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            position = batch.header().next_offset().0;
        }
        assert!(position > before, "nothing at {position} of {end}");
    }
    end
}

/// A stopped broker (SIGSTOP) answers once it goes on; nothing is lost meanwhile.
#[test]
fn a_pause_of_the_process_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(folder.path(), &[]);
    let mut connection = broker.connect();
    connection.create_topic("paused", 1, &[]).unwrap();
    let batch = batch(&mut StdRng::seed_from_u64(1), 1, 100);
    assert_eq!(connection.produce("paused", 0, batch.clone()).unwrap().error_code, 0);
    broker.pause();
    let request = varve_tests::connection::produce_request("paused", 0, batch);
    let id = connection.send(varve_tests::connection::PRODUCE_VERSION, &request).unwrap();
    pause(Duration::from_millis(300));
    broker.resume();
    let answer = connection
        .receive::<varve_protocol::messages::ProduceRequest>(
            varve_tests::connection::PRODUCE_VERSION,
            id,
        )
        .unwrap();
    assert_eq!(varve_tests::connection::only_partition(answer).unwrap().base_offset, 1);
}

/// What is no Kafka closes the connection, and nothing else happens.
#[test]
fn other_protocols_are_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start(folder.path(), &[]);
    for greeting in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x7f\xff\xff\xff\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
    ] {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(greeting).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{greeting:?}: {error}"),
        }
        assert!(answer.is_empty(), "{greeting:?} was answered with {answer:?}");
    }
    broker.assert_running();
    broker.connect().call(0, &ApiVersionsRequest::default()).unwrap();
}

/// A process that may open few files keeps those that its logs need: connections too many are
/// closed at once, and the others do not notice.
#[test]
fn few_descriptors_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start(folder.path(), &[("ulimit -n", "160"), ("shards", "1")]);
    let mut connection = broker.connect();
    connection.create_topic("kept", 40, &[("segment.bytes", "1048576")]).unwrap();
    let batch = batch(&mut StdRng::seed_from_u64(1), 1, 100);
    let mut crowd = Vec::new();
    let mut refused = 0;
    for _ in 0..200 {
        let mut newcomer = Connection::open(broker.address()).unwrap();
        match newcomer.call(0, &ApiVersionsRequest::default()) {
            Ok(_) => crowd.push(newcomer),
            Err(error) => {
                // Closed, not left waiting until it gives up.
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
                refused += 1;
            }
        }
    }
    println!("{} connections served, {refused} refused", crowd.len());
    assert!(crowd.len() >= 20 && refused >= 60, "{} served, {refused} refused", crowd.len());
    // With every place taken, more segments are written to and read than files may be open.
    for partition in 0..40 {
        assert_eq!(connection.produce("kept", partition, batch.clone()).unwrap().error_code, 0);
    }
    for partition in 0..40 {
        let (code, _, read) = connection.fetch("kept", partition, 0, 1_000).unwrap();
        assert!(code == ErrorCode::None && !read.is_empty(), "{partition}: {code:?}");
    }
    broker.assert_running();
    // Who leaves makes room.
    drop(crowd);
    wait_for("a place", Duration::from_secs(10), || {
        let mut newcomer = Connection::open(broker.address()).ok()?;
        newcomer.call(0, &ApiVersionsRequest::default()).ok()
    });
}
