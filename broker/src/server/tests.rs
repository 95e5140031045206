//! A server on loopback with a service that echoes.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::oneshot;
use varve_protocol::wire::FramePiece;

use super::*;
use crate::metrics::Metrics;

/// Answers a frame with itself; a first byte of 1 answers later, of 2 never, of 3 closes.
struct Echo;

impl Service for Echo {
    type Session = ();

    fn open(&self, _: &Peer, _: ShownCertificate) {}

    fn call(&self, _: &Peer, (): &mut (), frame: Bytes) -> Reply {
        let answer = echo(&frame);
        match frame[0] {
            0 => Reply::Ready(answer),
            1 => Reply::Later(Box::pin(async move {
                tokio::task::yield_now().await;
                Some(answer)
            })),
            2 => Reply::Silent,
            _ => Reply::Close("three".to_owned()),
        }
    }
}

fn echo(frame: &Bytes) -> EncodedFrame {
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    EncodedFrame { len: bytes.len(), pieces: vec![FramePiece::Bytes(bytes.into())] }
}

fn limits() -> ServerLimits {
    ServerLimits {
        frame_bytes_max: 1 << 20,
        connections_max: 2,
        requests_max: 4,
        connection_bytes_max: 1 << 20,
        memory_bytes_max: 2 << 20,
        idle: Duration::from_secs(10),
        transfer: Duration::from_millis(200),
    }
}

/// Runs `client` against a server, on threads of their own.
fn with_server(
    limits: ServerLimits,
    client: impl FnOnce(SocketAddr) + Send + 'static,
) -> Arc<Metrics> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let metrics = Arc::new(Metrics::new());
    let served = Arc::clone(&metrics);
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (done, is_done) = oneshot::channel::<()>();
        let client = crate::spawn::thread("client", move || {
            client(address);
            drop(done);
        });
        let shutdown = async { drop(is_done.await) };
        serve(listener, Echo, limits, served, shutdown, Duration::from_secs(5)).await.unwrap();
        client.unwrap().join().unwrap();
    });
    metrics
}

fn connect(address: impl ToSocketAddrs) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn frame(kind: u8, length: usize) -> Vec<u8> {
    let mut bytes = (length as u32).to_be_bytes().to_vec();
    bytes.extend((0..length).map(|index| if index == 0 { kind } else { index as u8 }));
    bytes
}

#[track_caller]
fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == expected, "another answer than the {} bytes expected", expected.len());
}

#[track_caller]
fn expect_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 1]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    with_server(limits(), |address| {
        let mut stream = connect(address);
        let frames = [frame(1, 100), frame(0, 8), frame(2, 50), frame(1, 300_000), frame(0, 9)];
        for frame in &frames {
            stream.write_all(frame).unwrap();
        }
        for index in [0, 1, 3, 4] {
            expect(&mut stream, &frames[index]);
        }
    });
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    with_server(limits(), |address| {
        let mut stream = connect(address);
        stream.set_nodelay(true).unwrap();
        let frame = frame(0, 40);
        for byte in &frame {
            stream.write_all(&[*byte]).unwrap();
        }
        expect(&mut stream, &frame);
    });
}

#[test]
fn sizes_out_of_bounds_close_the_connection() {
    for size in [-1, 0, 7, (1 << 20) + 1, i32::MAX, i32::from_be_bytes(*b"GET ")] {
        let metrics = with_server(limits(), move |address| {
            let mut stream = connect(address);
            stream.write_all(&size.to_be_bytes()).unwrap();
            expect_closed(&mut stream);
        });
        assert_eq!(metrics.connections.of(TransportKind::Tcp).open.value(), 0);
    }
}

#[test]
fn a_request_that_stops_half_way_is_given_up() {
    with_server(limits(), |address| {
        let mut stream = connect(address);
        stream.write_all(&frame(0, 1000)[..500]).unwrap();
        expect_closed(&mut stream);
    });
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    with_server(limits(), |address| {
        let mut held: Vec<TcpStream> = (0..2).map(|_| connect(address)).collect();
        for stream in &mut held {
            stream.write_all(&frame(0, 8)).unwrap();
            expect(stream, &frame(0, 8));
        }
        expect_closed(&mut connect(address));
    });
}

#[test]
fn a_refused_request_is_answered_after_those_before_it() {
    with_server(limits(), |address| {
        let mut stream = connect(address);
        stream.write_all(&frame(1, 100)).unwrap();
        stream.write_all(&frame(3, 100)).unwrap();
        expect(&mut stream, &frame(1, 100));
        expect_closed(&mut stream);
    });
}
