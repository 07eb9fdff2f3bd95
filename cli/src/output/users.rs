//! Users, and what one may do, as people read them.

use model::{
    access::{Extent, Right, User, UserRole, Whoami},
    identity::Identity,
    time::ClusterTime,
};

use super::{age, table::Table};
use crate::value;

/// `user ls`
pub fn table(users: &[User], now: ClusterTime) -> Table {
    let mut table = Table::new(["ID", "NAME", "ROLES", "CERTIFICATES", "CREATED", "NOTE"]);
    for user in users {
        table.row([
            user.id.to_string(),
            user.spec.name.clone(),
            roles(&user.spec.roles),
            value::duration_text(user.spec.life),
            age::since(user.created, now),
            note(user, now),
        ]);
    }
    table
}

fn note(user: &User, now: ClusterTime) -> String {
    match (&user.origin, user.disabled) {
        (_, true) => "disabled".to_owned(),
        (Some(origin), false) => format!("login {}", age::until(origin.expires, now)),
        (None, false) => String::new(),
    }
}

/// `user inspect`
pub fn one(user: &User, now: ClusterTime) -> String {
    let state = if user.disabled { "disabled: everything is refused" } else { "let in" };
    let origin = user.origin.as_ref().map_or_else(String::new, |origin| {
        format!(
            "\nlogin         by {} as {}\nuntil         {} ({})",
            origin.method,
            origin.subject,
            age::date(origin.expires),
            age::until(origin.expires, now)
        )
    });
    format!(
        "id            {}\nname          {}\nroles         {}\ncertificates  live for {}\nstate         {state}\n\
         created       {} ({} ago) by {}\nchanged       {}{origin}",
        user.id,
        user.spec.name,
        roles(&user.spec.roles),
        value::duration_text(user.spec.life),
        age::date(user.created),
        age::since(user.created, now),
        user.by,
        age::date(user.changed),
    )
}

/// `whoami`
pub fn me(me: &Whoami, until: Option<ClusterTime>, now: ClusterTime) -> String {
    let mut text = title(&me.identity);
    match &me.grant {
        Some((grant, until)) => text.push_str(&format!(
            "\nallows       {grant}\nuntil        {} ({})",
            age::date(*until),
            age::until(*until, now)
        )),
        None => text.push_str(&format!("\nroles        {}", roles(&me.roles))),
    }
    if let Some(until) = until {
        text.push_str(&format!("\ncertificate  until {} ({})", age::date(until), age::until(until, now)));
    }
    if let Some(origin) = &me.origin {
        text.push_str(&format!(
            "\nlogin        by {} as {} until {}; orchctl login makes another one",
            origin.method,
            origin.subject,
            age::date(origin.expires)
        ));
    } else if let Some(life) = me.life {
        let life = value::duration_text(life);
        text.push_str(&format!("; orchctl context renew makes one for {life} while it is valid"));
    }
    text
}

/// `can-i --list`
pub fn rights(rights: &[Right]) -> Table {
    let mut table = Table::new(["WHAT", "MAY", "ON"]);
    for Right { verb, extent } in rights {
        let (may, on) = match extent {
            Extent::All => ("yes", "everything".to_owned()),
            Extent::Only(own) => ("yes", roles(own)),
            Extent::Nothing => ("no", String::new()),
        };
        table.row([verb.to_string(), may.into(), on]);
    }
    table
}

/// How a caller is named on a line of its own.
fn title(identity: &Identity) -> String {
    match identity {
        Identity::User { id, name } => format!("user {name} ({id})"),
        Identity::Operator { name, .. } => format!("operator {name}, who is no user"),
        other => other.to_string(),
    }
}

fn roles(roles: &[UserRole]) -> String {
    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
