//! Specs that this node cannot run, each with its reason; and what a spec asks for, as the engine has it.

use std::net::TcpListener;

use tests::image::MIMIC_1;

use super::{PATIENCE, Site};

#[test]
fn image_port_and_mount_that_are_not_there_are_named() {
    let Some(site) = Site::start("bad specs") else { return };
    let address = site.host().address();
    let _taken =
        site.host().within(|| TcpListener::bind((address, 8099))).expect("the host").expect("a free port");
    let cases: [(&str, &[&str], &[&str]); 3] = [
        ("noimage", &["--pull", "never", "orch/nothing:9"], &["orch/nothing:9"]),
        ("noport", &["--publish", "published=8099,target=8080,mode=host", MIMIC_1], &["8099"]),
        ("nomount", &["--mount", "type=bind,src=/nowhere/at/all,dst=/data", MIMIC_1], &["/nowhere/at/all"]),
    ];
    for (name, flags, words) in cases {
        let mut args = vec!["service", "create", "--name", name, "--detach"];
        args.extend(flags);
        site.ok(&args);
        let said = site.cluster.ask(&format!("{name} to say why"), PATIENCE, || {
            let tasks = site.cluster.history(name).ok()?;
            let told = tasks.iter().find(|task| words.iter().all(|word| task.message.contains(word)))?;
            Some(told.message.clone())
        });
        let said = said.unwrap_or_else(|error| panic!("{error:#}\n{:#?}", site.cluster.history(name)));
        println!("{name}: {said}");
        // Between two tries there is nothing to say.
        site.cluster
            .ask(&format!("why {name}"), PATIENCE, || {
                let why = site.cluster.ctl().say(&["why", name]).out;
                words.iter().all(|word| why.contains(word)).then_some(())
            })
            .expect("a reason");
        assert!(site.running(name).is_empty());
    }
    // The node is as good as before.
    site.create("fine", 1, &[]);
}

#[test]
fn spec_reaches_the_engine_as_it_was_written() {
    let Some(site) = Site::start("a full spec") else { return };
    let data = site.host().disk().join("data");
    std::fs::create_dir_all(&data).expect("a directory");
    let mount = format!("type=bind,src={},dst=/data,ro", data.display());
    site.create(
        "full",
        1,
        &[
            "--env",
            "A=1",
            "--hostname",
            "{{.Service.Name}}-{{.Task.Slot}}",
            "--limit-memory",
            "128m",
            "--limit-cpu",
            "0.5",
            "--limit-pids",
            "50",
            "--mount",
            &mount,
            "--mount",
            "type=volume,src=state,dst=/state",
            "--tmpfs",
            "/scratch:size=1m",
            "--publish",
            "published=8088,target=8080,mode=host",
            "--ulimit",
            "nofile=512:1024",
            "--stop-signal",
            "SIGINT",
            "--stop-grace-period",
            "3s",
            "--read-only",
            "--init",
            "--user",
            "1000:1000",
            "--container-label",
            "team=mx",
            MIMIC_1,
        ],
    );
    let container = site.only("full");
    let engine = site.node().engine();
    let inspect = |template: &str| engine.inspect(&container.id, template).expect("an object");
    let expected = [
        ("{{.Config.Hostname}}", "full-1"),
        ("{{.HostConfig.Memory}}", "134217728"),
        ("{{.HostConfig.NanoCpus}}", "500000000"),
        ("{{.HostConfig.PidsLimit}}", "50"),
        ("{{.HostConfig.ReadonlyRootfs}}", "true"),
        ("{{.HostConfig.Init}}", "true"),
        ("{{.Config.User}}", "1000:1000"),
        ("{{.Config.StopSignal}}", "SIGINT"),
        ("{{.HostConfig.RestartPolicy.Name}}", "no"),
        ("{{index .Config.Labels \"team\"}}", "mx"),
        ("{{index .Config.Labels \"orch.service.name\"}}", "full"),
        ("{{(index (index .HostConfig.PortBindings \"8080/tcp\") 0).HostPort}}", "8088"),
        ("{{range .HostConfig.Ulimits}}{{.Name}} {{.Soft}} {{.Hard}}{{end}}", "nofile 512 1024"),
        ("{{range .HostConfig.SecurityOpt}}{{.}} {{end}}", "no-new-privileges"),
    ];
    for (template, wanted) in expected {
        let found = inspect(template);
        assert!(found == wanted || found.trim().starts_with(wanted), "{template}: {found:?}, not {wanted:?}");
    }
    assert!(inspect("{{range .Config.Env}}{{.}} {{end}}").contains("A=1"));
    let mounts = inspect("{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}");
    assert!(mounts.contains("bind:/data:false") && mounts.contains("volume:/state:true"), "{mounts}");
    let address = site.host().address();
    let answer = site.host().get((address, 8088), "/version").expect("the published port answers");
    assert!(answer.body.contains("version"), "{answer:?}");
}
