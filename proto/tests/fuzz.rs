//! Every kind of object that is stored or sent, from bytes that nobody wrote: refused, or read and written back the same.

use std::fmt::Debug;

use fuzz::Fuzz;
use model::{
    command::{Command, Entry},
    id::{RequestId, ServiceId},
    identity::{Identity, Role},
    request::{ApiError, ErrorCode, Reply, Request, Response},
    service::ServiceSpec,
    session::{AgentMessage, LogFrame, ManagerMessage},
    time::ClusterTime,
    validate::validate_request,
};
use proto::codec::{decode, encode};
use serde::{Serialize, de::DeserializeOwned};

/// What is read is written so that it reads the same; otherwise two managers would see two things in one entry.
fn read<T: DeserializeOwned + Serialize + Debug>(input: &[u8]) -> String {
    match decode::<T>(input) {
        Ok(value) => {
            let once = encode(&value);
            let again = decode::<T>(&once).expect("what is written is read");
            assert_eq!(encode(&again), once, "{value:?}");
            format!("{value:?}").chars().filter(|letter| letter.is_alphabetic()).take(24).collect()
        }
        Err(error) => error.to_string(),
    }
}

fn spec() -> ServiceSpec {
    let mut spec = ServiceSpec { name: "web".into(), ..ServiceSpec::default() };
    spec.template.container.image = "app:1".into();
    spec.template.container.env.insert("A".into(), "b".into());
    spec.labels.insert("team".into(), "mx".into());
    spec
}

#[test]
fn fuzz_objects() {
    let create = Command::CreateService { id: ServiceId(7), spec: spec().into() };
    let ann = Identity::Operator { name: "ann".into(), role: Role::Admin };
    let entry = Entry {
        at: ClusterTime(5),
        request: Some(RequestId(3)),
        actor: ann,
        command: create,
        origin: Default::default(),
    };
    let reply = Reply { response: Response::Services(Vec::new()), index: 4, stale: true };
    let samples = [
        encode(&spec()),
        encode(&entry),
        encode(&reply),
        encode(&ApiError::new(ErrorCode::Conflict, "no")),
        encode(&Request::GetService("web".into())),
        encode(&AgentMessage::NeedFullSet),
        encode(&ManagerMessage::HeartbeatAck { number: 3 }),
        encode(&LogFrame::End(None)),
    ];
    let samples = samples.iter().map(|bytes| bytes.to_vec());
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "object").samples(samples).run(|input| {
        [
            read::<ServiceSpec>(input),
            read::<Entry>(input),
            read::<Reply>(input),
            read::<ApiError>(input),
            read::<Request>(input),
            read::<AgentMessage>(input),
            read::<ManagerMessage>(input),
            read::<LogFrame>(input),
        ]
        .concat()
    });
}

#[test]
fn fuzz_specs() {
    let samples = [encode(&spec()).to_vec(), encode(&ServiceSpec::default()).to_vec()];
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "spec").samples(samples).run(|input| {
        match decode::<ServiceSpec>(input) {
            Ok(spec) => {
                let problems = validate_request(&Request::CreateService(spec.into()));
                problems.iter().map(|problem| problem.path.as_str()).collect()
            }
            Err(error) => error.to_string(),
        }
    });
}

/// An image's name reaches the engine as the user wrote it: judged letter by letter.
#[test]
fn fuzz_image_references() {
    let names =
        ["app", "app:1", "registry.example/a/b:1.2", "r:5000/app@sha256:0123456789abcdef", "a//b", "A:b c"];
    let samples = names.map(|name| name.as_bytes().to_vec());
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "image").samples(samples).run(|input| {
        let mut spec = spec();
        spec.template.container.image = String::from_utf8_lossy(input).into_owned();
        let problems = validate_request(&Request::CreateService(spec.into()));
        problems.iter().map(|problem| problem.to_string()).collect()
    });
}
