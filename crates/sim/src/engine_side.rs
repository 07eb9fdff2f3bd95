//! Between agents and engines: calls begin, take effect and are answered; what happens in an engine is told.

use agent_core::{
    engine::{EngineCall, EngineError, EngineErrorKind},
    event::Event as Input,
};

use crate::{
    engine::{Effect, Plan, Power},
    knobs::Weather,
    queue::MS,
    world::{AgentInput, Event, Phase, World},
};

impl World {
    /// An agent calls its engine.
    pub(crate) fn call(&mut self, node: usize, op: u64, call: EngineCall) {
        let now = self.now();
        self.trace.mark(now, 40, op);
        self.trace.line(now, || format!("n{node} calls {}", describe(&call)));
        self.check_call(node, &call);
        let host = &mut self.nodes[node];
        let life = host.life();
        if host.engine.power == Power::Down {
            let outcome = Err(unavailable("the engine is not reachable"));
            self.later_agent(node, MS, AgentInput::Core(Input::EngineDone { op, outcome }));
            return;
        }
        let begun = host.engine.begin(life, op, call);
        self.queue.after(begun.after, Event::Effect { node, call: begun.number });
        if let Some(timeout) = begun.timeout {
            self.queue.after(timeout, Event::CallTimeout { node, call: begun.number });
        }
    }

    /// A call takes effect.
    pub(crate) fn effect(&mut self, node: usize, number: u64) {
        let now = self.now();
        let Some(pending) = self.nodes[node].engine.calls.get(&number).cloned() else { return };
        if self.stumbles() && self.nodes[node].engine.power == Power::Up {
            // The engine fails without having done it.
            self.nodes[node].engine.calls.remove(&number);
            let message = "the engine failed inside".to_owned();
            let outcome = Err(EngineError { kind: EngineErrorKind::Other, message });
            return self.answer_call(node, &pending, outcome);
        }
        match self.nodes[node].engine.effect(number, now) {
            Effect::Gone => {}
            Effect::Later(after) => self.queue.after(after, Event::Effect { node, call: number }),
            Effect::Answer(outcome) => {
                // It is done, and the answer is lost.
                let outcome =
                    if self.stumbles() { Err(unavailable("the connection broke")) } else { outcome };
                self.trace.line(now, || match &outcome {
                    Ok(_) => format!("n{node} engine did {}", describe(&pending.call)),
                    Err(error) => format!("n{node} engine refused {}: {error:?}", describe(&pending.call)),
                });
                self.answer_call(node, &pending, outcome);
            }
        }
        self.after_engine(node);
    }

    fn stumbles(&mut self) -> bool {
        self.phase == Phase::Storm && self.knobs.weather == Weather::Rough && self.dice.permille(8)
    }

    fn answer_call(
        &mut self,
        node: usize,
        pending: &crate::engine::Pending,
        outcome: Result<agent_core::engine::OpOutcome, EngineError>,
    ) {
        if pending.abandoned || self.nodes[node].life() != pending.life {
            return;
        }
        let after = self.dice.millis(0, 3);
        let input = AgentInput::Core(Input::EngineDone { op: pending.op, outcome });
        self.later_agent(node, after, input);
    }

    /// The agent's shell gives a call up; the engine may still do it.
    pub(crate) fn call_timeout(&mut self, node: usize, number: u64) {
        let Some(pending) = self.nodes[node].engine.calls.get_mut(&number) else { return };
        if pending.abandoned {
            return;
        }
        let copy = pending.clone();
        pending.abandoned = true;
        let message = "no answer in time".to_owned();
        self.answer_call(node, &copy, Err(EngineError { kind: EngineErrorKind::Timeout, message }));
    }

    /// An application does what it planned.
    pub(crate) fn app(&mut self, node: usize, plan: Plan) {
        if self.nodes[node].engine.power == Power::Hung {
            self.queue.after(50 * MS, Event::App { node, plan });
            return;
        }
        let now = self.now();
        self.nodes[node].engine.act(&plan, now);
        self.after_engine(node);
    }

    /// What happened in an engine is told to the agent and to the checks; what was planned goes on the agenda.
    pub(crate) fn after_engine(&mut self, node: usize) {
        let now = self.now();
        for call in std::mem::take(&mut self.nodes[node].engine.ready) {
            self.queue.after(0, Event::Effect { node, call });
        }
        for (after, plan) in std::mem::take(&mut self.nodes[node].engine.plans) {
            self.queue.after(after, Event::App { node, plan });
        }
        for happening in std::mem::take(&mut self.nodes[node].engine.happened) {
            self.trace.mark(now, 41, node as u64);
            self.trace.line(now, || {
                let task =
                    happening.labels.map(|labels| format!("{} attempt {}", labels.task, labels.attempt));
                let (id, change, cause) = (&happening.container, happening.change, happening.cause);
                format!("n{node} container {id} of task {}: {change:?}, {cause}", task.unwrap_or_default())
            });
            self.container_happened(node, &happening);
            let Some(change) = happening.as_change() else { continue };
            match &mut self.nodes[node].subscription {
                None => {}
                Some(subscription) if !subscription.listed => subscription.held.push(change),
                Some(_) => self.tell_in_order(node, Input::EngineChanged(change)),
            }
        }
    }

    /// The daemon goes down: its answers and its stream end; its containers end with it or go on.
    pub(crate) fn engine_down(&mut self, node: usize, containers_survive: bool) {
        let now = self.now();
        self.trace
            .fault(now, || format!("n{node} engine goes down, containers survive: {containers_survive}"));
        let begun = self.nodes[node].engine.go_down(containers_survive, now);
        // What happens while the daemon goes is not told.
        if let Some(subscription) = &mut self.nodes[node].subscription {
            subscription.listed = false;
        }
        self.after_engine(node);
        for pending in begun {
            self.answer_call(node, &pending, Err(unavailable("the connection to the engine broke")));
        }
        self.break_stream(node, "the engine is gone");
    }

    pub(crate) fn engine_back(&mut self, node: usize) {
        let now = self.now();
        self.trace.fault(now, || format!("n{node} engine is back"));
        self.nodes[node].engine.power = Power::Up;
    }
}

fn unavailable(message: &str) -> EngineError {
    EngineError { kind: EngineErrorKind::Unavailable, message: message.to_owned() }
}

/// A call in words.
pub(crate) fn describe(call: &EngineCall) -> String {
    match call {
        EngineCall::Ping => "ping".to_owned(),
        EngineCall::Pull { image, .. } => format!("pull {image}"),
        EngineCall::Create(request) => format!("create {}", request.name),
        EngineCall::Start { container } => format!("start {container}"),
        EngineCall::Stop { container, .. } => format!("stop {container}"),
        EngineCall::Remove { container, .. } => format!("remove {container}"),
        EngineCall::Diagnose { container, .. } => format!("diagnose {container}"),
        EngineCall::Inspect { container } => format!("inspect {container}"),
        EngineCall::ResolveImage { image } => format!("resolve {image}"),
        EngineCall::FindImage { images } => format!("find {images:?}"),
    }
}
