//! Connections between brokers. Each keeps the order of its frames; a link that stands still holds them
//! and lets them go later, as TCP does; what was on the way to a process that died is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::Packet;

/// What travels.
#[derive(Debug)]
pub enum Frame {
    /// A frame of a broker.
    Packet(Packet),
    /// The other end has closed.
    Close,
}

/// One end: the index of a machine, and the run of its process.
pub type End = (usize, u64);

/// A connection between two processes.
#[derive(Debug)]
pub struct Connection {
    /// Who dialed, and who was dialed.
    pub ends: [End; 2],
    /// By end: whether it takes what arrives.
    pub is_open: [bool; 2],
    /// Of the last frame to each end: when it leaves and when it arrives.
    departs_us: [u64; 2],
    arrives_us: [u64; 2],
    /// The end of a machine that lost its power: it says nothing, not even that it is gone.
    pub silent: Option<usize>,
    /// By end: when its process was gone. What it would have sent later is never sent.
    gone_us: [u64; 2],
}

/// A frame that a link holds.
#[derive(Debug)]
struct Held {
    connection: u64,
    to: usize,
    frame: Frame,
    departs_us: u64,
}

/// A frame with the time at which it arrives.
#[derive(Debug)]
pub struct Arrival {
    /// When.
    pub at_us: u64,
    /// On which connection.
    pub connection: u64,
    /// Which end.
    pub to: usize,
    /// What.
    pub frame: Frame,
    /// When it leaves the sender's process.
    pub departs_us: u64,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// From machine to machine: nothing gets through in this direction.
    stalled: BTreeSet<(usize, usize)>,
    held: Vec<(usize, usize, Held)>,
}

impl Network {
    /// A connection is made; its number.
    pub fn open(&mut self, dialer: End, other: End) -> u64 {
        let number = self.next;
        self.next += 1;
        let connection = Connection {
            ends: [dialer, other],
            is_open: [true, true],
            departs_us: [0, 0],
            arrives_us: [0, 0],
            silent: None,
            gone_us: [u64::MAX; 2],
        };
        self.connections.insert(number, connection);
        number
    }

    /// A connection.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Connection> {
        self.connections.get(&number)
    }

    /// Sends a frame to the other end than `from`; none if it is held, or lost.
    pub fn send(
        &mut self,
        number: u64,
        from: End,
        frame: Frame,
        (departs_us, at_us): (u64, u64),
    ) -> Option<Arrival> {
        let connection = self.connections.get_mut(&number)?;
        let own = connection.ends.iter().position(|end| *end == from)?;
        if !connection.is_open[own] {
            return None;
        }
        if matches!(frame, Frame::Close) {
            connection.is_open[own] = false;
        }
        let to = 1 - own;
        let departs_us = departs_us.max(connection.departs_us[to]);
        connection.departs_us[to] = departs_us;
        self.route(Held { connection: number, to, frame, departs_us }, at_us)
    }

    fn route(&mut self, held: Held, at_us: u64) -> Option<Arrival> {
        let connection = self.connections.get_mut(&held.connection)?;
        let (from, to) = (connection.ends[1 - held.to].0, connection.ends[held.to].0);
        if self.stalled.contains(&(from, to)) {
            self.held.push((from, to, held));
            return None;
        }
        let at_us = at_us.max(connection.arrives_us[held.to] + 1);
        connection.arrives_us[held.to] = at_us;
        let Held { connection, to, frame, departs_us } = held;
        Some(Arrival { at_us, connection, to, frame, departs_us })
    }

    /// A frame arrives; whether anybody is there to take it.
    pub fn arrive(&mut self, number: u64, to: usize, (is_close, departs_us): (bool, u64)) -> bool {
        let Some(connection) = self.connections.get_mut(&number) else { return false };
        let is_open = connection.is_open[to] && departs_us <= connection.gone_us[1 - to];
        if is_close {
            connection.is_open[to] = false;
        }
        if connection.is_open == [false, false] {
            self.connections.remove(&number);
        }
        is_open
    }

    /// A process is gone. One that was killed has its system say so to the others; a machine without
    /// power says nothing.
    pub fn on_process_gone(
        &mut self,
        end: End,
        is_silent: bool,
        (now_us, at_us): (u64, u64),
    ) -> Vec<Arrival> {
        let mut gone = Vec::new();
        for (number, connection) in &mut self.connections {
            if let Some(own) = connection.ends.iter().position(|other| *other == end)
                && connection.is_open[own]
            {
                connection.is_open[own] = false;
                connection.gone_us[own] = now_us;
                if is_silent {
                    connection.silent = Some(own);
                } else {
                    gone.push((*number, 1 - own));
                }
            }
        }
        if is_silent {
            // What the link held lay in the machine's memory.
            let connections = &self.connections;
            self.held.retain(|(.., held)| {
                connections.get(&held.connection).is_none_or(|one| one.ends[1 - held.to] != end)
            });
        }
        self.close(gone, at_us)
    }

    /// A machine is back: who still speaks to its old process hears that it is gone.
    pub fn on_machine_back(&mut self, machine: usize, at_us: u64) -> Vec<Arrival> {
        let mut gone = Vec::new();
        for (number, connection) in &mut self.connections {
            if let Some(own) = connection.silent.take_if(|own| connection.ends[*own].0 == machine) {
                gone.push((*number, 1 - own));
            }
        }
        self.close(gone, at_us)
    }

    fn close(&mut self, gone: Vec<(u64, usize)>, at_us: u64) -> Vec<Arrival> {
        let close = |(connection, to)| {
            let held = Held { connection, to, frame: Frame::Close, departs_us: 0 };
            self.route(held, at_us)
        };
        gone.into_iter().filter_map(close).collect()
    }

    /// All connections between two machines break at both ends.
    pub fn reset(&mut self, one: usize, other: usize, at_us: u64) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (number, connection) in &mut self.connections {
            let machines = connection.ends.map(|(machine, _)| machine);
            if machines == [one, other] || machines == [other, one] {
                for to in [0, 1] {
                    let at_us = at_us.max(connection.arrives_us[to] + 1);
                    let (connection, frame, departs_us) = (*number, Frame::Close, 0);
                    arrivals.push(Arrival { at_us, connection, to, frame, departs_us });
                }
            }
        }
        arrivals
    }

    /// From now on nothing gets through in this direction.
    pub fn stall(&mut self, from: usize, to: usize) {
        self.stalled.insert((from, to));
    }

    /// Whether nothing gets through.
    #[must_use]
    pub fn is_stalled(&self, from: usize, to: usize) -> bool {
        self.stalled.contains(&(from, to))
    }

    /// Whether everything gets through.
    #[must_use]
    pub fn is_flowing(&self) -> bool {
        self.stalled.is_empty()
    }

    /// A direction goes on; what it held arrives.
    pub fn flow(&mut self, from: usize, to: usize, at_us: u64) -> Vec<Arrival> {
        self.stalled.remove(&(from, to));
        let held = std::mem::take(&mut self.held);
        let mut arrivals = Vec::new();
        for (one, other, frame) in held {
            if (one, other) == (from, to) {
                arrivals.extend(self.route(frame, at_us));
            } else {
                self.held.push((one, other, frame));
            }
        }
        arrivals
    }
}
