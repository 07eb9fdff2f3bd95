//! The authority is replaced, up to three times, and rotations are finished, while managers and nodes are away and lose answers.
//!
//! A certificate is a text that names its issuer; the shells' part is played as they do it. A manager lets in whose issuer it trusts, which is
//! what its core said last, or finds from one that it trusts over the bridges that come with the certificate. Managers and agents ask for certificates when they are told to; a manager signs for itself when it missed the end of
//! a rotation, a node that was away then proves its key. Whoever stays shut out is found by what has to converge.

use std::{cmp::Reverse, collections::BTreeMap};

use model::{
    cluster::{Authority, MAX_FORMER},
    identity::Identity,
    request::{ApiError, ErrorCode, ReenrolRequest, Reply, Request, Response, Successor},
    sealed::Clear,
};

use crate::{
    client::Purpose,
    dice::Dice,
    network::Frame,
    queue::{SEC, Time},
    secrets::CANARY,
    setup::CSR,
    workload::Wish,
    world::{Event, ManagerInput, World},
};

/// What the first authority's certificate is.
pub(crate) const FIRST: &str = "-----BEGIN first authority";
/// Whoever was refused a certificate asks again after so long.
const AGAIN: Time = 2 * SEC;

/// What a host keeps of its identity, on its disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paper {
    /// Who issued its certificate.
    issuer: String,
    /// Over which key; of nodes.
    key: String,
    /// The key that a certificate was asked for, until that came.
    next: Option<String>,
    /// What it knows of the authority.
    bundle: String,
    /// It is to have another certificate; forgotten with its process.
    renew: bool,
    /// It was refused for its certificate; forgotten with its process.
    disowned: bool,
    /// It asks for one.
    asks: bool,
}

impl Paper {
    /// Of the first manager.
    pub(crate) fn first() -> Self {
        Self { issuer: FIRST.into(), bundle: FIRST.into(), ..Self::default() }
    }

    /// Whether it lets in who comes with this one.
    fn lets_in(&self, other: &Self) -> bool {
        let mut known = roots(&self.bundle);
        let bridges: Vec<_> = bridges(&other.bundle).collect();
        for _ in 0..bridges.len() {
            let over = bridges.iter().filter(|(from, to)| known.contains(from) && !known.contains(to));
            let found: Vec<String> = over.map(|(_, to)| to.clone()).collect();
            known.extend(found);
        }
        known.contains(&other.issuer)
    }

    /// Its process begins anew.
    pub(crate) fn restart(&mut self) {
        (self.renew, self.disowned, self.asks) = (false, false, false);
    }
}

/// Who holds a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Manager(usize),
    Node(usize),
}

/// The rotations of one world.
pub(crate) struct Rotations {
    dice: Dice,
    left: usize,
    keys: u64,
    /// By whom the certificate was issued that an open connection began with.
    shown: BTreeMap<u64, String>,
    /// Of who asks for a certificate: the life of its process.
    lives: BTreeMap<usize, u64>,
}

impl Rotations {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = Dice::new(seed, "rotations");
        Self { dice, left: MAX_FORMER, keys: 0, shown: BTreeMap::new(), lives: BTreeMap::new() }
    }

    /// What an administrator does now and then.
    pub(crate) fn step(&mut self, authority: &Authority) -> Option<Request> {
        if !self.dice.permille(120) {
            return None;
        }
        let current = authority.certificate.clone();
        if authority.rotation().is_some() {
            return Some(Request::FinishRotation { current, leave_behind: self.dice.permille(600) });
        }
        self.left = self.left.checked_sub(1)?;
        Some(Request::RotateAuthority { current, successor: None })
    }

    /// A request over a key that nobody had before.
    pub(crate) fn fresh_csr(&mut self) -> String {
        self.keys += 1;
        csr_over(&format!("key {}", self.keys))
    }
}

fn csr_over(key: &str) -> String {
    format!("{CSR}{key}")
}

fn key_in(csr: &str) -> Option<String> {
    csr.strip_prefix(CSR).filter(|key| !key.is_empty()).map(str::to_owned)
}

/// A certificate of a machine.
pub(crate) fn certificate(issuer: &str, csr: &str) -> String {
    format!("{issuer}|{}", key_in(csr).unwrap_or_default())
}

/// Those of a bundle that sign themselves.
fn roots(bundle: &str) -> Vec<String> {
    bundle.lines().filter(|line| line.starts_with("-----BEGIN")).map(str::to_owned).collect()
}

/// How far rotations have come in a bundle: which authority it is, by the entry it came after, and how few others are trusted.
fn progress(bundle: &str) -> (u64, Reverse<usize>) {
    let roots = roots(bundle);
    let entry = roots.first().and_then(|root| root.rsplit(' ').next()?.parse().ok());
    (entry.unwrap_or(0), Reverse(roots.len()))
}

/// The others, each from one authority to another.
fn bridges(bundle: &str) -> impl Iterator<Item = (String, String)> {
    let ways = bundle.lines().filter_map(|line| line.strip_prefix("bridge|")?.split_once('|'));
    ways.map(|(from, to)| (from.to_owned(), to.to_owned()))
}

/// What the shell of a leader makes of a request before its core sees it.
///
/// # Errors
/// The proof does not hold.
pub(crate) fn verified(
    store: &store::Store,
    manager: usize,
    request: Request,
) -> Result<(Option<Identity>, Request), ApiError> {
    let Some(authority) = store.cluster().map(|cluster| &cluster.authority) else {
        return Ok((None, request));
    };
    Ok(match request {
        Request::RenewCertificate { csr, .. } => {
            let key = key_in(&csr);
            (None, Request::RenewCertificate { csr, key })
        }
        Request::Join(join) => {
            let key = key_in(&join.csr);
            (None, Request::Join(Box::new(model::request::JoinRequest { key, ..*join })))
        }
        Request::RotateAuthority { current, .. } => {
            let name = format!("m{manager} at {}", store.applied());
            let certificate = format!("-----BEGIN authority of {name}");
            let key = Clear::new(format!("{CANARY} authority of {name}"));
            let bridge = format!("bridge|{}|{certificate}", authority.certificate);
            let successor = Some(Box::new(Successor { certificate, bridge, key }));
            (None, Request::RotateAuthority { current, successor })
        }
        Request::Reenrol(shown) => {
            let denied = |why: &str| ApiError::new(ErrorCode::Denied, why.to_owned());
            let mut parts = shown.certificate.split('|').skip(1);
            let (Some(issuer), Some(over), Some(node)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(denied("no certificate"));
            };
            let former = authority.former.iter().find(|former| former.certificate == issuer);
            let counts = authority.certificate == issuer || former.is_some_and(|former| former.trusted);
            if !counts && former.is_none() {
                return Err(denied("wrong CA"));
            }
            let node = model::id::NodeId(node.parse().map_err(|_| denied("no node"))?);
            let key = key_in(&shown.csr);
            let own = counts && key.as_deref() == Some(over);
            if !own && store.node(node).is_none_or(|node| node.key != key) {
                return Err(denied("another key"));
            }
            (Some(Identity::Node(node)), Request::Reenrol(Box::new(ReenrolRequest { key, own, ..*shown })))
        }
        other => (None, other),
    })
}

impl World {
    fn paper(&mut self, holder: Holder) -> &mut Paper {
        match holder {
            Holder::Manager(number) => &mut self.managers[number].paper,
            Holder::Node(number) => &mut self.nodes[number].paper,
        }
    }

    /// Counts the lives of a holder's process; `None` while there is none.
    fn life_of(&self, holder: Holder) -> Option<u64> {
        match holder {
            Holder::Manager(number) => self.managers[number].process.as_ref().map(|process| process.life),
            Holder::Node(number) => self.nodes[number].process.as_ref().map(|process| process.life),
        }
    }

    /// A certificate came with the answer to a join.
    pub(crate) fn joined(&mut self, holder: Holder, response: &Response) {
        let Response::Joined { certificate, authority, .. } = response else { return };
        let Some((issuer, key)) = certificate.split_once('|') else { return };
        let paper = self.paper(holder);
        *paper = Paper {
            issuer: issuer.to_owned(),
            key: key.to_owned(),
            bundle: authority.clone(),
            ..Paper::default()
        };
    }

    /// Whether a manager refuses a node's certificate, as it dials.
    pub(crate) fn refuses_node(&mut self, manager: usize, node: usize, connection: u64) -> bool {
        let Some(rotations) = &mut self.rotations else { return false };
        let paper = &self.nodes[node].paper;
        if self.managers[manager].paper.lets_in(paper) {
            rotations.shown.insert(connection, paper.issuer.clone());
            return false;
        }
        self.checks.count("nodes refused after a rotation");
        self.nodes[node].disturbed = self.queue.now();
        if !std::mem::replace(&mut self.nodes[node].paper.disowned, true) {
            self.ask_for_paper(Holder::Node(node));
        }
        true
    }

    /// Whether a manager refuses another one's certificate.
    pub(crate) fn refuses_manager(&self, manager: usize, other: usize) -> bool {
        self.rotations.is_some() && !self.managers[manager].paper.lets_in(&self.managers[other].paper)
    }

    /// Whether a manager refuses who asks for a certificate for the certificate that it has.
    pub(crate) fn refuses_asker(&self, manager: usize, operation: usize) -> bool {
        let asked = &self.clients.operations[operation];
        let (Purpose::Paper(holder), Request::RenewCertificate { .. }) = (&asked.purpose, &asked.request)
        else {
            return false;
        };
        let paper = match holder {
            Holder::Manager(number) => &self.managers[*number].paper,
            Holder::Node(number) => &self.nodes[*number].paper,
        };
        !self.managers[manager].paper.lets_in(paper)
    }

    /// A manager's core said what the authority is.
    pub(crate) fn manager_follows(&mut self, manager: usize, bundle: &str, renew: bool) {
        let Some(rotations) = &mut self.rotations else { return };
        // After a restart the state may lag behind what it has seen.
        let paper = &mut self.managers[manager].paper;
        let said = roots(bundle).swap_remove(0);
        if progress(bundle) >= progress(&paper.bundle) {
            bundle.clone_into(&mut paper.bundle);
        } else {
            self.checks.count("states behind the authority on the disk");
        }
        let roots = roots(&paper.bundle);
        let cut: Vec<u64> = rotations
            .shown
            .iter()
            .filter(|(_, issuer)| !roots.contains(issuer))
            .map(|(connection, _)| *connection)
            .filter(|id| self.network.connections.get(id).is_some_and(|open| open.manager == manager))
            .collect();
        let paper = &mut self.managers[manager].paper;
        paper.renew = renew;
        if renew {
            self.ask_for_paper(Holder::Manager(manager));
        } else if paper.issuer != roots[0] && !paper.asks {
            paper.issuer = said;
            self.checks.count("managers that signed for themselves");
        }
        for connection in cut {
            self.checks.count("connections cut by a rotation");
            if let Some(open) = self.network.connections.get_mut(&connection) {
                open.manager_open = false;
                self.nodes[open.node].disturbed = self.queue.now();
            }
            self.push_frame(connection, false, Frame::Closed);
            let closed = manager_core::Event::AgentClosed { connection };
            self.later_manager(manager, 0, ManagerInput::Core(closed));
        }
    }

    /// An agent was told what the authority is.
    pub(crate) fn node_follows(&mut self, node: usize, bundle: String, renew: bool) {
        if self.rotations.is_none() {
            return;
        }
        let paper = &mut self.nodes[node].paper;
        (paper.renew, paper.bundle) = (renew, bundle);
        if renew {
            self.ask_for_paper(Holder::Node(node));
        }
    }

    /// A holder asks for the certificate that it needs, unless it does already or needs none.
    pub(crate) fn ask_for_paper(&mut self, holder: Holder) {
        let (Some(life), Some(rotations)) = (self.life_of(holder), &mut self.rotations) else { return };
        let fresh = rotations.fresh_csr();
        let paper = self.paper(holder);
        if paper.asks || !(paper.renew || paper.disowned) {
            return;
        }
        paper.asks = true;
        let (identity, request) = match holder {
            Holder::Manager(number) => {
                let identity = Identity::Manager(self.managers[number].member);
                (identity, Request::RenewCertificate { csr: fresh, key: None })
            }
            Holder::Node(number) if !paper.disowned => {
                let next = paper.next.get_or_insert_with(|| key_in(&fresh).unwrap_or_default());
                let request = Request::RenewCertificate { csr: csr_over(next), key: None };
                (Identity::Node(self.nodes[number].node), request)
            }
            Holder::Node(number) => (Identity::Anonymous, self.reenrolment(number)),
        };
        let operation = self.submit(Purpose::Paper(holder), identity, Wish { request, on: None });
        if let Some(rotations) = &mut self.rotations {
            rotations.lives.insert(operation, life);
        }
    }

    /// With the key that it asked a certificate for, or with the one before: managers know one of them.
    fn reenrolment(&mut self, number: usize) -> Request {
        let before = self.rotations.as_mut().is_some_and(|rotations| rotations.dice.permille(500));
        let (node, paper) = (self.nodes[number].node, &self.nodes[number].paper);
        let key = paper.next.as_ref().filter(|_| !before).unwrap_or(&paper.key);
        let certificate = format!("-----BEGIN CERTIFICATE-----|{}|{}|{}", paper.issuer, paper.key, node.0);
        let csr = csr_over(key);
        Request::Reenrol(Box::new(ReenrolRequest { certificate, csr, serial: 0, key: None, own: false }))
    }

    /// The answer to who asked for a certificate.
    pub(crate) fn paper_came(&mut self, operation: usize, holder: Holder, result: &Result<Reply, ApiError>) {
        let life = self.rotations.as_mut().and_then(|rotations| rotations.lives.remove(&operation));
        if life != self.life_of(holder) {
            return;
        }
        let csr = match &self.clients.operations[operation].request {
            Request::RenewCertificate { csr, .. } => csr.clone(),
            Request::Reenrol(shown) => shown.csr.clone(),
            _ => return,
        };
        let again = self.clients.dice.permille(200);
        let paper = self.paper(holder);
        paper.asks = false;
        if let (Ok(Reply { response: Response::Joined { certificate, authority, .. }, .. }), false) =
            (result, again)
        {
            let Some((issuer, _)) = certificate.split_once('|') else { return };
            (paper.issuer, paper.key) = (issuer.to_owned(), key_in(&csr).unwrap_or_default());
            (paper.next, paper.renew, paper.disowned) = (None, false, false);
            if let Holder::Node(_) = holder {
                paper.bundle.clone_from(authority);
            }
            self.checks.count("certificates of another authority");
            return;
        }
        if let (Holder::Manager(_), Some(root)) = (holder, roots(&paper.bundle).into_iter().next())
            && paper.issuer != root
        {
            // Others may have seen the end of the rotation already, and refuse it: it signs for itself until the leader hears it.
            paper.issuer = root;
            self.checks.count("managers that signed for themselves");
        }
        // Refused, or the answer was lost on its last way.
        self.queue.after(AGAIN, Event::Paper { holder });
    }
}
