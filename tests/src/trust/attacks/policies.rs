//! Declarations that give power over a node, or that a policy forbids, by every way that a declaration comes.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use manager_core::matrix::{IMAGE, cron};
use model::container::{Mount, MountSource};
use model::request::{Request, Response};
use model::service::ServiceSpec;

use crate::trust::answer::Answer;
use crate::trust::site::Site;
use crate::trust::tally::Tally;

/// Flags of `service create` that take a grant.
pub const POWERS: [(&str, &[&str]); 8] = [
    ("priv", &["--privileged"]),
    ("cap", &["--cap-add", "net_admin"]),
    ("dev", &["--device", "/dev/kvm:r"]),
    ("net", &["--network", "host"]),
    ("pid", &["--pid", "host"]),
    ("opt", &["--security-opt", "seccomp=unconfined"]),
    ("sock", &["--mount", "type=bind,src=//var/run/docker.sock,dst=/s"]),
    ("etc", &["--mount", "type=bind,src=/etc,dst=/host,ro"]),
];

/// The holder under which the admin of `init` is on record.
const ADMIN: &str = "operator admin";
/// What refusals of power say: what it takes, by which rule, and whom to ask.
const POWER: [&str; 3] = ["needs a grant", "by default", "an admin"];

const TEAM: &str = "name = \"mx\"\ncontact = \"mx-it@example.org\"\n[services]\nlabels = { team = \"evader\" }\n\
                    [require]\nimages = [\"registry.example/mx/*\"]\ndigest = true\n[caps]\nreplicas = 3\n";

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    for (name, flags) in POWERS {
        let create = ["service", "create", "--detach", "--name", name];
        let answer = Answer::of_program(&site.say(&[&create[..], flags, &[IMAGE]].concat()));
        tally.tried(format!("create {}", flags.join(" ")), &answer).saying(&POWER).on_record(ADMIN, "create");
    }
    power_by_other_ways(site, tally)?;
    policy(site, tally)
}

/// The same as an update, a job, a cron.
fn power_by_other_ways(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let admin = site.client(&site.cast.first, 0)?;
    for (name, secure) in
        [("privileged", privileged as fn(&mut ServiceSpec)), ("with the engine's socket", with_socket)]
    {
        let view = view(site, "ispyb")?;
        let mut spec = (*view.service.spec).clone();
        secure(&mut spec);
        let expected = view.service.generation;
        let update = Request::UpdateService { service: "ispyb".into(), expected, spec: spec.into() };
        let mut job = ServiceSpec { name: "once".into(), ..(*cron("mx").job).clone() };
        secure(&mut job);
        let mut nightly = (*cron("mx")).clone();
        let mut inner = (*nightly.job).clone();
        secure(&mut inner);
        nightly.job = Arc::new(inner);
        for (way, verb, request) in [
            ("update", "update", update),
            ("job", "create", Request::CreateService(job.into())),
            ("cron", "set", Request::SetCron(nightly.into())),
        ] {
            tally
                .tried(format!("{way} {name}"), &site.ask(&admin, &request))
                .saying(&POWER)
                .on_record(ADMIN, verb);
        }
    }
    Ok(())
}

fn privileged(spec: &mut ServiceSpec) {
    spec.template.container.security.privileged = true;
}

fn with_socket(spec: &mut ServiceSpec) {
    let source = MountSource::Bind("//var/run/docker.sock".into());
    let mount = Mount { source, target: "/s".into(), read_only: true };
    spec.template.container.mounts.push(mount);
}

/// A policy that comes after the service: nothing new leads past it, and no way back.
fn policy(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let old = "registry.example/mx/evader:1";
    let flags = ["--name", "evader", "--label", "team=evader", "--replicas", "0", "--detach"];
    site.done(&[&["service", "create"][..], &flags, &[old]].concat())?;
    site.done(&["deploy", "evader", "--image", IMAGE, "--detach"])?;
    let set = site.cluster.ctl().say_to(&["policy", "set", "--file", "-"], TEAM);
    ensure!(set.code == 0, "{set:?}");
    let px = IMAGE.replace("/mx/", "/px/");
    let attacks: [(&[&str], &[&str], &str); 6] = [
        (&["service", "update", "evader", "--detach", "--image", old], &["require.digest"], "update"),
        (&["deploy", "evader", "--detach", "--image", old], &["require.digest"], "deploy"),
        (&["deploy", "evader", "--detach", "--image", &px], &["require.images"], "deploy"),
        (&["service", "rollback", "evader", "--detach"], &["require.digest"], "roll back"),
        (&["scale", "evader=4", "--detach"], &["caps.replicas", "at most 3"], "scale"),
        (
            &["service", "create", "--name", "evader2", "--label", "team=evader", "--detach", old],
            &["require.digest"],
            "create",
        ),
    ];
    for (args, says, verb) in attacks {
        let says = [says, &["policy \"mx\"", "mx-it@example.org"]].concat();
        let answer = Answer::of_program(&site.say(args));
        tally.tried(args.join(" "), &answer).saying(&says).on_record(ADMIN, verb);
    }
    relabelled(site, old, tally)?;
    site.done(&["policy", "rm", "mx"])?;
    site.done(&["service", "rm", "evader", "--detach"])
}

/// Out of the policy's labels and past its rule in one change.
fn relabelled(site: &Site<'_>, image: &str, tally: &mut Tally) -> Result<()> {
    let view = view(site, "evader")?;
    let mut spec = (*view.service.spec).clone();
    spec.labels.clear();
    spec.template.container.image = image.into();
    let request = Request::UpdateService {
        service: "evader".into(),
        expected: view.service.generation,
        spec: spec.into(),
    };
    let answer = site.ask(&site.client(&site.cast.first, 0)?, &request);
    tally
        .tried("update without the policy's label", &answer)
        .saying(&["require.digest"])
        .on_record(ADMIN, "update");
    Ok(())
}

fn view(site: &Site<'_>, name: &str) -> Result<Box<model::request::ServiceView>> {
    match site.admin(&Request::GetService(name.into()))? {
        Response::Service(view) => Ok(view),
        _ => bail!("no service {name}"),
    }
}
