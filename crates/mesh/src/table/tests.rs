use model::route::{NetworkAddress, RouteTable};

use super::*;
use crate::control::LocalTask;

const NETWORK: NetworkId = NetworkId(5);

fn seal(service: ServiceId, task: TaskId) -> String {
    format!("{:08x}{:08x}", service.0, task.0)
}

fn compile(services: Vec<ServiceRoute>) -> (Table, Vec<String>) {
    let network =
        NetworkRoute { network: NETWORK, name: "back".into(), base: Ipv4Addr::new(10, 20, 0, 0), number: 1 };
    let table = RouteTable { ingress: true, services, networks: vec![network], ..RouteTable::default() };
    let locals = vec![LocalTask { task: TaskId(1), address: Ipv4Addr::new(10, 20, 1, 2) }];
    Table::compile(&MeshConfig { table, locals, listen: None }, &seal)
}

fn service(id: u64, ports: Vec<IngressPort>) -> ServiceRoute {
    let endpoint = |task: u64| Endpoint {
        task: TaskId(task),
        node: NodeId(task),
        addresses: vec![NetworkAddress { network: NETWORK, address: Ipv4Addr::new(10, 20, task as u8, 2) }],
    };
    ServiceRoute {
        service: ServiceId(id),
        name: format!("s{id}"),
        addresses: vec![NetworkAddress { network: NETWORK, address: Ipv4Addr::new(10, 20, 255, id as u8) }],
        ports,
        endpoints: vec![endpoint(1), endpoint(2)],
    }
}

fn http(hosts: &[&str], path: &str) -> IngressPort {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let settings = HttpPort { hosts, path: path.to_owned(), ..HttpPort::default() };
    IngressPort { published: 80, target: 8080, http: Some(settings), proxy_protocol: false }
}

fn tcp() -> IngressPort {
    IngressPort { published: 80, target: 8080, http: None, proxy_protocol: false }
}

fn found(table: &Table, host: &str, path: &str) -> Option<u64> {
    let Port::Http(routes) = &table.ports[&80] else { panic!("not HTTP") };
    routes.find(host, path).map(|route| route.service.id.0)
}

#[test]
fn the_longest_path_wins() {
    let (table, problems) = compile(vec![
        service(1, vec![http(&[], "/")]),
        service(2, vec![http(&[], "/ispyb/rest")]),
        service(3, vec![http(&[], "/ispyb")]),
    ]);
    assert_eq!(problems, [""; 0]);
    let expected = [("/", 1), ("/ispyb", 3), ("/ispybx", 1), ("/ispyb/rest/1", 2), ("/ispyb/res", 3)];
    for (path, id) in expected {
        assert_eq!(found(&table, "any", path), Some(id), "{path}");
    }
}

#[test]
fn a_named_host_is_more_than_a_long_path() {
    let (table, _) = compile(vec![
        service(1, vec![http(&[], "/ispyb")]),
        service(2, vec![http(&["*.example.org"], "/")]),
        service(3, vec![http(&["www.example.org"], "/")]),
    ]);
    assert_eq!(found(&table, "www.example.org", "/ispyb"), Some(3));
    assert_eq!(found(&table, "x.example.org", "/ispyb"), Some(2));
    assert_eq!(found(&table, "elsewhere", "/ispyb"), Some(1));
    assert_eq!(found(&table, "elsewhere", "/"), None);
}

#[test]
fn of_two_claims_to_the_same_the_first_has_it_and_the_other_is_a_problem() {
    let (table, problems) =
        compile(vec![service(1, vec![http(&[], "/a")]), service(2, vec![http(&[], "/a")])]);
    assert_eq!(problems, ["port 80 of s2: s1 has the same host and path"]);
    assert_eq!(found(&table, "any", "/a"), Some(1));
    let (_, problems) = compile(vec![service(1, vec![tcp()]), service(2, vec![tcp()])]);
    assert_eq!(problems, ["port 80 of s2: taken by s1"]);
    let (_, problems) = compile(vec![service(1, vec![http(&[], "/")]), service(2, vec![tcp()])]);
    assert_eq!(problems, ["port 80 of s2: another service has HTTP there"]);
}

#[test]
fn a_virtual_address_is_its_service_and_a_container_its_replica_for_askers_of_the_network() {
    let (table, _) = compile(vec![service(7, vec![])]);
    let inside = Ipv4Addr::new(10, 20, 1, 9);
    let service = table.at_address(Ipv4Addr::new(10, 20, 255, 7), inside).unwrap();
    assert_eq!((service.id, service.endpoints.len()), (ServiceId(7), 2));
    let container = table.at_address(Ipv4Addr::new(10, 20, 2, 2), inside).unwrap();
    assert_eq!(container.endpoints.iter().map(|r| r.task).collect::<Vec<_>>(), [TaskId(2)]);
    assert!(table.at_address(Ipv4Addr::new(10, 20, 255, 7), Ipv4Addr::new(10, 21, 1, 9)).is_none());
    assert!(table.at_address(Ipv4Addr::new(10, 20, 255, 8), inside).is_none());
}

#[test]
fn a_task_is_reached_here_or_through_its_node() {
    let (table, _) = compile(vec![service(1, vec![])]);
    let service = table.at_address(Ipv4Addr::new(10, 20, 255, 1), Ipv4Addr::new(10, 20, 1, 9)).unwrap();
    let reach = |index: usize, own| table.reach(&service.endpoints[index], NodeId(own));
    assert_eq!(reach(0, 1), Some(Reach::Local(Ipv4Addr::new(10, 20, 1, 2))));
    assert_eq!(reach(1, 1), Some(Reach::Remote(NodeId(2))));
    assert_eq!(reach(1, 2), None, "its container is not there yet");
}

#[test]
fn a_node_without_ingress_publishes_nothing() {
    let table = RouteTable { services: vec![service(1, vec![tcp()])], ..RouteTable::default() };
    let (table, _) = Table::compile(&MeshConfig { table, ..MeshConfig::default() }, &seal);
    assert!(table.ports.is_empty());
    assert_eq!(table.destinations().len(), 2);
}

#[test]
fn a_cookie_names_a_replica_only_as_long_as_it_takes_requests() {
    let mut route = service(1, vec![tcp()]);
    let (table, _) = compile(vec![route.clone()]);
    let Port::Tcp(port) = &table.ports[&80] else { panic!("not TCP") };
    let opaque = port.service.endpoints[1].opaque.clone();
    assert_eq!(port.service.named(&opaque).map(|replica| replica.task), Some(TaskId(2)));
    route.endpoints.pop();
    let (table, _) = compile(vec![route]);
    let Port::Tcp(port) = &table.ports[&80] else { panic!("not TCP") };
    assert_eq!(port.service.named(&opaque), None);
}
