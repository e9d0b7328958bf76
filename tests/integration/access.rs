//! Who may wake an app: tokens, signed links, networks; and what everybody else sees.

use std::time::Duration;

use loir::{
    app::{AppId, AppState},
    clock::Clock,
    config::Environment,
    credentials::{Credentials, LINK_PATH},
    lifecycle::Cause,
    server,
};
use reqwest::{RequestBuilder, Response};

use crate::{
    eventually,
    support::{App, Gateway, gateway},
};

const ADMIN: &str = "admin:\n  listen: off\n  signing_key: 0123456789abcdef0123456789abcdef\n  tokens:\n    \
    - { name: deploy, token: t-operate-0123456789abcdef, scopes: operate }\n    \
    - { name: eye, token: t-read-0123456789abcdef, scopes: read }";
const OPERATE: &str = "t-operate-0123456789abcdef";
const READ: &str = "t-read-0123456789abcdef";

fn field<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

/// An app that only these may wake.
async fn wakes(who: &str, clock: &Clock) -> Gateway {
    let rules = format!("{ADMIN}\nrules:\n  - match: hello\n    access: {{ wake: {who} }}");
    let setup = gateway([App::named("hello"), App::named("other")]).server("trusted_proxies: [loopback]");
    setup.top(&rules).clock(clock).start().await
}

/// A link for the app as the admin side signs it, good for so long.
fn link(app: &str, clock: &Clock, length: Duration) -> String {
    let text = format!("{ADMIN}\nproviders: []\n");
    let plan = server::load(server::Source { name: "x".into(), text }, &Environment::default());
    let admin = plan.unwrap_or_else(|problems| panic!("{problems}")).config.admin;
    let (credentials, _) = Credentials::open(&admin, None).unwrap();
    let until = clock.unix_millis() + u64::try_from(length.as_millis()).unwrap();
    format!("{LINK_PATH}{}", credentials.sign_link(&AppId::new("local", app), until))
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn whoever_may_not_wake_an_app_is_told_that_it_sleeps_each_in_a_form_they_understand() {
    let loir = wakes("[token, link, 192.0.2.0/24]", &Clock::manual()).await;
    for (language, words, ways) in [
        (
            "en",
            "Hello is asleep",
            "a token or a wake-up link that was sent to you or a computer in its own network",
        ),
        ("fr", "Hello dort", "un jeton ou un lien de réveil"),
    ] {
        let answer = send(loir.visit("hello", "/").header("accept-language", language)).await;
        assert_eq!((answer.status().as_u16(), field(&answer, "x-loir-state")), (503, "asleep"));
        let page = answer.text().await.unwrap();
        assert!(page.contains(words) && page.contains(ways), "{page}");
        assert!(!page.contains("192.0.2"), "which network is nobody's business");
    }
    let answer = send(loir.get("hello", "/api")).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "content-type")), (503, "application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(problem["loir"]["state"], "asleep");
    let pressed = loir.request("POST", "hello", "/.loir/wake").header("sec-fetch-site", "same-origin");
    assert_eq!(send(pressed).await.status(), 403);
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
    assert_eq!(loir.journal("hello"), Vec::<String>::new());
    assert_eq!(send(loir.get("other", "/pid")).await.status(), 200, "another app has no such rule");
}

#[tokio::test]
async fn whoever_may_not_wake_an_app_is_served_while_it_is_awake_and_keeps_it_so() {
    let clock = Clock::manual();
    let loir = wakes("192.0.2.0/24", &clock).await;
    let inside = loir.get("hello", "/pid").header("x-forwarded-for", "192.0.2.7");
    assert_eq!(send(inside).await.status(), 200, "its own network wakes it");
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0);
    clock.advance(HOUR - Duration::from_secs(1));
    let outside = loir.get("hello", "/pid").header("x-forwarded-for", "198.51.100.7");
    assert_eq!(send(outside).await.status(), 200);
    eventually!(app.in_flight() == 0);
    clock.advance(Duration::from_secs(2));
    assert_ne!(loir.sweep("hello").await, loir::lifecycle::Slept::Yes, "it was used a moment ago");
}

#[tokio::test]
async fn a_token_that_may_operate_wakes_the_app_and_never_reaches_it() {
    let loir = wakes("token", &Clock::manual()).await;
    for wrong in ["t-wrong", READ, ""] {
        let answer = send(loir.get("hello", "/headers").header("x-loir-token", wrong)).await;
        assert_eq!(answer.status(), 503, "{wrong}");
    }
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
    let answer = send(loir.get("hello", "/headers").header("X-Loir-Token", OPERATE)).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.text().await.unwrap().contains(OPERATE));
    assert_eq!(loir.app("hello").run().unwrap().cause, Cause::Person { name: "deploy".into() });
    // Also to an app without any rule, and in whatever spelling.
    for name in ["X-Loir-Token", "x_loir_token", "X-LOIR-TOKEN"] {
        let seen = send(loir.get("other", "/headers").header(name, OPERATE)).await.text().await.unwrap();
        assert!(!seen.contains(OPERATE), "{name}: {seen}");
    }
}

#[tokio::test]
async fn whoever_guesses_tokens_is_soon_not_heard_any_more() {
    let clock = Clock::manual();
    let loir = wakes("token", &clock).await;
    let guess = |from: &'static str, token: &str| {
        let request = loir.get("hello", "/pid").header("x-forwarded-for", from);
        send(request.header("x-loir-token", token))
    };
    for number in 0..20 {
        assert_eq!(guess("198.51.100.1", &format!("t-{number}")).await.status(), 503);
    }
    assert_eq!(guess("198.51.100.1", OPERATE).await.status(), 503, "not even with the right one");
    assert_eq!(guess("198.51.100.2", OPERATE).await.status(), 200, "somebody else is");
}

#[tokio::test]
async fn a_signed_link_wakes_the_app_it_was_signed_for_and_sends_on_to_it() {
    let clock = Clock::manual();
    let loir = wakes("link", &clock).await;
    let good = link("hello", &clock, HOUR);
    let answer = send(loir.visit("hello", &good)).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "location")), (303, "/"));
    assert_eq!(
        (field(&answer, "cache-control"), field(&answer, "referrer-policy")),
        ("no-store", "no-referrer")
    );
    eventually!(loir.app("hello").state() == AppState::Awake);
    assert!(matches!(&loir.app("hello").run().unwrap().cause, Cause::Person { .. }));
    assert_eq!(send(loir.get("hello", "/pid")).await.status(), 200);
}

#[tokio::test]
async fn a_link_that_has_run_out_or_is_another_ones_wakes_nothing() {
    let clock = Clock::manual();
    let loir = wakes("link", &clock).await;
    let (short, others) = (link("hello", &clock, HOUR), link("other", &clock, 3 * HOUR));
    clock.advance(2 * HOUR);
    for (path, status) in [
        (short.as_str(), 410),
        (&others, 403),
        ("/.loir/wake?t=AAAA", 403),
        ("/.loir/wake?t=", 403),
        ("/.loir/wake?x=1", 403),
        ("/.loir/wake", 403),
        ("/.loir/wake?t=%FF", 403),
    ] {
        assert_eq!(send(loir.get("hello", path)).await.status(), status, "{path}");
    }
    assert_eq!(send(loir.request("DELETE", "hello", "/.loir/wake")).await.status(), 405);
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
}

#[tokio::test]
async fn whatever_only_previews_a_link_wakes_nothing() {
    let clock = Clock::manual();
    let loir = wakes("link", &clock).await;
    let good = link("hello", &clock, HOUR);
    for request in [
        loir.get("hello", &good).header("user-agent", "Slackbot-LinkExpanding 1.0"),
        loir.visit("hello", &good).header("sec-purpose", "prefetch;prerender"),
        loir.request("HEAD", "hello", &good),
    ] {
        assert_eq!(send(request).await.status(), 303);
    }
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
}

#[tokio::test]
async fn an_app_whose_rule_does_not_name_links_is_not_woken_by_one() {
    let clock = Clock::manual();
    let loir = wakes("token", &clock).await;
    assert_eq!(send(loir.get("hello", &link("hello", &clock, HOUR))).await.status(), 403);
    assert_eq!(loir.app("hello").state(), AppState::Asleep);
    let anybodys = send(loir.visit("other", &link("other", &clock, HOUR))).await;
    assert_eq!(anybodys.status(), 303);
    eventually!(loir.app("other").state() == AppState::Awake, "one without a rule is");
}

/// While somebody else's wake is on its way, a visitor follows it.
#[tokio::test]
async fn whoever_may_not_wake_an_app_follows_a_wake_that_somebody_else_has_begun() {
    let rules = format!(
        "{ADMIN}\nrules:\n  - match: hello\n    access: {{ wake: token }}\n    hold_before_page: 50ms"
    );
    let app = App::named("hello").boots_in(Duration::from_secs(600)).with("wake_timeout: 700s");
    let loir = gateway([app]).top(&rules).start().await;
    let begun = send(loir.visit("hello", "/").header("x-loir-token", OPERATE)).await;
    assert_eq!(field(&begun, "x-loir-state"), "waking");
    let answer = send(loir.visit("hello", "/")).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "x-loir-state")), (503, "waking"));
    assert!(answer.text().await.unwrap().contains("is waking up"));
    assert_eq!(loir.times("hello", "start"), 1);
}

#[tokio::test]
async fn a_link_that_meets_a_stop_has_it_given_up() {
    let clock = Clock::manual();
    let hook = "hooks:\n  - { on: before_stop, command: [/bin/sleep, '1000'], timeout: 1h }";
    let rules = format!("{ADMIN}\n{hook}\nrules:\n  - match: hello\n    access: {{ wake: link }}");
    let loir = gateway([App::named("hello")]).top(&rules).clock(&clock).start().await;
    let good = link("hello", &clock, HOUR);
    send(loir.visit("hello", &good)).await;
    let app = loir.app("hello");
    eventually!(app.state() == AppState::Awake);
    let (lifecycle, stopped) = (loir.running.lifecycle().clone(), app.clone());
    let stop = tokio::spawn(async move { lifecycle.sleep(&stopped, Duration::ZERO).await });
    eventually!(app.state() == AppState::Stopping);
    assert_eq!(send(loir.visit("hello", &good)).await.status(), 303);
    eventually!(app.state() == AppState::Awake);
    assert_ne!(stop.await.unwrap(), loir::lifecycle::Slept::Yes);
}
