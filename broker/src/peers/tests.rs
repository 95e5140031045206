//! Two brokers' links and listeners on loopback, without the brokers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use varve_protocol::messages::{
    ForwardRequest, PeerHelloRequest, QuorumMessagesRequest, ReplicaFetchRequest,
};
use varve_protocol::vocabulary::{BrokerId, TopicId};
use varve_protocol::wire::Request;

use super::*;
use crate::config::{BrokerConfig, Voter};
use crate::metadata::MetadataImage;
use crate::metadata::record::{MetadataRecord, RegisterBrokerRecord};
use crate::metrics::{Counter, Metrics};
use crate::server::{self, FrameReader, MemoryBudget, Outgoing as _, ServerLimits};
use crate::spawn;

const PATIENCE: Duration = Duration::from_secs(10);

/// A broker of which only the connections are real.
#[derive(Debug)]
struct Host {
    image: Mutex<Arc<MetadataImage>>,
    log: Mutex<LogExtent>,
    seen: watch::Sender<Seen>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    lost: Vec<i32>,
    messages: Vec<Bytes>,
}

impl Host {
    fn new(cluster_id: &str) -> Arc<Host> {
        let mut image = MetadataImage::default();
        if !cluster_id.is_empty() {
            let record = MetadataRecord::ClusterId(cluster_id.to_owned());
            image.apply_all(&[record]).unwrap();
        }
        let image = Mutex::new(Arc::new(image));
        Arc::new(Host { image, log: Mutex::default(), seen: watch::Sender::default() })
    }

    /// A cluster is made here.
    fn found(&self, cluster_id: &str) {
        let mut image = MetadataImage::default();
        image.apply_all(&[MetadataRecord::ClusterId(cluster_id.to_owned())]).unwrap();
        *self.image.lock() = Arc::new(image);
        *self.log.lock() = LogExtent { last: 1, commit: 1, ..LogExtent::default() };
    }

    async fn until(&self, reached: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        tokio::time::timeout(PATIENCE, seen.wait_for(reached)).await.unwrap().unwrap();
    }
}

impl PeerHost for Host {
    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.lock())
    }

    fn log(&self) -> LogExtent {
        self.log.lock().clone()
    }

    fn on_peer_lost(&self, broker: BrokerId) {
        self.seen.send_modify(|seen| seen.lost.push(broker.0));
    }

    fn on_quorum_messages(&self, _: BrokerId, messages: Vec<Bytes>) {
        self.seen.send_modify(|seen| seen.messages.extend(messages));
    }
}

fn identity(broker: i32) -> LocalIdentity {
    LocalIdentity {
        broker: BrokerId(broker),
        incarnation: broker as u128 + 100,
        directory_id: broker as u128 + 200,
        cluster_id: None,
        address: String::new(),
    }
}

/// Nothing yet, of a cluster that two are to make.
fn new_log() -> LogExtent {
    LogExtent { last: 0, commit: 0, first_voters: vec![BrokerId(1), BrokerId(2)] }
}

fn limits() -> ServerLimits {
    ServerLimits::new(&BrokerConfig::default())
}

/// The internal listener of a broker; it ends when the sender is dropped.
async fn listen(broker: i32, host: &Arc<Host>) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let parts = StartedParts { partitions: watch::channel(None).1, broker: watch::channel(None).1 };
    let service = InternalService::new(identity(broker), Arc::clone(host) as _, parts);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let metrics = Arc::new(Metrics::new());
    spawn::detached(async move {
        let patience = Duration::ZERO;
        server::serve(listener, service, limits(), metrics, shutdown, patience).await.unwrap();
    });
    (address, stop)
}

/// The links of broker 1 to broker 2 at `address`.
fn links(host: &Arc<Host>, address: SocketAddr) -> Peers {
    let voters = [(1, "127.0.0.1:1".to_owned()), (2, address.to_string())];
    let voters = voters.map(|(id, address)| Voter { id, address }).into();
    let options = PeersOptions {
        identity: identity(1),
        transport: Default::default(),
        voters,
        limits: limits(),
        addresses: Default::default(),
    };
    Peers::start(options, Arc::clone(host) as _)
}

async fn until_connected(peers: &Peers) {
    let connected = async {
        while !peers.is_connected(BrokerId(2)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.unwrap();
}

#[tokio::test]
async fn quorum_messages_arrive_in_order() {
    let (ours, theirs) = (Host::new(""), Host::new("cluster"));
    let (address, _listening) = listen(2, &theirs).await;
    let peers = links(&ours, address);
    until_connected(&peers).await;
    let messages: Vec<Bytes> = (0..100_u8).map(|number| Bytes::from(vec![number; 9])).collect();
    for chunk in messages.chunks(3) {
        peers.send_quorum(BrokerId(2), chunk.to_vec());
    }
    // Nobody is there; they are dropped.
    peers.send_quorum(BrokerId(7), messages.clone());
    theirs.until(|seen| seen.messages == messages).await;
    peers.stop();
}

#[tokio::test]
async fn a_dead_process_is_lost_once_and_found_again() {
    let (ours, theirs) = (Host::new("cluster"), Host::new("cluster"));
    let (address, listening) = listen(2, &theirs).await;
    let peers = links(&ours, address);
    until_connected(&peers).await;
    drop(listening);
    ours.until(|seen| seen.lost == [2]).await;
    let (request, patience) = (ForwardRequest::default(), Duration::from_millis(50));
    let failed = peers.request(BrokerId(2), &request, patience).await;
    assert_eq!(failed.unwrap_err(), PeerError::TimedOut(BrokerId(2), patience));
    let unknown = peers.request(BrokerId(9), &request, PATIENCE).await;
    assert_eq!(unknown.unwrap_err(), PeerError::Unknown(BrokerId(9)));
    let listener = TcpListener::bind(address).await.unwrap();
    drop(listener.accept().await.unwrap());
    assert_eq!(ours.seen.borrow().lost, [2]);
}

/// Brokers that do not vote are started along with those that do, and connect before these have made a
/// cluster. The hello tells of none, and no other is said on a connection that stands: it is opened again
/// until one tells.
#[tokio::test]
async fn a_broker_that_does_not_vote_hears_of_a_cluster_that_is_made_later() {
    let (ours, theirs) = (Host::new(""), Host::new(""));
    let (address, _listening) = listen(2, &theirs).await;
    let options = PeersOptions {
        identity: identity(1),
        transport: Default::default(),
        voters: vec![Voter { id: 2, address: address.to_string() }],
        limits: limits(),
        addresses: Default::default(),
    };
    let peers = Peers::start(options, ours as _);
    until_connected(&peers).await;
    assert_eq!(peers.cluster_seen(), None);
    theirs.found("cluster");
    let heard = async {
        while peers.cluster_seen().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(peers.cluster_seen(), Some("cluster"));
    peers.stop();
}

#[tokio::test]
async fn another_cluster_is_refused_by_both() {
    let (ours, theirs) = (Host::new("one"), Host::new("two"));
    let (address, _listening) = listen(2, &theirs).await;
    let options = PeersOptions {
        identity: identity(1),
        transport: Default::default(),
        voters: Vec::new(),
        limits: limits(),
        addresses: Default::default(),
    };
    let peers = Peers::start(options, Arc::clone(&ours) as _);
    let address = address.to_string();
    let refused = dial(peers.shared(), BrokerId(2), &address, Lane::Control).await.unwrap_err();
    assert!(refused.to_string().contains("broker 1 belongs to cluster one"), "{refused}");
    assert!(!refused.is_refused());
}

#[tokio::test]
async fn an_address_that_leads_elsewhere_is_told() {
    let host = Host::new("one");
    let (address, _listening) = listen(3, &host).await;
    let peers = links(&host, address);
    let address = address.to_string();
    let refused = dial(peers.shared(), BrokerId(2), &address, Lane::Control).await.unwrap_err();
    let told = refused.to_string();
    assert!(told.contains("the address of broker 2 leads to broker 3"), "{told}");
}

#[track_caller]
fn check_hello(change: impl FnOnce(&mut PeerHelloRequest), expected: &str) {
    let host = Host::new("one");
    let mut hello = identity(1).hello(&host.image(), &new_log(), Lane::Fetch);
    change(&mut hello);
    let refused = identity(2).check_hello(&host.image(), &new_log(), &hello).unwrap_err();
    assert!(refused.to_string().contains(expected), "{refused}");
}

#[test]
fn a_hello_is_believed_only_of_another_broker_of_the_cluster() {
    let host = Host::new("one");
    let hello = identity(1).hello(&host.image(), &new_log(), Lane::Fetch);
    let peer = identity(2).check_hello(&host.image(), &new_log(), &hello).unwrap();
    assert_eq!((peer.broker, peer.lane, peer.epoch), (BrokerId(1), Lane::Fetch, -1));
    check_hello(|hello| hello.cluster_id = "two".to_owned(), "belongs to cluster two");
    check_hello(|hello| hello.broker_id = 2, "two processes call themselves broker 2");
    check_hello(|hello| hello.directory_id = TopicId(202), "a copy of broker 2's data directory");
    check_hello(|hello| hello.broker_id = -1, "which nobody has");
    check_hello(
        |hello| hello.first_voters = vec![1, 3],
        "with the voters [1, 3], this one with [1, 2]",
    );
    check_hello(|hello| hello.lane = 9, "for lane 9");
}

/// Who joins a cluster that exists takes up its voters, whatever its own file says.
#[test]
fn a_newcomer_may_name_other_voters() {
    let host = Host::new("one");
    let log = LogExtent { last: 9, commit: 9, ..new_log() };
    let mut hello = identity(1).hello(&host.image(), &new_log(), Lane::Control);
    hello.first_voters = vec![1, 3];
    assert!(identity(2).check_hello(&host.image(), &log, &hello).is_ok());
}

/// A broker that was registered anew since is another run of its process, or a copy.
#[test]
fn a_stale_epoch_is_refused() {
    let mut image = MetadataImage::default();
    let registered = RegisterBrokerRecord {
        id: BrokerId(1),
        incarnation: identity(1).incarnation,
        epoch: 5,
        rack: None,
        endpoints: Vec::new(),
        directory: 201,
        is_fenced: false,
        in_controlled_shutdown: false,
        is_draining: false,
    };
    image.apply_all(&[MetadataRecord::RegisterBroker(registered)]).unwrap();
    let mut hello = identity(1).hello(&image, &new_log(), Lane::Control);
    assert!(identity(2).check_hello(&image, &new_log(), &hello).is_ok());
    hello.epoch = 4;
    let refused = identity(2).check_hello(&image, &new_log(), &hello).unwrap_err();
    assert!(refused.to_string().contains("says epoch 4, but was registered anew with epoch 5"));
}

/// Writes requests by hand; whether the listener answered the last of them.
async fn is_answered<R: Request>(hello: Option<PeerHelloRequest>, request: &R) -> bool {
    let host = Host::new("one");
    let (address, _listening) = listen(2, &host).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (budget, counter) = (MemoryBudget::new(1 << 20), Counter::default());
    let mut reader = FrameReader::new(&stream, &budget, &limits(), &counter);
    if let Some(hello) = hello {
        (&stream).send(&encode(7, &hello).unwrap(), &counter).await.unwrap();
        let (id, answer) = decode::<PeerHelloRequest>(reader.next().await.unwrap().bytes).unwrap();
        assert_eq!((id, answer.error_code), (7, 0));
    }
    (&stream).send(&encode(8, request).unwrap(), &counter).await.unwrap();
    reader.next().await.is_ok()
}

#[tokio::test]
async fn nobody_speaks_before_a_hello_or_for_another() {
    let hello = identity(1).hello(&Host::new("one").image(), &new_log(), Lane::Control);
    assert!(!is_answered(None, &ReplicaFetchRequest::default()).await);
    assert!(!is_answered(Some(hello.clone()), &hello).await);
    let forged = QuorumMessagesRequest { from: 3, messages: Vec::new() };
    assert!(!is_answered(Some(hello.clone()), &forged).await);
    // Of a broker that is not registered nothing is read.
    assert!(is_answered(Some(hello), &ReplicaFetchRequest::default()).await);
}

/// Clients' requests are not served to brokers, so that whoever finds the port finds nothing.
#[tokio::test]
async fn clients_requests_are_refused() {
    let hello = identity(1).hello(&Host::new("one").image(), &new_log(), Lane::Control);
    let request = varve_protocol::messages::MetadataRequest::default();
    assert!(!is_answered(Some(hello), &request).await);
}

#[test]
fn lanes_have_numbers() {
    let lanes: Vec<_> = (-1..5).map(|code| Lane::from_code(code).map(Lane::code)).collect();
    assert_eq!(lanes, [None, Some(0), Some(1), Some(2), Some(3), None]);
}
