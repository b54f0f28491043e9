//! What other arrays have to say, in tables: whether an array is accepted that names them, and what becomes of its
//! children that wait for theirs.

use batchyard_core::array::{Children, Counterparts, Order, Other, Pairs, gate, indexes, pairs, rerun};
use batchyard_core::job::decide::Readiness;
use batchyard_core::job::phase::Phase;
use batchyard_core::job::record::Record;
use batchyard_core::{reason, waits};
use roaring::RoaringBitmap;

fn set(text: &str) -> RoaringBitmap {
    indexes::parse(text).expect("indexes")
}

fn array(name: &str, size: Option<u32>) -> Other {
    Other { name: name.to_owned(), is_array: true, size, ..Other::default() }
}

/// Of an array that runs anew what failed, the other children have ended well, long ago. Children that it does not have
/// never do.
#[test]
fn children_wait_for_those_of_a_rerun_only_where_it_runs() {
    let waiting = Children::new(set("0-9"));
    for (size, members, succeeded, failed, want, doomed) in [
        (10, "0-9", "", "", "", ""),
        (10, "0-9", "1", "2", "1", "2"),
        (10, "3,7", "", "", "0-2,4-6,8-9", ""),
        (10, "3,7", "3", "7", "0-6,8-9", "7"),
        (8, "0-7", "0-7", "", "0-7", "8-9"),
        (8, "0-7", "1", "2", "1", "2,8-9"),
        (8, "3", "", "", "0-2,4-7", "8-9"),
        (20, "0-19", "0-19", "", "0-9", ""),
    ] {
        let mut children = Children::new(set(members)).among(size);
        for (indexes, phase) in [(succeeded, Phase::Succeeded), (failed, Phase::Failed)] {
            let record = Record { phase: Some(phase), ..Record::default() };
            set(indexes).iter().for_each(|index| children.note(index, record.clone()));
        }
        let gate = gate(&waiting, Order::Any, &[Counterparts::of(&children)]);
        let got = (indexes::text(&gate.open), indexes::text(&gate.doomed));
        assert_eq!(got, (want.into(), doomed.into()), "{members} of {size}");
    }
}

#[test]
fn arrays_whose_children_wait_for_each_other_have_one_size() {
    let ended = Other { has_ended: true, ..array("ended", None) };
    let single = Other { is_array: false, ..array("single", None) };
    let unknown = |name: &str| Pairs::Unknown(waits::dependencies(&[name.to_owned()], &[]));
    for (why, size, others, want) in [
        ("none is there", Some(3), vec![], Pairs::Fit),
        ("as many", Some(3), vec![array("a", Some(3))], Pairs::Fit),
        ("fewer", Some(3), vec![array("a", Some(2))], Pairs::Differ(reason::sizes_differ("a", 3, 2))),
        ("more", Some(3), vec![array("a", Some(5))], Pairs::Differ(reason::sizes_differ("a", 3, 5))),
        (
            "the second",
            Some(3),
            vec![array("a", Some(3)), array("b", Some(4))],
            Pairs::Differ(reason::sizes_differ("b", 3, 4)),
        ),
        ("a rerun that is not accepted", Some(3), vec![array("a", None)], unknown("a")),
        (
            "one differs, whatever the other has",
            Some(3),
            vec![array("a", None), array("b", Some(4))],
            Pairs::Differ(reason::sizes_differ("b", 3, 4)),
        ),
        ("it never had any", Some(3), vec![ended], Pairs::Fit),
        ("no array", Some(3), vec![single], Pairs::Fit),
        ("of its own nothing is known", None, vec![array("a", Some(3))], Pairs::Fit),
    ] {
        assert_eq!(pairs(size, &others), want, "{why}");
    }
}

#[test]
fn a_rerun_needs_an_array_of_its_size_that_has_ended_and_failed() {
    let running = array("a", Some(4));
    let ended = |failed| Other { has_ended: true, failed, ..running.clone() };
    let single = Other { is_array: false, size: None, ..ended(None) };
    let refused = |why: String| Some(Readiness::Refused(why));
    let waits = |wait| Some(Readiness::Waiting(wait));
    let another = || refused(reason::rerun_of_another_size("a", 3, 4));
    for (why, size, other, want) in [
        ("not there", None, None, waits(waits::rerun_missing("a"))),
        ("no array", None, Some(single), refused(reason::rerun_of_no_array("a"))),
        ("it runs", None, Some(running.clone()), waits(waits::rerun_unfinished("a"))),
        ("it runs, and has another size", Some(3), Some(running.clone()), another()),
        ("it runs, and has this size", Some(4), Some(running.clone()), waits(waits::rerun_unfinished("a"))),
        ("its size is not known", Some(3), Some(array("a", None)), waits(waits::rerun_unfinished("a"))),
        ("some failed", None, Some(ended(Some(2))), None),
        ("some failed, and it has this size", Some(4), Some(ended(Some(2))), None),
        ("some failed, and it has another size", Some(3), Some(ended(Some(2))), another()),
        ("nobody counted", None, Some(ended(None)), None),
        ("none failed", None, Some(ended(Some(0))), refused(reason::rerun_of_nothing("a"))),
    ] {
        assert_eq!(rerun("a", size, other.as_ref()), want, "{why}");
    }
}
