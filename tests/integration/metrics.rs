//! What is measured: names, values, and that the dashboard and the alerts use nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use loir::lifecycle::Slept;
use regex::Regex;

use super::admin::{ask, with_admin};
use crate::{
    eventually,
    simulators::{Platform, Scalingo},
    support::{App, Gateway, gateway, paas::gateway_for},
};

async fn scrape(gateway: &Gateway) -> String {
    let answer = ask(gateway, "GET", "/metrics").send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    answer.text().await.unwrap()
}

/// The names of all samples.
fn names(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn requests_wakes_and_states_are_measured() {
    let gateway = with_admin(gateway([App::named("shop"), App::named("blog")])).start().await;
    gateway.wake("shop").await;
    gateway.get("shop", "/status/404").send().await.unwrap();
    eventually!(gateway.app("shop").traffic().counts().requests() == 2);
    let text = scrape(&gateway).await;
    for line in [
        r#"loir_requests_total{app="local/shop",code_class="2xx"} 1"#,
        r#"loir_requests_total{app="local/shop",code_class="4xx"} 1"#,
        r#"loir_requests_total{app="local/blog",code_class="2xx"} 0"#,
        r#"loir_request_duration_seconds_count{app="local/shop"} 2"#,
        r#"loir_wakes_total{app="local/shop",result="ready"} 1"#,
        r#"loir_wake_duration_seconds_count{app="local/shop"} 1"#,
        r#"loir_app_state{app="local/shop",state="awake"} 1"#,
        r#"loir_app_state{app="local/blog",state="asleep"} 1"#,
        r#"loir_apps{state="awake"} 1"#,
        "loir_requests_held 0",
        "loir_apps_left_alone 0",
        "loir_apps_beyond_plan 0",
        r#"loir_hook_runs_total{phase="after_start",result="ok"} 0"#,
        "loir_config_last_reload_successful 1",
        concat!("loir_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    gateway.put_to_sleep("shop").await;
    let text = scrape(&gateway).await;
    assert!(text.contains(r#"loir_sleeps_total{app="local/shop",result="asleep"} 1"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_providers_hooks_and_what_the_plan_leaves_out_are_measured() {
    let platform = Scalingo::start().await;
    platform.app("blog").add();
    platform.app("shop").add();
    let hooks = "hooks:\n  - { name: fine, on: after_stop, command: [\"true\"] }\n";
    let setup = gateway_for([platform.entry("cloud")]).top(hooks).top("plan: { providers: 1, apps: 1 }");
    let gateway = setup.top("admin: { listen: 127.0.0.1:0 }").start().await;
    assert_eq!(gateway.stop_at("cloud", "blog").await, Slept::Yes);
    let has = async |line: &str| scrape(&gateway).await.lines().any(|found| found == line);
    let lists = r#"loir_provider_requests_total{provider="scalingo",op="list",code="200"}"#;
    assert!(scrape(&gateway).await.contains(lists), "{}", scrape(&gateway).await);
    let stops = r#"loir_provider_requests_total{provider="scalingo",op="stop",code="202"}"#;
    assert!(scrape(&gateway).await.contains(stops), "{}", scrape(&gateway).await);
    assert!(has("loir_apps_beyond_plan 1").await, "{}", scrape(&gateway).await);
    eventually!(has(r#"loir_hook_runs_total{phase="after_stop",result="ok"} 1"#).await);
}

/// Somebody who sends many names makes no series.
#[tokio::test]
async fn no_host_that_a_client_makes_up_becomes_a_label() {
    let gateway = with_admin(gateway([App::named("shop")])).start().await;
    let before = scrape(&gateway).await.lines().count();
    for number in 0..50 {
        let status = gateway.get(&format!("made-up-{number}"), "/").send().await.unwrap().status();
        assert_eq!(status, 404);
    }
    let after = scrape(&gateway).await;
    assert_eq!(after.lines().count(), before);
    assert!(!after.contains("made-up"), "{after}");
}

#[tokio::test]
async fn apps_are_told_apart_or_not_as_is_said() {
    let gateway = gateway([App::named("shop"), App::named("blog")])
        .top("admin:\n  listen: 127.0.0.1:0\n  metrics: { per_app: off }\n")
        .start()
        .await;
    gateway.wake("shop").await;
    let text = scrape(&gateway).await;
    assert!(text.contains(r#"loir_wakes_total{app="all",result="ready"} 1"#), "{text}");
    assert!(!text.contains("local/shop") && !text.contains("loir_app_state"), "{text}");
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_use_only_what_is_measured() {
    let gateway = with_admin(gateway([App::named("shop")])).start().await;
    let measured = names(&scrape(&gateway).await);
    let name = Regex::new(r"\bloir_[a-z0-9_]+").unwrap();
    let mut used = 0;
    for file in ["loir.json", "alerts.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana").join(file);
        let text = fs::read_to_string(&path).unwrap();
        if file.ends_with("json") {
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        for metric in name.find_iter(&text) {
            used += 1;
            assert!(measured.contains(metric.as_str()), "{file}: {} is not measured", metric.as_str());
        }
    }
    assert!(used > 15, "{used}");
}
