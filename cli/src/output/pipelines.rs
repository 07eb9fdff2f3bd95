//! Issuers and deploy bindings, for people.

use model::{binding::Binding, issuer::IssuerView, time::ClusterTime};

use super::{age, table::Table};

/// `issuer ls`
pub fn issuers(views: &[IssuerView]) -> Table {
    let mut table = Table::new(["NAME", "URL", "AUDIENCE", "AUTHORITY", "BY"]);
    for view in views {
        let authority = if view.authority.is_some() { "its own" } else { "the machines'" };
        let by = view.by.to_string();
        table.row([view.name.clone(), view.url.clone(), view.audience.clone(), authority.to_owned(), by]);
    }
    table
}

/// `issuer inspect`
pub fn issuer(view: &IssuerView) -> String {
    let mut lines = vec![
        format!("name:      {}", view.name),
        format!("url:       {}", view.url),
        format!("audience:  {}", view.audience),
        format!("set:       {} by {}", age::date(view.set), view.by),
    ];
    lines.extend(view.authority.as_ref().map(|authority| format!("authority:\n{}", authority.trim_end())));
    lines.join("\n")
}

/// `deploy-binding ls`
pub fn bindings(bindings: &[Binding], now: ClusterTime) -> Table {
    let mut table =
        Table::new(["NAME", "SERVICE", "IMAGES", "ALLOWS", "ISSUER", "PROJECT", "REF", "LAST USE", "BY"]);
    for binding in bindings {
        let spec = &binding.spec;
        let used = binding.used.map_or_else(|| "never".to_owned(), |at| age::since(at, now));
        table.row([
            spec.name.clone(),
            spec.service.clone(),
            spec.image.clone(),
            spec.grant().verbs(),
            spec.issuer.clone(),
            spec.project_id.to_string(),
            format!("{} {}", spec.ref_type, spec.ref_name),
            used,
            binding.by.to_string(),
        ]);
    }
    table
}

/// `deploy-binding inspect`
pub fn binding(binding: &Binding, now: ClusterTime) -> String {
    let spec = &binding.spec;
    let job_project = spec.job_project_id.map_or_else(|| "the same".to_owned(), |id| id.to_string());
    let used = binding.used.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age::since(at, now)));
    [
        format!("name:         {}", spec.name),
        format!("service:      {}", spec.service),
        format!("images:       {}", spec.image),
        format!("allows:       {}", spec.grant().verbs()),
        format!("issuer:       {}", spec.issuer),
        format!("project:      {}, its job of {job_project}", spec.project_id),
        format!("ref:          protected {} {}", spec.ref_type, spec.ref_name),
        format!("environment:  {}", spec.environment.as_deref().unwrap_or("any")),
        format!("made:         {} by {}", age::date(binding.created), binding.by),
        format!("last use:     {used}"),
    ]
    .join("\n")
}
