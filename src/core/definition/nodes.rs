//! The nodes of a multi-node job: which group says what runs on each
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_NodeProperties.html>).

use std::collections::BTreeMap;

use super::{Effective, Work, WorkOverrides, effective};

/// The most nodes that a job has, and the most groups of them
/// (<https://docs.aws.amazon.com/batch/latest/userguide/service_limits.html>).
pub const MAX_NODES: u32 = 1000;
/// See [`MAX_NODES`].
pub const MAX_GROUPS: usize = 5;
/// The most containers of a node.
pub const MAX_CONTAINERS: usize = 2 * super::eks::MAX_CONTAINERS;

/// `targetNodes`: a node, or a range of them that may be open at either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    first: u32,
    /// `None` for all that follow.
    last: Option<u32>,
}

impl Target {
    /// Reads `2`, `0:3`, `4:` or `:3`.
    ///
    /// # Errors
    /// A sentence that names the member.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("targetNodes: {text:?} is no node index and no range of them");
        let number = |text: &str| match text.parse::<u32>() {
            Ok(number) if number < MAX_NODES && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            _ => Err(wrong()),
        };
        let (first, last) = match text.split_once(':') {
            None => (number(text)?, Some(number(text)?)),
            Some(("", "")) => return Err(wrong()),
            Some(("", last)) => (0, Some(number(last)?)),
            Some((first, "")) => (number(first)?, None),
            Some((first, last)) => (number(first)?, Some(number(last)?)),
        };
        match last {
            Some(last) if last < first => Err(format!("targetNodes: {text:?} ends before it begins")),
            _ => Ok(Self { first, last }),
        }
    }

    fn holds(&self, node: u32) -> bool {
        node >= self.first && self.last.is_none_or(|last| node <= last)
    }

    /// How many of so many nodes it holds.
    fn width(&self, nodes: u32) -> u32 {
        let end = self.last.map_or(nodes, |last| last.saturating_add(1).min(nodes));
        end.saturating_sub(self.first)
    }
}

/// `nodeProperties` as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// `numNodes`.
    pub nodes: u32,
    /// `mainNode`.
    pub main: u32,
    /// `nodeRangeProperties`, in order.
    pub ranges: Vec<Range>,
    /// Tokens that the job takes as a whole: they stand with its main node.
    pub tokens: Vec<(String, i64)>,
}

/// One of `nodeRangeProperties`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// `targetNodes`.
    pub target: String,
    /// `container`, `ecsProperties` or `eksProperties`.
    pub work: Work,
    /// Tokens that each of these nodes takes.
    pub tokens: Vec<(String, i64)>,
    /// The instance type that each of them wants.
    pub instance_type: Option<String>,
}

/// `nodeOverrides` as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// `numNodes`.
    pub nodes: Option<u32>,
    /// `nodePropertyOverrides`, in order.
    pub ranges: Vec<Change>,
}

/// One of `nodePropertyOverrides`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// `targetNodes`.
    pub target: String,
    /// `containerOverrides`, `ecsPropertiesOverride` or `eksPropertiesOverride`.
    pub overrides: WorkOverrides,
    /// Tokens that each of these nodes takes instead.
    pub tokens: Option<Vec<(String, i64)>>,
    /// The instance type that each of them wants instead.
    pub instance_type: Option<String>,
}

/// What runs on the nodes of a multi-node job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gang {
    /// How many nodes.
    pub nodes: u32,
    /// The one whose end is the job's end.
    pub main: u32,
    /// Together they hold each node once.
    pub groups: Vec<Group>,
}

/// Nodes on which the same runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Their indexes, in order.
    pub nodes: Vec<u32>,
    /// What runs there.
    pub effective: Effective,
    /// The tokens that each of them takes.
    pub tokens: Vec<(String, i64)>,
    /// The instance type that each of them wants.
    pub instance_type: Option<String>,
}

impl Gang {
    /// The group of a node.
    pub fn group_of(&self, node: u32) -> Option<&Group> {
        self.groups.iter().find(|group| group.nodes.binary_search(&node).is_ok())
    }

    /// How many containers a node has at most, those that run before the others among them.
    pub fn containers(&self) -> usize {
        self.groups.iter().map(|group| group.effective.containers()).max().unwrap_or(1)
    }

    /// The vCPUs of all nodes together, in thousandths.
    pub fn vcpus_milli(&self) -> i64 {
        let of = |group: &Group| group.effective.amounts.vcpus_milli.saturating_mul(group.nodes.len() as i64);
        self.groups.iter().fold(0, |sum: i64, group| sum.saturating_add(of(group)))
    }
}

/// Applies a job's overrides to the nodes of its definition.
///
/// Of several ranges that hold a node the narrowest counts, of equal ones the last: "nested ranges" override those
/// around them. Overrides are applied in the same order, so that those of a narrower range come last.
///
/// # Errors
/// A sentence that names the member.
pub fn gang(stated: &Stated, changes: &Changes) -> Result<Gang, String> {
    let ranges = targets(stated.ranges.iter().map(|range| range.target.as_str()))?;
    let overrides = targets(changes.ranges.iter().map(|range| range.target.as_str()))?;
    let nodes = count(stated, changes, &ranges)?;
    if let Some(at) = overrides.iter().position(|target| target.width(nodes) == 0) {
        return Err(format!(
            "nodePropertyOverrides: targetNodes: {:?} holds no node of the job: it has {nodes}",
            changes.ranges[at].target
        ));
    }
    let main = stated.main;
    let mut alike: BTreeMap<(usize, Vec<usize>, bool), Vec<u32>> = BTreeMap::new();
    for node in 0..nodes {
        let Some(range) = narrowest(&ranges, node, nodes) else {
            return Err(format!("nodeRangeProperties: no range of targetNodes holds node {node} of {nodes}"));
        };
        let mut changed: Vec<usize> = (0..overrides.len()).filter(|at| overrides[*at].holds(node)).collect();
        changed.sort_by_key(|at| (std::cmp::Reverse(overrides[*at].width(nodes)), *at));
        // Tokens of the job as a whole make its main node another one.
        let special = node == main && !stated.tokens.is_empty();
        alike.entry((range, changed, special)).or_default().push(node);
    }
    let mut groups = Vec::new();
    for ((range, changed, special), nodes) in alike {
        let changed = changed.iter().map(|at| &changes.ranges[*at]);
        let mut group = group(&stated.ranges[range], changed, nodes)?;
        if special {
            group.tokens.extend(stated.tokens.iter().cloned());
        }
        groups.push(group);
    }
    groups.sort_by_key(|group| group.nodes.first().copied());
    Ok(Gang { nodes, main, groups })
}

fn targets<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Vec<Target>, String> {
    texts.map(Target::parse).collect()
}

/// How many nodes there are. A job may change that only where a range has room for it.
fn count(stated: &Stated, changes: &Changes, ranges: &[Target]) -> Result<u32, String> {
    if stated.ranges.is_empty() || stated.ranges.len() > MAX_GROUPS {
        return Err(format!("nodeRangeProperties must have 1 to {MAX_GROUPS} node groups"));
    }
    let nodes = match changes.nodes {
        None => stated.nodes,
        Some(wanted) => {
            let Some(open) =
                ranges.iter().filter(|range| range.last.is_none()).map(|range| range.first).max()
            else {
                return Err(
                    "nodeOverrides.numNodes: no range of the job definition has an open end".to_owned()
                );
            };
            if wanted <= open {
                return Err(format!(
                    "nodeOverrides.numNodes must be more than {open}, where the open range begins"
                ));
            }
            wanted
        }
    };
    if nodes == 0 || nodes > MAX_NODES {
        return Err(format!("numNodes must be between 1 and {MAX_NODES}"));
    }
    if stated.main >= nodes {
        return Err(format!("mainNode {} must be less than numNodes {nodes}", stated.main));
    }
    // An open range may begin behind the last node: there is none of its kind then.
    let beyond = ranges.iter().zip(&stated.ranges).find(|(range, _)| {
        let last = range.last.unwrap_or(range.first);
        last >= nodes && changes.nodes.is_none()
    });
    match beyond {
        Some((_, range)) => Err(format!(
            "targetNodes: {:?} names nodes that the job does not have: it has {nodes}",
            range.target
        )),
        None => Ok(nodes),
    }
}

fn narrowest(ranges: &[Target], node: u32, nodes: u32) -> Option<usize> {
    let holding = (0..ranges.len()).filter(|at| ranges[*at].holds(node));
    holding.min_by_key(|at| (ranges[*at].width(nodes), std::cmp::Reverse(*at)))
}

fn group<'c>(
    range: &Range,
    changes: impl Iterator<Item = &'c Change>,
    nodes: Vec<u32>,
) -> Result<Group, String> {
    let named = |why: String| format!("nodeRangeProperties {}: {why}", range.target);
    let mut tokens = range.tokens.clone();
    let mut instance_type = range.instance_type.clone();
    let mut overrides = WorkOverrides::default();
    for change in changes {
        if let Some(instead) = &change.tokens {
            tokens.clone_from(instead);
        }
        if change.instance_type.is_some() {
            instance_type.clone_from(&change.instance_type);
        }
        overrides = overrides.under(&change.overrides);
    }
    let effective = effective(&range.work, &overrides).map_err(named)?;
    Ok(Group { nodes, effective, tokens, instance_type })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Overrides, Properties, ecs, eks, requirements};

    fn range(target: &str, image: &str) -> Range {
        let resources = requirements::Stated { vcpus: Some(2), memory: Some(64), requirements: vec![] };
        let properties = Properties { image: image.to_owned(), resources, ..Properties::default() };
        Range { target: target.to_owned(), work: Work::Container(properties), ..Range::default() }
    }

    fn properties(gang: &Gang, node: u32) -> &Properties {
        match &gang.group_of(node).expect("a group").effective.work {
            Work::Container(properties) => properties,
            other => panic!("{other:?}"),
        }
    }

    fn stated(nodes: u32, main: u32, ranges: &[(&str, &str)]) -> Stated {
        let ranges = ranges.iter().map(|(target, image)| range(target, image)).collect();
        Stated { nodes, main, ranges, tokens: vec![] }
    }

    #[test]
    fn a_node_has_as_many_containers_as_its_largest_group() {
        let group =
            |work| Group { effective: Effective { work, ..Effective::default() }, ..Group::default() };
        let task = ecs::Task { containers: vec![ecs::Container::default(); 2], ..ecs::Task::default() };
        let groups = vec![group(Work::Task(Box::new(task))), group(Work::Container(Properties::default()))];
        assert_eq!(Gang { groups, ..Gang::default() }.containers(), 2);
        assert_eq!(Gang::default().containers(), 1);
    }

    #[test]
    fn a_job_has_up_to_a_thousand_nodes_in_up_to_five_groups() {
        for (nodes, groups, want) in [(1, 1, true), (1000, 5, true), (1001, 5, false), (1000, 6, false)] {
            let stated = stated(nodes, nodes - 1, &vec![("0:", "a"); groups]);
            assert_eq!(gang(&stated, &Changes::default()).is_ok(), want, "{nodes} {groups}");
        }
    }

    #[test]
    fn no_node_has_more_containers_than_a_pod_can_have() {
        let most = || vec![eks::Container::default(); eks::MAX_CONTAINERS];
        let pod = eks::Pod { containers: most(), init_containers: most(), ..eks::Pod::default() };
        let effective = Effective { work: Work::Pod(Box::new(pod)), ..Effective::default() };
        let groups = vec![Group { effective, ..Group::default() }];
        assert_eq!(Gang { groups, ..Gang::default() }.containers(), MAX_CONTAINERS);
    }

    /// The image of each node.
    fn images(gang: &Gang) -> String {
        let image = |node| properties(gang, node).image.as_str();
        (0..gang.nodes).map(image).collect()
    }

    #[test]
    fn what_targets_mean() {
        for (text, holds) in
            [("2", "2"), ("0:3", "0123"), (":2", "012"), ("3:", "345"), ("0:", "012345"), ("4:4", "4")]
        {
            let target = Target::parse(text).expect(text);
            let held: String = (0..6).filter(|n| target.holds(*n)).map(|n| n.to_string()).collect();
            assert_eq!((held.as_str(), target.width(6) as usize), (holds, holds.len()), "{text}");
        }
        for text in ["", ":", "a", "1-3", "1:2:3", "-1", "+1", "1000", "0:1000", " 1", "99999999999"] {
            let want = format!("targetNodes: {text:?} is no node index and no range of them");
            assert_eq!(Target::parse(text), Err(want));
        }
        assert_eq!(Target::parse("3:1"), Err("targetNodes: \"3:1\" ends before it begins".to_owned()));
    }

    #[test]
    fn nested_ranges_win_over_those_around_them() {
        for (name, nodes, ranges, want) in [
            ("one for all", 3, &[("0:", "a")][..], "aaa"),
            ("side by side", 4, &[("0:1", "a"), ("2:3", "b")], "aabb"),
            ("one inside", 6, &[("0:5", "a"), ("2:3", "b")], "aabbaa"),
            ("the inner one first", 6, &[("2:3", "b"), ("0:5", "a")], "aabbaa"),
            ("three deep", 6, &[("0:", "a"), ("1:4", "b"), ("2", "c")], "abcbba"),
            ("of equals the last", 2, &[("0:1", "a"), (":1", "b")], "bb"),
            ("an end that is open", 3, &[("0", "a"), ("1:", "b")], "abb"),
        ] {
            let gang = gang(&stated(nodes, 0, ranges), &Changes::default()).expect(name);
            assert_eq!(images(&gang), want, "{name}");
            let held: usize = gang.groups.iter().map(|group| group.nodes.len()).sum();
            assert_eq!(held, nodes as usize, "{name}: each node once");
            assert_eq!(gang.vcpus_milli(), i64::from(nodes) * 2000, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let changed = |nodes| Changes { nodes: Some(nodes), ..Changes::default() };
        let none = Changes::default();
        for (stated, changes, want) in [
            (
                stated(3, 0, &[("0:1", "a")]),
                none.clone(),
                "nodeRangeProperties: no range of targetNodes holds node 2 of 3",
            ),
            (stated(3, 3, &[("0:", "a")]), none.clone(), "mainNode 3 must be less than numNodes 3"),
            (stated(0, 0, &[("0:", "a")]), none.clone(), "numNodes must be between 1 and 1000"),
            (stated(1001, 0, &[("0:", "a")]), none.clone(), "numNodes must be between 1 and 1000"),
            (stated(2, 0, &[]), none.clone(), "nodeRangeProperties must have 1 to 5 node groups"),
            (
                stated(2, 0, &[("0:", "a"); 6]),
                none.clone(),
                "nodeRangeProperties must have 1 to 5 node groups",
            ),
            (
                stated(2, 0, &[("0:", "a"), ("1:2", "b")]),
                none.clone(),
                "targetNodes: \"1:2\" names nodes that the job does not have: it has 2",
            ),
            (
                stated(2, 0, &[("0:x", "a")]),
                none,
                "targetNodes: \"0:x\" is no node index and no range of them",
            ),
            (
                stated(2, 0, &[("0:1", "a")]),
                changed(3),
                "nodeOverrides.numNodes: no range of the job definition has an open end",
            ),
            (
                stated(3, 0, &[("0:1", "a"), ("2:", "b")]),
                changed(2),
                "nodeOverrides.numNodes must be more than 2, where the open range begins",
            ),
            (stated(4, 3, &[("0:", "a")]), changed(3), "mainNode 3 must be less than numNodes 3"),
        ] {
            assert_eq!(gang(&stated, &changes), Err(want.to_owned()));
        }
        let mut without_memory = stated(2, 0, &[("0:", "a")]);
        let resources = requirements::Stated { vcpus: Some(2), ..requirements::Stated::default() };
        without_memory.ranges[0].work = Work::Container(Properties { resources, ..Properties::default() });
        let error = gang(&without_memory, &Changes::default()).expect_err("no memory");
        assert_eq!(error, "nodeRangeProperties 0:: resourceRequirements: MEMORY is required");
    }

    #[test]
    fn overrides_reach_the_nodes_that_they_name() {
        let change = |target: &str, vcpus: &str, command: Option<&str>| Change {
            target: target.to_owned(),
            overrides: WorkOverrides {
                container: Overrides {
                    command: command.map(|word| vec![word.to_owned()]),
                    environment: vec![("BY".to_owned(), target.to_owned())],
                    resources: requirements::Stated {
                        requirements: vec![("VCPU".to_owned(), vcpus.to_owned())],
                        ..requirements::Stated::default()
                    },
                },
                ..WorkOverrides::default()
            },
            ..Change::default()
        };
        let stated = stated(2, 0, &[("0:", "a")]);
        let changes =
            Changes { nodes: Some(5), ranges: vec![change("3", "8", None), change("1:", "4", Some("work"))] };
        let gang = gang(&stated, &changes).expect("valid");
        let of = |node| {
            let amounts = gang.group_of(node).expect("a group").effective.amounts;
            let properties = properties(&gang, node);
            (amounts.vcpus_milli, properties.command.len(), properties.environment.len())
        };
        assert_eq!((of(0), of(1), of(3), of(4)), ((2000, 0, 0), (4000, 1, 1), (8000, 1, 1), (4000, 1, 1)));
        assert_eq!(gang.vcpus_milli(), 2000 + 3 * 4000 + 8000);
        let by = |node| properties(&gang, node).environment[0].1.clone();
        assert_eq!((by(3), by(4)), ("3".to_owned(), "1:".to_owned()), "the narrower one counts");
    }

    #[test]
    fn an_override_of_no_node_is_refused() {
        let change = |target: &str| Change { target: target.to_owned(), ..Change::default() };
        for (target, nodes, want) in [
            ("1:", None, Ok(())),
            ("1:9", None, Ok(())),
            ("2", None, Err("\"2\" holds no node of the job: it has 2")),
            ("2:", None, Err("\"2:\" holds no node of the job: it has 2")),
            ("4:6", None, Err("\"4:6\" holds no node of the job: it has 2")),
            ("4:6", Some(5), Ok(())),
            ("4:6", Some(4), Err("\"4:6\" holds no node of the job: it has 4")),
        ] {
            let changes = Changes { nodes, ranges: vec![change("0"), change(target)] };
            let got = gang(&stated(2, 0, &[("0:", "a")]), &changes).map(drop);
            let want = want.map_err(|why| format!("nodePropertyOverrides: targetNodes: {why}"));
            assert_eq!(got, want, "{target} {nodes:?}");
        }
    }

    #[test]
    fn tokens_of_the_job_stand_with_its_main_node() {
        let mut stated = stated(3, 1, &[("0:", "a")]);
        stated.ranges[0].tokens = vec![("licence".to_owned(), 1)];
        stated.tokens = vec![("site".to_owned(), 5)];
        let gang = gang(&stated, &Changes::default()).expect("valid");
        let held = |node| gang.group_of(node).expect("a group").tokens.len();
        assert_eq!((held(0), held(1), held(2)), (1, 2, 1));
    }
}
