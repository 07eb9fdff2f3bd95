//! One world to live through: a seed, what was turned by hand, and what is wrong in it.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use planted::Bug;

use crate::{Knobs, Report, World};

/// Bytes of the audit that are kept: so few that the oldest records go in every world.
#[cfg(feature = "bugs")]
const AUDIT: usize = 8 << 10;

/// One world.
#[derive(Debug, Clone)]
pub struct Case {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Its knobs.
    pub knobs: Knobs,
    /// What is wrong with the code in it; needs the feature `bugs`.
    pub bug: Option<Bug>,
}

impl Case {
    /// The world of a seed, with the code as it is.
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, knobs: Knobs::of_seed(seed), bug: None }
    }

    /// With so many nodes.
    pub fn with_nodes(self, nodes: usize) -> Self {
        Self { knobs: self.knobs.with_nodes(nodes), ..self }
    }

    /// Lives through it. A panic is a violation like any other.
    pub fn live(&self) -> Report {
        self.run(World::new(self.seed, self.knobs.clone()))
    }

    /// As [`live`](Self::live), with a trace in words.
    pub fn live_with_trace(&self) -> (Report, Vec<String>) {
        let mut world = World::with_trace(self.seed, self.knobs.clone());
        let report = self.guard(&mut world);
        (report, world.lines())
    }

    fn run(&self, mut world: World) -> Report {
        self.guard(&mut world)
    }

    fn guard(&self, world: &mut World) -> Report {
        let _hooks = Hooks::arm(self);
        listen_to_panics();
        INSIDE.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
        INSIDE.set(false);
        outcome.unwrap_or_else(|_| world.panicked(PANIC.take()))
    }
}

thread_local! {
    /// This thread is inside a world.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// What its panic said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic inside a world is kept for its report; any other is told as usual.
fn listen_to_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                PANIC.set(info.to_string());
            } else {
                usual(info);
            }
        }));
    });
}

/// What the case switches on in the code of this thread, until it is dropped.
struct Hooks;

impl Hooks {
    #[cfg(feature = "bugs")]
    fn arm(case: &Case) -> Self {
        let mut dice = crate::dice::Dice::new(case.seed, "rare paths");
        let often = case.knobs.rare;
        planted::plant(case.bug);
        planted::bound_ring(Some(case.knobs.ring));
        planted::bound_audit(Some(AUDIT));
        planted::force(Some(Box::new(move |_| dice.permille(often))));
        Self
    }

    #[cfg(not(feature = "bugs"))]
    fn arm(case: &Case) -> Self {
        assert!(case.bug.is_none(), "this build has no planted bugs");
        Self
    }
}

#[cfg(feature = "bugs")]
impl Drop for Hooks {
    fn drop(&mut self) {
        planted::plant(None);
        planted::bound_ring(None);
        planted::bound_audit(None);
        planted::force(None);
    }
}
