//! What waits to be delivered, in bounds.

use std::collections::{BTreeMap, VecDeque};

/// How much waits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events of a rule.
    pub per_rule: usize,
    /// Events in all.
    pub in_all: usize,
    /// The memory that all of them take.
    pub bytes: usize,
}

/// What waits to be delivered, by rule: `namespace/name`.
///
/// Beyond its own limit a rule loses its oldest event. Beyond a limit of all, the namespace with the most loses, of its
/// rules the one with the most, and of that the oldest: who has less than their share loses nothing because of others.
/// The newest tell how things stand.
#[derive(Clone, Debug)]
pub struct Outbox<E> {
    limits: Limits,
    lines: BTreeMap<String, Line<E>>,
    /// Of the namespaces with something that waits.
    namespaces: BTreeMap<String, Load>,
    total: Load,
}

#[derive(Clone, Debug)]
struct Line<E> {
    /// The oldest first, each with the memory that it takes.
    events: VecDeque<(E, usize)>,
    load: Load,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    events: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes;
    }

    fn take(&mut self, other: Self) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }
}

impl<E> Outbox<E> {
    /// With these limits.
    pub fn new(limits: Limits) -> Self {
        let Limits { per_rule, in_all, bytes } = limits;
        let limits = Limits { per_rule: per_rule.max(1), in_all: in_all.max(1), bytes };
        Self { limits, lines: BTreeMap::new(), namespaces: BTreeMap::new(), total: Load::default() }
    }

    /// Adds an event that takes so much memory. Returns what was pushed out, and whose that was.
    pub fn push(&mut self, rule: &str, event: E, bytes: usize) -> Vec<(String, E)> {
        if !self.lines.contains_key(rule) {
            self.lines.insert(rule.to_owned(), Line { events: VecDeque::new(), load: Load::default() });
        }
        let Some(line) = self.lines.get_mut(rule) else { return Vec::new() };
        line.events.push_back((event, bytes));
        line.load.add(bytes);
        let is_too_long = line.events.len() > self.limits.per_rule;
        self.namespaces.entry(namespace(rule).to_owned()).or_default().add(bytes);
        self.total.add(bytes);
        let mut loser = if is_too_long { Some(rule.to_owned()) } else { self.loser() };
        let mut dropped = Vec::new();
        while let Some(rule) = loser {
            let Some(event) = self.pop(&rule) else { break };
            dropped.push((rule, event));
            loser = self.loser();
        }
        dropped
    }

    /// The rule that loses its oldest event because all have too much.
    fn loser(&self) -> Option<String> {
        let Limits { in_all, bytes, .. } = self.limits;
        let measure: fn(&Load) -> usize = match self.total {
            total if total.events > in_all => |load| load.events,
            total if total.bytes > bytes => |load| load.bytes,
            _ => return None,
        };
        let (namespace, _) = self.namespaces.iter().max_by_key(|(_, load)| measure(load))?;
        let begin = format!("{namespace}/");
        let rules = self.lines.range(begin.clone()..).take_while(|(rule, _)| rule.starts_with(&begin));
        rules.max_by_key(|(_, line)| measure(&line.load)).map(|(rule, _)| rule.clone())
    }

    fn free(&mut self, rule: &str, load: Load) {
        self.total.take(load);
        let Some(own) = self.namespaces.get_mut(namespace(rule)) else { return };
        own.take(load);
        if own.events == 0 {
            self.namespaces.remove(namespace(rule));
        }
    }

    /// Takes the oldest event of a rule out.
    fn pop(&mut self, rule: &str) -> Option<E> {
        self.take(rule, |_| true)
    }

    /// The oldest event of a rule that is like this.
    pub fn find(&self, rule: &str, is_it: impl Fn(&E) -> bool) -> Option<&E> {
        self.iter(rule).find(|event| is_it(event))
    }

    /// The oldest event of a rule that is like this, to change it.
    pub fn find_mut(&mut self, rule: &str, is_it: impl Fn(&E) -> bool) -> Option<&mut E> {
        let events = &mut self.lines.get_mut(rule)?.events;
        events.iter_mut().map(|(event, _)| event).find(|event| is_it(event))
    }

    /// Takes the oldest event of a rule out that is like this; it may have been pushed out meanwhile.
    pub fn take(&mut self, rule: &str, is_it: impl Fn(&E) -> bool) -> Option<E> {
        let line = self.lines.get_mut(rule)?;
        let at = line.events.iter().position(|(event, _)| is_it(event))?;
        let (event, bytes) = line.events.remove(at)?;
        let load = Load { events: 1, bytes };
        line.load.take(load);
        self.free(rule, load);
        Some(event)
    }

    /// Changes all events of a rule, and takes those out for which that says so. Returns how many.
    pub fn retain(&mut self, rule: &str, mut keep: impl FnMut(&mut E) -> bool) -> usize {
        let Some(line) = self.lines.get_mut(rule) else { return 0 };
        let mut gone = Load::default();
        line.events.retain_mut(|(event, bytes)| {
            let stays = keep(event);
            if !stays {
                gone.add(*bytes);
            }
            stays
        });
        line.load.take(gone);
        self.free(rule, gone);
        gone.events
    }

    /// Takes all of a rule out.
    pub fn forget(&mut self, rule: &str) {
        if let Some(line) = self.lines.remove(rule) {
            self.free(rule, line.load);
        }
    }

    /// How many of a rule wait.
    pub fn len(&self, rule: &str) -> usize {
        self.lines.get(rule).map_or(0, |line| line.events.len())
    }

    /// How many wait in all.
    pub fn total(&self) -> usize {
        self.total.events
    }

    /// All of a rule that wait, the oldest first.
    pub fn iter(&self, rule: &str) -> impl Iterator<Item = &E> {
        self.lines.get(rule).into_iter().flat_map(|line| line.events.iter().map(|(event, _)| event))
    }
}

/// The namespace of a rule.
fn namespace(rule: &str) -> &str {
    rule.split_once('/').map_or(rule, |(namespace, _)| namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_that_is_like_it_is_changed() {
        let mut outbox = Outbox::new(Limits { per_rule: 9, in_all: 9, bytes: 99 });
        for event in [1, 12, 13] {
            outbox.push("rule", event, 1);
        }
        assert_eq!(
            outbox.find_mut("rule", |event| *event > 10).map(|event| std::mem::replace(event, 2)),
            Some(12)
        );
        assert!(outbox.iter("rule").eq(&[1, 2, 13]));
        assert!(outbox.find_mut("rule", |event| *event > 20).is_none());
        assert!(outbox.find_mut("other", |_| true).is_none());
    }
    /// `team/rule` with three events of 1, 2 and 4 bytes, in an outbox for so many.
    fn three(bytes: usize) -> Outbox<usize> {
        let mut outbox = Outbox::new(Limits { per_rule: 9, in_all: 9, bytes });
        for event in [1, 2, 4] {
            assert!(outbox.push("team/rule", event, event).is_empty());
        }
        outbox
    }

    #[test]
    fn what_is_not_kept_makes_room() {
        let mut outbox = three(7);
        let gone = outbox.retain("team/rule", |event| {
            *event *= 10;
            *event == 20
        });
        assert_eq!((gone, outbox.len("team/rule"), outbox.total()), (2, 1, 1));
        assert!(outbox.iter("team/rule").eq(&[20]), "it was changed");
        assert_eq!(outbox.push("team/other", 5, 5), [], "7 bytes");
        assert_eq!(outbox.push("team/other", 6, 1), [("team/other".to_owned(), 5)], "8 bytes");
        assert_eq!(outbox.retain("team/rule", |_| true), 0);
        assert_eq!(outbox.retain("team/unknown", |_| false), 0);
    }

    #[test]
    fn a_rule_that_is_forgotten_has_nothing_that_waits() {
        let mut outbox = three(7);
        outbox.forget("team/unknown");
        assert_eq!((outbox.len("team/rule"), outbox.total()), (3, 3));
        assert_eq!(outbox.find("team/rule", |event| *event > 1), Some(&2));
        outbox.forget("team/rule");
        assert_eq!((outbox.len("team/rule"), outbox.total()), (0, 0));
        assert_eq!(outbox.find("team/rule", |_| true), None);
        assert_eq!(outbox.push("team/rule", 7, 7), []);
    }
}
