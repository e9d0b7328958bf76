//! What becomes of an app here when another gateway has changed its record: pure, and the same in the model that checks it
//! (`tests/integration/model.rs`).

use crate::{app::AppState, registry::Record};

/// What a gateway does about a change that it did not make itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Follow {
    /// Nothing: it agrees with the record already, or a task of its own is at it and will see.
    Stay,
    /// The app runs: requests are proxied to it.
    Awake,
    /// The app does not run, or will not for long: the next request asks for it anew.
    Asleep,
    /// The app cannot be started: requests are refused until the back-off has passed.
    Failed,
    /// It is to be stopped: if it is idle here too, newcomers are held and the stop is agreed to; else it is vetoed.
    Yield,
    /// It is to be stopped, and nobody can have anything in flight here.
    Agree,
    /// It is to be stopped, and somebody here wants it.
    Veto,
}

/// What to do if the app is `here` at the gateway `me`, and `wanted` by somebody who waits for it here.
pub fn follow(here: AppState, wanted: bool, record: &Record, me: &str) -> Follow {
    use AppState::{Asleep, Awake, Failed, Stopping, Waking};
    if record.owner.as_deref() == Some(me) {
        return Follow::Stay;
    }
    match (record.state, here) {
        (Awake, Awake) | (Failed, Failed) | (Asleep, Asleep) => Follow::Stay,
        (Awake, _) => Follow::Awake,
        (Failed, _) => Follow::Failed,
        // A task is about to ask for the wake, and the record will tell it that it may.
        (Asleep, Waking) => Follow::Stay,
        (Asleep, Awake | Stopping | Failed) => Follow::Asleep,
        // It has answered here already, or nobody here has asked for it.
        (Waking, Awake | Waking | Asleep) => Follow::Stay,
        (Waking, Failed | Stopping) => Follow::Asleep,
        (Stopping, Awake) if record.told => Follow::Asleep,
        (Stopping, _) if record.told => Follow::Stay,
        (Stopping, Awake) => Follow::Yield,
        (Stopping, Waking) => Follow::Veto,
        (Stopping, Asleep | Failed | Stopping) => match wanted {
            true => Follow::Veto,
            false => Follow::Agree,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [AppState; 5] =
        [AppState::Asleep, AppState::Waking, AppState::Awake, AppState::Stopping, AppState::Failed];

    fn record(state: AppState) -> Record {
        Record { state, owner: Some("other".into()), ..Record::new(0) }
    }

    #[test]
    fn what_is_ones_own_doing_is_no_news() {
        for (there, here) in ALL.iter().flat_map(|there| ALL.map(|here| (*there, here))) {
            assert_eq!(follow(here, true, &record(there), "other"), Follow::Stay);
        }
    }

    #[test]
    fn whoever_may_have_something_in_flight_is_never_taken_to_agree() {
        for wanted in [false, true] {
            let stopping = record(AppState::Stopping);
            assert_eq!(follow(AppState::Awake, wanted, &stopping, "me"), Follow::Yield);
            assert_eq!(follow(AppState::Waking, wanted, &stopping, "me"), Follow::Veto);
        }
    }

    #[test]
    fn nobody_waits_behind_a_state_that_another_gateway_has_ended() {
        for here in ALL {
            assert_eq!(
                follow(here, false, &record(AppState::Awake), "me") == Follow::Awake,
                here != AppState::Awake
            );
            let settled = follow(here, false, &record(AppState::Waking), "me");
            let stuck = matches!(here, AppState::Failed | AppState::Stopping);
            assert_eq!(settled == Follow::Asleep, stuck, "{here:?}");
        }
    }

    #[test]
    fn a_stop_that_the_provider_may_know_of_is_not_vetoed() {
        let told = Record { told: true, ..record(AppState::Stopping) };
        for here in ALL {
            let follow = follow(here, true, &told, "me");
            assert_eq!(follow == Follow::Asleep, here == AppState::Awake, "{here:?}");
            assert!(matches!(follow, Follow::Asleep | Follow::Stay));
        }
    }
}
