//! What was granted reaches the engine as it was declared, what always holds is there, and a link leads nowhere that was not granted.

use std::os::unix::fs::symlink;

use tests::image::MIMIC_1;

use super::{PATIENCE, Site};

#[test]
fn granted_power_is_what_the_container_has_and_nothing_beside_it() {
    let Some(site) = Site::start("granted power") else { return };
    site.ok(&[
        "policy",
        "set",
        "power",
        "--service",
        "strong",
        "--grant-cap",
        "SYS_TIME",
        "--grant-device",
        "/dev/null",
        "--grant-pid-host",
        "--grant-bind",
        "/etc:ro",
    ]);
    site.create(
        "strong",
        1,
        &[
            "--cap-add",
            "sys_time",
            "--cap-drop",
            "NET_RAW",
            "--device",
            "/dev/null:/dev/nothing:r",
            "--pid",
            "host",
            "--mount",
            "type=bind,src=/etc,dst=/host,ro",
            MIMIC_1,
        ],
    );
    site.create("plain", 1, &[MIMIC_1]);
    let always = [
        ("{{index .HostConfig.SecurityOpt 0}}", "no-new-privileges"),
        ("{{.HostConfig.PidsLimit}}", "4096"),
        ("{{index .HostConfig.LogConfig.Config \"max-size\"}}", "10485760"),
        ("{{.HostConfig.Privileged}}", "false"),
        ("{{.HostConfig.RestartPolicy.Name}}", "no"),
    ];
    let strong = [
        ("{{range .HostConfig.CapAdd}}{{.}} {{end}}", "SYS_TIME"),
        ("{{range .HostConfig.CapDrop}}{{.}} {{end}}", "NET_RAW"),
        (
            "{{range .HostConfig.Devices}}{{.PathOnHost}} {{.PathInContainer}} {{.CgroupPermissions}}{{end}}",
            "/dev/null /dev/nothing r",
        ),
        ("{{.HostConfig.PidMode}}", "host"),
    ];
    let plain = [("{{range .HostConfig.CapAdd}}{{.}} {{end}}", ""), ("{{.HostConfig.PidMode}}", "")];
    for (service, own) in [("strong", &strong[..]), ("plain", &plain[..])] {
        let container = site.only(service);
        for (template, wanted) in always.iter().chain(own) {
            let found = site.node().engine().inspect(&container.id, template).expect("an object");
            assert_eq!(found.trim().trim_start_matches("CAP_"), *wanted, "{service}: {template}");
        }
    }
}

#[test]
fn link_to_a_place_that_was_not_granted_is_refused_by_the_node() {
    let Some(site) = Site::start("links") else { return };
    let data = site.host().disk().join("links");
    std::fs::create_dir_all(data.join("good")).expect("a directory");
    symlink("/etc", data.join("evil")).expect("a link");
    symlink(data.join("good"), data.join("fine")).expect("a link");
    let mount = |name: &str| format!("type=bind,src={},dst=/data", data.join(name).display());
    site.create("fine", 1, &["--mount", &mount("fine"), MIMIC_1]);
    site.declare("evil", &["--mount", &mount("evil"), MIMIC_1]);
    let said = site.cluster.ask("the node to refuse it", PATIENCE, || {
        let tasks = site.cluster.history("evil").ok()?;
        tasks.iter().map(|task| task.message.clone()).find(|message| message.contains("leads to /etc"))
    });
    assert!(said.expect("a reason").contains("with a grant for it"));
    assert!(site.running("evil").is_empty());
}
