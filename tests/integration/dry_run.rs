//! `dry_run`: it is decided and told what would sleep, and nothing is stopped.

use std::time::Duration;

use loir::{app::AppState, clock::Clock, lifecycle::Sweeper};

use crate::{
    eventually,
    support::{App, gateway, program::Program},
    throughout,
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn nothing_is_stopped_and_everything_else_goes_on() {
    for (top, other) in [
        ("dry_run: true", AppState::Awake),
        ("rules:\n  - match: hello\n    dry_run: true", AppState::Asleep),
    ] {
        let clock = Clock::manual();
        let apps =
            [App::named("hello").with("idle_timeout: 1m"), App::named("other").with("idle_timeout: 1m")];
        let loir = gateway(apps).top(top).clock(&clock).start().await;
        loir.wake("hello").await;
        loir.wake("other").await;
        eventually!(loir.app("hello").in_flight() == 0 && loir.app("other").in_flight() == 0);
        clock.advance(5 * MINUTE);
        for _ in 0..5 {
            Sweeper(loir.running.lifecycle().clone()).step();
        }
        eventually!(loir.app("other").state() == other, "{top}");
        assert_eq!((loir.app("hello").state(), loir.times("hello", "term")), (AppState::Awake, 0), "{top}");
        let line = loir.running.lifecycle().outlook(&loir.app("hello")).to_string();
        assert!(line.ends_with("dry_run: nothing is stopped; would sleep now"), "{line}");
        assert_eq!(loir.get("hello", "/").send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn what_would_sleep_is_told_once_for_each_time_that_nobody_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let setup = gateway([App::named("hello").with("idle_timeout: 100ms")]).top("dry_run: true");
    let loir = Program::start(&setup, folder.path()).await;
    let told = || {
        let log = std::fs::read_to_string(folder.path().join("loir.log")).unwrap();
        log.matches("would be stopped now").count()
    };
    for round in 1..=3 {
        loir.wake("hello").await;
        eventually!(told() == round, "round {round}");
        // The sweep looks ten times and more meanwhile.
        throughout!(Duration::from_millis(300), told() == round, "once, and it was {}", told());
    }
}
