//! Large sets of assignments, in parts of a bounded size.

use model::{
    service::ImagePin,
    session::{Assignment, AssignmentSet},
};

/// What an assignment's fields of a fixed size take at most, with their names.
const FIXED: usize = 512;
/// What the id of a task that goes takes at most.
const ID: usize = 9;

/// The encoded size of an assignment without its container, rounded up.
pub(crate) fn size_beside_container(assignment: &Assignment) -> usize {
    let pin = match &assignment.pin {
        Some(ImagePin::Digest(text) | ImagePin::LocalId(text)) => text.len(),
        None => 0,
    };
    FIXED + assignment.service_name.len() + assignment.node_name.len() + pin
}

/// Splits a set into parts of at most `limit` bytes each. A single assignment that is larger is a part of its own.
pub(crate) fn split(
    set: AssignmentSet,
    limit: usize,
    size: impl Fn(&Assignment) -> usize,
) -> Vec<AssignmentSet> {
    let all: usize = set.upsert.iter().map(&size).sum();
    if all + set.remove.len() * ID <= limit {
        return vec![set];
    }
    let AssignmentSet { fence, base, upsert, remove, hash, .. } = set;
    let going = groups(remove, limit, |_| ID).into_iter().map(|remove| (Vec::new(), remove));
    let coming = groups(upsert, limit, size).into_iter().map(|upsert| (upsert, Vec::new()));
    let contents: Vec<_> = going.chain(coming).collect();
    let last = contents.len().saturating_sub(1);
    let part = |(index, (upsert, remove))| AssignmentSet {
        fence,
        base,
        upsert,
        remove,
        hash,
        part: u32::try_from(index).unwrap_or(u32::MAX),
        more: index < last,
    };
    contents.into_iter().enumerate().map(part).collect()
}

pub(crate) fn groups<T>(items: Vec<T>, limit: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let bytes = size(&item);
        match groups.last_mut().filter(|_| bytes <= room) {
            Some(group) => group.push(item),
            None => {
                groups.push(vec![item]);
                room = limit;
            }
        }
        room = room.saturating_sub(bytes);
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{
        container::ContainerSpec,
        id::{ClusterId, NodeId, ServiceId, TaskId},
        node::Incarnation,
        service::{RestartPolicy, Slot, TemplateVersion},
        session::{Fence, ManagerMessage},
        task::DesiredState,
    };

    use super::*;

    const LIMIT: usize = 16 << 10;

    fn assignment(task: u64, text: usize) -> Assignment {
        let spec = ContainerSpec { image: "i".repeat(text), ..ContainerSpec::default() };
        Assignment {
            task: TaskId(task),
            service: ServiceId(u64::MAX),
            service_name: "s".repeat(63),
            slot: Slot::Node(NodeId(u64::MAX)),
            template: TemplateVersion(u64::MAX),
            desired: DesiredState::Running,
            container: Arc::new(spec),
            restart: RestartPolicy::default(),
            pin: Some(ImagePin::Digest("d".repeat(200))),
            node: NodeId(u64::MAX),
            node_name: "n".repeat(255),
        }
    }

    fn parts(upsert: Vec<Assignment>, remove: usize) -> Vec<AssignmentSet> {
        let fence =
            Fence { cluster: ClusterId(1), incarnation: Incarnation(1), term: 1, session: 1, sequence: 1 };
        let remove = (0..remove).map(|id| TaskId(u64::MAX - id as u64)).collect();
        let set = AssignmentSet { fence, base: None, upsert, remove, hash: 7, part: 0, more: false };
        let size = |a: &Assignment| proto::codec::encode(&*a.container).len() + size_beside_container(a);
        split(set, LIMIT, size)
    }

    #[test]
    fn no_part_of_a_large_set_is_larger_than_the_limit_and_nothing_is_left_out() {
        let upsert: Vec<_> = (0..500).map(|task| assignment(task, 300 + task as usize)).collect();
        let parts = parts(upsert.clone(), 5_000);
        assert!(parts.len() > 20, "{}", parts.len());
        for (index, part) in parts.iter().enumerate() {
            let bytes = proto::codec::encode(&ManagerMessage::Assign(part.clone())).len();
            assert!(bytes <= LIMIT + FIXED, "part {index} has {bytes} bytes");
            assert_eq!((part.part as usize, part.more), (index, index + 1 < parts.len()));
        }
        assert_eq!(parts.iter().flat_map(|part| part.upsert.clone()).collect::<Vec<_>>(), upsert);
        assert_eq!(parts.iter().map(|part| part.remove.len()).sum::<usize>(), 5_000);
    }

    #[test]
    fn a_small_set_is_one_message_and_a_huge_assignment_a_part_of_its_own() {
        assert_eq!(parts(vec![assignment(1, 10)], 3).len(), 1);
        assert_eq!(parts(vec![], 0).len(), 1);
        let sizes = [10, 2 * LIMIT, 10].map(|text| assignment(1, text)).to_vec();
        let counts: Vec<_> = parts(sizes, 0).iter().map(|part| part.upsert.len()).collect();
        assert_eq!(counts, [1, 1, 1]);
    }
}
