//! `setup`: everything that the demo and the tests need on a machine that has Rust and Debian.

use anyhow::Result;
use tests::image;
use tests::packages::{self, DISKS, ENGINE, NETWORK, REGISTRY};
use tests::{engine, require};

/// Installs packages, starts the machine's engine and loads the mimic. Idempotent.
///
/// # Errors
/// Something is missing and this is not root, or the engine does not start.
pub fn run() -> Result<()> {
    if require::is_root() {
        packages::ensure(&[&ENGINE[..], &NETWORK[..], &DISKS[..], &REGISTRY[..]].concat())?;
        println!("packages   installed");
    } else {
        println!(
            "packages   not touched: not root, so no hosts in namespaces; the engine's tests need root too"
        );
    }
    let engine = engine::system()?;
    println!(
        "engine     {} at {}",
        engine.docker(&["version", "--format", "{{.Server.Version}}"])?,
        engine.url()
    );
    let archive = image::mimic_archive()?;
    engine.load(&archive)?;
    println!("images     {}, {}, {}", image::MIMIC_1, image::MIMIC_2, image::MIMIC_CHECKED);
    println!("archive    {}", archive.display());
    Ok(())
}
