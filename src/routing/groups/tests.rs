use proptest::prelude::*;

use super::*;
use crate::routing::rules::Until;

fn app(number: usize) -> AppId {
    AppId::new("p", format!("{number:02}"))
}

/// Apps `p/00`, `p/01` ... with what each is woken with, and what each waits for.
fn groups(many: usize, with: &[(usize, usize)], after: &[(usize, usize)]) -> Groups {
    let mut apps: Vec<(AppId, Ruling)> = (0..many).map(|number| (app(number), Ruling::default())).collect();
    for (one, other) in with {
        apps[*one].1.wakes_with.push(app(*other));
    }
    for (one, other) in after {
        apps[*one].1.after.push((app(*other), Until::Ready));
    }
    Groups::new(apps.iter().map(|(app, ruling)| (app, ruling)))
}

#[test]
fn whoever_is_woken_with_another_is_of_its_group_whichever_says_so() {
    let groups = groups(6, &[(0, 1), (2, 1), (3, 99), (4, 5)], &[]);
    for member in 0..3 {
        assert_eq!(groups.of(&app(member)), [app(0), app(1), app(2)]);
    }
    assert_eq!(groups.of(&app(3)), [], "its only companion does not exist");
    assert_eq!(groups.of(&app(4)), [app(4), app(5)]);
    assert_eq!(groups.cycles(), []);
}

#[test]
fn a_cycle_is_named_once_and_its_edges_are_known() {
    let groups = groups(6, &[], &[(2, 0), (0, 1), (1, 2), (3, 0), (4, 5), (5, 4), (1, 0)]);
    let named: Vec<_> = groups.cycles().iter().map(ToString::to_string).collect();
    assert_eq!(named, ["p/00 -> p/01 -> p/00", "p/04 -> p/05 -> p/04"]);
    assert!(groups.is_endless(&app(1), &app(2)), "also those that were not named");
    assert!(!groups.is_endless(&app(3), &app(0)), "whoever waits for a knot is not in it");
}

proptest! {
    /// Without the edges that are endless there is an order; with any of them there is none.
    #[test]
    fn what_is_not_endless_can_be_put_in_order(after in prop::collection::vec((0usize..7, 0usize..7), 0..16)) {
        let after: Vec<_> = after.into_iter().filter(|(one, other)| one != other).collect();
        let groups = groups(7, &[], &after);
        let endless = |(one, other): &&(usize, usize)| groups.is_endless(&app(*one), &app(*other));
        let kept: Vec<_> = after.iter().filter(|edge| !endless(edge)).copied().collect();
        prop_assert!(in_order(&kept));
        prop_assert_eq!(groups.cycles().is_empty(), kept.len() == after.len());
        prop_assert_eq!(in_order(&after), groups.cycles().is_empty());
        for cycle in groups.cycles() {
            let around = cycle.0.iter().zip(cycle.0.iter().cycle().skip(1));
            for (one, other) in around {
                prop_assert!(after.iter().any(|(from, to)| app(*from) == *one && app(*to) == *other), "{}", cycle);
                prop_assert!(groups.is_endless(one, other));
            }
        }
    }

    #[test]
    fn a_group_is_the_same_for_all_its_members(with in prop::collection::vec((0usize..9, 0usize..9), 0..12)) {
        let groups = groups(9, &with, &[]);
        for member in 0..9 {
            for other in groups.of(&app(member)) {
                prop_assert_eq!(groups.of(other), groups.of(&app(member)));
            }
        }
        for (one, other) in with.into_iter().filter(|(one, other)| one != other) {
            prop_assert!(groups.of(&app(one)).contains(&app(other)));
        }
    }
}

fn in_order(edges: &[(usize, usize)]) -> bool {
    let mut edges = edges.to_vec();
    loop {
        let before = edges.len();
        let waiting: Vec<usize> = edges.iter().map(|(one, _)| *one).collect();
        edges.retain(|(_, other)| waiting.contains(other));
        if edges.len() == before {
            return edges.is_empty();
        }
    }
}
