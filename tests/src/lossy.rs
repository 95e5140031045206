//! A UDP proxy that loses datagrams, for machines whose kernel has no network emulation.
//!
//! Each client gets a socket of its own towards the target, so that the target sees one address a
//! client. Which datagrams are lost is drawn from a seed, in the order in which they come.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::spawn;

/// Clients at one time.
const CLIENTS_MAX: usize = 256;
/// How often a thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Room for datagrams in the system, so that none is lost but by intent.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// See the module. Ends when it is dropped.
#[derive(Debug)]
pub struct LossyProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    /// Of a million datagrams, how many are lost.
    loss_ppm: u32,
    seed: u64,
    is_over: AtomicBool,
    forwarded: AtomicU64,
    lost: AtomicU64,
}

impl LossyProxy {
    /// Listens on loopback and loses this share of the datagrams, either way; of a million.
    ///
    /// # Panics
    /// When the system gives no socket.
    pub fn start(loss_ppm: u32, seed: u64) -> LossyProxy {
        let socket = Arc::new(udp(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a UDP socket"));
        let address = socket.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            target: Mutex::new(None),
            loss_ppm,
            seed,
            is_over: AtomicBool::new(false),
            forwarded: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            spawn::thread("lossy proxy", move || shared.serve(&socket))
        };
        LossyProxy { shared, address, thread: Some(thread) }
    }

    /// Where clients send to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says where datagrams go; until then they are lost.
    pub fn aim(&self, target: SocketAddr) {
        *self.shared.target.lock() = Some(target);
    }

    /// Datagrams forwarded and lost so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.forwarded.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }
}

impl Drop for LossyProxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn serve(self: Arc<Self>, socket: &Arc<UdpSocket>) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut threads = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while !self.is_over() {
            let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
            let Some(target) = *self.target.lock() else { continue };
            if !clients.contains_key(&from) {
                let Some(upstream) = open_upstream(target, clients.len()) else { continue };
                let upstream = Arc::new(upstream);
                clients.insert(from, Arc::clone(&upstream));
                let (shared, socket) = (Arc::clone(&self), Arc::clone(socket));
                let seed = self.seed ^ u64::from(from.port());
                threads.push(spawn::thread("lossy proxy, back", move || {
                    shared.serve_back(&upstream, &socket, from, StdRng::seed_from_u64(seed));
                }));
            }
            if self.is_lucky(&mut random) {
                // A target that is gone is the test's business.
                let _ = clients[&from].send(&buffer[..count]);
            }
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn serve_back(
        &self,
        upstream: &UdpSocket,
        socket: &UdpSocket,
        client: SocketAddr,
        mut random: StdRng,
    ) {
        let mut buffer = vec![0; 1 << 16];
        while !self.is_over() {
            let Ok(count) = upstream.recv(&mut buffer) else { continue };
            if self.is_lucky(&mut random) {
                let _ = socket.send_to(&buffer[..count], client);
            }
        }
    }

    fn is_lucky(&self, random: &mut StdRng) -> bool {
        let is_lost = random.random_range(0..1_000_000) < self.loss_ppm;
        let count = if is_lost { &self.lost } else { &self.forwarded };
        count.fetch_add(1, Ordering::Relaxed);
        !is_lost
    }
}

fn open_upstream(target: SocketAddr, clients: usize) -> Option<UdpSocket> {
    if clients >= CLIENTS_MAX {
        return None;
    }
    let upstream = udp(SocketAddr::from(([127, 0, 0, 1], 0))).ok()?;
    upstream.connect(target).ok()?;
    Some(upstream)
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(LOOK))?;
    // The system gives less where its own limits are lower.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    Ok(socket)
}
