//! A real JVM that asks a name once and keeps the address for ever, as application servers do.
//!
//! Its image is made of this machine's JDK: a runtime with the base module alone, the libraries that it is linked with, and one class.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use tests::{
    cluster::{Cluster, PATIENCE},
    command::{call, run},
    wait,
};

use super::{Beside, NETWORK, SERVICE};

const IMAGE: &str = "orch/jvm:1";
const CLIENT: &str = "jvm";
const SOURCE: &str = include_str!("Asks.java");

/// Whether this machine has what the image is made of.
pub fn can_be_made() -> bool {
    ["javac", "jlink"].iter().all(|tool| call(tool, &["--version"]).is_ok())
}

/// A JVM that has begun to ask.
pub struct Jvm<'a> {
    cluster: &'a Cluster,
}

impl<'a> Jvm<'a> {
    /// Starts one on the first node, and waits until it has been answered.
    ///
    /// # Errors
    /// The image cannot be made, or nobody answers.
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        let node = cluster.node(0);
        let root = image(&cluster.dir().join("jvm"))?;
        let archive = root.with_extension("tar");
        run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."))?;
        let archive = archive.to_str().context("a path in plain letters")?;
        // For ever is a JVM's own word for it.
        let entry = r#"ENTRYPOINT ["/java/bin/java","-Xmx32m","-Dsun.net.inetaddr.ttl=-1","-cp","/","Asks"]"#;
        node.engine().docker(&["import", "--change", entry, archive, IMAGE])?;
        let place = format!("node.hostname=={}", node.name());
        let create = ["service", "create", "--quiet", "--name", CLIENT, "--network", NETWORK, "--constraint"];
        let url = format!("http://{SERVICE}:8080/version");
        cluster.ctl().ok(&[&create[..], &[&place, IMAGE, &url]].concat())?;
        let jvm = Self { cluster };
        wait::until_true("a JVM to be answered", PATIENCE, || {
            jvm.counted().is_ok_and(|(asked, _)| asked > 0)
        })?;
        Ok(jvm)
    }

    /// Ends it, and says what it got.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn end(self) -> Result<Beside> {
        let (asked, failed) = self.counted()?;
        let text = self.cluster.ctl().ok(&["logs", "--no-prefix", CLIENT])?;
        let mut failures: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("failed: ")).map(str::to_owned).collect();
        ensure!(failures.len() >= failed, "{failed} failures, of which {} are told", failures.len());
        failures.truncate(failed);
        self.cluster.ctl().ok(&["service", "rm", CLIENT])?;
        Ok(Beside { what: "requests of a JVM that keeps the name for ever", asked, failures })
    }

    fn counted(&self) -> Result<(usize, usize)> {
        let text = self.cluster.ctl().ok(&["logs", "--no-prefix", "--tail", "50", CLIENT])?;
        let last =
            text.lines().rev().find(|line| line.starts_with("asked ")).context("nothing counted yet")?;
        match last.split(' ').collect::<Vec<_>>()[..] {
            [_, asked, _, failed] => Ok((asked.parse()?, failed.parse()?)),
            _ => bail!("no count: {last}"),
        }
    }
}

/// The image's root, made in `place`.
fn image(place: &Path) -> Result<PathBuf> {
    fs::create_dir_all(place)?;
    let root = place.join("root");
    let source = place.join("Asks.java");
    fs::write(&source, SOURCE)?;
    let java = root.join("java");
    let options = ["--add-modules", "java.base", "--strip-debug", "--no-header-files", "--no-man-pages"];
    run(Command::new("jlink").args(options).arg("--output").arg(&java))?;
    run(Command::new("javac").arg("-d").arg(&root).arg(&source))?;
    for library in libraries(&java)? {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library is in a directory")?)?;
        fs::copy(&library, &to).with_context(|| library.clone())?;
    }
    fs::create_dir_all(root.join("tmp"))?;
    Ok(root)
}

/// What the runtime's programs and libraries are linked with, the loader among it.
fn libraries(java: &Path) -> Result<BTreeSet<String>> {
    let library = java.join("lib");
    let mut binaries = vec![java.join("bin/java"), library.join("server/libjvm.so")];
    for entry in fs::read_dir(&library)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "so") {
            binaries.push(path);
        }
    }
    let mut linked = BTreeSet::new();
    for binary in binaries {
        let text = call("ldd", &[binary.to_str().context("a path in plain letters")?])?;
        let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
        linked.extend(paths.filter(|path| !Path::new(path).starts_with(java)).map(str::to_owned));
    }
    Ok(linked)
}
