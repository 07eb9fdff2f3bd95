//! Login methods, as people read them.

use model::{
    login::{Directory, People, Provider},
    request::{LoginMethodView, RegistrySaid},
};

use super::{age, table::Table};
use crate::value;

/// `login-method ls`
pub fn table(views: &[LoginMethodView]) -> Table {
    let mut table = Table::new(["NAME", "KIND", "AT", "ROLES", "HOLDS FOR", "USERS", "SAID LAST"]);
    for view in views {
        let (kind, at) = kind(&view.spec.provider);
        table.row([
            view.spec.name.clone(),
            kind.into(),
            at.into(),
            view.spec.rules.len().to_string(),
            value::duration_text(view.spec.life),
            view.users.to_string(),
            said(view),
        ]);
    }
    table
}

/// `login-method inspect`; `manager` and `fingerprint`: what people need who log in for the first time.
pub fn one(view: &LoginMethodView, manager: &str, fingerprint: Option<&str>) -> String {
    let (kind, at) = kind(&view.spec.provider);
    let mut lines = vec![format!("{}: {}", view.spec.name, said(view)), format!("  {kind:<9} {at}")];
    match &view.spec.provider {
        Provider::Ldap(directory) => lines.extend(directory_lines(directory)),
        Provider::Oidc(issuer) => {
            lines.push(format!("  client    {}", issuer.client));
            lines.push(format!("  claims    {} of {}", issuer.groups_claim, issuer.name_claim));
        }
    }
    lines.extend(view.spec.rules.iter().map(|rule| format!("  role      {} for {}", rule.role, rule.group)));
    lines.push(format!("  holds     for {}", value::duration_text(view.spec.life)));
    lines.push(format!("  users     {}", view.users));
    lines.push(format!("  set       {} by {}", age::date(view.set), view.by));
    if let Some(fingerprint) = fingerprint {
        lines.push(format!("  people    orchctl login --manager {manager} --ca-fingerprint {fingerprint}"));
    }
    lines.join("\n")
}

fn directory_lines(directory: &Directory) -> Vec<String> {
    let people = match &directory.people {
        People::At(template) => template.clone(),
        People::Found { search, account, .. } => {
            format!("{} below {}, as {account}", search.filter, search.base)
        }
    };
    let groups = match &directory.groups {
        Some(search) => format!("{} below {}", search.filter, search.base),
        None => "memberOf of their entries".to_owned(),
    };
    let authority = if directory.authority.is_some() { "own" } else { "those that the managers trust" };
    vec![format!("  people    {people}"), format!("  groups    {groups}"), format!("  authority {authority}")]
}

fn kind(provider: &Provider) -> (&'static str, &str) {
    match provider {
        Provider::Ldap(directory) => ("directory", &directory.url),
        Provider::Oidc(issuer) => ("issuer", &issuer.url),
    }
}

fn said(view: &LoginMethodView) -> String {
    match &view.said {
        Some(RegistrySaid { problem: Some(problem), .. }) => problem.clone(),
        Some(RegistrySaid { problem: None, .. }) => "answers".to_owned(),
        None => "not asked yet".to_owned(),
    }
}
