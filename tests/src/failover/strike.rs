//! What is done to a broker.

use crate::cluster::Cluster;

/// What is done to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: it falls silent; SIGCONT once others have taken over.
    Pause,
    /// SIGTERM: it ends in order.
    Terminate,
    /// SIGKILL for all brokers at one instant.
    KillAll,
}

impl Strike {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Terminate => "terminate",
            Self::KillAll => "kill-all",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Kill, Self::Pause, Self::Terminate, Self::KillAll];
        all.into_iter().find(|strike| strike.name() == name)
    }

    /// Strikes broker `victim`, or all.
    ///
    /// # Panics
    /// When it ends otherwise than it should.
    pub fn hit(self, cluster: &mut Cluster, victim: i32) {
        match self {
            Self::Kill => cluster.broker(victim).kill(),
            Self::Pause => cluster.broker(victim).pause(),
            Self::Terminate => {
                let status = cluster.broker(victim).terminate();
                assert!(status.success(), "broker {victim} ended with {status} after SIGTERM");
            }
            Self::KillAll => {
                cluster.kill_all();
                cluster.restart_all();
            }
        }
    }

    /// Brings back what was struck.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn heal(self, cluster: &mut Cluster, victim: i32) {
        match self {
            Self::Kill | Self::Terminate => cluster.broker(victim).restart(),
            Self::Pause => cluster.broker(victim).resume(),
            Self::KillAll => {}
        }
    }
}
