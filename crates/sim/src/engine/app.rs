//! What the applications in the containers do: their command says it, as `["behaviour", "milliseconds"]`.

use model::{container::ContainerSpec, task::Health};

use crate::{
    dice::Dice,
    queue::{MS, Time},
};

/// Something that an application does to itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Exit { code: i64 },
    OutOfMemory,
    Health(Health),
}

/// The kinds of application that the workload knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// Runs until it is stopped.
    Serve,
    /// As `Serve`, and ignores the stop signal.
    Stubborn,
    /// Ends with a failure after a while.
    Crash,
    /// Ends well after a while.
    Job,
    /// The kernel kills it for memory after a while.
    Leak,
    /// Turns unhealthy after a while, but goes on.
    Sick,
    /// The engine cannot make it.
    Broken,
}

const NAMES: [(Behaviour, &str); 7] = [
    (Behaviour::Serve, "serve"),
    (Behaviour::Stubborn, "stubborn"),
    (Behaviour::Crash, "crash"),
    (Behaviour::Job, "job"),
    (Behaviour::Leak, "leak"),
    (Behaviour::Sick, "sick"),
    (Behaviour::Broken, "broken"),
];

impl Behaviour {
    /// As a container's command.
    pub(crate) fn command(self, after_ms: u64) -> Vec<String> {
        let name = NAMES.iter().find(|(behaviour, _)| *behaviour == self).map_or("serve", |(_, name)| name);
        vec![name.to_owned(), after_ms.to_string()]
    }

    /// What a container's command says, and after how long.
    pub(crate) fn of(spec: &ContainerSpec) -> (Self, Time) {
        let named =
            |text: &String| NAMES.iter().find(|(_, name)| name == text).map(|(behaviour, _)| *behaviour);
        let behaviour = spec.command.first().and_then(named).unwrap_or(Self::Serve);
        let after = spec.command.get(1).and_then(|text| text.parse().ok()).unwrap_or(1_000u64);
        (behaviour, after * MS)
    }

    /// It stays up and is fit for work once nothing disturbs it.
    pub(crate) fn is_sound(self) -> bool {
        matches!(self, Self::Serve | Self::Stubborn)
    }
}

/// What an application will do once it has started.
pub(crate) fn plan(spec: &ContainerSpec, dice: &mut Dice) -> Vec<(Time, Act)> {
    let (behaviour, after) = Behaviour::of(spec);
    let after = after + dice.millis(0, 50);
    let mut acts = Vec::new();
    if spec.healthcheck.is_some() {
        acts.push((dice.millis(50, 900), Act::Health(Health::Healthy)));
    }
    match behaviour {
        Behaviour::Serve | Behaviour::Stubborn | Behaviour::Broken => {}
        Behaviour::Crash => acts.push((after, Act::Exit { code: 1 })),
        Behaviour::Job => acts.push((after, Act::Exit { code: 0 })),
        Behaviour::Leak => acts.push((after, Act::OutOfMemory)),
        Behaviour::Sick => acts.push((after + 1_000 * MS, Act::Health(Health::Unhealthy))),
    }
    acts
}

/// How long it takes to stop when asked; `None`: it does not.
pub(crate) fn stop(spec: &ContainerSpec, dice: &mut Dice) -> Option<Time> {
    match Behaviour::of(spec).0 {
        Behaviour::Stubborn => None,
        _ => Some(dice.millis(5, 400)),
    }
}
