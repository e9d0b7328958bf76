//! Records that could not be written: the app is served all the same, and once the disk is well nothing is left of it.

use std::{path::PathBuf, time::Duration};

use loir::{app::AppState, lifecycle::Slept};

use crate::{
    eventually,
    support::{App, Gateway, gateway},
};

/// The file that the registry writes beside its own. While a folder stands there, no record can be written.
fn in_the_way(loir: &Gateway) -> PathBuf {
    loir.folder.path().join("state").join("registry.json.new")
}

async fn kill_the_app(loir: &Gateway) {
    let pid: i32 = loir.get("hello", "/pid").send().await.unwrap().text().await.unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually!(loir.app("hello").state() == AppState::Failed);
}

#[tokio::test]
async fn an_app_that_crashes_while_records_cannot_be_written_wakes_again() {
    let loir = gateway([App::named("hello")]).keeps_state().start().await;
    loir.wake("hello").await;
    eventually!(std::fs::create_dir(in_the_way(&loir)).is_ok(), "the record of the wake is written");
    kill_the_app(&loir).await;
    std::fs::remove_dir(in_the_way(&loir)).unwrap();
    eventually!(
        loir.get("hello", "/pid").send().await.unwrap().status() == 200,
        "after its back-off it wakes"
    );
}

#[tokio::test]
async fn an_app_that_woke_while_records_could_not_be_written_sleeps_again() {
    let loir = gateway([App::named("hello")]).keeps_state().start().await;
    std::fs::create_dir(in_the_way(&loir)).unwrap();
    loir.wake("hello").await;
    let app = loir.app("hello");
    let blind = loir.running.lifecycle().sleep(&app, Duration::ZERO).await;
    assert!(matches!(blind, Slept::Kept(_)), "nothing is stopped while records cannot be kept: {blind:?}");
    std::fs::remove_dir(in_the_way(&loir)).unwrap();
    assert_eq!(loir.running.lifecycle().sleep(&app, Duration::ZERO).await, Slept::Yes);
    assert_eq!(app.state(), AppState::Asleep);
}
