//! One story, told of every platform: what a gateway in front of an account does, and how many calls it costs.

use std::time::Duration;

use loir::{
    app::AppState,
    clock::Clock,
    lifecycle::{Slept, cell::NotIdle},
};

use crate::{
    eventually,
    simulators::{Answer, CleverCloud, Fault, Heroku, Outage, Platform, Scalingo},
    support::paas::{Setup, gateway_for},
};

/// A test for each platform, from one function that is told which.
macro_rules! on_every_platform {
    ($($(#[$meta:meta])* async fn $name:ident($platform:ident: &impl Platform) $body:block)*) => { $(
        mod $name {
            use super::*;

            async fn story($platform: &impl Platform) $body

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread")]
            async fn scalingo() {
                story(&Scalingo::start().await).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread")]
            async fn heroku() {
                story(&Heroku::start().await).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread")]
            async fn clever_cloud() {
                story(&CleverCloud::start().await).await;
            }
        }
    )* };
}

pub(crate) use on_every_platform;

/// A gateway in front of the account, whose quota is no matter here.
fn in_front_of(platform: &impl Platform) -> Setup {
    gateway_for([platform.entry("cloud")]).option("budget: { requests_per_minute: 60000 }")
}

const USUAL: &[(&str, u32)] = &[("web", 2), ("worker", 3), ("clock", 0)];

on_every_platform! {
    async fn a_sleeping_app_is_woken_by_its_first_request_and_answers_it(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let loir = in_front_of(platform).start().await;
        assert_eq!(loir.app_at("cloud", "shop").state(), AppState::Asleep);
        let answer = loir.get("shop", "/hello").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        assert!(answer.headers().contains_key("x-loir-cold-start"));
        assert_eq!((platform.starts("shop"), platform.served("shop") >= 1), (1, true));
    }

    async fn what_ran_before_a_sleep_runs_after_it(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let before = platform.formation("shop");
        let loir = in_front_of(platform).start().await;
        assert_eq!(loir.app_at("cloud", "shop").state(), AppState::Awake, "found running");
        for run in 1..=3 {
            assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
            assert!(!platform.is_running("shop"));
            assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
            assert_eq!(platform.formation("shop"), before, "after sleep {run}");
        }
    }

    async fn a_deployment_counts_as_activity(platform: &impl Platform) {
        let hour = Duration::from_secs(3600);
        for app in ["shop", "blog"] {
            platform.add(app, USUAL, true);
        }
        // Its wall clock will show the platform's time and a minute, and nobody will have used the apps for four hours.
        let now = Clock::system().unix_millis();
        let clock = Clock::manual_at(now - 4 * 3_600_000);
        let setup = in_front_of(platform).clock(&clock);
        let mut loir = setup.start().await;
        clock.advance(4 * hour + Duration::from_secs(60));
        let lifecycle = loir.running.lifecycle().clone();
        for app in ["shop", "blog"] {
            platform.begin_deployment(app);
            platform.end_deployment(app);
        }
        let (shop, blog) = (loir.app_at("cloud", "shop"), loir.app_at("cloud", "blog"));
        let slept = lifecycle.sleep(&shop, hour).await;
        assert!(matches!(&slept, Slept::Kept(why) if why.contains("deployed")), "before the next list: {slept:?}");
        assert_eq!((shop.state(), platform.stops("shop")), (AppState::Awake, 0));
        let slept = lifecycle.sleep(&shop, hour).await;
        let recent = |slept: &Slept| matches!(slept, Slept::NotIdle(NotIdle::Recent(left)) if *left < hour);
        assert!(recent(&slept), "its idle time has begun anew with the deployment: {slept:?}");
        loir.list_again(&setup).await;
        let slept = lifecycle.sleep(&blog, hour).await;
        match platform.entry("cloud").contains("clever_cloud") {
            // Its list does not tell.
            true => assert!(matches!(slept, Slept::Kept(_)), "{slept:?}"),
            false => assert!(recent(&slept), "{slept:?}"),
        }
        assert_eq!(lifecycle.sleep(&blog, Duration::ZERO).await, Slept::Yes, "whoever forces it does not ask");
    }

    async fn what_the_platform_calls_a_start_is_told(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let loir = in_front_of(platform).start().await;
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        let told = loir.running.lifecycle().outlook(&loir.app_at("cloud", "shop")).last_operation;
        // Heroku has no name for it.
        assert_eq!(told.is_some(), !platform.entry("cloud").contains("type: heroku"), "{told:?}");
    }

    async fn a_request_to_a_running_app_costs_no_call(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).start().await;
        platform.clear_calls();
        for _ in 0..20 {
            assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        }
        assert_eq!(platform.calls().len(), 0, "{:?}", platform.calls());
    }

    async fn many_first_requests_cause_one_start(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let loir = in_front_of(platform).start().await;
        let requests: Vec<_> = (0..50).map(|_| tokio::spawn(loir.get("shop", "/").send())).collect();
        for request in requests {
            assert_eq!(request.await.unwrap().unwrap().status(), 200);
        }
        assert_eq!(platform.starts("shop"), 1);
    }

    async fn an_app_that_somebody_stopped_is_woken_and_the_routers_page_is_not_shown(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).start().await;
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        platform.stop_by_hand("shop");
        eventually!(!platform.is_running("shop"));
        let answer = loir.get("shop", "/late").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        assert!(loir.visit("shop", "/").send().await.unwrap().status().is_success());
        assert_eq!(platform.starts("shop"), 1);
    }

    async fn a_person_who_comes_to_an_app_that_somebody_stopped_gets_the_holding_page(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).start().await;
        platform.stop_by_hand("shop");
        eventually!(!platform.is_running("shop"));
        platform.set_boot("shop", Duration::from_secs(4));
        let answer = loir.visit("shop", "/").send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["x-loir-state"], "waking");
        let page = answer.text().await.unwrap();
        assert!(page.contains("Shop is waking up"), "our page, not the router's: {page}");
    }

    async fn a_list_that_fails_or_is_empty_makes_nothing_vanish(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let setup = in_front_of(platform);
        let mut loir = setup.start().await;
        platform.down(Outage::Unavailable);
        loir.list_again(&setup).await;
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200, "the API is away, the app is not");
        platform.down(Outage::None);
        for _ in 0..3 {
            platform.fault(Fault::on("GET", "*").always().text(200, "{\"apps\": ["));
            loir.list_again(&setup).await;
            platform.clear_faults();
        }
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    }

    async fn a_gateway_that_starts_while_the_api_is_away_serves_what_ran_before(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let setup = in_front_of(platform).option("list_every: 200ms");
        let loir = setup.start().await;
        let left = std::sync::Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(left.path().join("state")).unwrap();
        let kept = |folder: &tempfile::TempDir| folder.path().join("state/apps-cloud.json");
        std::fs::copy(kept(&loir.folder), kept(&left)).unwrap();
        platform.down(Outage::Refused);
        let again = setup.start_in(left).await;
        assert_eq!(again.get("shop", "/").send().await.unwrap().status(), 200);
        platform.down(Outage::None);
        platform.add("late", USUAL, true);
        eventually!(again.find("cloud", "late").is_some());
        assert_eq!(again.app_at("cloud", "shop").state(), AppState::Awake);
    }

    async fn a_surprise_brings_the_next_list_forward(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).option("list_every: 1h").start().await;
        platform.add("late", USUAL, true);
        // Somebody stops an app, and a request finds out.
        platform.stop_by_hand("shop");
        eventually!(!platform.is_running("shop"));
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        eventually!(loir.find("cloud", "late").is_some());
    }

    async fn a_deleted_app_goes_and_a_new_one_comes(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        platform.add("blog", USUAL, true);
        let setup = in_front_of(platform);
        let mut loir = setup.start().await;
        platform.delete("shop");
        platform.add("shop-pr12", USUAL, false);
        loir.list_again(&setup).await;
        assert!(loir.find("cloud", "shop").is_some(), "one list may be wrong");
        loir.list_again(&setup).await;
        assert!(loir.find("cloud", "shop").is_none());
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 404);
        assert_eq!(loir.get("shop-pr12", "/").send().await.unwrap().status(), 200);
        assert_eq!(platform.stops("blog"), 0);
    }

    async fn a_renamed_app_keeps_what_must_come_back(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let before = platform.formation("shop");
        let setup = in_front_of(platform);
        let mut loir = setup.start().await;
        assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
        platform.rename("shop", "boutique");
        loir.list_again(&setup).await;
        assert_eq!(loir.get("boutique", "/").send().await.unwrap().status(), 200);
        assert_eq!(platform.formation("boutique"), before);
    }

    async fn what_must_come_back_survives_a_crash_between_saving_and_stopping(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let before = platform.formation("shop");
        let setup = in_front_of(platform);
        let loir = setup.start().await;
        let folder = loir.folder.clone();
        // The stop hangs; the gateway ends in the middle of it.
        platform.fault(Fault::on("*", "*/scale").always().hangs());
        platform.fault(Fault::on("PATCH", "*/formation").always().hangs());
        platform.fault(Fault::on("DELETE", "*/instances").always().hangs());
        let lifecycle = loir.running.lifecycle().clone();
        let app = loir.app_at("cloud", "shop");
        let stop = tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await });
        eventually!(platform.calls().iter().any(|call| call.method != "GET" && !call.path.contains("token")));
        // As it stands on the disk when the process dies here.
        let left = std::sync::Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(left.path().join("state")).unwrap();
        let records = |folder: &tempfile::TempDir| folder.path().join("state/registry.json");
        std::fs::copy(records(&folder), records(&left)).unwrap();
        stop.abort();
        platform.clear_faults();
        let loir = setup.start_in(left).await;
        assert_eq!(loir.app_at("cloud", "shop").state(), AppState::Awake, "it was never stopped");
        assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        assert_eq!(platform.formation("shop"), before);
    }

    async fn whoever_rescaled_it_while_it_slept_is_right(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).start().await;
        assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
        let first = platform.formation("shop").into_keys().next_back().unwrap();
        let name = if first == "worker" { "web".to_owned() } else { first };
        platform.set_formation("shop", &[(&name, 1)]);
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        assert_eq!(platform.formation("shop")[&name], 1);
    }

    async fn apps_in_odd_states_are_left_alone_and_the_reason_is_kept(platform: &impl Platform) {
        platform.add_never_deployed("new");
        platform.add("odd", USUAL, true);
        platform.set_unknown_state("odd");
        let loir = in_front_of(platform).start().await;
        let reason = |app: &str| loir.app_at("cloud", app).left_alone();
        if let Some(reason) = reason("odd") {
            assert!(reason.contains("frobnicating"), "{reason}");
            assert!(matches!(loir.stop_at("cloud", "odd").await, Slept::Kept(_)));
        }
        platform.clear_calls();
        let answer = loir.get("new", "/").send().await.unwrap();
        assert!(answer.status().is_server_error());
        assert_eq!(platform.starts("new"), 0);
        assert_eq!(platform.stops("odd"), 0);
    }

    async fn an_app_that_is_being_deployed_is_not_stopped(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).start().await;
        platform.begin_deployment("shop");
        let kept = loir.stop_at("cloud", "shop").await;
        assert!(matches!(kept, Slept::Kept(_)), "{kept:?}");
        assert_eq!(platform.stops("shop"), 0);
        platform.end_deployment("shop");
        eventually!(loir.stop_at("cloud", "shop").await == Slept::Yes);
    }

    async fn excluded_apps_are_proxied_while_they_run_and_neither_woken_nor_stopped(platform: &impl Platform) {
        platform.add("shop-production", USUAL, true);
        platform.add("loir", USUAL, false);
        let setup = in_front_of(platform).top("manage:\n  exclude: [\"loir*\", \"*-production\"]");
        let loir = setup.start().await;
        assert_eq!(loir.get("shop-production", "/").send().await.unwrap().status(), 200);
        assert!(matches!(loir.stop_at("cloud", "shop-production").await, Slept::Kept(_)));
        let answer = loir.get("loir", "/").send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!((platform.starts("loir"), platform.stops("shop-production")), (0, 0));
    }

    async fn a_wake_that_meets_a_stop_waits_for_its_end_and_then_starts(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        platform.set_stop("shop", Duration::from_millis(1500));
        let before = platform.formation("shop");
        let loir = in_front_of(platform).start().await;
        let lifecycle = loir.running.lifecycle().clone();
        let app = loir.app_at("cloud", "shop");
        let stop = tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await });
        eventually!(platform.stops("shop") == 1);
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        assert_eq!(stop.await.unwrap(), Slept::Yes);
        assert_eq!(platform.formation("shop"), before);
    }

    async fn errors_of_every_shape_end_in_an_answer_and_the_app_comes_back(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let loir = in_front_of(platform).start().await;
        for fault in [
            Fault::on("GET", "*").html(502),
            Fault::on("GET", "*").drops(),
            Fault::on("GET", "*").text(500, "Internal error"),
            Fault::on("POST", "*/scale").text(503, "Sorry"),
            Fault::on("PATCH", "*/formation").drops(),
            Fault::on("POST", "*/instances").html(500),
        ] {
            platform.fault(fault);
        }
        let answer = loir.get("shop", "/").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        assert_eq!(platform.starts("shop"), 1, "one start, whatever went wrong on the way");
    }

    async fn a_start_whose_answer_is_lost_is_not_started_twice(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let before = platform.id("shop");
        let loir = in_front_of(platform).start().await;
        for (method, path) in [("POST", "*/scale"), ("PATCH", "*/formation"), ("POST", "*/instances")] {
            platform.fault(Fault::on(method, path).drops_after());
        }
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        assert_eq!((platform.starts("shop"), platform.id("shop")), (1, before));
    }

    async fn a_call_that_hangs_is_made_again_and_the_app_is_woken_once(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let loir = in_front_of(platform).option("operation_timeout: 500ms").start().await;
        platform.fault(Fault::on("GET", "*").hangs());
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        assert_eq!(platform.starts("shop"), 1);
    }

    async fn a_platform_that_wants_fewer_calls_is_left_in_peace_and_the_app_is_woken_once(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        let loir = in_front_of(platform).start().await;
        let answer = Answer::text(429, "Retry later").header("retry-after", 1);
        platform.fault(Fault::on("*", "*").times(2).answers(answer));
        platform.clear_calls();
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        assert_eq!(platform.starts("shop"), 1);
        let calls = platform.calls();
        let refused: Vec<_> = calls.iter().filter(|call| call.status == 429).collect();
        assert_eq!(refused.len(), 2, "{calls:?}");
        assert!(refused[1].at - refused[0].at >= Duration::from_millis(900), "no call while it wants none");
    }

    async fn an_app_that_was_deleted_while_it_slept_is_not_started_and_harms_no_other(platform: &impl Platform) {
        platform.add("shop", USUAL, false);
        platform.add("blog", USUAL, true);
        let loir = in_front_of(platform).start().await;
        platform.delete("shop");
        let answer = loir.get("shop", "/").send().await.unwrap();
        assert_eq!(answer.status(), 502);
        assert_eq!(loir.get("blog", "/").send().await.unwrap().status(), 200);
    }

    async fn two_who_stop_one_app_stop_it_once(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).start().await;
        let (first, second) = tokio::join!(loir.stop_at("cloud", "shop"), loir.stop_at("cloud", "shop"));
        assert!([&first, &second].contains(&&Slept::Yes), "{first:?}, {second:?}");
        assert_eq!(platform.stops("shop"), 1);
        assert!(matches!(loir.stop_at("cloud", "shop").await, Slept::NotIdle(_)), "it sleeps already");
        assert_eq!(platform.stops("shop"), 1);
    }

    async fn a_wrong_token_is_not_tried_again_and_a_reload_with_the_right_one_helps(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let setup = in_front_of(platform);
        platform.revoke_token();
        let mut loir = setup.start().await;
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 404, "nothing is known of it");
        let calls = platform.calls().len();
        assert!((1..=3).contains(&calls), "{:?}", platform.calls());
        platform.restore_token();
        loir.list_again(&setup).await;
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    }

    async fn a_crashed_app_is_started_again_by_the_next_request(platform: &impl Platform) {
        platform.add("shop", USUAL, true);
        let loir = in_front_of(platform).start().await;
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
        platform.crash("shop");
        if platform.id("shop").starts_with("app_") {
            // Clever Cloud's own monitoring deploys a crashed app again; until then it is left alone.
            assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 503);
            assert_eq!(platform.count("POST", "*/instances"), 0);
            return;
        }
        eventually!(loir.get("shop", "/").send().await.unwrap().status() == 200);
        assert!(platform.is_running("shop"));
    }
}
