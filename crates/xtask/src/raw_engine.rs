//! An engine's own speed: its API without any client library in between, for floors.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tests::{engine::Engine, image::MIMIC_1};

/// The engine's API without any client library in between.
pub struct Raw {
    socket: PathBuf,
}

impl Raw {
    /// This engine.
    pub fn of(engine: &Engine) -> Self {
        Self { socket: engine.socket().to_owned() }
    }

    /// What the engine needs for a container like ours.
    ///
    /// # Errors
    /// It refuses, or is not there; as with every call here.
    pub fn create_and_start(&self, name: &str) -> Result<Duration> {
        let log = r#""LogConfig":{"Type":"json-file","Config":{"max-size":"10485760","max-file":"3"}}"#;
        let body = format!(r#"{{"Image":"{MIMIC_1}","HostConfig":{{{log},"PidsLimit":4096}}}}"#);
        let begun = Instant::now();
        self.ask("POST", &format!("/containers/create?name={name}"), &body)?;
        self.ask("POST", &format!("/containers/{name}/start"), "")?;
        Ok(begun.elapsed())
    }

    /// What the engine needs to kill one and to start the next.
    ///
    /// # Errors
    /// As [`Raw::create_and_start`].
    pub fn replace(&self, old: &str, new: &str) -> Result<Duration> {
        let begun = Instant::now();
        self.kill(old)?;
        self.create_and_start(new)?;
        Ok(begun.elapsed())
    }

    /// What the engine needs to stop one, as it is asked to, and to start the next.
    ///
    /// # Errors
    /// As [`Raw::create_and_start`].
    pub fn renew(&self, old: &str, new: &str) -> Result<Duration> {
        let begun = Instant::now();
        self.ask("POST", &format!("/containers/{old}/stop?t=10"), "")?;
        self.create_and_start(new)?;
        Ok(begun.elapsed())
    }

    /// Kills a container.
    ///
    /// # Errors
    /// As [`Raw::create_and_start`].
    pub fn kill(&self, name: &str) -> Result<()> {
        self.ask("POST", &format!("/containers/{name}/kill"), "").map(drop)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// As [`Raw::create_and_start`].
    pub fn remove(&self, name: &str) -> Result<()> {
        self.ask("DELETE", &format!("/containers/{name}?force=1"), "").map(drop)
    }

    /// The container of a replica.
    ///
    /// # Errors
    /// There is none.
    pub fn container_of(&self, service: &str, replica: u32) -> Result<String> {
        let filter = format!(
            "%7B%22label%22%3A%5B%22orch.service.name%3D{service}%22%2C%22orch.slot%3D{replica}%22%5D%7D"
        );
        let answer = self.ask("GET", &format!("/containers/json?filters={filter}"), "")?;
        let list: serde_json::Value = serde_json::from_str(&answer)?;
        list[0]["Id"]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no container of replica {replica}"))
    }

    /// One request on a connection of its own, HTTP/1.0 so that the answer ends with the connection.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = UnixStream::connect(Path::new(&self.socket))?;
        let head = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(
            head.split(' ').nth(1).is_some_and(|code| code.starts_with('2')),
            "{method} {path}: {answer}"
        );
        Ok(body.to_owned())
    }
}
