//! Several accounts and regions at once, and what a visitor sees of them.

use std::time::Duration;

use loir::{app::AppState, lifecycle::Slept};
use serde_json::Value;

use crate::{
    eventually,
    simulators::{CleverCloud, Fault, Outage, Platform, REGIONS, Scalingo},
    support::{paas::gateway_for, websocket},
};

async fn two_regions() -> (Scalingo, Vec<String>) {
    let platform = Scalingo::start().await;
    for region in REGIONS {
        platform.app("shop").region(region).add();
    }
    let entries = vec![platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1])];
    (platform, entries)
}

async fn json(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_found_in_two_entries_leads_to_the_first_and_with_the_entry_to_either() {
    let (platform, entries) = two_regions().await;
    platform.app("blog").region(REGIONS[1]).add();
    let loir = gateway_for(entries).start().await;
    for (host, region) in [
        ("shop", REGIONS[0]),
        ("shop--paris", REGIONS[0]),
        ("shop--secnum", REGIONS[1]),
        ("blog", REGIONS[1]),
        ("blog--secnum", REGIONS[1]),
    ] {
        assert_eq!(json(loir.get(host, "/where")).await["region"], region, "{host}");
    }
    assert_eq!(loir.get("blog--paris", "/").send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_whose_api_is_away_disturbs_no_other() {
    let (platform, entries) = two_regions().await;
    let setup = gateway_for(entries);
    let mut loir = setup.start().await;
    // The first region's API alone.
    let port = platform.api_url(REGIONS[0]);
    platform.fault(Fault::on("*", "*/v1/apps*").at(REGIONS[0]).always().drops());
    loir.list_again(&setup).await;
    assert_eq!(json(loir.get("shop--paris", "/")).await["region"], REGIONS[0], "{port}");
    assert_eq!(loir.stop_at("secnum", "shop").await, Slept::Yes);
    assert_eq!(json(loir.get("shop--secnum", "/")).await["region"], REGIONS[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_two_entries_see_is_looked_after_by_the_first() {
    let platform = CleverCloud::start().await;
    platform.app("shop").add();
    let loir = gateway_for([platform.entry("clever"), platform.entry_oauth("oauth")]).start().await;
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    let slept = loir.stop_at("oauth", "shop").await;
    assert!(matches!(&slept, Slept::Kept(reason) if reason.contains("clever/shop")), "{slept:?}");
    assert_eq!(platform.stops("shop"), 0, "in use through the other entry");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_refused_at_the_start_keeps_no_other_from_being_served() {
    let (platform, entries) = two_regions().await;
    platform.fault(Fault::on("GET", "/v1/apps").at(REGIONS[0]).always().text(403, "suspended"));
    let loir = gateway_for(entries).option("list_every: 100ms").start().await;
    assert_eq!(json(loir.get("shop", "/")).await["region"], REGIONS[1], "the name is free");
    platform.clear_faults();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_in_two_places_is_served_where_it_is_awake_and_woken_where_it_can_be() {
    let (platform, entries) = two_regions().await;
    let setup = gateway_for(entries).top("apps:\n  - name: store\n    replicas: [paris/shop, secnum/shop]");
    let loir = setup.start().await;
    let place = async || json(loir.get("store", "/")).await["region"].as_str().unwrap().to_owned();
    assert_eq!(place().await, REGIONS[0], "both are awake: the preferred one");
    assert_eq!(loir.stop_at("paris", "shop").await, Slept::Yes);
    assert_eq!(place().await, REGIONS[1], "the one that is awake");
    assert_eq!(loir.app_at("paris", "shop").state(), AppState::Asleep, "and the other sleeps on");
    assert_eq!(loir.stop_at("secnum", "shop").await, Slept::Yes);
    assert_eq!(place().await, REGIONS[0], "none is awake: the preferred one is woken");
    assert_eq!(loir.stop_at("paris", "shop").await, Slept::Yes);
    // The preferred one's API refuses to start anything.
    platform.fault(Fault::on("*", "*").at(REGIONS[0]).always().drops());
    assert_eq!(place().await, REGIONS[1], "it cannot be woken: the next one is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_stays_at_the_gateway() {
    let platform = Scalingo::start().await;
    platform.app("shop").add();
    platform.app("raw").add();
    let setup = gateway_for([platform.entry("cloud")]).option("apps:\n  - { name: raw, containment: false }");
    let loir = setup.start().await;
    let own = platform.host("shop");
    let head = async |app: &str, path: String| loir.get(app, &path).send().await.unwrap().headers().clone();

    let redirect = head("shop", format!("/redirect?to=http://{own}/login?next=/a")).await;
    assert_eq!(redirect["location"], "http://shop.test/login?next=/a");
    let elsewhere = head("shop", "/redirect?to=https://accounts.example.com/".into()).await;
    assert_eq!(elsewhere["location"], "https://accounts.example.com/");
    assert_eq!(head("shop", "/cookie".into()).await["set-cookie"], "sid=1; Path=/");

    let seen = loir.request("POST", "shop", "/form").header("origin", "http://shop.test");
    let seen = json(seen.header("referer", "http://shop.test/page").body("x=1")).await;
    let headers = &seen["headers"];
    assert_eq!(seen["host"], own.as_str(), "the router finds it by its own name");
    assert_eq!(headers["origin"], format!("http://{own}"), "so that a CSRF check agrees");
    assert_eq!(headers["referer"], format!("http://{own}/page"));
    assert_eq!(headers["x-forwarded-host"], "shop.test");
    let cors = loir.get("shop", "/echo-origin").header("origin", "http://shop.test").send().await.unwrap();
    assert_eq!(cors.headers()["access-control-allow-origin"], "http://shop.test");

    let raw = platform.host("raw");
    let redirect = head("raw", format!("/redirect?to=http://{raw}/login")).await;
    assert_eq!(redirect["location"], format!("http://{raw}/login"), "where it is turned off");
}

#[tokio::test(flavor = "multi_thread")]
async fn autoscalers_that_were_on_are_on_again_after_a_sleep() {
    let platform = Scalingo::start().await;
    platform.app("shop").formation(&[("web", 2), ("worker", 1)]).autoscaler("web").add();
    let loir = gateway_for([platform.entry("cloud")]).start().await;
    assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
    assert!(!platform.autoscaler_enabled("shop", "web"), "scaling by hand turns it off");
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    eventually!(platform.autoscaler_enabled("shop", "web"));
    assert_eq!(platform.formation("shop")["web"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_go_on_where_only_web_is_stopped() {
    let platform = Scalingo::start().await;
    platform.app("shop").formation(&[("web", 2), ("worker", 3)]).add();
    let setup = gateway_for([platform.entry("cloud")]).option("stop: web");
    let mut loir = setup.start().await;
    assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
    assert_eq!((platform.formation("shop")["web"], platform.formation("shop")["worker"]), (0, 3));
    loir.list_again(&setup).await;
    assert_eq!(loir.app_at("cloud", "shop").state(), AppState::Asleep, "running workers are no news");
    // Somebody takes a worker away meanwhile.
    platform.set_formation("shop", &[("worker", 2)]);
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    assert_eq!((platform.formation("shop")["web"], platform.formation("shop")["worker"]), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_with_a_one_off_container_is_not_stopped() {
    let platform = Scalingo::start().await;
    platform.app("shop").one_off().add();
    let loir = gateway_for([platform.entry("cloud")]).start().await;
    let kept = loir.stop_at("cloud", "shop").await;
    assert!(matches!(&kept, Slept::Kept(reason) if reason.contains("one-off")), "{kept:?}");
    assert_eq!(platform.stops("shop"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_vanished_while_it_slept_keeps_no_one_waiting() {
    let platform = Scalingo::start().await;
    platform.app("shop").formation(&[("web", 1), ("worker", 3)]).add();
    let loir = gateway_for([platform.entry("cloud")]).start().await;
    assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
    platform.drop_type("shop", "worker");
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_may_not_start_says_so_and_is_not_asked_again_at_once() {
    let platform = Scalingo::start().await;
    platform.app("shop").payment_missing().stopped().add();
    let loir = gateway_for([platform.entry("cloud")]).start().await;
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 502);
    let calls = platform.calls().len();
    let answer = loir.get("shop", "/").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(!answer.text().await.unwrap().contains("trial"), "no word of the provider reaches the public");
    assert_eq!(platform.calls().len(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_is_renewed_once_for_all() {
    let platform = Scalingo::start().await;
    for number in 0..10 {
        platform.app(&format!("app-{number}")).stopped().add();
    }
    let setup = gateway_for([platform.entry("cloud")]).option("budget: { requests_per_minute: 60000 }");
    let loir = setup.start().await;
    assert_eq!(platform.exchanges(), 1);
    platform.expire_jwts();
    let requests: Vec<_> =
        (0..10).map(|number| tokio::spawn(loir.get(&format!("app-{number}"), "/").send())).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(platform.exchanges(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_form_is_sent_once_and_never_lost_without_a_word() {
    let platform = Scalingo::start().await;
    platform.app("shop").add();
    let loir = gateway_for([platform.entry("cloud")]).start().await;
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    platform.set_formation("shop", &[("web", 0)]);
    eventually!(!platform.is_running("shop"));
    // The router has turned it away; its body may be gone with it.
    let answer = loir.request("POST", "shop", "/order").body("one apple").send().await.unwrap();
    assert!([200, 503].contains(&answer.status().as_u16()), "{answer:?}");
    let orders = |platform: &Scalingo| {
        platform.visits().iter().filter(|visit| visit.path == "/order" && visit.app.is_some()).count()
    };
    if answer.status() == 503 {
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(orders(&platform), 0);
        eventually!(loir.app_at("cloud", "shop").state() == AppState::Awake);
        let again = json(loir.request("POST", "shop", "/order").body("one apple")).await;
        assert_eq!(again["body"], "one apple");
    }
    assert_eq!(orders(&platform), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_503_is_passed_on_and_costs_no_call() {
    let platform = Scalingo::start().await;
    platform.app("shop").add();
    let loir = gateway_for([platform.entry("cloud")]).start().await;
    platform.clear_calls();
    for _ in 0..5 {
        let answer = loir.get("shop", "/status/503").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("x-app")), (503, true));
    }
    assert_eq!(platform.calls().len(), 0, "it does not carry the router's field");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_list_a_wake_and_a_stop_are_counted() {
    let platform = Scalingo::start().await;
    for number in 0..200 {
        platform.app(&format!("app-{number}")).stopped().add();
    }
    let setup = gateway_for([platform.entry("cloud")]);
    let mut loir = setup.start().await;
    let calls = |platform: &Scalingo| {
        platform.calls().iter().map(|call| format!("{} {}", call.method, call.path)).collect::<Vec<_>>()
    };
    assert_eq!(calls(&platform), ["POST /v1/tokens/exchange", "GET /v1/apps"]);
    platform.clear_calls();
    loir.list_again(&setup).await;
    assert_eq!(calls(&platform), ["GET /v1/apps"], "200 apps, one call");
    platform.clear_calls();
    assert_eq!(loir.get("app-7", "/").send().await.unwrap().status(), 200);
    assert_eq!(calls(&platform), ["GET /v1/apps/app-7/containers", "POST /v1/apps/app-7/scale"]);
    platform.clear_calls();
    assert_eq!(loir.stop_at("cloud", "app-7").await, Slept::Yes);
    let before: Vec<_> =
        ["GET /v1/apps", "GET /v1/apps/app-7/deployments?per_page=1", "GET /v1/apps/app-7/ps"]
            .into_iter()
            .chain(["GET /v1/apps/app-7/autoscalers"])
            .chain(["GET /v1/apps/app-7/containers", "POST /v1/apps/app-7/scale", "GET /v1/apps"])
            .collect();
    assert_eq!(calls(&platform), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_is_asked_on_its_interval_whoever_comes_or_not() {
    let platform = Scalingo::start().await;
    platform.app("shop").stopped().add();
    let setup = gateway_for([platform.entry("cloud")]).option("list_every: 100ms");
    let loir = setup.start().await;
    platform.app("blog").add();
    eventually!(loir.find("cloud", "blog").is_some());
    // Started by somebody else, by hand.
    platform.set_formation("shop", &[("web", 1)]);
    eventually!(loir.app_at("cloud", "shop").state() == AppState::Awake);
    platform.set_formation("shop", &[("web", 0)]);
    eventually!(loir.app_at("cloud", "shop").state() == AppState::Asleep);
    platform.delete("blog");
    eventually!(loir.find("cloud", "blog").is_none());
    platform.down(Outage::Unavailable);
    assert_eq!(loir.get("shop", "/.loir/status").send().await.unwrap().status(), 200);
    platform.down(Outage::None);
    platform.app("late").add();
    eventually!(loir.find("cloud", "late").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_app_at_a_platform_falls_asleep_by_itself() {
    let platform = Scalingo::start().await;
    platform.app("shop").formation(&[("web", 2)]).add();
    let loir = gateway_for([platform.entry("cloud")]).defaults("idle_timeout: 200ms").start().await;
    eventually!(platform.stops("shop") == 1);
    eventually!(loir.app_at("cloud", "shop").state() == AppState::Asleep);
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    assert_eq!(platform.formation("shop")["web"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_waits_for_the_quota_gives_way_to_a_request_at_once() {
    let platform = Scalingo::start().await;
    platform.app("shop").add();
    let loir = gateway_for([platform.entry("cloud")]).start().await;
    // From now on the platform wants no call for a while.
    platform.set_limit(Some(0));
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app_at("cloud", "shop"));
    let stop = tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await });
    eventually!(platform.limited_calls() > 0);
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200, "held for no more than a moment");
    assert!(matches!(stop.await.unwrap(), Slept::Kept(_)));
    assert_eq!((platform.stops("shop"), platform.starts("shop")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_stop_waits_for_the_stops_of_others_is_served_and_stays() {
    let platform = Scalingo::start().await;
    let names: Vec<_> = (0..6).map(|number| format!("shop{number}")).collect();
    for name in &names {
        platform.app(name).stop(Duration::from_secs(3)).add();
    }
    let setup = gateway_for([platform.entry("cloud")]).option("budget: { requests_per_minute: 60000 }");
    let loir = setup.start().await;
    let stops = names.iter().map(|name| {
        let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app_at("cloud", name));
        tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await })
    });
    let stops: Vec<_> = stops.collect();
    eventually!(names.iter().map(|name| platform.stops(name)).sum::<usize>() == 2);
    let waits = names.iter().find(|name| platform.stops(name) == 0).unwrap();
    assert_eq!(loir.get(waits, "/").send().await.unwrap().status(), 200);
    assert_eq!(platform.stops(waits), 0, "nobody had told it to stop, and then somebody came");
    for stop in stops {
        stop.await.unwrap();
    }
    assert_eq!(platform.stops(waits), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_app_is_served_while_the_api_hangs_in_the_last_look_before_its_stop() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    let loir = gateway_for([platform.entry("cloud")]).defaults("hold_timeout: 5s").start().await;
    platform.fault(Fault::on("*", "*").always().hangs());
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app_at("cloud", "shop"));
    tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await });
    eventually!(loir.app_at("cloud", "shop").state() == AppState::Stopping);
    let answer = loir.get("shop", "/").send().await.unwrap();
    assert_eq!(answer.status(), 200, "the app runs: only the API is away");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_comes_back_stops_no_app_with_an_open_websocket() {
    let platform = Scalingo::start().await;
    for region in REGIONS {
        platform.app("shop").region(region).add();
    }
    let (paris, secnum) = (platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1]));
    let both = gateway_for([paris.clone(), secnum.clone()]);
    let mut loir = both.start().await;
    let _open = websocket(loir.address, "shop--secnum.test").await;
    loir.list_again(&gateway_for([paris])).await;
    loir.list_again(&both).await;
    let stopped = loir.stop_at("secnum", "shop").await;
    assert!(matches!(stopped, Slept::Kept(_)), "{stopped:?} although a WebSocket is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_was_renamed_is_not_stopped_while_a_websocket_is_open() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    platform.add("blog", &[("web", 1)], true);
    let setup = gateway_for([platform.entry("cloud")]);
    let mut loir = setup.start().await;
    let _open = websocket(loir.address, "shop.test").await;
    platform.rename("shop", "boutique");
    loir.list_again(&setup).await;
    let stopped = loir.stop_at("cloud", "boutique").await;
    assert!(matches!(stopped, Slept::Kept(_)), "{stopped:?} although a WebSocket is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_app_can_take_the_full_name_of_another() {
    let platform = Scalingo::start().await;
    platform.app("shop").region(REGIONS[1]).add();
    platform.app("shop--secnum").region(REGIONS[0]).add();
    let entries = vec![platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1])];
    let loir = gateway_for(entries).start().await;
    let text = loir.get("shop--secnum", "/where").send().await.unwrap().text().await.unwrap();
    assert!(text.contains(&format!("\"region\":\"{}\"", REGIONS[1])), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_come_back_follows_the_app_and_not_its_name() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 2), ("worker", 3)], true);
    let setup = gateway_for([platform.entry("cloud")]);
    let mut loir = setup.start().await;
    assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
    platform.rename("shop", "shop-old");
    platform.add("shop", &[("web", 1), ("worker", 1)], false);
    loir.list_again(&setup).await;
    assert_eq!(loir.get("shop-old", "/").send().await.unwrap().status(), 200);
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    let is = (platform.formation("shop-old"), platform.formation("shop"));
    assert_eq!((is.0["web"], is.0["worker"], is.1["web"]), (2, 3, 1), "{is:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_made_anew_under_its_name_does_not_get_what_ran_before_it() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 4), ("worker", 3)], true);
    platform.add("blog", &[("web", 1)], true);
    let setup = gateway_for([platform.entry("cloud")]);
    let mut loir = setup.start().await;
    assert_eq!(loir.stop_at("cloud", "shop").await, Slept::Yes);
    platform.delete("shop");
    platform.add("shop", &[("web", 1), ("worker", 0)], false);
    loir.list_again(&setup).await;
    assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    let runs = platform.formation("shop");
    assert_eq!((runs["web"], runs["worker"]), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_sent_again_is_not_too_large() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    let loir = gateway_for([platform.entry("cloud")]).server("limits: { body: 60KiB }").start().await;
    let _ = loir.get("shop", "/").send().await.unwrap();
    platform.stop_by_hand("shop");
    eventually!(!platform.is_running("shop"));
    let answer = loir.request("PUT", "shop", "/x").body("x".repeat(40_000)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// A thousand apps, all wanted at once, by an account that may make 60 calls in a minute; the minute lasts a second. Loir keeps
/// to 45, since a busy machine may deliver late what was sent in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_quota_wakes_a_thousand_apps_once_each_and_every_client_is_told_how_long_it_takes() {
    const APPS: usize = 1000;
    let platform = Scalingo::start().await;
    for number in 0..APPS {
        platform.app(&format!("app-{number}")).stopped().add();
    }
    platform.set_limit_span(Duration::from_secs(1));
    platform.set_limit(Some(60));
    let setup = gateway_for([platform.entry("cloud")])
        .option("budget: { requests_per_minute: 1500 }")
        .defaults("hold_timeout: 3s");
    let loir = std::sync::Arc::new(setup.start().await);
    let clients: Vec<_> = (0..APPS)
        .map(|number| {
            let loir = loir.clone();
            tokio::spawn(async move {
                let (app, mut told) = (format!("app-{number}"), 0);
                loop {
                    let answer = loir.get(&app, "/").send().await.unwrap();
                    if answer.status() == 200 {
                        return told;
                    }
                    assert_eq!(answer.status(), 503, "{app}: {:?}", answer.text().await);
                    let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                    assert!((1..=120).contains(&seconds), "{seconds}");
                    told += 1;
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
            })
        })
        .collect();
    let mut told = Vec::new();
    for client in clients {
        told.push(client.await.unwrap());
    }
    // Whoever was told when to come back did not come many times in vain.
    assert!(told.iter().any(|times| *times > 0), "some were told to come back");
    assert!(told.iter().all(|times| *times <= 4), "{:?}", told.iter().max());
    assert_eq!(platform.limited_calls(), 0, "not one call more than the platform allows");
    for number in 0..APPS {
        assert_eq!(platform.starts(&format!("app-{number}")), 1, "app-{number}");
    }
}
