//! What is left when a gateway ends in any way, and how the next one carries on.

use std::{fs, path::Path, process::Command};

use loir::{clock::Clock, lifecycle::Slept, lifecycle::cell::NotIdle};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    eventually,
    support::{
        App, Setup, children, gateway, journal_lines, latest_process,
        program::{Program, group_is_alive, is_alive, keeper_of},
    },
};

const HOUR: u64 = 3_600_000;

/// A gateway that keeps records and is quick with what ignores SIGTERM.
fn lasting(apps: impl IntoIterator<Item = App>) -> Setup {
    gateway(apps).keeps_state().provider("stop_grace: 300ms")
}

fn leaving_running(apps: impl IntoIterator<Item = App>) -> Setup {
    lasting(apps).provider("leave_running: true")
}

/// Every process that the app ever was or started.
fn family(folder: &Path, app: &str) -> Vec<u32> {
    let mut processes: Vec<_> = journal_lines(folder, app).into_iter().map(|(process, _)| process).collect();
    processes.extend(children(folder, app));
    processes.sort_unstable();
    processes.dedup();
    processes
}

fn record(folder: &Path, app: &str) -> serde_json::Value {
    let text = fs::read_to_string(folder.join("state/registry.json")).unwrap();
    let registry: serde_json::Value = serde_json::from_str(&text).expect("the file is whole");
    registry["apps"][format!("local/{app}")].clone()
}

/// Ends what a test left running on purpose, when the test ends in whatever way.
struct Cleared<'a>(&'a Path);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        for process in family(self.0, "hello") {
            let _ = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
        }
    }
}

/// Judged: `kill -9` of the gateway.
#[tokio::test]
async fn a_gateway_that_is_killed_leaves_no_child_and_no_corrupt_state_and_the_next_carries_on() {
    let folder = tempfile::tempdir().unwrap();
    let stubborn = App::named("stubborn").env("IGNORE_TERM", 1).env("GRANDCHILD", 1).env("STRAY", 1);
    let setup = lasting([App::named("hello"), stubborn]);
    let mut loir = Program::start(&setup, folder.path()).await;
    loir.wake("hello").await;
    loir.wake("stubborn").await;
    let family: Vec<_> = ["hello", "stubborn"].iter().flat_map(|app| family(folder.path(), app)).collect();
    assert_eq!(family.len(), 4, "two apps, a grandchild, and a stray in a session of its own");
    assert!(family.iter().all(|&process| is_alive(process)));
    eventually!(record(folder.path(), "hello")["state"] == "awake");
    loir.kill().await;
    eventually!(!family.iter().any(|&process| is_alive(process)), "nobody survives");
    assert_eq!(record(folder.path(), "hello")["boots"].as_array().unwrap().len(), 1);

    let loir = Program::start(&setup, folder.path()).await;
    loir.wake("hello").await;
    eventually!(
        record(folder.path(), "hello")["boots"].as_array().unwrap().len() == 2,
        "its history goes on"
    );
    assert!(!loir.log().contains("WARN"), "{}", loir.log());
}

#[tokio::test]
async fn the_next_gateway_may_start_at_once_and_no_app_runs_twice_or_fails() {
    let folder = tempfile::tempdir().unwrap();
    let port = crate::support::program::free_address().port();
    let app = App::named("hello").env("STOP_MS", 500).with(&format!("port: {port}"));
    let setup = gateway([app]).keeps_state();
    for run in 1..=3 {
        let earlier = family(folder.path(), "hello");
        let mut loir = Program::start(&setup, folder.path()).await;
        let process = loir.wake("hello").await;
        assert!(!earlier.contains(&process), "run {run} is answered by an app of its own");
        assert!(!earlier.into_iter().any(is_alive), "and the earlier ones ended before it was started");
        loir.kill().await;
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_in_the_middle_of_a_wake_leaves_nothing_and_the_next_one_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let setup = lasting([App::named("hello").env("BOOT_MS", HOUR)]);
    let mut loir = Program::start(&setup, folder.path()).await;
    let waits = tokio::spawn(loir.get("hello", "/").send());
    eventually!(loir.journal("hello").contains(&"start".into()));
    loir.kill().await;
    assert!(waits.await.unwrap().is_err(), "nobody is left to answer");
    let process = latest_process(folder.path(), "hello");
    eventually!(!is_alive(process));
    assert_eq!(record(folder.path(), "hello")["state"], "waking");

    let loir = Program::start(&lasting([App::named("hello")]), folder.path()).await;
    loir.wake("hello").await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_in_the_middle_of_a_stop_leaves_nothing_and_the_next_one_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let app = || App::named("hello").env("STOP_MS", HOUR).with("idle_timeout: 10ms");
    let setup = gateway([app()]).keeps_state().provider("stop_grace: 1h");
    let mut loir = Program::start(&setup, folder.path()).await;
    let process = loir.wake("hello").await;
    eventually!(loir.journal("hello").contains(&"term".into()));
    assert_eq!(record(folder.path(), "hello")["state"], "stopping");
    loir.kill().await;
    let loir = Program::start(&lasting([app()]), folder.path()).await;
    assert_ne!(loir.wake("hello").await, process);
    assert!(!is_alive(process));
}

#[tokio::test]
async fn a_keeper_that_somebody_killed_is_replaced_and_knows_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let mut loir = Program::start(&lasting([App::named("hello").env("GRANDCHILD", 1)]), folder.path()).await;
    loir.wake("hello").await;
    let first = keeper_of(loir.id()).unwrap();
    kill(Pid::from_raw(first.cast_signed()), Signal::SIGKILL).unwrap();
    eventually!(keeper_of(loir.id()).is_some_and(|next| next != first), "nobody has to start an app for it");
    loir.says("the keeper of child processes is gone").await;
    // What it was told arrives before the end of the gateway: both come through one pipe.
    let family = family(folder.path(), "hello");
    loir.kill().await;
    eventually!(!family.iter().any(|&process| is_alive(process)));
}

#[tokio::test]
async fn apps_that_may_go_on_running_are_served_by_the_next_gateway_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let _cleared = Cleared(folder.path());
    let setup = leaving_running([App::named("hello").env("GRANDCHILD", 1)]);
    let mut loir = Program::start(&setup, folder.path()).await;
    let process = loir.wake("hello").await;
    eventually!(record(folder.path(), "hello")["state"] == "awake");
    loir.signal(Signal::SIGTERM);
    assert!(loir.ended().await.success());
    assert!(is_alive(process));

    let mut loir = Program::start(&setup, folder.path()).await;
    loir.says("found running").await;
    let answer = loir.get("hello", "/pid").send().await.unwrap();
    assert!(!answer.headers().contains_key("x-loir-cold-start"), "nobody waited");
    assert_eq!(answer.text().await.unwrap(), process.to_string());
    loir.kill().await;
    assert!(is_alive(process), "not even SIGKILL of the gateway ends them");

    let loir =
        Program::start(&leaving_running([App::named("hello").with("idle_timeout: 10ms")]), folder.path())
            .await;
    loir.says("asleep").await;
    assert!(!group_is_alive(process), "who took it over can also stop it");
    assert_eq!(loir.journal("hello").iter().filter(|line| *line == "start").count(), 1);
}

#[tokio::test]
async fn an_app_that_was_taken_out_of_the_file_meanwhile_does_not_go_on_running() {
    let folder = tempfile::tempdir().unwrap();
    let _cleared = Cleared(folder.path());
    let both = leaving_running([App::named("hello"), App::named("other")]);
    let mut loir = Program::start(&both, folder.path()).await;
    let process = loir.wake("hello").await;
    loir.signal(Signal::SIGTERM);
    assert!(loir.ended().await.success());
    assert!(is_alive(process));
    let loir = Program::start(&leaving_running([App::named("other")]), folder.path()).await;
    eventually!(!is_alive(process));
    assert!(loir.journal("hello").ends_with(&["term".into(), "end".into()]), "it ended in peace");
}

#[tokio::test]
async fn an_app_that_was_found_running_has_its_full_idle_time() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let _cleared = Cleared(folder.path());
    let setup = || leaving_running([App::named("hello").with("idle_timeout: 1m")]);
    let mut program = Program::start(&setup(), folder.path()).await;
    program.wake("hello").await;
    eventually!(record(folder.path(), "hello")["state"] == "awake");
    program.kill().await;
    let clock = Clock::manual();
    clock.advance(std::time::Duration::from_secs(86_400));
    let loir = setup().clock(&clock).start_in(folder.clone()).await;
    let minute = std::time::Duration::from_secs(60);
    assert_eq!(loir.sweep("hello").await, Slept::NotIdle(NotIdle::Recent(minute)));
    clock.advance(minute);
    let app = loir.app("hello");
    eventually!(app.state() == loir::app::AppState::Asleep);
}

#[tokio::test]
async fn an_app_that_was_found_in_the_middle_of_its_boot_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let _cleared = Cleared(folder.path());
    let setup = leaving_running([App::named("hello").env("NOT_READY_MS", 1500)]);
    let mut loir = Program::start(&setup, folder.path()).await;
    let waits = tokio::spawn(loir.get("hello", "/").send());
    eventually!(loir.journal("hello").contains(&"listen".into()));
    loir.kill().await;
    waits.abort();
    let process = latest_process(folder.path(), "hello");
    let loir = Program::start(&setup, folder.path()).await;
    assert_eq!(loir.wake("hello").await, process, "the same process, and its own first answer");
}

#[tokio::test]
async fn an_app_that_was_found_in_the_middle_of_its_stop_is_stopped_first() {
    let folder = tempfile::tempdir().unwrap();
    let _cleared = Cleared(folder.path());
    let app = || App::named("hello").env("STOP_MS", 1500).with("idle_timeout: 10ms");
    let setup = gateway([app()]).keeps_state().provider("leave_running: true");
    let mut loir = Program::start(&setup, folder.path()).await;
    let process = loir.wake("hello").await;
    eventually!(loir.journal("hello").contains(&"term".into()));
    loir.kill().await;
    let loir = Program::start(&setup, folder.path()).await;
    assert_ne!(loir.wake("hello").await, process);
    assert!(!is_alive(process));
}

#[tokio::test]
async fn records_that_were_cut_short_are_set_aside_with_a_word_and_the_gateway_starts() {
    let folder = tempfile::tempdir().unwrap();
    let setup = lasting([App::named("hello")]);
    let mut loir = Program::start(&setup, folder.path()).await;
    loir.wake("hello").await;
    loir.signal(Signal::SIGTERM);
    loir.ended().await;
    let state = folder.path().join("state");
    for file in ["registry.json", "processes-local.json"] {
        let whole = fs::read(state.join(file)).unwrap();
        fs::write(state.join(file), &whole[..whole.len() / 2]).unwrap();
    }
    let cut = fs::read(state.join("registry.json")).unwrap();

    let loir = Program::start(&setup, folder.path()).await;
    loir.says("registry.json is not a registry this version can read").await;
    loir.says("processes-local.json cannot be read").await;
    loir.wake("hello").await;
    let aside = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let aside =
        aside.into_iter().find(|path| path.to_string_lossy().contains("registry.json.set-aside")).unwrap();
    assert_eq!(fs::read(aside).unwrap(), cut, "as it was");
}

#[tokio::test]
async fn two_gateways_never_share_a_state_dir() {
    let folder = tempfile::tempdir().unwrap();
    let setup = lasting([App::named("hello")]);
    let loir = Program::start(&setup, folder.path()).await;
    let config = folder.path().join("second.yaml");
    fs::write(&config, setup.yaml(folder.path(), crate::support::program::free_address())).unwrap();
    let second = Program::refused(&config).await;
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("another gateway uses state_dir"), "{said}");
    assert!(said.contains(folder.path().join("state").to_str().unwrap()), "{said}");
    loir.wake("hello").await;
}

#[test]
fn a_keeper_without_a_gateway_ends_at_once() {
    let keeper = Command::new(env!("CARGO_BIN_EXE_loir")).arg("keeper").env_clear().output().unwrap();
    assert!(keeper.status.success());
}
