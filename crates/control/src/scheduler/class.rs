//! One equivalence class of placements: all tasks of one service from one template, within one batch.
//!
//! Intuition: tasks of a class differ in nothing that placement looks at, so the candidates are found once, sorted into
//! buckets once, and each task takes the first node of the lowest bucket. Two facts make that cheap. Within a batch
//! capacity only shrinks, so a node that did not fit is never looked at again. And load only grows, so within one
//! bucket the scan over (load, word) never goes back: a whole round over N nodes costs N bit operations plus one pass
//! over N/64 words per distinct load.
//!
//! Ranking: spread preferences first, then fewest tasks of the same service and template on the node (those of an older
//! template are about to go, and a start-first rollout must not crowd the nodes that it emptied first), then fewest tasks in all, then the
//! order in which nodes joined. Nodes on a task's avoid list come behind all others.

use std::{collections::BTreeSet, sync::Arc};

use model::{
    id::ServiceId,
    placement::Attribute,
    service::{Service, TaskTemplate, TemplateVersion},
    task::PendingReason,
};

use super::{bits::Bits, filter, nodes::Nodes};

/// A class while its batch is decided. Dropped with the batch.
pub(crate) struct Class {
    rules: Rules,
    /// Nodes that pass the lasting filters: a change elsewhere cannot help.
    lasting: Arc<Bits>,
    root: Group,
    /// [`ServiceLoad::changes`](super::load::ServiceLoad) as this class knows it.
    seen: u64,
    refusal: Option<PendingReason>,
}

impl Class {
    pub(crate) fn new(nodes: &mut Nodes, service: &Service, shape: u32, template: &TaskTemplate) -> Self {
        let lasting = filter::candidates(nodes, template);
        let mut candidates = (*lasting).clone();
        filter::narrow(nodes, &mut candidates, service.id, template);
        let same = service.templates.iter().filter(|(_, other)| ***other == *template);
        let rules = Rules {
            shape,
            service: service.id,
            peers: same.map(|(version, _)| *version).collect(),
            max_per_node: template.placement.max_per_node,
            foreign: false,
        };
        let root = Group::new(nodes, &rules, candidates, &template.placement.spread);
        let seen = nodes.service(service.id).map_or(0, |load| load.changes);
        Self { rules, lasting, root, seen, refusal: None }
    }

    pub(crate) fn shape(&self) -> u32 {
        self.rules.shape
    }

    pub(crate) fn lasting(&self) -> &Bits {
        &self.lasting
    }

    /// Whether an earlier task of the class found nothing: then none after it will.
    pub(crate) fn refusal(&self) -> Option<&PendingReason> {
        self.refusal.as_ref()
    }

    pub(crate) fn refuse(&mut self, reason: PendingReason) -> PendingReason {
        self.refusal.insert(reason).clone()
    }

    /// The best node for one more task, which the caller must then [`hold`](Nodes::hold) and [`took`](Self::took).
    pub(crate) fn pick(&mut self, nodes: &Nodes, avoid: &[u32]) -> Option<u32> {
        self.rules.foreign = nodes.service(self.rules.service).map_or(0, |load| load.changes) != self.seen;
        // When all candidates are to be avoided, the one that refused longest ago comes first.
        (0..avoid.len())
            .find_map(|first| self.root.pick(nodes, &self.rules, &avoid[first..]))
            .or_else(|| self.root.pick(nodes, &self.rules, &[]))
    }

    /// The caller placed the task that [`pick`](Self::pick) found a node for.
    pub(crate) fn took(&mut self) {
        self.seen += 1;
    }
}

/// What every leaf needs to judge a node.
struct Rules {
    shape: u32,
    service: ServiceId,
    /// The template, under all numbers that it has: what is being replaced does not count against a node.
    peers: Vec<TemplateVersion>,
    max_per_node: u32,
    /// Another class of the same service placed tasks meanwhile: counts must be looked up.
    foreign: bool,
}

/// A node of the spread tree: branches by the value of one attribute, or the candidates themselves.
enum Group {
    Branches { alive: BTreeSet<(u64, usize)>, children: Vec<Self> },
    Leaf(Leaf),
}

impl Group {
    fn new(nodes: &mut Nodes, rules: &Rules, candidates: Bits, spread: &[Attribute]) -> Self {
        let Some((attribute, rest)) = spread.split_first() else {
            return Self::Leaf(Leaf::new(nodes, rules, candidates));
        };
        let values: Vec<Bits> = nodes.values(attribute).nodes.values().cloned().collect();
        let (mut alive, mut children) = (BTreeSet::new(), Vec::new());
        for value in values {
            let part = candidates.and(&value);
            if !part.is_empty() {
                alive.insert((tasks_on(nodes, rules, &value), children.len()));
                children.push(Self::new(nodes, rules, part, rest));
            }
        }
        Self::Branches { alive, children }
    }

    fn pick(&mut self, nodes: &Nodes, rules: &Rules, avoid: &[u32]) -> Option<u32> {
        let (alive, children) = match self {
            Self::Leaf(leaf) => return leaf.pick(nodes, rules, avoid),
            Self::Branches { alive, children } => (alive, children),
        };
        let order: Vec<(u64, usize)> =
            if avoid.is_empty() { Vec::new() } else { alive.iter().copied().collect() };
        let mut order = order.into_iter();
        loop {
            let (count, child) = if avoid.is_empty() { *alive.first()? } else { order.next()? };
            if let Some(number) = children[child].pick(nodes, rules, avoid) {
                alive.remove(&(count, child));
                alive.insert((count + 1, child));
                return Some(number);
            }
            if avoid.is_empty() {
                alive.remove(&(count, child));
            }
        }
    }
}

/// Tasks like this on ready nodes of the set; what a lost node still holds has its replacement elsewhere.
fn tasks_on(nodes: &Nodes, rules: &Rules, set: &Bits) -> u64 {
    let counts = nodes.service(rules.service).into_iter().flat_map(|load| load.peers(&rules.peers));
    let counts = counts.filter(|(number, _)| set.contains(*number) && nodes.ready.contains(*number));
    counts.map(|(_, tasks)| u64::from(tasks)).sum()
}

/// Candidates by how many tasks of the service they have.
struct Leaf {
    /// `levels[n]`: candidates with n tasks of the service.
    levels: Vec<Bits>,
    level: usize,
    /// Where the scan of the current level stands: this load, this word.
    load: u32,
    word: usize,
}

impl Leaf {
    fn new(nodes: &Nodes, rules: &Rules, mut candidates: Bits) -> Self {
        let mut levels = vec![Bits::default()];
        let counts = nodes.service(rules.service).into_iter().flat_map(|load| load.peers(&rules.peers));
        let mut counts = counts.peekable();
        while let Some((number, mut tasks)) = counts.next() {
            while let Some((_, more)) = counts.next_if(|(next, _)| *next == number) {
                tasks += more;
            }
            if candidates.contains(number) {
                candidates.remove(number);
                insert_at(&mut levels, tasks as usize, number);
            }
        }
        levels[0] = candidates;
        Self { levels, level: 0, load: 0, word: 0 }
    }

    fn pick(&mut self, nodes: &Nodes, rules: &Rules, avoid: &[u32]) -> Option<u32> {
        if !avoid.is_empty() {
            return self.pick_avoiding(nodes, rules, avoid);
        }
        while self.level < self.levels.len() {
            while let Some((load, loaded)) = nodes.at_load(self.load) {
                if load > self.load {
                    (self.load, self.word) = (load, 0);
                }
                let words = loaded.words();
                while self.word < words {
                    let both = self.levels[self.level].word(self.word) & loaded.word(self.word);
                    if both == 0 {
                        self.word += 1;
                        continue;
                    }
                    let number = self.word as u32 * 64 + both.trailing_zeros();
                    if self.accept(nodes, rules, number) {
                        self.advance(number);
                        return Some(number);
                    }
                }
                (self.load, self.word) = (self.load + 1, 0);
            }
            (self.level, self.load, self.word) = (self.level + 1, 0, 0);
        }
        None
    }

    /// As `pick`, from the start and without the avoided nodes; rejections are rare enough for a full scan.
    fn pick_avoiding(&mut self, nodes: &Nodes, rules: &Rules, avoid: &[u32]) -> Option<u32> {
        let level = self.level;
        let hidden: Vec<(usize, u32)> = avoid.iter().filter_map(|number| self.hide(*number)).collect();
        let found = self.pick(nodes, rules, &[]);
        hidden.into_iter().for_each(|(level, number)| self.levels[level].insert(number));
        (self.level, self.load, self.word) = (level, 0, 0);
        found
    }

    fn hide(&mut self, number: u32) -> Option<(usize, u32)> {
        let level = self.levels.iter().position(|level| level.contains(number))?;
        self.levels[level].remove(number);
        Some((level, number))
    }

    /// Whether the node still fits; if not it leaves the candidates, or the level that it is no longer at.
    fn accept(&mut self, nodes: &Nodes, rules: &Rules, number: u32) -> bool {
        let shape = nodes.shape(rules.shape);
        if !nodes.usage(number).fits(&shape.needs)
            || (!shape.ports.is_empty() && nodes.port_taken(number, &shape.ports))
        {
            self.levels[self.level].remove(number);
            return false;
        }
        let load = nodes.service(rules.service);
        if rules.max_per_node > 0 && load.is_some_and(|load| load.on(number) >= rules.max_per_node) {
            self.levels[self.level].remove(number);
            return false;
        }
        if rules.foreign {
            let tasks = load.map_or(0, |load| load.peers_on(number, &rules.peers)) as usize;
            if tasks > self.level {
                self.levels[self.level].remove(number);
                insert_at(&mut self.levels, tasks, number);
                return false;
            }
        }
        true
    }

    fn advance(&mut self, number: u32) {
        self.levels[self.level].remove(number);
        insert_at(&mut self.levels, self.level + 1, number);
    }
}

fn insert_at(levels: &mut Vec<Bits>, level: usize, number: u32) {
    if level >= levels.len() {
        levels.resize(level + 1, Bits::default());
    }
    levels[level].insert(number);
}
