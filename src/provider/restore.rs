//! What a wake brings back: pure, and the same for every provider with process types.

use crate::app::{Formation, Processes, WEB};

/// What has to change in `current` so that what was `saved` before the sleep runs again. Empty if there is nothing to do.
///
/// - An app whose `web` type runs was started by somebody else, who knows better: nothing changes.
/// - Types that ran before and still exist come back as they were, unless somebody has started them meanwhile.
/// - Types that were at 0 stay at 0, but for `web`: without it there is no answer to whoever woke it. Types that are new keep what they have; types that are gone are gone.
/// - Of an app that was never put to sleep here, only `web` is started, once.
///
/// Sizes are not touched: whoever changed one meanwhile meant it.
pub fn restore(current: &Formation, saved: Option<&Formation>) -> Formation {
    if current.runs_web() {
        return Formation::default();
    }
    let amount = |name: &str| current.0.get(name).map(|processes| processes.amount);
    let once = Formation::single(WEB);
    let saved = saved.filter(|saved| !saved.is_empty()).unwrap_or(&once);
    let comes_back = |(name, before): (&String, &Processes)| {
        let processes =
            Processes { amount: before.amount, size: None, autoscaler: before.autoscaler.clone() };
        (before.amount > 0 && amount(name) == Some(0)).then(|| (name.clone(), processes))
    };
    let mut restored = Formation(saved.0.iter().filter_map(comes_back).collect());
    if amount(WEB).is_some() && !restored.runs_web() {
        restored.0.extend(Formation::single(WEB).0);
    }
    restored
}

/// The same, with one process of each type at most: for a plan that does not allow more.
pub fn at_most_one(formation: &Formation) -> Formation {
    let one = |processes: &Processes| Processes { amount: processes.amount.min(1), ..processes.clone() };
    Formation(formation.0.iter().map(|(name, processes)| (name.clone(), one(processes))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formation(types: &[(&str, u32)]) -> Formation {
        let processes = |amount| Processes { amount, ..Processes::default() };
        Formation(types.iter().map(|(name, amount)| ((*name).to_owned(), processes(*amount))).collect())
    }

    #[test]
    fn a_wake_brings_back_what_ran_and_nothing_else() {
        let slept = &[("web", 0), ("worker", 0), ("clock", 0)];
        let saved = &[("web", 2), ("worker", 3), ("clock", 0)];
        for (what, current, saved, expected) in [
            ("exactly what ran", &slept[..], Some(&saved[..]), &[("web", 2), ("worker", 3)][..]),
            ("never seen: web, once", slept, None, &[("web", 1)]),
            ("a saved formation of nothing is none", slept, Some(&[("web", 0)]), &[("web", 1)]),
            ("somebody has started it", &[("web", 1), ("worker", 0)], Some(saved), &[]),
            ("somebody has started the workers", &[("web", 0), ("worker", 5)], Some(saved), &[("web", 2)]),
            ("a type is gone", &[("web", 0)], Some(saved), &[("web", 2)]),
            ("a type is new", &[("web", 0), ("cron", 0), ("mailer", 2)], Some(saved), &[("web", 2)]),
            (
                "saved without web",
                &[("web", 0), ("worker", 0)],
                Some(&[("web", 0), ("worker", 1)]),
                &[("web", 1), ("worker", 1)],
            ),
            ("no web at all", &[("worker", 0)], None, &[]),
            ("never deployed", &[], Some(saved), &[]),
        ] {
            let restored = restore(&formation(current), saved.map(formation).as_ref());
            assert_eq!(restored, formation(expected), "{what}");
        }
    }

    #[test]
    fn a_plan_that_allows_one_gets_one() {
        assert_eq!(
            at_most_one(&formation(&[("web", 3), ("worker", 1)])),
            formation(&[("web", 1), ("worker", 1)])
        );
    }
}
