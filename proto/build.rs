//! Compiles the service definitions with protox, so that no protoc is needed.

#[cfg(feature = "services")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::{env, path::PathBuf};

    let files = ["orch/v1/control.proto", "orch/v1/agent.proto", "orch/v1/raft.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let set = protox::compile(files, [&root])?;
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}

#[cfg(not(feature = "services"))]
fn main() {}
