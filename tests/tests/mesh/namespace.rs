//! A network namespace for one test: its thread, the threads that it starts and the programs that it runs are in it.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tests::command::run;

/// Removed when it is dropped.
pub struct Namespace(String);

impl Namespace {
    /// Makes one and moves this thread into it for good.
    pub fn enter() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("mesh-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let entrance = File::open(format!("/run/netns/{name}")).unwrap();
        move_into_link_name_space(entrance.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        ip(&["link", "set", "lo", "up"]);
        Self(name)
    }

    /// Gives it an address.
    pub fn address(&self, address: &str) {
        ip(&["address", "add", address, "dev", "lo"]);
    }

    /// Applies rules.
    pub fn nft(&self, rules: &str) {
        run(Command::new("nft").arg(rules)).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(words: &[&str]) {
    run(Command::new("ip").args(words)).unwrap();
}
