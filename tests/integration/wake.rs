//! Waking: one start however many ask, nothing lost, failures remembered.

use std::time::Duration;

use futures_util::future::join_all;
use loir::app::AppState;

use crate::{
    eventually,
    support::{App, gateway},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_start_one_process_and_all_get_its_answer() {
    let loir = gateway([App::named("hello").boots_in(Duration::from_secs(2))]).start().await;
    for run in 1..=3 {
        let requests = (0..1000).map(|_| loir.get("hello", "/pid").send());
        let mut pids = Vec::new();
        for answer in join_all(requests).await {
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.headers().contains_key("x-loir-cold-start"));
            pids.push(answer.text().await.unwrap());
        }
        pids.sort();
        pids.dedup();
        assert_eq!(pids.len(), 1, "run {run}: one process answered");
        assert_eq!(loir.times("hello", "start"), run, "one process was started");
        let app = loir.app("hello");
        let slept = loir.running.lifecycle().sleep(&app, Duration::ZERO).await;
        assert_eq!(slept, loir::lifecycle::Slept::Yes);
        assert_eq!(app.state(), AppState::Asleep);
    }
}

#[tokio::test]
async fn a_wake_survives_the_client_that_caused_it() {
    let loir = gateway([App::named("hello").boots_in(Duration::from_millis(500))]).start().await;
    let gone = tokio::time::timeout(Duration::from_millis(50), loir.get("hello", "/").send()).await;
    assert!(gone.is_err(), "it gave up");
    let app = loir.app("hello");
    eventually!(app.held() == 0, "its place is free again");
    eventually!(app.state() == AppState::Awake);
    assert_eq!(loir.times("hello", "GET /"), 0, "nobody asked the app in its name");
}
