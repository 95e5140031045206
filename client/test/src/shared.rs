//! The cluster and its clock, shared by the test, the clients' connections and the task that lets time pass.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::clock;
use crate::options::ClusterOptions;
use crate::spawn::spawn;
use crate::world::{Heard, LinkId, World};

pub(crate) struct Shared {
    /// Never held across a wait.
    state: Mutex<State>,
    start: Instant,
    /// Something was said or done: the next event may be an earlier one.
    stirred: Arc<Notify>,
    /// A broker broke an assertion; nothing moves any more.
    is_broken: Arc<AtomicBool>,
}

struct State {
    world: World,
    /// Where clients hear. What a link holds is bounded by what its client may have in flight.
    ears: BTreeMap<LinkId, mpsc::UnboundedSender<Heard>>,
}

impl Shared {
    /// Makes the cluster, and lets its time pass from now on.
    pub(crate) fn start(options: ClusterOptions) -> Arc<Self> {
        let state = State { world: World::new(options), ears: BTreeMap::new() };
        let shared = Arc::new(Self {
            state: Mutex::new(state),
            start: clock::now(),
            stirred: Arc::default(),
            is_broken: Arc::default(),
        });
        spawn(let_time_pass(Arc::downgrade(&shared)));
        shared
    }

    pub(crate) fn elapsed(&self) -> Duration {
        clock::now().duration_since(self.start)
    }

    /// Does something with the cluster as it is now.
    ///
    /// # Panics
    /// When a broker has broken one of its own assertions.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        assert!(!self.is_broken(), "a simulated broker has failed: its panic is told above");
        let mut state = self.state.lock();
        self.run(&mut state.world);
        let result = act(&mut state.world);
        drop(state);
        self.stirred.notify_one();
        result
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    pub(crate) fn has_machine(&self, index: usize) -> bool {
        index < self.state.lock().world.machines.len()
    }

    /// A client wants a connection to a machine.
    pub(crate) fn knock(&self, machine: usize) -> (LinkId, mpsc::UnboundedReceiver<Heard>) {
        let (ear, heard) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        self.run(&mut state.world);
        let link = state.world.knock(machine);
        state.ears.insert(link, ear);
        drop(state);
        self.stirred.notify_one();
        (link, heard)
    }

    /// A client's end of a connection is closed.
    pub(crate) fn hang_up(&self, link: LinkId) {
        self.state.lock().ears.remove(&link);
        if !self.is_broken() {
            self.with(|world| world.hang_up(link));
        }
    }

    /// Lets happen what is due.
    fn run(&self, world: &mut World) {
        /// Stays if it is dropped by a panic.
        struct Broken<'a>(&'a AtomicBool);
        impl Drop for Broken<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let now_us = u64::try_from(self.elapsed().as_micros()).expect("a test is short");
        let guard = Broken(&self.is_broken);
        world.run_until(now_us);
        std::mem::forget(guard);
    }

    /// Lets happen what is due, tells clients what they hear, and answers when to come again.
    fn pass(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let State { world, ears } = &mut *state;
        self.run(world);
        for (link, heard) in world.take_heard() {
            if let Some(ear) = ears.get(&link) {
                // Who does not listen any more has hung up.
                let _ = ear.send(heard);
            }
        }
        world.next_us().map(|at_us| self.start + Duration::from_micros(at_us))
    }
}

async fn let_time_pass(shared: Weak<Shared>) {
    loop {
        let (next, stirred) = {
            let Some(shared) = shared.upgrade() else { return };
            (shared.pass(), Arc::clone(&shared.stirred))
        };
        // Brokers always have something to do later.
        let Some(next) = next else { return };
        tokio::select! {
            biased;
            () = stirred.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}
