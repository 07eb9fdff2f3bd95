//! What a manager should not say: each message, mutated, into an agent that has work. It is done or refused; nothing
//! panics, and no container is stopped by a message that does not pass the fence.

mod world;

use std::time::Duration;

use fuzz::Fuzz;
use model::{
    id::TaskId,
    session::{ManagerAddress, ManagerMessage},
};
use proto::codec::{decode, encode};
use world::{World, assignment};

const LIFE: u32 = 64;

fn working() -> World {
    let mut world = World::new(1);
    for task in 1..=3 {
        world.desired.insert(TaskId(task), assignment(task));
    }
    world.engine_up();
    world.connect();
    world
}

fn welcome_and_set(world: &mut World) {
    world.welcome();
    world.assign();
    world.run();
}

#[test]
fn fuzz_manager_messages() {
    let mut world = working();
    welcome_and_set(&mut world);
    let mut left = LIFE;
    let said = [
        ManagerMessage::Welcome {
            protocol: 1,
            fence: world.fence,
            heartbeat: Duration::from_secs(1),
            managers: vec![ManagerAddress { id: model::id::MemberId(2), address: "m2:1".into() }],
        },
        ManagerMessage::Redirect { leader: None, managers: Vec::new() },
        ManagerMessage::HeartbeatAck { number: 7 },
        ManagerMessage::Managers(vec![ManagerAddress { id: model::id::MemberId(3), address: "m3:1".into() }]),
        ManagerMessage::Assign(world.whole_set()),
    ];
    let samples = said.iter().map(|message| encode(message).to_vec());
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "manager").samples(samples).run(|input| {
        let message = match decode::<ManagerMessage>(input) {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        if left == 0 || world.connection.is_none() {
            (world, left) = (working(), LIFE);
            welcome_and_set(&mut world);
        }
        left -= 1;
        world.log.clear();
        world.say(message);
        world.run();
        world.advance(Duration::from_millis(100));
        let did: Vec<String> = world.log.iter().map(|action| format!("{action:?}")).collect();
        let heads = did.iter().map(|text| text.split(['{', '(']).next().unwrap_or_default());
        heads.collect()
    });
}
