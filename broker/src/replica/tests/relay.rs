//! A relay between brokers whose connections can be reset at any time.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::spawn;

/// Relays until it is dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    /// Each change resets the connections of before.
    resets: watch::Sender<u32>,
}

impl Relay {
    pub(super) async fn start(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (resets, reset) = watch::channel(0);
        spawn::detached(accept(listener, to, reset));
        Relay { address, resets }
    }

    /// Resets all connections, with whatever is under way on them.
    pub(super) fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, mut reset: watch::Receiver<u32>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (from, _) = accepted.unwrap();
                spawn::detached(relay(from, to, reset.clone()));
            }
            changed = reset.changed() => if changed.is_err() { return },
        }
    }
}

async fn relay(mut from: TcpStream, to: SocketAddr, mut reset: watch::Receiver<u32>) {
    let Ok(mut to) = TcpStream::connect(to).await else { return };
    for stream in [&from, &to] {
        stream.set_nodelay(true).unwrap();
        // Closing resets.
        stream.set_zero_linger().unwrap();
    }
    reset.mark_unchanged();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = reset.changed() => {}
    }
}
