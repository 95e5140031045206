//! TLS and QUIC: the client crate against real brokers, and peers that are up to no good.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use varve_client::{
    Client, CommitPolicy, ConnectError, NewTopic, OffsetReset, ProduceError, ProducerRecord,
};
use varve_tests::certificates::Certificates;
use varve_tests::lossy::LossyProxy;
use varve_tests::process::BrokerProcess;

/// No step of these tests takes so long.
const LIMIT: Duration = Duration::from_secs(60);

fn start(
    folder: &Path,
    certificates: &Certificates,
    further: &[(String, String)],
) -> BrokerProcess {
    let mut settings = certificates.settings();
    settings.extend_from_slice(further);
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    BrokerProcess::start(folder, &settings)
}

async fn connect(scheme: &str, address: SocketAddr, certificates: &Certificates) -> Client {
    let builder = Client::builder(&format!("{scheme}://{address}")).ca_file(certificates.ca());
    tokio::time::timeout(LIMIT, builder.build()).await.unwrap().unwrap()
}

#[track_caller]
fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(2 * LIMIT, test).await.expect("it hangs") })
}

/// Produces `count` records to each of four partitions and awaits all acknowledgements.
async fn produce(
    client: &Client,
    topic: &str,
    from: usize,
    count: usize,
) -> Result<(), ProduceError> {
    let producer = client.producer().linger(Duration::from_millis(2)).build().await.unwrap();
    let mut deliveries = Vec::new();
    for number in from..from + count {
        for partition in 0..4 {
            let record = ProducerRecord::new(topic.to_owned(), format!("{partition}-{number}"))
                .partition(partition);
            deliveries.push(producer.enqueue(record).await?);
        }
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close().await
}

/// Reads `count` records of each of four partitions as a group, checks their order, and commits.
async fn consume(client: &Client, group: &str, topic: &str, from: usize, count: usize) {
    let mut consumer = client
        .consumer(group)
        .subscribe([topic])
        .auto_offset_reset(OffsetReset::Earliest)
        .commit(CommitPolicy::Manual)
        .build()
        .await
        .unwrap();
    let mut next = [from; 4];
    while next.iter().any(|next| *next < from + count) {
        let record = tokio::time::timeout(LIMIT, consumer.recv())
            .await
            .expect("records come")
            .unwrap()
            .expect("it is not stopped");
        let next = &mut next[usize::try_from(record.partition).unwrap()];
        let expected = format!("{}-{next}", record.partition);
        assert_eq!(record.value_str().unwrap(), expected);
        *next += 1;
    }
    consumer.commit().await.unwrap();
    consumer.close().await.unwrap();
}

async fn create(client: &Client, topic: &str) {
    client.admin().create_topics(&[NewTopic::new(topic).partitions(4)], false).await.unwrap();
}

#[test]
fn the_client_crate_works_over_tls_and_quic() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(&folder.path().join("certs"));
    let mut broker = start(folder.path(), &certificates, &[]);
    block_on(async {
        for scheme in ["tls", "quic"] {
            let client = connect(scheme, broker.address(), &certificates).await;
            create(&client, scheme).await;
            produce(&client, scheme, 0, 500).await.unwrap();
            consume(&client, "readers", scheme, 0, 500).await;
            // What was committed is where the next one goes on.
            produce(&client, scheme, 500, 10).await.unwrap();
            consume(&client, "readers", scheme, 500, 10).await;
            let large = ProducerRecord::new(scheme, vec![b'x'; 900_000]).partition(0);
            client.producer().build().await.unwrap().send(large).await.unwrap();
        }
    });
    broker.assert_running();
}

#[test]
fn a_client_over_quic_outlives_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(&folder.path().join("certs"));
    let mut broker = start(folder.path(), &certificates, &[]);
    block_on(async {
        let client = connect("quic", broker.address(), &certificates).await;
        create(&client, "t").await;
        produce(&client, "t", 0, 50).await.unwrap();
        let mut consumer = client
            .consumer("")
            .assign([("t", 0), ("t", 1), ("t", 2), ("t", 3)])
            .auto_offset_reset(OffsetReset::Earliest)
            .build()
            .await
            .unwrap();
        let mut seen = 0;
        while seen < 200 {
            tokio::time::timeout(LIMIT, consumer.recv()).await.unwrap().unwrap().unwrap();
            seen += 1;
        }
        broker.kill();
        // The former connections are gone without a word; records wait until the broker is back.
        let producing = produce(&client, "t", 50, 50);
        let restarting = async { tokio::task::block_in_place(|| broker.restart()) };
        let (produced, ()) = tokio::join!(producing, restarting);
        produced.unwrap();
        while seen < 400 {
            tokio::time::timeout(LIMIT, consumer.recv()).await.unwrap().unwrap().unwrap();
            seen += 1;
        }
        consumer.close().await.unwrap();
        consume(&client, "all", "t", 0, 100).await;
    });
    broker.assert_running();
}

#[test]
fn strangers_are_refused_either_way() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(&folder.path().join("certs"));
    let other = Certificates::make(&folder.path().join("other"));
    let client_ca = certificates.client_ca_setting();
    let mut broker = start(folder.path(), &certificates, &[client_ca]);
    let address = broker.address();
    block_on(async {
        for scheme in ["tls", "quic"] {
            let url = format!("{scheme}://{address}");
            let try_with = async |ca: &Certificates, client: Option<&Certificates>| {
                let mut builder = Client::builder(&url).ca_file(ca.ca());
                builder = builder.request_timeout(Duration::from_secs(5));
                if let Some(client) = client {
                    let (certificate, key) = client.client();
                    builder = builder.client_certificate(certificate, key);
                }
                tokio::time::timeout(LIMIT, builder.build()).await.unwrap()
            };
            try_with(&certificates, Some(&certificates)).await.unwrap();
            let wrong = try_with(&other, Some(&certificates)).await.unwrap_err();
            assert!(matches!(wrong, ConnectError::Tls { .. }), "{wrong}");
            assert!(
                try_with(&certificates, None).await.is_err(),
                "{scheme}: without a certificate"
            );
            assert!(
                try_with(&certificates, Some(&other)).await.is_err(),
                "{scheme}: by another CA"
            );
            // The name that is connected to is not in the certificate.
            let named = Client::builder(&url.replace("127.0.0.1", "127.0.0.2"))
                .ca_file(certificates.ca())
                .connect_timeout(Duration::from_secs(3));
            assert!(named.build().await.is_err(), "{scheme}: another name");
        }
        // Whoever does not say tls:// is closed on, and not served.
        let plain = Client::builder(&address.to_string()).build().await;
        assert!(plain.is_err(), "plain text where TLS is demanded");
    });
    broker.assert_running();
}

/// A QUIC client that says what it likes.
async fn raw(
    address: SocketAddr,
    certificates: &Certificates,
    alpn: &[&[u8]],
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connection = endpoint.connect_with(config, address, "localhost").unwrap().await?;
    Ok((endpoint, connection))
}

#[test]
fn odd_peers_over_quic_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(&folder.path().join("certs"));
    let further =
        [("listeners.kafka.quic_streams_max", "2"), ("limits.request_transfer_ms", "300")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut broker = start(folder.path(), &certificates, &further);
    let address = broker.address();
    // Datagrams that are no QUIC, and such as begin like it.
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0_u16, 1, 20, 64, 1200, 8000] {
        let mut datagram = vec![0xc3_u8; usize::from(length)];
        noise.send_to(&datagram, address).unwrap();
        for (index, byte) in datagram.iter_mut().enumerate().skip(1) {
            *byte = (index * 7) as u8;
        }
        noise.send_to(&datagram, address).unwrap();
    }
    block_on(async {
        for alpn in [&[b"h3".as_slice()] as &[_], &[], &[b"varve-kafka/2".as_slice()]] {
            assert!(raw(address, &certificates, alpn).await.is_err(), "{alpn:?}");
        }
        let ours: &[&[u8]] = &[b"varve-kafka/1"];
        let (_endpoint, connection) = raw(address, &certificates, ours).await.unwrap();
        // A request larger than any, a frame that is none, and one that stops half way: each ends its
        // own stream.
        for bytes in [
            &i32::MAX.to_be_bytes()[..],
            &[0, 0, 0, 8, 0x7f, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 1, 0, 0],
        ] {
            let (mut sending, mut receiving) = connection.open_bi().await.unwrap();
            sending.write_all(bytes).await.unwrap();
            let answered = tokio::time::timeout(LIMIT, receiving.read_to_end(64)).await;
            assert!(answered.expect("the stream is ended").is_ok_and(|answer| answer.is_empty()));
        }
        assert!(connection.close_reason().is_none(), "{:?}", connection.close_reason());
        // Two streams at a time, and no other kinds.
        let held = [connection.open_bi().await.unwrap(), connection.open_bi().await.unwrap()];
        let third = tokio::time::timeout(Duration::from_millis(300), connection.open_bi()).await;
        assert!(third.is_err(), "a third stream is held back");
        let one_way = tokio::time::timeout(Duration::from_millis(300), connection.open_uni()).await;
        assert!(one_way.is_err(), "streams without answers do not exist");
        drop(held);
        let client = connect("quic", address, &certificates).await;
        client.admin().describe_cluster().await.unwrap();
    });
    broker.assert_running();
}

#[test]
fn odd_peers_over_tls_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(&folder.path().join("certs"));
    let mut broker = start(folder.path(), &certificates, &[]);
    let address = broker.address();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 0x03, 0x01, 0xff, 0xff, 1, 2, 3],
        &[0x16, 0x03, 0x01, 0, 5, 1, 0, 0xff, 0xff, 0xff],
        &[0, 0, 0, 12, 0, 18, 0, 0, 0, 0, 0, 1, 0, 1, b'x', 0],
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(bytes).unwrap();
        // It may be closed already.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // An alert may come; then it is over.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64, "{rest:?}");
    }
    block_on(async {
        let client = connect("tls", address, &certificates).await;
        client.admin().describe_cluster().await.unwrap();
    });
    broker.assert_running();
}

#[test]
fn plain_text_and_tls_share_a_port_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(&folder.path().join("certs"));
    let plaintext = ("listeners.kafka.tls.plaintext".to_owned(), "true".to_owned());
    let mut broker = start(folder.path(), &certificates, &[plaintext]);
    block_on(async {
        let plain = connect("tcp", broker.address(), &certificates).await;
        create(&plain, "t").await;
        let mut from = 0;
        for scheme in ["tcp", "tls", "quic"] {
            let client = connect(scheme, broker.address(), &certificates).await;
            produce(&client, "t", from, 20).await.unwrap();
            from += 20;
        }
        consume(&plain, "g", "t", 0, from).await;
    });
    broker.assert_running();
}

#[test]
fn nothing_is_lost_over_a_network_that_loses() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(&folder.path().join("certs"));
    let proxy = LossyProxy::start(30_000, 7);
    let advertised = format!("\"{}\"", proxy.address());
    let further = [("listeners.kafka.advertised".to_owned(), advertised)];
    let mut broker = start(folder.path(), &certificates, &further);
    proxy.aim(broker.address());
    block_on(async {
        let client = connect("quic", proxy.address(), &certificates).await;
        create(&client, "t").await;
        produce(&client, "t", 0, 2_000).await.unwrap();
        consume(&client, "g", "t", 0, 2_000).await;
    });
    let (forwarded, lost) = proxy.counts();
    assert!(lost > 0 && forwarded > lost, "{forwarded} forwarded, {lost} lost");
    broker.assert_running();
}
