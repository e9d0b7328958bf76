//! `Memory`: what was last seen of each app's formation. No call tells the formations of all apps, so the list believes
//! what was seen, and looks again only where that may be wrong: after an hour, after a release, and when a change of ours
//! went wrong.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::wire;
use crate::app::Formation;

/// How long what was seen is believed, or up to a quarter less: that not all is read anew at once.
pub const BELIEVED_FOR: Duration = Duration::from_secs(3600);

/// By the app's id.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<String, Seen>>);

/// One look at an app, by whomever. Also part of listings: see [`Seen`](super::seen::Seen).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// How many of each type are wanted, or why nobody may tell us.
    pub formation: Result<Formation, String>,
    /// Whether all its web dynos had crashed.
    pub crashed: bool,
    /// When it was asked for, in milliseconds since 1970: which of two gateways has looked later.
    at: u64,
}

struct Seen {
    sight: Sight,
    asked: Instant,
    again: Instant,
    release: Option<Release>,
}

/// Changes whenever there may be other process types than before.
type Release = (Option<String>, Option<u64>);

fn release(app: &wire::App) -> Release {
    (app.released_at.clone(), app.slug_size)
}

impl Memory {
    /// What is known of an app.
    pub fn of(&self, id: &str) -> Option<Sight> {
        self.lock().get(id).map(|seen| seen.sight.clone())
    }

    /// Somebody has seen this of an app. What was seen later, or is this very sight, stands; and whoever lists looks again,
    /// since others may have started or stopped the app meanwhile.
    pub fn learn(&self, id: &str, sight: &Sight) {
        let mut all = self.lock();
        if all.get(id).is_some_and(|seen| seen.sight.at >= sight.at) {
            return;
        }
        let now = Instant::now();
        let age = Duration::from_millis(wall(now).saturating_sub(sight.at));
        // A machine that has just started does not know so early an instant.
        let asked = now.checked_sub(age).unwrap_or(now);
        all.insert(id.to_owned(), Seen { sight: sight.clone(), asked, again: now, release: None });
    }

    /// Whether that has to be looked at again.
    pub fn is_due(&self, app: &wire::App) -> bool {
        let now = Instant::now();
        let news = |seen: &Seen| now >= seen.again || seen.release.as_ref() != Some(&release(app));
        self.lock().get(&app.id).is_none_or(news)
    }

    /// This was seen of the listed `app`, as of `asked`.
    pub fn list(&self, app: &wire::App, asked: Instant, formation: Result<Formation, String>, crashed: bool) {
        self.note(&app.id, asked, formation, crashed);
        if let Some(seen) = self.lock().get_mut(&app.id) {
            seen.release = Some(release(app));
        }
    }

    /// This was seen, as of `asked`. What was asked for later stands.
    pub fn see(&self, id: &str, asked: Instant, formation: &Formation, crashed: bool) {
        self.note(id, asked, Ok(formation.clone()), crashed);
    }

    fn note(&self, id: &str, asked: Instant, formation: Result<Formation, String>, crashed: bool) {
        let mut all = self.lock();
        let before = all.get(id);
        if before.is_some_and(|seen| seen.asked > asked) {
            return;
        }
        let again = asked + BELIEVED_FOR.mul_f64(1.0 - 0.25 * fastrand::f64());
        let release = before.and_then(|seen| seen.release.clone());
        let sight = Sight { formation, crashed, at: wall(asked) };
        all.insert(id.to_owned(), Seen { sight, asked, again, release });
    }

    /// What is known of the app may be wrong.
    pub fn doubt(&self, id: &str) {
        let now = Instant::now();
        if let Some(seen) = self.lock().get_mut(id) {
            seen.again = now;
        }
    }

    /// Forgets all other apps.
    pub fn keep(&self, ids: &HashSet<&str>) {
        self.lock().retain(|id, _| ids.contains(id.as_str()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instant that has passed, as other machines tell it.
fn wall(instant: Instant) -> u64 {
    let then = SystemTime::now().checked_sub(instant.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = then.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(released_at: &str) -> wire::App {
        serde_json::from_value(serde_json::json!({ "id": "1", "name": "shop", "released_at": released_at }))
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_believed_for_an_hour_unless_there_is_a_release_or_a_doubt() {
        let (memory, shop) = (Memory::default(), app("monday"));
        let see = || memory.list(&shop, Instant::now(), Ok(Formation::single("web")), false);
        assert!(memory.is_due(&shop));
        see();
        assert!(!memory.is_due(&shop) && memory.is_due(&app("tuesday")));
        tokio::time::advance(BELIEVED_FOR * 7 / 10).await;
        assert!(!memory.is_due(&shop));
        tokio::time::advance(BELIEVED_FOR * 3 / 10).await;
        assert!(memory.is_due(&shop));
        see();
        memory.doubt("1");
        assert!(memory.is_due(&shop));
        see();
        memory.see("1", Instant::now(), &Formation::default(), false);
        assert!(!memory.is_due(&shop), "it is still the release that was listed");
        memory.keep(&HashSet::new());
        assert!(memory.is_due(&shop));
    }

    #[tokio::test]
    async fn of_what_two_gateways_saw_the_later_stands_and_whoever_lists_looks_for_himself() {
        let (memory, shop) = (Memory::default(), app("monday"));
        let before = |seconds| {
            let other = Memory::default();
            let asked = Instant::now() - Duration::from_secs(seconds);
            other.list(&shop, asked, Ok(Formation::single("web")), seconds == 5);
            other.of("1").unwrap()
        };
        let (old, young) = (before(60), before(5));
        memory.learn("1", &old);
        memory.learn("1", &young);
        memory.learn("1", &old);
        assert_eq!(memory.of("1"), Some(young.clone()));
        assert!(memory.is_due(&shop));
        memory.list(&shop, Instant::now(), Ok(Formation::default()), false);
        memory.learn("1", &young);
        assert_eq!(memory.of("1").unwrap().formation, Ok(Formation::default()));
        assert!(!memory.is_due(&shop), "nor does it make anybody look again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_late_does_not_replace_a_younger_one() {
        let memory = Memory::default();
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        memory.see("1", Instant::now(), &Formation::default(), true);
        memory.see("1", asked, &Formation::single("web"), false);
        let seen = memory.of("1").unwrap();
        assert_eq!((seen.formation, seen.crashed), (Ok(Formation::default()), true));
    }
}
