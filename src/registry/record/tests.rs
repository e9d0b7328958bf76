use proptest::prelude::*;

use super::*;
use crate::app::Processes;

const ME: &str = "me";

fn record(state: AppState) -> Record {
    Record { state, ..Record::new(0) }
}

fn begin_wake(by: &str, lease: u64) -> Change {
    Change::BeginWake { by: by.into(), lease: Duration::from_millis(lease) }
}

fn begin_stop(by: &str, lease: u64) -> Change {
    Change::BeginStop { by: by.into(), idle: Duration::ZERO, lease: Duration::from_millis(lease) }
}

fn found(running: bool, by: &str) -> Change {
    Change::Found { running, by: by.into() }
}

fn failed(reason: &str) -> Change {
    Change::WakeFailed { reason: reason.into(), reference: "1a2b".into() }
}

fn crashed(reason: &str) -> Change {
    Change::Crashed { reason: reason.into(), reference: "1a2b".into() }
}

#[test]
fn every_field_is_named() {
    let some = Some(String::new());
    let full = Record {
        deadline: Some(1),
        owner: some.clone(),
        told: true,
        taken_over: true,
        idle: Some(1),
        pinned_until: Some(1),
        formation: Some(Formation::default()),
        last_failure: some.clone(),
        reference: some,
        ..Record::new(0)
    };
    let written = serde_json::to_value(&full).unwrap();
    let names: std::collections::BTreeSet<_> = written.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, FIELDS.map(str::to_owned).into());
}

#[test]
fn a_pin_changes_nothing_else_and_waits_while_somebody_has_the_app_in_hand() {
    use AppState::{Asleep, Awake, Failed, Stopping, Waking};
    for state in [Asleep, Awake, Failed] {
        let before = Record { failures: 2, formation: Some(Formation::single("web")), ..record(state) };
        let pinned = before.apply(&Change::Pin { until: Some(900) }, 50).unwrap();
        assert_eq!(pinned, Record { epoch: before.epoch + 1, pinned_until: Some(900), ..before.clone() });
        let free = pinned.apply(&Change::Pin { until: None }, 60).unwrap();
        assert_eq!(free, Record { epoch: before.epoch + 2, ..before });
        let running = pinned.apply(&found(state != Awake, ME), 70).unwrap();
        assert_eq!(running.pinned_until, Some(900), "it is kept whatever becomes of the app");
    }
    for state in [Waking, Stopping] {
        assert_eq!(record(state).apply(&Change::Pin { until: Some(900) }, 50), Err(Misfit(state)));
    }
    let old: Record = serde_json::from_str(r#"{"state":"awake","epoch":7,"since":5}"#).unwrap();
    assert_eq!(old.pinned_until, None, "what an older version has written");
}

#[test]
fn every_change_fits_only_where_it_should() {
    use AppState::{Asleep, Awake, Failed, Stopping, Waking};
    let formation = Formation::single("web");
    let table: &[(Change, &[AppState], AppState)] = &[
        (begin_wake(ME, 9), &[Asleep, Failed], Waking),
        (Change::WakeReady { boot: Duration::from_secs(1) }, &[Waking], Awake),
        (failed("no"), &[Waking], Failed),
        (begin_stop(ME, 9), &[Awake], Stopping),
        (Change::AbortStop, &[Stopping], Awake),
        (Change::Veto, &[Stopping], Awake),
        (Change::Save { formation }, &[Stopping], Stopping),
        (Change::Stopped, &[Stopping], Asleep),
        (crashed("bang"), &[Awake], Failed),
    ];
    for (change, fits, becomes) in table {
        for state in [Asleep, Waking, Awake, Stopping, Failed] {
            let led = change.lead_up(ME).iter().fold(record(state), |app, step| app.apply(step, 1).unwrap());
            assert!(led.apply(change, 1).is_ok(), "{change:?} fits once {state} was led up to it");
            let result = record(state).apply(change, 1).map(|next| next.state);
            let expected = if fits.contains(&state) { Ok(*becomes) } else { Err(Misfit(state)) };
            assert_eq!(result, expected, "{change:?} on {state}");
        }
    }
}

#[test]
fn an_abandoned_wake_can_be_taken_over_only_after_its_deadline() {
    let waking = record(AppState::Asleep).apply(&begin_wake("other", 100), 0).unwrap();
    let again = begin_wake(ME, 400);
    assert!(waking.apply(&again, 99).is_err());
    let mine = waking.apply(&again, 100).unwrap();
    assert_eq!((mine.deadline, mine.owner.as_deref(), mine.taken_over), (Some(500), Some(ME), true));
    let awake = mine.apply(&Change::WakeReady { boot: Duration::ZERO }, 101).unwrap();
    assert!(!awake.taken_over && !waking.taken_over);
}

#[test]
fn only_the_owner_renews_and_that_is_no_change_of_the_epoch() {
    let waking = record(AppState::Asleep).apply(&begin_wake(ME, 100), 0).unwrap();
    let renew = |by: &str| Change::Renew { by: by.into(), lease: Duration::from_millis(100) };
    assert!(waking.apply(&renew("other"), 50).is_err());
    let renewed = waking.apply(&renew(ME), 50).unwrap();
    assert_eq!((renewed.deadline, renewed.epoch, renewed.since), (Some(150), 1, 0));
}

#[test]
fn what_a_provider_says_waits_while_somebody_else_has_the_app_in_hand() {
    let stopping = record(AppState::Awake).apply(&begin_stop("other", 100), 0).unwrap();
    assert!(stopping.apply(&found(true, ME), 99).is_err());
    assert_eq!(stopping.apply(&found(true, "other"), 99).unwrap().state, AppState::Awake);
    assert_eq!(stopping.apply(&found(false, ME), 100).unwrap().state, AppState::Asleep);
}

#[test]
fn a_stop_can_be_vetoed_until_the_provider_may_know_of_it() {
    let stopping = record(AppState::Awake).apply(&begin_stop("other", 100), 0).unwrap();
    assert_eq!(stopping.apply(&Change::Veto, 1).unwrap().state, AppState::Awake);
    let told = stopping.apply(&Change::Save { formation: Formation::single("web") }, 1).unwrap();
    assert!(told.told && told.apply(&Change::Veto, 2).is_err());
    let asleep = told.apply(&Change::Stopped, 3).unwrap();
    assert!(!asleep.told && asleep.owner.is_none());
}

#[test]
fn what_the_registry_lost_comes_back_and_epochs_do_not_go_back() {
    let known = Record { epoch: 7, formation: Some(Formation::single("web")), ..record(AppState::Awake) };
    let restore = Change::Restore { known: Box::new(known.clone()), running: false };
    let restored = Record::new(5).apply(&restore, 9).unwrap();
    assert_eq!((restored.epoch, restored.state, restored.since), (8, AppState::Asleep, 9));
    assert_eq!(restored.formation, known.formation);
    assert!(restored.apply(&restore, 9).is_err(), "once");
    for (told, becomes) in [(false, AppState::Awake), (true, AppState::Asleep)] {
        let known = Record { state: AppState::Stopping, told, ..known.clone() };
        let restore = Change::Restore { known: Box::new(known), running: false };
        assert_eq!(Record::new(5).apply(&restore, 9).unwrap().state, becomes);
    }
    let newer = Record { epoch: 8, ..Record::new(0) };
    assert!(newer.apply(&restore, 9).is_err(), "what is newer stays");
}

#[test]
fn a_formation_of_nothing_never_overwrites_a_saved_one() {
    let saved = Formation::single("web");
    let stopping = Record { formation: Some(saved.clone()), ..record(AppState::Stopping) };
    let nothing = Formation([("web".into(), Processes::default())].into());
    let saved_again = stopping.apply(&Change::Save { formation: nothing }, 1).unwrap();
    assert_eq!(saved_again.formation, Some(saved));
}

#[test]
fn what_must_come_back_is_kept_before_the_stop_and_whatever_becomes_of_it() {
    let ran = Formation([("web".into(), Processes { amount: 2, ..Processes::default() })].into());
    let begun = record(AppState::Awake).apply(&begin_stop(ME, 98), 1).unwrap();
    let saved = begun.apply(&Change::Save { formation: ran.clone() }, 2).unwrap();
    assert_eq!((saved.state, saved.deadline, saved.since), (AppState::Stopping, Some(99), 1));
    for end in [Change::Stopped, Change::AbortStop, found(false, ME)] {
        assert_eq!(saved.apply(&end, 3).unwrap().formation, Some(ran.clone()), "{end:?}");
    }
}

#[test]
fn a_crash_loop_backs_off_and_a_stable_run_is_forgiven() {
    let crash = crashed("exit 1");
    let mut app = record(AppState::Awake);
    let mut waits = Vec::new();
    for _ in 0..10 {
        app = app.apply(&crash, app.since + 1_000).unwrap();
        waits.push(app.back_off().as_secs());
        app = app.apply(&begin_wake(ME, u64::MAX), app.since).unwrap();
        app = app.apply(&Change::WakeReady { boot: Duration::from_secs(1) }, app.since).unwrap();
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let forgiven = app.apply(&crash, app.since + 60_000).unwrap();
    assert_eq!((forgiven.state, forgiven.back_off()), (AppState::Asleep, Duration::ZERO));
}

proptest! {
    #[test]
    fn epochs_only_grow_and_boots_stay_bounded(steps in prop::collection::vec(0_u8..12, 0..200)) {
        let mut app = Record::new(0);
        for (now, step) in steps.into_iter().enumerate() {
            let change = match step {
                0 => begin_wake(ME, 3),
                1 => Change::WakeReady { boot: Duration::from_millis(now as u64) },
                2 => failed(""),
                3 => begin_stop(ME, 3),
                4 => Change::AbortStop,
                5 => Change::Stopped,
                6 => Change::Save { formation: Formation::single("web") },
                7 => crashed(""),
                8 => Change::Veto,
                9 => Change::Restore { known: Box::new(Record { epoch: app.epoch + 1, ..app.clone() }), running: true },
                10 => Change::Renew { by: ME.into(), lease: Duration::from_millis(3) },
                _ => found(now % 2 == 0, if now % 3 == 0 { ME } else { "other" }),
            };
            if let Ok(next) = app.apply(&change, now as u64) {
                match change {
                    Change::Renew { .. } => prop_assert_eq!(next.epoch, app.epoch),
                    _ => prop_assert!(next.epoch > app.epoch),
                }
                let transient = matches!(next.state, AppState::Waking | AppState::Stopping);
                prop_assert_eq!(transient, next.deadline.is_some(), "only what must end has a deadline");
                prop_assert_eq!(transient, next.owner.is_some(), "and somebody to end it");
                app = next;
            }
            prop_assert!(app.boots.len() <= BOOTS_KEPT);
        }
    }
}
