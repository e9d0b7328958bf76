//! Which apps are beyond the plan of whoever hosts the gateway: proxied, and neither woken nor stopped.

use std::collections::{BTreeSet, HashMap};

use crate::{app::AppId, config::HostingPlan};

/// Each app that is beyond `plan`, and why. `apps` are those that would be looked after, each with the place of its entry in the
/// file. What counts first is that place, then the name: the same apps have always the same answer.
pub fn beyond<'a>(
    plan: &HostingPlan,
    apps: impl IntoIterator<Item = (usize, &'a AppId)>,
) -> HashMap<AppId, String> {
    if plan.providers.is_none() && plan.apps.is_none() {
        return HashMap::new();
    }
    let in_order: BTreeSet<(usize, &AppId)> = apps.into_iter().collect();
    let (mut entries, mut looked_after) = (BTreeSet::new(), 0);
    let mut beyond = HashMap::new();
    for (place, app) in in_order {
        let known = entries.contains(&place);
        let entry_fits = known || plan.providers.is_none_or(|most| entries.len() < most);
        if entry_fits && plan.apps.is_none_or(|most| looked_after < most) {
            entries.insert(place);
            looked_after += 1;
        } else {
            beyond.insert(app.clone(), plan.why(entry_fits));
        }
    }
    beyond
}

impl HostingPlan {
    /// What it has no room for: one more app, or one more entry.
    fn why(&self, apps: bool) -> String {
        let name = self.name.map(|name| format!(" `{name}`")).unwrap_or_default();
        let count = |number: Option<usize>, one: &str, more: &str| match number.unwrap_or(usize::MAX) {
            1 => format!("1 {one}"),
            number => format!("{number} {more}"),
        };
        let what = match apps {
            true => count(self.apps, "app", "apps"),
            false => count(self.providers, "provider entry", "provider entries"),
        };
        format!("the plan{name} looks after {what}, and earlier ones come first")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apps(names: &[(usize, &str)]) -> Vec<(usize, AppId)> {
        names.iter().map(|(place, name)| (*place, AppId::new(format!("p{place}"), *name))).collect()
    }

    fn names(plan: HostingPlan, list: &[(usize, AppId)]) -> Vec<String> {
        let beyond = beyond(&plan, list.iter().map(|(place, app)| (*place, app)));
        let mut names: Vec<_> = beyond.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_entries_and_the_first_names_are_looked_after() {
        let list = apps(&[(1, "a"), (0, "z"), (0, "b"), (2, "c"), (0, "y")]);
        let plan = |providers, apps| HostingPlan { name: Some("free"), providers, apps };
        assert_eq!(names(plan(Some(1), Some(3)), &list), ["p1/a", "p2/c"]);
        assert_eq!(names(plan(None, Some(2)), &list), ["p0/z", "p1/a", "p2/c"]);
        assert_eq!(names(plan(Some(2), None), &list), ["p2/c"]);
        assert_eq!(names(HostingPlan::default(), &list), Vec::<String>::new());
        let why = beyond(&plan(Some(1), Some(2)), list.iter().map(|(place, app)| (*place, app)));
        let why = |app: &str| why[&app.parse::<AppId>().unwrap()].as_str();
        assert_eq!(why("p0/z"), "the plan `free` looks after 2 apps, and earlier ones come first");
        assert_eq!(why("p1/a"), "the plan `free` looks after 1 provider entry, and earlier ones come first");
    }

    #[test]
    fn an_entry_without_an_app_to_look_after_takes_no_room() {
        let plan = HostingPlan { name: None, providers: Some(1), apps: None };
        assert_eq!(names(plan, &apps(&[(3, "a"), (4, "b")])), ["p4/b"]);
    }

    proptest! {
        #[test]
        fn the_order_of_a_list_decides_nothing(
            list in prop::collection::vec((0usize..4, "[a-c]{1,2}"), 0..20).prop_shuffle(),
            providers in prop::option::of(1usize..4),
            most in prop::option::of(1usize..6),
        ) {
            let list: Vec<(usize, AppId)> =
                list.iter().map(|(place, name)| (*place, AppId::new(format!("p{place}"), name.as_str()))).collect();
            let plan = HostingPlan { name: None, providers, apps: most };
            let mut sorted = list.clone();
            sorted.sort();
            prop_assert_eq!(names(plan, &list), names(plan, &sorted));
            let all: BTreeSet<_> = list.into_iter().collect();
            let after = all.len() - names(plan, &all.into_iter().collect::<Vec<_>>()).len();
            prop_assert!(most.is_none_or(|most| after <= most));
        }
    }
}
