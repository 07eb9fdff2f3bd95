//! What users do, besides the operators: they come, change something harmless under their own names, get other roles, and are
//! removed, while they and others go on asking. What is changed is freezes of a far future, which no check looks at.
//!
//! Nothing that a user asks is applied after its removal was (I19): of every answer the index is compared with the removal's.

use model::{
    access::{UserChange, UserRole, UserSpec},
    command::Answer,
    freeze::{FreezeSpec, Window},
    id::UserId,
    identity::Identity,
    request::{ApiError, Reply, Request, Response},
    time::ClusterTime,
};

use crate::dice::Dice;

/// Later than any world gets.
pub(crate) const FAR: ClusterTime = ClusterTime(1 << 60);

struct Guest {
    id: UserId,
    name: String,
    /// The index at which it was gone.
    removed: Option<u64>,
    /// The last index at which something that it asked was applied.
    applied: u64,
}

/// All of them, with the choices of one world.
pub(crate) struct Guests {
    dice: Dice,
    made: u64,
    /// In the order in which they came.
    known: Vec<Guest>,
}

impl Guests {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, "guests"), made: 0, known: Vec::new() }
    }

    /// Some steps are theirs: who asks, and what.
    pub(crate) fn step(&mut self, operator: Identity) -> Option<(Identity, Request)> {
        if !self.dice.permille(300) {
            return None;
        }
        // The newest are asked of most; those before are gone and go on asking.
        let back = self.dice.below(3);
        let chosen = self.known.iter().rev().nth(back).or_else(|| self.known.last());
        let Some(guest) = chosen.filter(|guest| guest.removed.is_none() || back > 0) else {
            return Some((operator, self.newcomer()));
        };
        let (id, name) = (guest.id, guest.name.clone());
        Some(match self.dice.range(0, 9) {
            0 => (operator, self.newcomer()),
            1 => {
                let roles = vec![if self.dice.permille(700) { UserRole::Operator } else { UserRole::Viewer }];
                let change = UserChange { roles: Some(roles), ..UserChange::default() };
                (operator, Request::UpdateUser { user: name, change })
            }
            2 => (operator, Request::RemoveUser(name)),
            _ => (Identity::User { id, name }, self.harmless()),
        })
    }

    fn newcomer(&mut self) -> Request {
        self.made += 1;
        Request::CreateUser(UserSpec {
            name: format!("guest-{}", self.made),
            roles: vec![UserRole::Operator],
            life: model::access::DEFAULT_LIFE,
        })
    }

    fn harmless(&mut self) -> Request {
        let from = FAR + self.dice.span(1, 1_000);
        let windows = vec![Window { from, until: from + self.dice.span(1, 1_000) }];
        let name = format!("guest-{}", self.dice.range(1, 3));
        Request::SetFreeze(FreezeSpec { name, windows, ..FreezeSpec::default() })
    }

    /// An answer, to a request that was tried once if `once`: a repeated one names the index of its repetition.
    /// Says what is wrong with it.
    pub(crate) fn settled(
        &mut self,
        identity: &Identity,
        request: &Request,
        once: bool,
        result: &Result<Reply, ApiError>,
    ) -> Option<String> {
        let Ok(Reply { response: Response::Changed { answer, index }, .. }) = result else { return None };
        let guest = match (identity, request, answer) {
            (_, Request::CreateUser(spec), Answer::User { id }) => {
                self.known.push(Guest { id: *id, name: spec.name.clone(), removed: None, applied: 0 });
                return None;
            }
            (_, Request::RemoveUser(name), _) => {
                let guest = self.known.iter_mut().find(|guest| guest.name == *name)?;
                guest.removed.get_or_insert(*index);
                guest
            }
            (Identity::User { id, .. }, _, _) if once => {
                let guest = self.known.iter_mut().find(|guest| guest.id == *id)?;
                guest.applied = guest.applied.max(*index);
                guest
            }
            _ => return None,
        };
        let Guest { name, removed, applied, .. } = guest;
        let removed = removed.filter(|removed| removed < applied)?;
        Some(format!("user {name} was removed at {removed}, and what it asked was applied at {applied}"))
    }
}
