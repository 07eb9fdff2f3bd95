//! The network: directed links between hosts, datagrams between managers, ordered connections between agents and
//! managers.
//!
//! A cut link loses datagrams; a connection over it stands still, as TCP does, and goes on when the link is back. What a
//! host had not yet delivered when it ended is gone.

use std::collections::{BTreeMap, VecDeque};

use model::session::{AgentMessage, ManagerMessage};

use crate::{
    dice::Dice,
    queue::{MS, Time},
};

/// A host's number: managers first, then nodes.
pub(crate) type HostId = usize;

/// One direction between two hosts.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    cut: bool,
    /// Added to every delay.
    slow: Time,
}

/// What arrives at an end of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    ToManager(Box<AgentMessage>),
    ToAgent(ManagerMessage),
    /// The other end closed it.
    Closed,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// On the way, in order.
    pub(crate) frames: VecDeque<Frame>,
    /// Nothing arrives before what was sent before it.
    last: Time,
}

/// A connection of an agent to a manager.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) node: usize,
    pub(crate) manager: usize,
    /// The agent's name for it.
    pub(crate) local: u64,
    /// The lives of both processes when it was made.
    pub(crate) lives: (u64, u64),
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    pub(crate) agent_open: bool,
    pub(crate) manager_open: bool,
}

/// All links and connections.
pub(crate) struct Network {
    links: Vec<Link>,
    hosts: usize,
    base_us: u64,
    loss: u32,
    duplication: u32,
    dice: Dice,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) next_connection: u64,
}

impl Network {
    pub(crate) fn new(hosts: usize, base_us: u64, loss: u32, duplication: u32, dice: Dice) -> Self {
        let links = vec![Link::default(); hosts * hosts];
        Self {
            links,
            hosts,
            base_us,
            loss,
            duplication,
            dice,
            connections: BTreeMap::new(),
            next_connection: 0,
        }
    }

    fn link(&mut self, from: HostId, to: HostId) -> &mut Link {
        &mut self.links[from * self.hosts + to]
    }

    pub(crate) fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.links[from * self.hosts + to].cut
    }

    pub(crate) fn cut(&mut self, from: HostId, to: HostId, cut: bool) {
        self.link(from, to).cut = cut;
    }

    pub(crate) fn slow(&mut self, from: HostId, to: HostId, by: Time) {
        self.link(from, to).slow = by;
    }

    /// Every link works again, and no datagram is lost any more.
    pub(crate) fn heal(&mut self) {
        self.links.iter_mut().for_each(|link| *link = Link::default());
        self.loss = 0;
        self.duplication = 0;
    }

    /// A one-way delay: mostly short, sometimes ten times as long, so that messages overtake each other.
    pub(crate) fn delay(&mut self, from: HostId, to: HostId) -> Time {
        let base = self.dice.range(self.base_us / 4 + 20, self.base_us + 50) * 1_000;
        let tail = if self.dice.permille(10) { self.dice.millis(1, 1 + self.base_us / 100) } else { 0 };
        base + tail + self.link(from, to).slow
    }

    /// When each copy of a datagram arrives: none, one or two.
    pub(crate) fn datagram(&mut self, from: HostId, to: HostId) -> Vec<Time> {
        if self.is_cut(from, to) || self.dice.permille(self.loss) {
            return Vec::new();
        }
        let mut copies = vec![self.delay(from, to)];
        if self.dice.permille(self.duplication) {
            copies.push(self.delay(from, to) + self.dice.millis(0, 200));
        }
        copies
    }

    /// Puts a frame into a pipe; returns when it arrives. `None`: there is no such connection.
    pub(crate) fn send(
        &mut self,
        connection: u64,
        up: bool,
        frame: Frame,
        hosts: (HostId, HostId),
        now: Time,
    ) -> Option<Time> {
        let delay = self.delay(hosts.0, hosts.1);
        let connection = self.connections.get_mut(&connection)?;
        let pipe = if up { &mut connection.up } else { &mut connection.down };
        pipe.frames.push_back(frame);
        pipe.last = pipe.last.max(now + delay);
        Some(pipe.last)
    }

    /// How long a connection waits until it tries a cut link again.
    pub(crate) fn retransmission(&mut self) -> Time {
        self.dice.millis(50, 300).max(MS)
    }
}
