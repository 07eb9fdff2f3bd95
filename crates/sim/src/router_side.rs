//! Between agents and their mesh processes; and clients, whose requests go through those. What is decided on a request is decided by
//! the crate `mesh`; here is what a network does to it.

use agent_core::event::Event as Input;
use mesh::{
    balance::Failure,
    retry::{self, Attempt, Body},
    table::Reach,
};
use model::{id::TaskId, session::Seen, time::Instant};

use crate::{
    deployers,
    engine::Container,
    knobs::Weather,
    queue::{MS, Time},
    router::{Passed, Said, Step, UnderWay},
    world::{AgentInput, Event, Phase, World},
};

/// From an agent to its mesh and back.
const SOCKET: Time = MS;
/// A dial that nobody answers is given up.
const DIAL: Time = 300 * MS;

impl World {
    /// An agent says something to its mesh; the first word starts one.
    pub(crate) fn tell_router(&mut self, node: usize, said: Said) {
        let life = self.nodes[node].life();
        self.queue.after(SOCKET, Event::Router { node, life, said });
    }

    pub(crate) fn router_hears(&mut self, node: usize, life: u64, said: Said) {
        if self.nodes[node].life() != life {
            return;
        }
        let router = &mut self.nodes[node].router;
        match said {
            Said::Configure(_) if !router.is_up => self.begin_router(node),
            Said::Configure(config) => {
                let version = config.table.version;
                router.apply(*config);
                router.is_configured = true;
                self.later_agent(node, SOCKET, AgentInput::Core(Input::MeshApplied { version }));
            }
            Said::Drain(_) if !router.is_up => {}
            Said::Drain(task) => {
                if router.gates.drain(task) {
                    self.drained(node, task);
                } else {
                    router.draining.insert(task);
                }
            }
        }
    }

    /// Nothing of a task is under way, and its agent is told so.
    fn drained(&mut self, node: usize, task: TaskId) {
        self.checks.count("tasks drained");
        self.check_drained(node, task);
        self.later_agent(node, SOCKET, AgentInput::Core(Input::MeshDrained { task }));
    }

    fn begin_router(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].router.is_starting, true) {
            let after = self.traffic.dice.millis(20, 200);
            self.queue.after(after, Event::RouterStarts { node });
        }
    }

    pub(crate) fn router_starts(&mut self, node: usize) {
        let router = &mut self.nodes[node].router;
        if !std::mem::take(&mut router.is_starting) || router.is_up {
            return;
        }
        router.start();
        self.greet_agent(node);
    }

    /// An agent and a mesh process that are both there find each other.
    pub(crate) fn greet_agent(&mut self, node: usize) {
        if self.nodes[node].router.is_up {
            self.later_agent(node, SOCKET, AgentInput::Core(Input::MeshUp));
        }
    }

    /// The process ends, with everything that it carried.
    pub(crate) fn crash_router(&mut self, node: usize) {
        if !self.nodes[node].router.is_up {
            return;
        }
        let now = self.now();
        self.trace.fault(now, || format!("n{node} mesh crashes"));
        self.checks.count("mesh processes crashed");
        self.nodes[node].router.crash();
        self.checks.router_gone(node);
        let reason = "it crashed".to_owned();
        self.later_agent(node, SOCKET, AgentInput::Core(Input::MeshDown { reason }));
        if self.nodes[node].process.is_some() {
            self.begin_router(node);
        }
    }

    /// Somebody asks for something, on any node.
    pub(crate) fn client_asks(&mut self) {
        let Some(pause) = self.knobs.traffic_ms else { return };
        let after = self.traffic.dice.millis(pause / 2, pause * 3 / 2);
        self.queue.after(after, Event::ClientAsks);
        let node = self.traffic.dice.below(self.nodes.len());
        let rough = self.knobs.weather == Weather::Rough && self.phase == Phase::Storm;
        if rough && self.traffic.dice.permille(4) {
            return self.crash_router(node);
        }
        let router = &self.nodes[node].router;
        let ports: Vec<u16> = router.table.ports.keys().copied().collect();
        let Some(port) = self.traffic.dice.pick(&ports).copied().filter(|_| router.is_up) else { return };
        let router = (node, router.life);
        if let Some(service) = self.nodes[node].router.service(port) {
            self.nodes[node].router.balancer.budget(service.id).deposit();
        }
        self.traffic.next += 1;
        let id = self.traffic.next;
        self.checks.count("requests of clients");
        self.try_request(id, UnderWay { router, port, tried: Vec::new(), task: TaskId(0), passed: None });
    }

    fn router_time(&self, node: usize) -> Instant {
        self.nodes[node].clock.read(self.queue.now()).mono
    }

    /// The next try, by the routes of the moment.
    fn try_request(&mut self, id: u64, mut request: UnderWay) {
        let node = request.router.0;
        let now = self.router_time(node);
        let random = self.traffic.dice.any();
        let host = &mut self.nodes[node];
        let router = &mut host.router;
        let chosen = router.service(request.port).and_then(|service| {
            let mut tasks = service.endpoints.iter().map(|replica| replica.task);
            let task = router.balancer.choose(&mut tasks, &request.tried, None, now, random)?;
            service.replica(task).cloned()
        });
        let Some(replica) = chosen else { return self.checks.count("requests without a replica") };
        router.balancer.begin(replica.task, now);
        request.task = replica.task;
        let reach = router.table.reach(&replica, host.node);
        let target = match reach {
            Some(Reach::Local(_)) => Some(node),
            Some(Reach::Remote(there)) => self.nodes.iter().position(|host| host.node == there),
            None => None,
        };
        self.traffic.under_way.insert(id, request);
        match target {
            Some(target) if self.can_reach(node, target) => {
                let after = self.leg(node, target);
                self.queue.after(after, Event::Request { id, step: Step::Opens(target) });
            }
            Some(_) => self.later_request(id, DIAL, Step::Opened(Err(Failure::Unreachable))),
            None => self.later_request(id, 0, Step::Opened(Err(Failure::Unreachable))),
        }
    }

    fn can_reach(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.node_host(from), self.node_host(to));
        from == to || !self.network.is_cut(from, to) && !self.network.is_cut(to, from)
    }

    fn leg(&mut self, from: usize, to: usize) -> Time {
        if from == to { 0 } else { self.network.delay(self.node_host(from), self.node_host(to)) }
    }

    fn later_request(&mut self, id: u64, after: Time, step: Step) {
        self.queue.after(after, Event::Request { id, step });
    }

    pub(crate) fn request_goes_on(&mut self, id: u64, step: Step) {
        let Some(mut request) = self.traffic.under_way.remove(&id) else { return };
        let (node, life) = request.router;
        if self.nodes[node].router.life != life || !self.nodes[node].router.is_up {
            // It ended with its router; the other end sees the connection close.
            return self.leave(&request);
        }
        match step {
            Step::Opens(target) => {
                let opened = self.open(target, request.task);
                let outcome = opened.map(|passed| request.passed = Some(passed));
                let after = self.leg(target, node);
                self.traffic.under_way.insert(id, request);
                self.later_request(id, after, Step::Opened(outcome));
            }
            Step::Opened(Err(failure)) => self.failed(id, request, failure),
            Step::Opened(Ok(())) => {
                // The replica may have left while it was dialled.
                if !self.nodes[node].router.table.endpoints.contains(&request.task) {
                    return self.failed(id, request, Failure::Withdrawn);
                }
                let target = request.passed.as_ref().map_or(node, |passed| passed.node);
                let after = self.leg(node, target);
                self.traffic.under_way.insert(id, request);
                self.later_request(id, after, Step::Arrives);
            }
            Step::Arrives if self.is_there(&request) => {
                self.check_rotation(&request);
                let slow = if self.traffic.dice.permille(20) { 4_000 } else { 300 };
                let after = self.traffic.dice.millis(1, slow);
                self.traffic.under_way.insert(id, request);
                self.later_request(id, after, Step::Ends);
            }
            Step::Ends if self.is_there(&request) => {
                self.leave(&request);
                let balancer = &mut self.nodes[node].router.balancer;
                balancer.succeed(request.task);
                balancer.end(request.task);
                self.checks.count("requests answered");
                self.answered(node, &request);
            }
            Step::Arrives | Step::Ends => self.failed(id, request, Failure::Broken),
        }
    }

    /// Some applications answer many requests with an error, and the agent hears of it in time.
    fn answered(&mut self, node: usize, request: &UnderWay) {
        let container = request
            .passed
            .as_ref()
            .and_then(|passed| self.nodes[passed.node].engine.containers.get(&passed.container));
        let fails = container.is_some_and(|container| container.spec.image == deployers::SOUR);
        if !fails || !self.traffic.dice.permille(700) {
            return;
        }
        self.checks.count("requests answered with an error");
        let now = self.router_time(node);
        let balancer = &mut self.nodes[node].router.balancer;
        balancer.answer_error(request.task);
        let seen = balancer.stats(now).into_iter().map(|stats| Seen {
            task: stats.task,
            requests: stats.total,
            failures: stats.failed + stats.errors,
        });
        let seen = seen.filter(|seen| seen.failures > 0).collect();
        self.later_agent(node, SOCKET, AgentInput::Core(Input::MeshSaw(seen)));
    }

    /// A node opens its own tasks and nothing else.
    fn open(&mut self, node: usize, task: TaskId) -> Result<Passed, Failure> {
        let host = &mut self.nodes[node];
        let router = &mut host.router;
        if !router.is_up {
            return Err(Failure::Unreachable);
        }
        if router.table.local(task).is_none() || !router.gates.pass(task) {
            return Err(Failure::Withdrawn);
        }
        let life = router.life;
        let of_task = |container: &&Container| container.labels.is_some_and(|labels| labels.task == task);
        let container = host.engine.live().find(of_task);
        let container = container.and_then(|container| Some((container.id.clone(), container.run()?)));
        match container {
            Some((container, run)) => {
                self.check_passage(node, &container, task);
                Ok(Passed { node, life, container, run })
            }
            None => {
                self.left(node, life, task);
                Err(Failure::Unreachable)
            }
        }
    }

    /// The container that a request was let through to still runs.
    fn is_there(&self, request: &UnderWay) -> bool {
        request.passed.as_ref().is_some_and(|passed| {
            let host = &self.nodes[passed.node];
            let container = host.engine.containers.get(&passed.container);
            let same = host.router.life == passed.life && host.router.is_up;
            same && container.and_then(Container::run) == Some(passed.run)
        })
    }

    fn leave(&mut self, request: &UnderWay) {
        if let Some(passed) = &request.passed {
            let (node, life) = (passed.node, passed.life);
            self.left(node, life, request.task);
        }
    }

    fn left(&mut self, node: usize, life: u64, task: TaskId) {
        let router = &mut self.nodes[node].router;
        if router.life == life && router.gates.leave(task) && router.draining.remove(&task) {
            self.drained(node, task);
        }
    }

    /// A try came to nothing; another replica is asked if that may be.
    fn failed(&mut self, id: u64, mut request: UnderWay, failure: Failure) {
        self.leave(&request);
        request.passed = None;
        let node = request.router.0;
        let now = self.router_time(node);
        let router = &mut self.nodes[node].router;
        router.balancer.fail(request.task, failure, now);
        router.balancer.end(request.task);
        request.tried.push(request.task);
        let attempt = Attempt { idempotent: true, body: Body::Kept, tries: request.tried.len() };
        let again = router
            .service(request.port)
            .is_some_and(|service| retry::may_retry(failure, attempt, router.balancer.budget(service.id)));
        if again {
            self.try_request(id, request);
        } else {
            self.checks.count("requests failed");
        }
    }
}
