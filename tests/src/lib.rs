//! The laboratory: real engines, real hosts in network namespaces, real daemons, and ways to hurt each of them.
//!
//! In: root on a Linux machine with Debian's packages. Out: [`Lab`](hosts::Lab), N hosts on one switch, each with an
//! engine of its own; [`Engine`](engine::Engine), what a test may do to a Docker Engine; [`Process`](process::Process),
//! a daemon with its log and its signals;
//! [`Cluster`](cluster::Cluster), managers, agents and an operator; [`image`], the mimic as an image with the same id on every engine;
//! [`Workload`](workload::Workload), clients that write and read meanwhile, with a [`history`] that is checked.
//! [`Load`](load::Load), clients of a service at a fixed rate. [`Registry`](registry::Registry), a registry of images.
//! [`Issuer`](issuer::Issuer), an issuer of ID tokens; [`wrong_tokens`], those that must let nobody in.
//! [`Directory`](directory::Directory), a directory of people and groups.
//!
//! A host is a PID, mount, UTS and network namespace. Its first process ends when the test process ends, however that
//! ends, and takes every daemon and container of the host with it, so a killed test leaves nothing that runs. Nothing
//! here touches the root network namespace or an engine that it did not start (except [`engine::system`], which says so).
//!
//! [`trust`], the security model tried from outside: who may ask what, attacks, and values that must lie nowhere.
//! [`client`], the control API without a process a call.
//!
//! [`mesh`], a mesh process without its agent. [`Proxy`](proxy::Proxy), [`Shim`](shim::Shim) and [`SmallDisk`](small_disk::SmallDisk) hurt a link, a clock and a disk.
//!
//! Read in this order: [`require`], [`hosts`], [`engine`], [`image`], [`process`], [`cluster`], [`workload`], then [`wait`] and [`command`].

pub mod binaries;
pub mod client;
pub mod cluster;
pub mod command;
pub mod directory;
pub mod engine;
pub mod history;
pub mod hosts;
pub mod http;
pub mod image;
pub mod issuer;
pub mod load;
mod login_page;
pub mod meanwhile;
pub mod mesh;
pub mod packages;
pub mod process;
pub mod proxy;
mod reaper;
pub mod registry;
pub mod require;
pub mod shim;
pub mod small_disk;
pub mod trust;
pub mod wait;
pub mod workload;
pub mod wrong_tokens;
