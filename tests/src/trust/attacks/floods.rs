//! Many connections by who proves nothing, while somebody with a certificate goes on working.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::request::Request;
use rpc::tls::{ClientStream, ClientTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Client, block_on};
use crate::trust::answer::{Answer, Verdict};
use crate::trust::relay::{elsewhere, from};
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

/// More than a manager has places for one address, or for all strangers.
const SILENT: usize = 300;
const STRANGERS: usize = 300;
const DRIPPING: usize = 100;
/// A handshake has 5 s.
const HUNG_UP: Duration = Duration::from_secs(20);
/// What somebody with a certificate asks meanwhile, over a new connection each time.
const CALLS: usize = 10;

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let address: SocketAddr = site.cluster.address(0).parse()?;
    let silent = block_on(silent(address))?;
    served(site, "silent connections", tally)?;
    tally
        .tried(format!("{SILENT} connections of one address that say nothing"), &hung_up(silent)?)
        .silently();
    let dripping = block_on(drip(address))?;
    served(site, "handshakes that drip", tally)?;
    tally.tried(format!("{DRIPPING} handshakes, a byte at a time"), &hung_up(dripping)?).silently();
    let strangers = strangers(site)?;
    served(site, "strangers", tally)?;
    let answer =
        if strangers.len() < STRANGERS { Answer::refused(Verdict::NoHandshake, "") } else { Answer::done() };
    tally.tried(format!("{STRANGERS} connections without a certificate"), &answer).silently();
    drop(strangers);
    guesses(site, tally)
}

/// Somebody with a certificate is answered all the while.
fn served(site: &Site<'_>, during: &str, tally: &mut Tally) -> Result<()> {
    for call in 0..CALLS {
        let answer = site.ask(&site.client(&site.cast.viewer, 0)?, &Request::GetStatus);
        tally.holds(
            &format!("call {call} of a user during {during} is answered: {}", answer.said),
            !answer.refused,
        );
    }
    Ok(())
}

/// The last of them was hung up on.
fn hung_up(mut open: Vec<TcpStream>) -> Result<Answer> {
    let mut last = open.pop().context("a connection")?;
    let mut said = Vec::new();
    // An alert may come before the end.
    let ended = block_on(async { timeout(HUNG_UP, last.read_to_end(&mut said)).await });
    Ok(if ended.is_ok() { Answer::refused(Verdict::NoHandshake, "") } else { Answer::done() })
}

async fn silent(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let source = elsewhere();
    let mut open = Vec::new();
    for _ in 0..SILENT {
        open.push(from(source, address).await?);
    }
    Ok(open)
}

/// A handshake of 16 KiB that comes a byte every 100 ms, for as long as the other side takes it.
async fn drip(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let source = elsewhere();
    let mut open = Vec::new();
    for _ in 0..DRIPPING {
        let stream = from(source, address).await?.into_std()?;
        let mut slow = TcpStream::from_std(stream.try_clone()?)?;
        tokio::spawn(async move {
            let head = [22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb];
            for byte in head.into_iter().chain(std::iter::repeat(0)) {
                if slow.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        open.push(TcpStream::from_std(stream)?);
    }
    Ok(open)
}

/// As many as there are places, and more: those that were not hung up on.
fn strangers(site: &Site<'_>) -> Result<Vec<ClientStream>> {
    let tls = ClientTls::anonymous(&site.authority)?;
    let address = site.cluster.address(0);
    block_on(async {
        let mut dials = JoinSet::new();
        for _ in 0..STRANGERS {
            let (tls, address) = (tls.clone(), address.clone());
            dials.spawn(async move {
                let mut stream = tls.connect(&address).await.ok()?;
                // One too many is hung up on at once, the others wait to be asked.
                let mut said = Vec::new();
                let waits = timeout(Duration::from_secs(3), stream.read_to_end(&mut said)).await.is_err();
                waits.then_some(stream)
            });
        }
        let mut open = Vec::new();
        while let Some(dialled) = dials.join_next().await {
            open.extend(dialled?);
        }
        Ok(open)
    })
}

/// Wrong secrets, as fast as one address can: they take turns, and each is refused.
fn guesses(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let row = manager_core::matrix::row(manager_core::matrix::Kind::Join);
    let pinned = ClientTls::pinned(*site.cast.join_token.fingerprint().as_bytes())?;
    let address = site.elsewhere(0);
    let client = block_on(async { Client::with(&address, pinned) });
    let mut tries = JoinSet::new();
    block_on(async {
        for _ in 0..40 {
            let (client, request) = (client.clone(), row.request.clone());
            tries.spawn(async move { Answer::of(&client.call(&request, CALL).await) });
        }
    });
    served(site, "guesses of secrets", tally)?;
    let answers = block_on(tries.join_all());
    if answers.is_empty() {
        bail!("nothing was guessed");
    }
    let done = answers.iter().find(|answer| !answer.refused).cloned();
    let answer = done.unwrap_or_else(|| answers[0].clone());
    tally
        .tried("40 guesses of a join token's secret at once", &answer)
        .saying(&["not accepted"])
        .on_record("anonymous", "join");
    Ok(())
}
