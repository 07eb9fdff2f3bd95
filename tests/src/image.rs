//! The mimic as an image from scratch, without a registry and without an engine to build it.
//!
//! The archive is written here, byte for byte the same for the same binary, so that every engine that loads it gives
//! the image the same id. `docker import` on each engine would give each a different one, since it stamps the time.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::binaries;
use crate::command::{call, run};

/// Version 1; healthy unless told otherwise.
pub const MIMIC_1: &str = "orch/mimic:1";
/// Differs from version 1 in what `/version` answers and in a label.
pub const MIMIC_2: &str = "orch/mimic:2";
/// Version 1 with a health check in the image. Apart from it, since a check costs a process a second in every
/// container, and a service says its own check in its spec.
pub const MIMIC_CHECKED: &str = "orch/mimic:checked";
/// Version 2 with the same health check.
pub const MIMIC_CHECKED_2: &str = "orch/mimic:checked-2";
/// Ends with 3 before it is ready, and says why.
pub const MIMIC_FAILING: &str = "orch/mimic:failing";
/// Answers its status page with 200 and the text of an exception.
pub const MIMIC_BROKEN: &str = "orch/mimic:broken";

/// The port that it serves.
pub const MIMIC_PORT: u16 = 8080;

/// A second in the engine's nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;

/// One image of the archive: its name and what differs.
struct Variant {
    name: &'static str,
    version: &'static str,
    healthcheck: bool,
    /// A setting that the image brings along.
    setting: Option<&'static str>,
}

const fn plain(name: &'static str, version: &'static str) -> Variant {
    Variant { name, version, healthcheck: false, setting: None }
}

const VARIANTS: [Variant; 6] = [
    plain(MIMIC_1, "1"),
    plain(MIMIC_2, "2"),
    Variant { healthcheck: true, ..plain(MIMIC_CHECKED, "1") },
    Variant { healthcheck: true, ..plain(MIMIC_CHECKED_2, "2") },
    Variant { setting: Some("MIMIC_FAIL_INIT=3"), ..plain(MIMIC_FAILING, "3") },
    Variant { setting: Some("MIMIC_BROKEN=1"), ..plain(MIMIC_BROKEN, "4") },
];

/// The archive with all variants, for `docker load`; built once a process.
///
/// # Errors
/// The mimic does not build, or `tar` or `sha256sum` is missing.
pub fn mimic_archive() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

/// The static binary of the mimic; runs on any Linux of this architecture and in an empty image.
///
/// # Errors
/// It does not build.
pub fn mimic_binary() -> Result<PathBuf> {
    // A target is named so that the flags do not reach build scripts and the shared part of the target directory.
    let host = call("rustc", &["--version", "--verbose"])?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let args = ["--package", "mimic", "--release", "--target", host];
    let built = binaries::build(&args, Some("-C target-feature=+crt-static"))?;
    built.into_iter().next().context("cargo names no program")
}

fn build() -> Result<PathBuf> {
    let binary = mimic_binary()?;
    let images = binary.with_file_name("orch-images");
    let digest = sha256(&binary)?;
    // The name says what is in it, so that a changed list of images is not taken from an old archive.
    let names: Vec<String> = VARIANTS.iter().map(|variant| variant.name.replace(['/', ':'], "-")).collect();
    let archive = images.join(format!("{}.{}.tar", names.join("."), &digest[..16]));
    if archive.is_file() {
        return Ok(archive);
    }
    let work = images.join(format!("work-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&work));
    std::fs::create_dir_all(work.join("root/tmp"))?;
    std::fs::set_permissions(work.join("root/tmp"), Permissions::from_mode(0o1777))?;
    std::fs::create_dir_all(work.join("archive"))?;
    std::fs::copy(&binary, work.join("root/mimic"))?;
    pack(&work.join("root"), &work.join("archive/layer.tar"))?;
    let layer = sha256(&work.join("archive/layer.tar"))?;
    let mut manifest = Vec::new();
    for variant in &VARIANTS {
        let config = work.join("archive/config.json");
        std::fs::write(&config, variant.config(&layer).to_string())?;
        let file = format!("{}.json", sha256(&config)?);
        std::fs::rename(&config, work.join("archive").join(&file))?;
        manifest.push(json!({ "Config": file, "RepoTags": [variant.name], "Layers": ["layer.tar"] }));
    }
    std::fs::write(work.join("archive/manifest.json"), Value::Array(manifest).to_string())?;
    pack(&work.join("archive"), &work.join("images.tar"))?;
    // Renamed in one step: another test process may be looking for it.
    std::fs::rename(work.join("images.tar"), &archive)?;
    std::fs::remove_dir_all(&work)?;
    Ok(archive)
}

impl Variant {
    fn config(&self, layer: &str) -> Value {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let mut environment = vec![format!("MIMIC_VERSION={}", self.version)];
        environment.extend(self.setting.map(str::to_owned));
        let mut config = json!({
            "Entrypoint": ["/mimic"],
            "Cmd": ["serve"],
            "Env": environment,
            "ExposedPorts": { format!("{MIMIC_PORT}/tcp"): {} },
            "Labels": { "org.opencontainers.image.version": self.version },
            "WorkingDir": "/",
        });
        if self.healthcheck {
            config["Healthcheck"] = json!({
                "Test": ["CMD", "/mimic", "check"],
                "Interval": SECOND_NS,
                "Timeout": 2 * SECOND_NS,
                "Retries": 2,
            });
        }
        json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "orch tests" }],
        })
    }
}

/// Packs a directory so that the same contents give the same bytes.
fn pack(directory: &Path, into: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    tar.arg("--create").arg("--file").arg(into).arg("--directory").arg(directory).arg(".");
    run(&mut tar).map(drop)
}

fn sha256(file: &Path) -> Result<String> {
    let line = run(Command::new("sha256sum").arg(file))?;
    line.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}
