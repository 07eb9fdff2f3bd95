//! A small file system of its own under a daemon's data directory, to be filled.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{call, run};
use crate::hosts::Host;
use crate::packages;

const BALLAST: &str = "ballast";

/// An ext4 on a loop file, mounted on one host over a directory that had contents.
#[derive(Debug)]
pub struct SmallDisk {
    image: PathBuf,
    at: PathBuf,
}

impl SmallDisk {
    /// Makes it and moves the contents of `at` onto it. Nobody may use these.
    ///
    /// # Errors
    /// Not root, no mkfs.ext4, or no loop device.
    pub fn under(host: &Host, at: &Path, bytes: u64) -> Result<SmallDisk> {
        packages::ensure(&packages::DISKS)?;
        let image = host.disk().join("small.ext4");
        std::fs::File::create(&image)?.set_len(bytes)?;
        call("mkfs.ext4", &["-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        let former = at.with_extension("former");
        std::fs::rename(at, &former).with_context(|| at.display().to_string())?;
        std::fs::create_dir(at)?;
        let disk = SmallDisk { image, at: at.to_owned() };
        disk.mount(host)?;
        run(host.command("cp").arg("-a").arg(former.join(".")).arg(at))?;
        std::fs::remove_dir_all(&former)?;
        Ok(disk)
    }

    /// Mounts it on the host, again after the host was off.
    ///
    /// # Errors
    /// It is mounted, or damaged.
    pub fn mount(&self, host: &Host) -> Result<()> {
        run(host.command("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at)).map(drop)
    }

    /// Takes all room that is left.
    ///
    /// # Errors
    /// It is not mounted.
    pub fn fill(&self, host: &Host) -> Result<()> {
        // dd ends with an error when nothing is left, which is what is wanted.
        let ballast = format!("of={}", self.at.join(BALLAST).display());
        let mut dd = host.command("dd");
        dd.args(["if=/dev/zero", "bs=64k", "conv=fsync", "status=none"]).arg(ballast);
        crate::command::finish(&mut dd).map(drop)
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// It is not mounted.
    pub fn empty(&self, host: &Host) -> Result<()> {
        run(host.command("rm").arg("-f").arg(self.at.join(BALLAST))).map(drop)
    }
}
