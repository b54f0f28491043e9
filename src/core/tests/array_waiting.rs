//! What an array waits for, and when its queue gives it up for that.

use batchyard_core::array::{Children, Standing, give_up, say_why};
use batchyard_core::job::decide::TimeLimit;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::{Intent, IntentKind, Record, Waiting};
use batchyard_core::waits::{self, Kind, Wait};
use jiff::{SignedDuration, Timestamp};
use roaring::RoaringBitmap;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// An array of three, of which these children waited for something when they were looked at last.
fn children(waits: &[(u32, Phase, Wait)]) -> Children {
    let mut children = Children::new((0..3).collect::<RoaringBitmap>());
    for (index, phase, wait) in waits {
        let mut record = Record { phase: Some(*phase), ..Record::default() };
        record.wait_for(wait, at(0));
        children.note(*index, record);
    }
    children
}

fn array() -> Record {
    Record { phase: Some(Phase::Pending), runnable_at: Some(at(0)), ..Record::default() }
}

#[test]
fn an_array_says_what_it_waits_for_until_a_child_has_a_node() {
    let (turn, short) = (waits::behind_head("q"), waits::no_capacity("e"));
    let node = |phase| (1, phase, waits::unschedulable("0/3 nodes"));
    let back = (0, Phase::Runnable, waits::placement("withdrawn"));
    for (why, standing, told, known, want) in [
        ("all wait in line", Standing::InLine, Some(&turn), vec![], Some(Kind::Turn)),
        ("no node came", Standing::Unbound, Some(&short), vec![], Some(Kind::InsufficientInstanceCapacity)),
        ("the scheduler says so", Standing::Unbound, None, vec![node(Phase::Runnable)], Some(Kind::Node)),
        (
            "the dispatcher knows more",
            Standing::Unbound,
            Some(&short),
            vec![node(Phase::Runnable)],
            Some(Kind::InsufficientInstanceCapacity),
        ),
        ("that pod is withdrawn", Standing::InLine, None, vec![node(Phase::Runnable)], Some(Kind::Vcpus)),
        ("only that is news", Standing::Unbound, None, vec![back.clone()], Some(Kind::Vcpus)),
        ("it found a node", Standing::Unbound, None, vec![node(Phase::Starting)], Some(Kind::Vcpus)),
        ("nothing is said for a moment", Standing::InLine, None, vec![], Some(Kind::Vcpus)),
        ("one has a node", Standing::AtWork, Some(&short), vec![back], None),
    ] {
        let mut record = array();
        record.wait_for(&waits::max_vcpus("e", 1000), at(1));
        say_why(&mut record, standing, told.cloned(), &children(&known), at(9));
        assert_eq!(record.waiting.map(|waiting| waiting.kind), want, "{why}");
        assert_eq!(record.status_reason.is_some(), want.is_some(), "{why}");
    }
    let intent = Intent { kind: IntentKind::Cancel, reason: "no".into(), at: at(0) };
    let mut ordered = Record { intent: Some(intent), ..array() };
    say_why(&mut ordered, Standing::InLine, Some(turn), &children(&[]), at(9));
    assert_eq!(ordered.waiting, None, "it is about to end");
}

/// Its pods are withdrawn, and others made elsewhere, for which no node comes either.
#[test]
fn a_queue_gives_up_an_array_for_which_no_node_comes() {
    let code = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY";
    let limits = [TimeLimit { code: code.to_owned(), limit: SignedDuration::from_secs(600) }];
    let unbound = || children(&[(0, Phase::Runnable, waits::unschedulable("0/3 nodes"))]);
    let short = || Some(waits::no_capacity("e"));
    let (line, pods, work) = (Standing::InLine, Standing::Unbound, Standing::AtWork);
    for (why, between, since) in [
        ("its pods stay", vec![(pods, short())], 100),
        ("they are withdrawn", vec![(line, None), (pods, None), (pods, short()), (line, None)], 100),
        ("one had a node", vec![(line, None), (work, None), (pods, None)], 900),
        ("it waited for something else", vec![(line, Some(waits::max_vcpus("e", 1000)))], 900),
    ] {
        let mut record = array();
        say_why(&mut record, pods, short(), &unbound(), at(100));
        for (step, (standing, told)) in (2_i64..).zip(between) {
            say_why(&mut record, standing, told, &unbound(), at(step * 100));
        }
        say_why(&mut record, pods, short(), &unbound(), at(900));
        let told = Waiting::since(Kind::InsufficientInstanceCapacity, at(since));
        assert_eq!(record.waiting, Some(told), "{why}");
        let order = |now| give_up(&record, &limits, &unbound(), at(now));
        assert_eq!(order(since + 599), None, "{why}");
        let order = order(since + 600).unwrap_or_else(|| panic!("{why}"));
        assert_eq!((order.kind, order.indexes), (IntentKind::Cancel, (0..3).collect()), "{why}");
        assert_eq!(order.reason, format!("Canceled by JobStateTimeLimit action due to reason: {code}"));
    }
    let mut turn = array();
    say_why(&mut turn, line, Some(waits::behind_head("q")), &unbound(), at(0));
    assert_eq!(give_up(&turn, &limits, &unbound(), at(9_999)), None, "it blocks nobody");
}
