//! The connections of clients to brokers. As TCP's, each keeps the order of what it carries; what is on its way to a machine
//! that nobody reaches arrives when it is reached again; a process that dies closes its connections, a machine that loses its
//! power does not.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Event, World};

/// A connection's number.
pub(crate) type LinkId = u64;

/// Requests of one connection that may wait for each other.
const ASKED_MAX: usize = 4_096;
/// The key of Produce requests, with which frames begin.
const PRODUCE: [u8; 2] = [0, 0];

/// What a client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Accepted,
    Refused,
    /// An answer, with its size before it.
    Bytes(Bytes),
    Closed,
}

#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A client wants a connection.
    Knock(LinkId),
    /// It sends a request.
    Frame(LinkId, Bytes),
    /// It has closed its end.
    HangUp(LinkId),
    /// Something arrives at the client.
    Tell(LinkId, Heard),
}

#[derive(Debug)]
pub(super) struct Link {
    machine: usize,
    /// Which run of the machine's process it was accepted by.
    pub(super) run: u64,
    is_open: bool,
    /// The machine lost its power: the client hears of nothing.
    is_silent: bool,
    /// Of what was sent last in each direction.
    arrives_us: u64,
    told_us: u64,
    /// In the order in which they came and are answered.
    asked: VecDeque<Asked>,
}

#[derive(Debug)]
enum Asked {
    Waiting(Bytes),
    Begun {
        request: u64,
        is_produce: bool,
    },
    /// None if it is not answered.
    Done {
        answer: Option<Bytes>,
        is_produce: bool,
    },
}

impl Asked {
    fn is_produce(&self) -> bool {
        match self {
            Self::Waiting(frame) => frame.starts_with(&PRODUCE),
            Self::Begun { is_produce, .. } | Self::Done { is_produce, .. } => *is_produce,
        }
    }
}

impl World {
    /// A client wants a connection.
    pub(crate) fn knock(&mut self, machine: usize) -> LinkId {
        let id = self.next_link;
        self.next_link += 1;
        let link = Link {
            machine,
            run: 0,
            is_open: false,
            is_silent: false,
            arrives_us: 0,
            told_us: 0,
            asked: VecDeque::new(),
        };
        self.links.insert(id, link);
        self.send(id, LinkEvent::Knock(id));
        id
    }

    /// A client sends a request.
    pub(crate) fn say(&mut self, link: LinkId, frame: Bytes) {
        self.trace.note(&[self.now_us, link, frame.len() as u64]);
        self.send(link, LinkEvent::Frame(link, frame));
    }

    /// A client has closed its end.
    pub(crate) fn hang_up(&mut self, link: LinkId) {
        self.send(link, LinkEvent::HangUp(link));
    }

    fn send(&mut self, id: LinkId, event: LinkEvent) {
        let at_us = self.now_us + self.latency();
        let Some(link) = self.links.get_mut(&id) else { return };
        link.arrives_us = at_us.max(link.arrives_us + 1);
        let at_us = link.arrives_us;
        self.at(at_us, Event::Link(event));
    }

    fn tell(&mut self, id: LinkId, heard: Heard) {
        let at_us = self.now_us + self.latency();
        let Some(link) = self.links.get_mut(&id) else { return };
        link.told_us = at_us.max(link.told_us + 1);
        let at_us = link.told_us;
        self.at(at_us, Event::Link(LinkEvent::Tell(id, heard)));
    }

    pub(super) fn on_link(&mut self, event: LinkEvent) {
        let (LinkEvent::Knock(id)
        | LinkEvent::Frame(id, _)
        | LinkEvent::HangUp(id)
        | LinkEvent::Tell(id, _)) = event;
        let Some(link) = self.links.get_mut(&id) else { return };
        let machine = &self.machines[link.machine];
        if self.unreachable.contains(&link.machine) {
            self.held.push(event);
            return;
        }
        match event {
            // Nobody answers; the client loses its patience.
            LinkEvent::Knock(_) if !machine.is_on => {}
            LinkEvent::Knock(_) if machine.broker.is_none() => self.tell(id, Heard::Refused),
            LinkEvent::Knock(_) => {
                link.run = machine.run;
                link.is_open = true;
                self.tell(id, Heard::Accepted);
            }
            LinkEvent::Frame(_, frame) if link.is_open && link.asked.len() < ASKED_MAX => {
                link.asked.push_back(Asked::Waiting(frame));
                self.front.touched.push_back(id);
            }
            LinkEvent::Frame(..) if machine.is_on => self.close_link(id),
            LinkEvent::Frame(..) => {}
            LinkEvent::HangUp(_) => {
                self.links.remove(&id);
                self.front.forget(|request| request.link == id);
            }
            LinkEvent::Tell(_, heard) => {
                self.trace.note(&[self.now_us, id]);
                self.heard.push((id, heard));
            }
        }
    }

    /// Begins requests whose turn has come, and sends answers whose turn has come.
    pub(super) fn advance_links(&mut self) {
        while let Some(id) = self.front.touched.pop_front() {
            while self.advance(id) {}
        }
    }

    /// Whether anything was done. The requests of a connection are worked on one after the other; only Produce requests do
    /// not wait for each other, as in a broker.
    fn advance(&mut self, id: LinkId) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        if let Some(Asked::Done { answer, .. }) =
            link.asked.pop_front_if(|asked| matches!(asked, Asked::Done { .. }))
        {
            if let Some(answer) = answer {
                self.tell(id, Heard::Bytes(answer));
            }
            return true;
        }
        let place = link.asked.iter().position(|asked| matches!(asked, Asked::Waiting(_)));
        let Some(place) = place else { return false };
        if place > 0 && !link.asked.iter().take(place + 1).all(Asked::is_produce) {
            return false;
        }
        let request = self.front.next_number();
        let is_produce = link.asked[place].is_produce();
        let begun = Asked::Begun { request, is_produce };
        let Asked::Waiting(frame) = std::mem::replace(&mut link.asked[place], begun) else {
            unreachable!("it was waiting a moment ago");
        };
        let machine = (link.machine, link.run);
        self.begin(request, id, machine, frame);
        true
    }

    /// A request is done; without an answer if it wants none.
    pub(crate) fn settle_link(&mut self, id: LinkId, number: u64, answer: Option<Bytes>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        for asked in &mut link.asked {
            if let Asked::Begun { request, is_produce } = asked
                && *request == number
            {
                *asked = Asked::Done { answer, is_produce: *is_produce };
                break;
            }
        }
        self.front.touched.push_back(id);
    }

    /// The broker's end closes.
    pub(crate) fn close_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.is_open = false;
        link.asked.clear();
        self.front.forget(|request| request.link == id);
        self.tell(id, Heard::Closed);
    }

    /// The process of a machine is gone.
    pub(super) fn break_links(&mut self, machine: usize, is_silent: bool) {
        let broken = self.links.iter_mut().filter(|(_, link)| link.machine == machine);
        let mut closed = Vec::new();
        for (id, link) in broken.filter(|(_, link)| link.is_open) {
            link.is_open = false;
            link.is_silent = is_silent;
            link.asked.clear();
            closed.push(*id);
        }
        // Who asked another machine on behalf of a client, or was asked, does not answer any more.
        let lost = self.front.take_lost(machine);
        for id in lost {
            if !closed.contains(&id) {
                self.close_link(id);
            }
        }
        if !is_silent {
            for id in closed {
                self.tell(id, Heard::Closed);
            }
        }
    }

    /// A machine is back: who still speaks to its old process hears that it is gone.
    pub(super) fn break_silent_links(&mut self, machine: usize) {
        let mut silent = Vec::new();
        for (id, link) in self.links.iter_mut().filter(|(_, link)| link.machine == machine) {
            if std::mem::take(&mut link.is_silent) {
                silent.push(*id);
            }
        }
        for id in silent {
            self.tell(id, Heard::Closed);
        }
    }

    /// A machine is reached again: what was on its way arrives.
    pub(super) fn release_held(&mut self) {
        for event in std::mem::take(&mut self.held) {
            match event {
                LinkEvent::Tell(id, heard) => self.tell(id, heard),
                LinkEvent::Knock(id) | LinkEvent::Frame(id, _) | LinkEvent::HangUp(id) => {
                    self.send(id, event);
                }
            }
        }
    }
}
