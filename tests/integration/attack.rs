//! What an attacker found.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use loir::{app::AppState, lifecycle::Slept};
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    eventually,
    simulators::{Fault, Platform, REGIONS, Scalingo},
    support::paas::{Setup, gateway_for},
};

fn in_front_of(platform: &impl Platform) -> Setup {
    gateway_for([platform.entry("cloud")]).option("budget: { requests_per_minute: 60000 }")
}

/// The client of the request that doubts goes away while `ended` waits for the registry or for `order`.
#[tokio::test(flavor = "multi_thread")]
async fn t1_a_doubt_that_is_cancelled_leaves_no_app_stopping_for_ever() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    let loir = in_front_of(&platform).start().await;
    let app = loir.app_at("cloud", "shop");
    // Many times, since the moment is short: between `turn(Awake, Stopping)` and the end of the record's fsync.
    for round in 0..400_u64 {
        platform.stop_by_hand("shop");
        eventually!(!platform.is_running("shop"));
        let lifecycle = loir.running.lifecycle().clone();
        let (doubted, lifecycle) = (app.clone(), lifecycle);
        let mut confirm = Box::pin(async move { lifecycle.confirm(&doubted, true, Duration::from_secs(10)).await });
        // What `timeout(PATIENCE, confirm)` or Pingora's `try_join!` does to it: it is dropped at an await.
        let mut polls = 0;
        let result = std::future::poll_fn(|cx| {
            polls += 1;
            let answer = std::future::Future::poll(confirm.as_mut(), cx);
            if app.state() == AppState::Stopping && answer.is_pending() {
                return std::task::Poll::Ready(None);
            }
            answer.map(Some)
        })
        .await;
        drop(confirm);
        if result.is_none() {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let answer = tokio::time::timeout(Duration::from_secs(5), loir.get("shop", "/").send()).await;
            assert!(
                answer.is_ok(),
                "round {round}: the app is {:?} for ever, and its requests wait for ever",
                app.state()
            );
            return;
        }
        assert_eq!(loir.get("shop", "/").send().await.unwrap().status(), 200);
    }
}

/// After a restart of the gateway all apps are adopted at once, so all are idle at once, and two are stopped at a time.
#[tokio::test(flavor = "multi_thread")]
async fn t2_an_app_whose_stop_has_not_begun_is_served_at_once() {
    let platform = Scalingo::start().await;
    for n in 0..8 {
        platform.add(&format!("shop{n}"), &[("web", 1)], true);
        platform.set_stop(&format!("shop{n}"), Duration::from_secs(3));
    }
    let loir = in_front_of(&platform).start().await;
    let mut stops = Vec::new();
    for n in 0..8 {
        let lifecycle = loir.running.lifecycle().clone();
        let app = loir.app_at("cloud", &format!("shop{n}"));
        stops.push(tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await }));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(platform.is_running("shop7"), "nobody has told it to stop yet");
    let began = Instant::now();
    let answer = loir.get("shop7", "/").send().await.unwrap();
    let took = began.elapsed();
    assert_eq!(answer.status(), 200);
    assert!(took < Duration::from_secs(2), "a running app answered after {took:?}, state before: stopping");
}

/// The control API hangs while an app is idle: it runs on, and whoever comes must be served.
#[tokio::test(flavor = "multi_thread")]
async fn t3_a_running_app_is_served_while_the_api_hangs_in_the_last_look_before_a_stop() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    let loir = in_front_of(&platform).defaults("hold_timeout: 5s").start().await;
    platform.fault(Fault::on("*", "*").always().hangs());
    let (lifecycle, app) = (loir.running.lifecycle().clone(), loir.app_at("cloud", "shop"));
    tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await });
    eventually!(loir.app_at("cloud", "shop").state() == AppState::Stopping);
    let answer = loir.get("shop", "/").send().await.unwrap();
    assert_eq!(answer.status(), 200, "the app runs: only the API is away");
}

/// A provider whose API hangs (or wants a pause of 15 minutes) at start.
#[tokio::test(flavor = "multi_thread")]
async fn t4_a_hanging_provider_keeps_no_other_from_being_served_at_start() {
    let platform = Scalingo::start().await;
    for region in REGIONS {
        platform.app("shop").region(region).add();
    }
    let entries = vec![platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1])];
    platform.fault(Fault::on("*", "*/v1/apps*").at(REGIONS[0]).always().hangs());
    let started = tokio::time::timeout(Duration::from_secs(12), gateway_for(entries).start()).await;
    let loir = started.unwrap_or_else(|_| panic!("the gateway serves nobody while one API hangs"));
    assert_eq!(loir.get("shop--secnum", "/").send().await.unwrap().status(), 200);
}

/// A status that is neither 500, 502, 503 nor 504: 403 of a suspended account, 520 of a CDN before the API.
#[tokio::test(flavor = "multi_thread")]
async fn t5_a_provider_that_refuses_its_list_keeps_the_gateway_from_starting_at_all() {
    let platform = Scalingo::start().await;
    for region in REGIONS {
        platform.app("shop").region(region).add();
    }
    let entries = vec![platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1])];
    platform.fault(Fault::on("*", "*/v1/apps*").at(REGIONS[0]).always().html(520));
    let loir = gateway_for(entries).start().await;
    assert_eq!(loir.get("shop--secnum", "/").send().await.unwrap().status(), 200);
}

/// An entry is taken out and put in again: the new cell knows nothing of what is in flight.
#[tokio::test(flavor = "multi_thread")]
async fn t6_an_entry_that_comes_back_stops_no_app_with_a_websocket() {
    let platform = Scalingo::start().await;
    for region in REGIONS {
        platform.app("shop").region(region).add();
    }
    let (paris, secnum) = (platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1]));
    let both = gateway_for([paris.clone(), secnum.clone()]);
    let mut loir = both.start().await;
    let stream = TcpStream::connect(loir.address).await.unwrap();
    let (mut socket, _) = client_async("ws://shop--secnum.test/ws", stream).await.unwrap();
    socket.send(Message::text("1")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1"));
    loir.list_again(&gateway_for([paris])).await;
    loir.list_again(&both).await;
    let stopped = loir.stop_at("secnum", "shop").await;
    assert!(matches!(stopped, Slept::NotIdle(_)), "{stopped:?} although a WebSocket is open");
}

/// The same by two lists that lack the app.
#[tokio::test(flavor = "multi_thread")]
async fn t7_an_app_that_was_missing_and_is_back_is_not_stopped_with_a_websocket() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    platform.add("blog", &[("web", 1)], true);
    let setup = in_front_of(&platform);
    let mut loir = setup.start().await;
    let stream = TcpStream::connect(loir.address).await.unwrap();
    let (mut socket, _) = client_async("ws://shop.test/ws", stream).await.unwrap();
    socket.send(Message::text("1")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1"));
    platform.rename("shop", "boutique");
    loir.list_again(&setup).await;
    let stopped = loir.stop_at("cloud", "boutique").await;
    assert!(matches!(stopped, Slept::NotIdle(_)), "{stopped:?} although a WebSocket is open");
}

/// `NAME--ENTRY` always names one app.
#[tokio::test(flavor = "multi_thread")]
async fn t8_no_app_can_take_the_full_name_of_another() {
    let platform = Scalingo::start().await;
    platform.app("shop").region(REGIONS[1]).add();
    platform.app("shop--secnum").region(REGIONS[0]).add();
    let entries = vec![platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1])];
    let loir = gateway_for(entries).start().await;
    let text = loir.get("shop--secnum", "/where").send().await.unwrap().text().await.unwrap();
    assert!(text.contains(&format!("\"region\":\"{}\"", REGIONS[1])), "{text}");
}

/// The API hangs, and an app answers what might be its router's page.
#[tokio::test(flavor = "multi_thread")]
async fn t9_an_own_503_costs_its_visitors_ten_seconds_each_only_once() {
    let platform = crate::simulators::Heroku::start().await;
    platform.add("shop", &[("web", 1)], true);
    let loir = in_front_of(&platform).start().await;
    platform.fault(Fault::on("*", "*").always().hangs());
    let mut took = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        let status = loir.get("shop", "/html-status/503").send().await.unwrap().status();
        took.push((status, began.elapsed()));
    }
    assert!(took[1].1 < Duration::from_secs(2), "{took:?}");
}

/// Between two lists somebody renames an app and gives its old name to a new one (blue and green).
#[tokio::test(flavor = "multi_thread")]
async fn t10_what_must_come_back_follows_the_app_and_not_its_name() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 2), ("worker", 3)], true);
    let setup = in_front_of(&platform);
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

/// An account of many apps, at a start of the gateway with `state_dir`: each app's record is a write of the whole file.
#[tokio::test(flavor = "multi_thread")]
async fn t12_the_first_list_of_many_apps_is_taken_in_quickly() {
    let platform = Scalingo::start().await;
    let mut took = Vec::new();
    for more in [500, 1500] {
        for n in 0..more {
            platform.app(&format!("a{more}-{n}")).stopped().add();
        }
        let setup = in_front_of(&platform);
        let began = Instant::now();
        drop(setup.start().await);
        took.push((more, began.elapsed()));
    }
    assert!(took[1].1 < Duration::from_secs(1), "{took:?}");
}

/// A body that is sent again counts once.
#[tokio::test(flavor = "multi_thread")]
async fn t13_a_body_that_is_sent_again_is_not_too_large() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    let loir = gateway_for([platform.entry("cloud")]).top("").start().await;
    let _ = loir.get("shop", "/").send().await.unwrap();
    platform.stop_by_hand("shop");
    eventually!(!platform.is_running("shop"));
    let answer = loir.request("PUT", "shop", "/x").body("x".repeat(40_000)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// An awake app whose own host name changes (at Clever Cloud by removing a domain).
#[tokio::test(flavor = "multi_thread")]
async fn t11_a_doubt_of_an_idle_account_is_not_cancelled_by_patience() {
    let platform = Scalingo::start().await;
    platform.add("shop", &[("web", 1)], true);
    let loir = in_front_of(&platform).start().await;
    platform.stop_by_hand("shop");
    eventually!(!platform.is_running("shop"));
    // The provider's answer needs a little longer than the gateway's patience.
    platform.fault(Fault::on("GET", "*").always().delays(Duration::from_secs(11)));
    let first = loir.get("shop", "/").send().await.unwrap();
    let second = loir.get("shop", "/").send().await.unwrap();
    assert!(
        second.headers().get("x-scalingo-error").is_none(),
        "{}: the provider has said that it is stopped, and nobody was there to hear it; {:?}",
        second.status(),
        first.status()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn t14_where_the_time_goes() {
    let platform = Scalingo::start().await;
    for n in 0..2000 {
        platform.app(&format!("a-{n}")).stopped().add();
    }
    let setup = in_front_of(&platform);
    let began = Instant::now();
    let mut loir = setup.start().await;
    let first = began.elapsed();
    let began = Instant::now();
    loir.list_again(&setup).await;
    panic!("first list {first:?}, second {:?}", began.elapsed());
}
