//! Networks, published ports, and the numbers that addresses are made of.

use std::net::Ipv4Addr;

use crate::common::World;
use model::{
    command::{Command, Rejection},
    id::{NetworkId, NodeId, ServiceId},
    network::NetworkSpec,
    route::{HttpPort, IngressPort},
    service::ServiceSpec,
};

fn network(id: u64, name: &str) -> Command {
    let spec = NetworkSpec { name: name.into(), ..NetworkSpec::default() };
    Command::CreateNetwork { id: NetworkId(id), base: Ipv4Addr::new(10, 128 + id as u8, 0, 0), spec }
}

fn create(id: u64, name: &str, change: impl FnOnce(&mut ServiceSpec)) -> Command {
    let mut spec = crate::common::spec(name, "web:1", 1);
    change(&mut spec);
    Command::CreateService { id: ServiceId(id), spec: spec.into() }
}

fn port(published: u16, path: Option<&str>) -> IngressPort {
    let http = path.map(|path| HttpPort { path: path.into(), ..HttpPort::default() });
    IngressPort { published, target: 8080, http, proxy_protocol: false }
}

#[test]
fn a_service_keeps_its_address_for_life_and_a_freed_one_rests() {
    let mut world = World::new();
    world.done(network(1, "shop"));
    let within = |spec: &mut ServiceSpec| spec.template.container.networks.push("shop".into());
    world.done(create(1, "one", within));
    world.done(create(2, "two", within));
    let address = |world: &World, id| world.store.network(NetworkId(1)).unwrap().address_of(ServiceId(id));
    assert_eq!(address(&world, 1), Some(Ipv4Addr::new(10, 129, 255, 1)));
    let two = address(&world, 2);
    world.done(Command::RemoveService { id: ServiceId(1) });
    world.done(create(3, "three", within));
    assert_eq!((address(&world, 1), address(&world, 2)), (None, two));
    assert_eq!(
        address(&world, 3),
        Some(Ipv4Addr::new(10, 129, 255, 3)),
        "names are cached: 1 is not given out at once"
    );
    world.store.check().unwrap();
}

#[test]
fn a_network_goes_only_when_no_service_is_in_it_or_would_be_after_a_rollback() {
    let mut world = World::new();
    world.refused(create(1, "early", |spec| spec.template.container.networks.push("shop".into())));
    world.done(network(1, "shop"));
    assert!(matches!(world.refused(network(2, "shop")), Rejection::Exists { .. }));
    world.done(create(1, "web", |spec| spec.template.container.networks.push("shop".into())));
    world.refused(Command::RemoveNetwork { id: NetworkId(1) });
    let generation = world.store.service(ServiceId(1)).unwrap().generation;
    let spec = crate::common::spec("web", "web:2", 1).into();
    world.done(Command::UpdateService {
        id: ServiceId(1),
        expected: generation,
        spec,
        note: Default::default(),
    });
    let refusal = world.refused(Command::RemoveNetwork { id: NetworkId(1) }).to_string();
    assert!(refusal.contains("rollback"), "{refusal}");
    world.done(Command::RemoveService { id: ServiceId(1) });
    world.done(Command::RemoveNetwork { id: NetworkId(1) });
    world.store.check().unwrap();
}

#[test]
fn two_services_share_a_published_port_only_by_host_or_path() {
    let mut world = World::new();
    world.done(create(1, "web", |spec| spec.ports.push(port(80, Some("/")))));
    let refusal = world.refused(create(2, "tcp", |spec| spec.ports.push(port(80, None)))).to_string();
    assert!(refusal.contains("port 80 is published by service \"web\""), "{refusal}");
    world.refused(create(2, "same", |spec| spec.ports.push(port(80, Some("/")))));
    world.done(create(2, "other", |spec| spec.ports.push(port(80, Some("/other")))));
    world.done(create(3, "else", |spec| spec.ports.push(port(81, None))));
}

#[test]
fn every_node_has_the_lowest_number_that_is_free() {
    let mut world = World::with_nodes(&[1, 2, 3]);
    let number = |world: &World, id| world.store.node(NodeId(id)).unwrap().number;
    assert_eq!([1, 2, 3].map(|id| number(&world, id)), [1, 2, 3]);
    world.done(Command::RemoveNode { id: NodeId(2), force: true });
    world.join(NodeId(9), "h9");
    assert_eq!(number(&world, 9), 2);
    world.store.check().unwrap();
}

#[test]
fn a_rollback_does_without_a_port_that_another_service_has_by_now() {
    let mut world = World::new();
    world.done(create(1, "web", |spec| spec.ports.push(port(80, None))));
    let update = |world: &World, change: &dyn Fn(&mut ServiceSpec)| {
        let service = world.store.service(ServiceId(1)).unwrap();
        let mut spec = (*service.spec).clone();
        change(&mut spec);
        Command::UpdateService {
            id: ServiceId(1),
            expected: service.generation,
            spec: spec.into(),
            note: Default::default(),
        }
    };
    let ports = |world: &World| {
        let service = world.store.service(ServiceId(1)).unwrap();
        service.spec.ports.iter().map(|port| port.published).collect::<Vec<_>>()
    };
    let next = update(&world, &|spec| {
        spec.template.container.image = "web:2".into();
        spec.ports = vec![port(81, None)];
    });
    world.done(next);
    world.done(create(2, "other", |spec| spec.ports.push(port(80, None))));
    world.done(Command::RollbackService { id: ServiceId(1), to: None, note: Default::default() });
    assert_eq!(ports(&world), [81]);
    let alone = update(&world, &|spec| spec.ports = vec![port(82, None)]);
    world.done(alone);
    world.store.check().unwrap();
}
