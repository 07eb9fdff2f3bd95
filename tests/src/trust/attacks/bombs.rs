//! Messages that are too large, too deep or too many of something, from whoever may send them.

use anyhow::Result;
use bytes::Bytes;
use manager_core::matrix::{secret, service};
use model::request::Request;
use model::sealed::Clear;
use model::service::{Mode, ServiceSpec};
use proto::codec;

use crate::client::{Client, block_on, message};
use crate::trust::answer::Answer;
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

const MIB: usize = 1 << 20;

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    raw(site, tally)?;
    declarations(site, tally)?;
    let calm = site.ask(&site.client(&site.cast.viewer, 0)?, &Request::GetStatus);
    tally.holds("a manager answers after all of this", !calm.refused);
    Ok(())
}

/// Bytes that are no request.
fn raw(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let admin = site.client(&site.cast.first, 0)?;
    // One array in another, as an unknown request and inside of a known one.
    let nest = |head: &[u8], depth: usize| {
        Bytes::from([&[codec::FORMAT][..], head, &vec![0x91; depth][..]].concat())
    };
    let in_create = [&[0x81, 0xae][..], b"create-service", &[0x81, 0xa4], b"nest"].concat();
    for (name, request) in [
        ("100,000 arrays in one another", nest(&[], 100_000)),
        ("a declaration with 100,000 arrays in one another", nest(&in_create, 100_000)),
        (
            "a list that says that it has 4 billion elements",
            Bytes::from_static(&[codec::FORMAT, 0xdd, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("a format of the future", Bytes::from_static(&[0xff, 0x80])),
        ("nothing", Bytes::new()),
    ] {
        tally.tried(name, &send(&admin, request)?).saying(&["message"]);
    }
    let large = Bytes::from(vec![0; 5 * MIB]);
    tally.tried("5 MiB", &send(&admin, large)?).saying(&["too large"]);
    let nobody = site.nobody(0)?;
    let answer = send(&nobody, Bytes::from(vec![0; 65 << 10]))?;
    tally.tried("65 KiB without a certificate", &answer).saying(&["without a certificate", "bound"]);
    Ok(())
}

fn send(client: &Client, request: Bytes) -> Result<Answer> {
    let mut call = message(&Request::ListServices, CALL)?;
    call.request = request;
    Ok(Answer::of(&block_on(client.send(call))))
}

/// Declarations that can be read and are refused with what is wrong.
fn declarations(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let admin = site.client(&site.cast.first, 0)?;
    let bomb = |change: &dyn Fn(&mut ServiceSpec)| {
        let mut spec = service("bomb", "mx");
        change(&mut spec);
        Request::CreateService(spec.into())
    };
    let many = |count: usize| (0..count).map(|number| (format!("k{number}"), "v".to_owned()));
    let long = "x".repeat(MIB);
    for (name, says, request) in [
        ("a name of 1 MiB", "name", bomb(&|spec| spec.name = "n".repeat(MIB))),
        ("50,000 labels", "labels", bomb(&|spec| spec.labels.extend(many(50_000)))),
        ("a label of 1 MiB", "labels", bomb(&|spec| drop(spec.labels.insert("l".into(), long.clone())))),
        ("an image of 1 MiB", "image", bomb(&|spec| spec.template.container.image = long.clone())),
        (
            "an environment of 1 MiB",
            "env",
            bomb(&|spec| drop(spec.template.container.env.insert("A".into(), long.clone()))),
        ),
        (
            "a command of 1 MiB",
            "bytes of text",
            bomb(&|spec| spec.template.container.command = vec![long.clone()]),
        ),
        ("4 billion replicas", "replicas", bomb(&|spec| spec.mode = Mode::Replicated(u32::MAX))),
    ] {
        tally.tried(name, &site.ask(&admin, &request)).saying(&[says]).on_record("operator admin", "create");
    }
    let request = Request::CreateItem { spec: secret("bomb", "mx"), value: Clear::new(vec![b'x'; 2 * MIB]) };
    tally
        .tried("a secret of 2 MiB", &site.ask(&admin, &request))
        .saying(&["value"])
        .on_record("operator admin", "create");
    let scales = Request::ScaleServices((0..100_000).map(|number| (format!("s{number}"), 1)).collect());
    tally
        .tried("100,000 scales at once", &site.ask(&admin, &scales))
        .saying(&["at most"])
        .on_record("operator admin", "scale");
    Ok(())
}
