//! Which node runs a task: filter, rank, assign, explain.
//!
//! Flow: [`Nodes`] is the view of all nodes, kept from changes of the store; a [`Batch`] opens one
//! [`Class`] per (service, template) that asks for a place and remembers what it gave away, so that no
//! reservation, port or limit is exceeded by the sum of a batch.
//!
//! Guarantees: the same store and the same requests give the same nodes, whether the view was kept or rebuilt. What a
//! decision took and the state machine refused is given back by [`Nodes::release`](nodes::Nodes::release).
//!
//! Read in this order: [`bits`], [`load`], [`nodes`], [`filter`], [`class`].

pub(crate) mod bits;
pub(crate) mod class;
pub(crate) mod filter;
pub(crate) mod load;
pub(crate) mod nodes;

use std::{borrow::Cow, collections::BTreeMap};

use model::{
    id::{NodeId, ServiceId, TaskId},
    service::{Service, TaskTemplate, TemplateVersion},
    task::PendingReason,
};

use class::Class;
use filter::Filtered;
use nodes::Nodes;

/// Who asks for a place.
#[derive(Clone, Copy)]
pub(crate) struct Want<'a> {
    pub(crate) service: &'a Service,
    /// One of the service's templates.
    pub(crate) version: TemplateVersion,
    /// Only this node will do (a global service's slot).
    pub(crate) only: Option<NodeId>,
    /// Ranked behind all others.
    pub(crate) avoid: &'a [NodeId],
    /// It is the pre-deploy hook, and no replica.
    pub(crate) hook: bool,
}

/// Under which version the hook of a template counts: it holds none of the ports and places of replicas.
pub(crate) fn of_hook(version: TemplateVersion) -> TemplateVersion {
    TemplateVersion(version.0 | load::HOOK)
}

/// What the hook of a template is placed as.
pub(crate) fn hook_template(
    service: &Service,
    version: TemplateVersion,
    template: &TaskTemplate,
) -> TaskTemplate {
    service.hook_of(version).cloned().unwrap_or_default().template(template)
}

impl<'a> Want<'a> {
    fn template(&self) -> Cow<'a, TaskTemplate> {
        let template = self.service.template_of(self.version).expect("a wanted template is kept");
        match self.hook {
            true => Cow::Owned(hook_template(self.service, self.version, template)),
            false => Cow::Borrowed(template),
        }
    }

    /// Under which it counts.
    fn counted(&self) -> TemplateVersion {
        if self.hook { of_hook(self.version) } else { self.version }
    }
}

/// The placements of one plan. Services are looked at one after the other, so the classes of one at a time are kept.
#[derive(Default)]
pub(crate) struct Batch {
    service: Option<ServiceId>,
    classes: BTreeMap<TemplateVersion, Class>,
}

impl Batch {
    /// Finds a node and takes a task's place there, or says why there is none. `task` is asked for its id only when
    /// there is a place, so that a fruitless try draws no id.
    pub(crate) fn place(
        &mut self,
        nodes: &mut Nodes,
        want: Want<'_>,
        task: impl FnOnce() -> TaskId,
    ) -> Result<(TaskId, NodeId), PendingReason> {
        if let Some(only) = want.only {
            return place_on(nodes, want, only, task);
        }
        let class = self.class(nodes, want);
        if let Some(reason) = class.refusal() {
            return Err(reason.clone());
        }
        let avoid: Vec<u32> = want.avoid.iter().filter_map(|id| nodes.number(*id)).collect();
        match class.pick(nodes, &avoid) {
            Some(number) => {
                let task = task();
                nodes.hold(task, number, class.shape());
                class.took();
                Ok((task, nodes.id(number)))
            }
            None => Err(class.refuse(filtered(nodes, want, None).into_reason())),
        }
    }

    /// Whether one of these nodes could ever take a task of the class.
    pub(crate) fn concerns(&mut self, nodes: &mut Nodes, want: Want<'_>, changed: &bits::Bits) -> bool {
        match want.only {
            Some(only) => nodes.number(only).is_some_and(|number| changed.contains(number)),
            None => self.class(nodes, want).lasting().intersects(changed),
        }
    }

    fn class(&mut self, nodes: &mut Nodes, want: Want<'_>) -> &mut Class {
        if self.service != Some(want.service.id) {
            self.service = Some(want.service.id);
            self.classes.clear();
        }
        self.classes.entry(want.counted()).or_insert_with(|| {
            let template = want.template();
            let shape = nodes.shape_for(want.service.id, want.counted(), &template);
            Class::new(nodes, want.service, shape, &template)
        })
    }
}

fn place_on(
    nodes: &mut Nodes,
    want: Want<'_>,
    only: NodeId,
    task: impl FnOnce() -> TaskId,
) -> Result<(TaskId, NodeId), PendingReason> {
    let Some(number) = nodes.number(only) else {
        let message = format!("node {only} is not in the cluster");
        return Err(PendingReason { message, ..PendingReason::default() });
    };
    let filtered = filtered(nodes, want, Some(number));
    if filtered.nodes.is_empty() {
        return Err(filtered.into_reason());
    }
    let shape = nodes.shape_for(want.service.id, want.counted(), &want.template());
    let task = task();
    nodes.hold(task, number, shape);
    Ok((task, only))
}

fn filtered(nodes: &mut Nodes, want: Want<'_>, only: Option<u32>) -> Filtered {
    let template = want.template();
    let mut filtered = filter::lasting(nodes, &template, only);
    filter::passing(nodes, &mut filtered, want.service.id, &template);
    filtered
}
