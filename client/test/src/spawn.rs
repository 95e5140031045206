//! The only place of this crate that starts tasks.
//!
//! | task | started by | ends when |
//! |---|---|---|
//! | time of the cluster | `TestCluster` | the cluster and all who are connected to it are dropped |
//! | what a client sends, what it hears | one connection each | the connection closes |

use std::future::Future;

#[expect(clippy::disallowed_methods, reason = "tasks start here")]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}
