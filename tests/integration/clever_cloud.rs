//! Clever Cloud: what the provider makes of its API, against the simulator.

use std::{collections::HashMap, net::TcpListener, sync::Arc, time::Duration};

use loir::{
    app::{AppId, AppStatus, Endpoint, Formation},
    config::Environment,
    lifecycle::Slept,
    provider::{AppInfo, BeforeStop, Provider, ProviderContext, ProviderError, Turn},
    server::{Gear, Running, Source, load},
};
use serde_json::json;

use crate::{
    eventually,
    simulators::{Answer, CleverCloud, Ending, Fault, ORGANISATION, Outage, Platform, SecondStart, USER},
    support::{client, paas::apps_of, plan},
};

/// No test waits for the budget.
const PLENTY: &str = "    budget: { requests_per_minute: 60000 }\n";

const HOUR: Duration = Duration::from_secs(3600);

fn yaml(entry: &str) -> String {
    format!("server:\n  listen: 127.0.0.1:1\n  domain: test\nproviders:\n{entry}")
}

fn connect(entry: &str) -> Result<Arc<dyn Provider>, ProviderError> {
    // Also makes TLS possible.
    drop(client());
    let context = ProviderContext {
        name: "clever".into(),
        state_dir: None,
        program: None,
        events: tokio::sync::mpsc::unbounded_channel().0,
        accounts: Arc::default(),
    };
    plan(&yaml(entry)).providers[0].1.connect(context)
}

/// Of an account that was listed once.
async fn provider(sim: &CleverCloud) -> Arc<dyn Provider> {
    let provider = connect(&(sim.entry("clever") + PLENTY)).unwrap();
    apps_of(&provider).await.unwrap();
    sim.clear_calls();
    provider
}

async fn start(provider: &Arc<dyn Provider>, app: &str) -> Result<Endpoint, ProviderError> {
    provider.start(app, None, &Turn::default()).await
}

async fn listed(provider: &Arc<dyn Provider>) -> HashMap<String, AppInfo> {
    apps_of(provider).await.unwrap().into_iter().map(|info| (info.name.clone(), info)).collect()
}

/// Method and path, with `ID` in the place of the app's id, of all calls since the last time.
fn calls(sim: &CleverCloud, app: &str) -> Vec<String> {
    let id = sim.id(app);
    let calls = sim.calls();
    sim.clear_calls();
    calls.iter().map(|call| format!("{} {}", call.method, call.path).replace(&id, "ID")).collect()
}

fn text(error: &ProviderError) -> String {
    error.to_string()
}

#[tokio::test]
async fn every_app_is_listed_once_by_a_name_that_fits_into_a_host_name() {
    let sim = CleverCloud::start().await;
    sim.app("Acme's Shop").add();
    sim.app("blog").owner(USER).stopped().add();
    sim.app("old").archived().add();
    sim.app("api").add();
    sim.app("API").owner("orga_3").add();
    let provider = connect(&(sim.entry("clever") + PLENTY)).unwrap();
    let apps = listed(&provider).await;
    assert_eq!(apps.len(), 4, "{:?}", apps.keys());
    let shop = &apps["acme-s-shop"];
    let id = sim.id("Acme's Shop");
    assert_eq!(
        (shop.key.as_deref(), &shop.status, &shop.left_alone),
        (Some(&*id), &AppStatus::Running, &None)
    );
    assert_eq!(shop.aliases, [id.replace('_', "-")]);
    assert_eq!(shop.endpoint.as_ref().unwrap().to_string(), format!("http://{}", sim.host("Acme's Shop")));
    assert_eq!(apps["blog"].status, AppStatus::Stopped);
    // Two of one name: the first by its id has it, the other one goes by its id, and both answer to it.
    let (mut one, mut other) = (sim.id("api"), sim.id("API"));
    if one > other {
        std::mem::swap(&mut one, &mut other);
    }
    let other = other.replace('_', "-");
    assert_eq!(apps["api"].key.as_deref(), Some(&*one));
    assert!(apps.contains_key(&other), "{:?}", apps.keys());
}

#[tokio::test]
async fn a_list_is_one_call_and_domains_are_read_once_for_each_owner() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    sim.app("blog").owner(USER).add();
    let provider = connect(&(sim.entry("clever") + PLENTY)).unwrap();
    apps_of(&provider).await.unwrap();
    let details = format!("GET /v2/organisations/{ORGANISATION}/applications");
    assert_eq!(calls(&sim, "shop"), ["GET /v2/summary", &details, "GET /v2/self/applications"]);
    apps_of(&provider).await.unwrap();
    apps_of(&provider).await.unwrap();
    assert_eq!(calls(&sim, "shop"), ["GET /v2/summary"; 2]);
    // A new app has a domain too.
    sim.app("news").add();
    assert!(listed(&provider).await["news"].endpoint.is_some());
    assert_eq!(calls(&sim, "shop"), ["GET /v2/summary", &details]);
}

#[tokio::test]
async fn domains_that_cannot_be_read_anew_are_still_believed_and_else_there_is_no_list() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    let refuse = || Fault::on("GET", "*/applications").always().answers(Answer::html(404, "<h1>no</h1>"));
    sim.fault(refuse());
    let provider = connect(&(sim.entry("clever") + PLENTY)).unwrap();
    let error = apps_of(&provider).await.unwrap_err();
    assert!(text(&error).contains(ORGANISATION), "{error}");
    sim.clear_faults();
    apps_of(&provider).await.unwrap();
    sim.fault(refuse());
    sim.app("news").add();
    let apps = listed(&provider).await;
    assert!(apps["shop"].endpoint.is_some());
    assert_eq!(apps["news"].left_alone.as_deref(), Some("its domains are not known yet"));
}

#[tokio::test]
async fn half_a_list_is_an_error() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    let provider = provider(&sim).await;
    for body in [r#"{"user": {"id": "u", "applications": []}}"#, "<html></html>", "null", ""] {
        let answer = Answer::of(200, "application/json", body);
        sim.fault(Fault::on("GET", "/v2/summary").answers(answer));
        assert!(matches!(apps_of(&provider).await, Err(ProviderError::Unavailable(_))), "{body}");
    }
    sim.fault(Fault::on("GET", "/v2/summary").truncates());
    assert!(apps_of(&provider).await.is_err());
    assert_eq!(apps_of(&provider).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_entry_may_be_about_one_owner_only() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    sim.app("blog").owner(USER).add();
    let of = |owner: &str| connect(&format!("{}    organisation: {owner}\n", sim.entry("clever") + PLENTY));
    let names = async |owner: &str| listed(&of(owner).unwrap()).await.into_keys().collect::<Vec<_>>();
    assert_eq!(names(ORGANISATION).await, ["shop"]);
    assert_eq!(names(USER).await, ["blog"]);
    let error = apps_of(&of("orga_9").unwrap()).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Misconfigured(why) if why.contains("orga_9")), "{error}");
}

#[tokio::test]
async fn an_api_token_and_both_signatures_of_oauth_sign_in() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    for signature in ["", "      signature: plaintext\n", "      signature: hmac-sha512\n"] {
        let entry = sim.entry_oauth("clever").replace("    api_url", &format!("{signature}    api_url"));
        assert_eq!(apps_of(&connect(&entry).unwrap()).await.unwrap().len(), 1, "{entry}");
    }
    assert_eq!(apps_of(&connect(&sim.entry("clever")).unwrap()).await.unwrap().len(), 1);
    let doors: Vec<_> = sim.calls().into_iter().map(|call| call.door).collect();
    assert_eq!((doors[0].as_str(), doors.last().unwrap().as_str()), ("oauth", "bridge"));
}

#[tokio::test]
async fn the_environment_of_the_platforms_own_tool_is_understood_and_what_is_missing_is_told() {
    let read = |entry: &str, env: &[(&str, &str)]| {
        let text = yaml(&format!("  - name: clever\n    type: clever_cloud\n{entry}"));
        let source = Source { name: "x.yaml".into(), text };
        match load(source, &Environment::from_iter(env.iter().copied())) {
            Ok(plan) => Ok(plan.show().unwrap()),
            Err(problems) => Err(problems.to_string()),
        }
    };
    let good = |entry: &str, env: &[(&str, &str)]| read(entry, env).unwrap();
    let bad = |entry: &str, env: &[(&str, &str)]| read(entry, env).unwrap_err();
    let (token, secret) = (("CLEVER_TOKEN", "tok-1"), ("CLEVER_SECRET", "sec-1"));
    let (key, consumer) = (("CLEVER_CONSUMER_KEY", "ck-1"), ("CLEVER_CONSUMER_SECRET", "cs-1"));
    let shown = good("", &[token]);
    assert!(shown.contains("api-bridge.clever-cloud.com") && !shown.contains("oauth"), "{shown}");
    let shown = good("", &[token, secret, key, consumer]);
    assert!(shown.contains("https://api.clever-cloud.com") && shown.contains("plaintext"), "{shown}");
    let shown = good("    oauth: { token: a, secret: b }\n", &[key, consumer]);
    assert!(shown.contains("oauth") && !shown.contains("ck-1"), "{shown}");
    // What is written counts.
    assert!(!good("    token: a\n", &[token, secret]).contains("oauth"));

    let told = bad("", &[]);
    assert!(told.contains("x.yaml:5") && told.contains("needs a `token` or `oauth`"), "{told}");
    assert!(told.contains("clever tokens create"), "{told}");
    assert!(bad("", &[secret]).contains("needs a `token` or `oauth`"));
    let told = bad("", &[token, secret, key]);
    assert!(told.contains("CLEVER_CONSUMER_SECRET is not") && !told.contains("sec-1"), "{told}");
    let told = bad("    token: a\n    oauth: { token: a }\n", &[]);
    assert!(told.contains("x.yaml:8") && told.contains("leave one of them out"), "{told}");
    let told = bad("    oauth: { token: a, consumer_key: c }\n", &[]);
    assert!(told.contains("x.yaml:7") && told.contains("`oauth` needs a `secret`"), "{told}");
    assert!(told.contains("`oauth` needs a `consumer_secret`") && !told.contains("a `token`"), "{told}");
    assert!(bad("    token: ''\n", &[]).contains("`token` is empty"));
    assert!(bad("    token: a\n    organisation: acme\n", &[]).contains("is not the id of an owner"));
    assert!(bad("    oauth: { signature: md5 }\n", &[token, secret, key, consumer]).contains("signature"));
}

#[tokio::test]
async fn the_gateways_own_app_is_left_alone() {
    let sim = CleverCloud::start().await;
    sim.app("gateway").add();
    let source = Source { name: "x.yaml".into(), text: yaml(&sim.entry("clever")) };
    let env = Environment::from_iter([("APP_ID", sim.id("gateway"))]);
    drop(client());
    let context = ProviderContext {
        name: "clever".into(),
        state_dir: None,
        program: None,
        events: tokio::sync::mpsc::unbounded_channel().0,
        accounts: Arc::default(),
    };
    let provider = load(source, &env).unwrap().providers[0].1.connect(context).unwrap();
    assert_eq!(listed(&provider).await["gateway"].left_alone.as_deref(), Some("it is this gateway itself"));
}

#[tokio::test]
async fn what_cannot_be_woken_is_left_alone_for_a_reason() {
    let sim = CleverCloud::start().await;
    sim.app("moderated").blocked("MODERATED").add();
    sim.app("unpaid").blocked("DEFAULT_OF_PAYMENT").add();
    sim.app("task").task().add();
    sim.app("odd").add();
    sim.set_unknown_state("odd");
    sim.app("nowhere").without_default_vhost().add();
    let provider = provider(&sim).await;
    let apps = listed(&provider).await;
    for (app, reason) in [
        ("moderated", "blocked by the platform"),
        ("unpaid", "until it is paid for"),
        ("task", "a task: a start runs it"),
        ("odd", "its state is `frobnicating`"),
        ("nowhere", "no domain"),
    ] {
        let why = apps[app].left_alone.as_deref().unwrap_or_default();
        assert!(why.contains(reason), "{app}: {why}");
    }
    assert_eq!(apps["odd"].status, AppStatus::Unknown("frobnicating".into()));
    sim.clear_calls();
    for app in ["moderated", "unpaid", "odd", "nowhere"] {
        assert!(matches!(start(&provider, app).await, Err(ProviderError::Refused(_))), "{app}");
    }
    assert_eq!(sim.count("POST", "*"), 0);
    assert!(matches!(provider.before_stop("odd", &Turn::default()).await, Ok(BeforeStop::Busy(_))));
    assert!(matches!(start(&provider, "nobody").await, Err(ProviderError::NotFound(_))));
}

#[tokio::test]
async fn an_app_is_started_with_two_calls_and_a_start_while_it_starts_makes_no_second_deployment() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().state_lag(Duration::from_millis(300)).boot(HOUR).add();
    sim.app("blog").owner(USER).stopped().add();
    let provider = provider(&sim).await;
    let endpoint = start(&provider, "shop").await.unwrap();
    assert_eq!(endpoint.to_string(), format!("http://{}", sim.host("shop")));
    let path = format!("/v2/organisations/{ORGANISATION}/applications/ID");
    assert_eq!(calls(&sim, "shop"), ["GET /v2/summary", &format!("POST {path}/instances")]);
    // The state still says that it is down, and no deployment is listed.
    assert_eq!(sim.state("shop"), "SHOULD_BE_DOWN");
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Starting);
    start(&provider, "shop").await.unwrap();
    assert_eq!(
        provider.before_stop("shop", &Turn::default()).await.unwrap(),
        BeforeStop::Busy("it is starting".into())
    );
    sim.pass("shop", Duration::from_secs(1));
    assert_eq!(sim.state("shop"), "WANTS_TO_BE_UP");
    let (one, other) = tokio::join!(start(&provider, "shop"), start(&provider, "shop"));
    one.and(other).unwrap();
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Starting);
    sim.pass("shop", 2 * HOUR);
    eventually!(provider.status("shop").await.unwrap() == AppStatus::Running);
    start(&provider, "shop").await.unwrap();
    assert_eq!((sim.starts("shop"), sim.second_starts("shop"), sim.count("POST", "*")), (1, 0, 0));
    // Two who ask at once start it once; the personal space has a path of its own.
    let (one, other) = tokio::join!(start(&provider, "blog"), start(&provider, "blog"));
    one.and(other).unwrap();
    assert_eq!((sim.starts("blog"), sim.second_starts("blog")), (1, 0));
    assert_eq!(sim.count("POST", "/v2/self/applications/*/instances"), 1);
}

#[tokio::test]
async fn a_start_by_somebody_else_is_not_repeated_unless_it_has_failed() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().add();
    sim.app("broken").stopped().add();
    let provider = provider(&sim).await;
    sim.begin_deployment("shop");
    start(&provider, "shop").await.unwrap();
    assert_eq!(sim.count("POST", "*"), 0);
    sim.begin_deployment("broken");
    sim.cancel_deployment("broken");
    assert_eq!(sim.state("broken"), "WANTS_TO_BE_UP");
    start(&provider, "broken").await.unwrap();
    assert_eq!((sim.starts("broken"), sim.second_starts("broken"), sim.second_starts("shop")), (1, 0, 0));
}

#[tokio::test]
async fn a_deployment_that_fails_is_a_crash_and_may_be_tried_again() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().boot(HOUR).add();
    let provider = provider(&sim).await;
    sim.next_ending("shop", Ending::Fail);
    start(&provider, "shop").await.unwrap();
    sim.pass("shop", 2 * HOUR);
    assert_eq!(sim.state("shop"), "WANTS_TO_BE_UP");
    let status = provider.status("shop").await.unwrap();
    assert_eq!(status, AppStatus::Crashed("its deployment failed".into()));
    start(&provider, "shop").await.unwrap();
    // The failure of before is not this one's, though the new one is not listed yet.
    sim.pass("shop", Duration::from_millis(1));
    assert!(matches!(provider.status("shop").await.unwrap(), AppStatus::Starting));
    sim.pass("shop", 2 * HOUR);
    eventually!(provider.status("shop").await.unwrap() == AppStatus::Running);
    assert_eq!((sim.starts("shop"), sim.second_starts("shop")), (2, 0));
}

#[tokio::test]
async fn a_deployment_that_somebody_cancels_leaves_the_app_stopped_and_a_start_is_a_new_one() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().boot(HOUR).add();
    let provider = provider(&sim).await;
    start(&provider, "shop").await.unwrap();
    sim.pass("shop", Duration::from_secs(1));
    sim.clear_calls();
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Starting);
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Starting);
    // Who asks every moment what becomes of a start does not cost two calls each time.
    let path = format!("/v2/organisations/{ORGANISATION}/applications/ID");
    assert_eq!(calls(&sim, "shop"), ["GET /v2/summary", &format!("GET {path}/deployments?limit=5")]);
    assert!(sim.cancel_deployment("shop"));
    eventually!(provider.status("shop").await.unwrap() == AppStatus::Stopped);
    start(&provider, "shop").await.unwrap();
    assert_eq!((sim.starts("shop"), sim.second_starts("shop")), (2, 0));
}

#[tokio::test]
async fn an_app_that_was_never_deployed_cannot_be_woken() {
    let sim = CleverCloud::start().await;
    sim.add_never_deployed("empty");
    let provider = provider(&sim).await;
    let error = start(&provider, "empty").await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(why) if why == "it was never deployed"), "{error}");
    assert_eq!(provider.status("empty").await.unwrap(), AppStatus::Stopped, "nothing is under way");
}

#[tokio::test]
async fn a_start_whose_answer_got_lost_is_one_deployment() {
    let sim = CleverCloud::start().await;
    for (app, fault) in [
        ("dropped", Fault::on("POST", "*").drops_after()),
        ("cut", Fault::on("POST", "*").breaks_off()),
        ("pretends", Fault::on("POST", "*").pretends(Answer::text(503, "later"))),
        ("half", Fault::on("POST", "*").truncates()),
    ] {
        sim.app(app).stopped().boot(HOUR).add();
        let provider = provider(&sim).await;
        sim.next_ending(app, Ending::Fail);
        sim.fault(fault);
        start(&provider, app).await.unwrap();
        assert_eq!((sim.starts(app), sim.second_starts(app), sim.count("POST", "*")), (1, 0, 1), "{app}");
        // That it is ours is known all the same.
        sim.pass(app, Duration::from_secs(1));
        assert_eq!(provider.status(app).await.unwrap(), AppStatus::Starting, "{app}");
    }
}

#[tokio::test]
async fn a_start_that_meets_another_is_one_deployment() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().state_lag(Duration::from_millis(500)).boot(HOUR).add();
    sim.set_second_start("shop", SecondStart::Conflicts);
    let ours = provider(&sim).await;
    let theirs = provider(&sim).await;
    start(&theirs, "shop").await.unwrap();
    start(&ours, "shop").await.unwrap();
    assert_eq!((sim.starts("shop"), sim.count("POST", "*")), (1, 2));
}

#[tokio::test]
async fn a_start_that_got_lost_is_made_again_when_it_is_sure_that_it_got_lost() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().add();
    let provider = provider(&sim).await;
    sim.fault(Fault::on("POST", "*").drops());
    start(&provider, "shop").await.unwrap();
    assert_eq!((sim.starts("shop"), sim.second_starts("shop"), sim.count("POST", "*")), (1, 0, 2));
}

#[tokio::test]
async fn an_answer_without_the_deployments_id_is_good_enough() {
    let sim = CleverCloud::start().await;
    sim.set_bare_start_answer(true);
    sim.app("shop").stopped().boot(HOUR).add();
    sim.next_ending("shop", Ending::Fail);
    let provider = provider(&sim).await;
    start(&provider, "shop").await.unwrap();
    sim.pass("shop", Duration::from_secs(1));
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Starting);
    sim.pass("shop", 2 * HOUR);
    let crashed = AppStatus::Crashed("its deployment failed".into());
    eventually!(provider.status("shop").await.unwrap() == crashed);
}

#[tokio::test]
async fn an_app_is_stopped_with_three_looks_and_one_call_and_its_end_is_waited_for() {
    let sim = CleverCloud::start().await;
    sim.app("shop").instances(3).state_lag(Duration::from_millis(1500)).add();
    let provider = provider(&sim).await;
    let BeforeStop::Runs(formation) = provider.before_stop("shop", &Turn::default()).await.unwrap() else {
        panic!("it runs")
    };
    assert_eq!(formation.0["web"].amount, 3);
    let path = format!("/v2/organisations/{ORGANISATION}/applications/ID");
    assert_eq!(
        calls(&sim, "shop"),
        [
            "GET /v2/summary".to_owned(),
            format!("GET {path}/deployments?limit=5"),
            format!("GET {path}/instances")
        ]
    );
    provider.stop("shop", &formation, &Turn::default()).await.unwrap();
    let stop = format!("DELETE {path}/instances");
    assert_eq!(calls(&sim, "shop"), [&stop, "GET /v2/summary", "GET /v2/summary"]);
    assert_eq!((sim.stops("shop"), sim.state("shop").as_str()), (1, "SHOULD_BE_DOWN"));
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Stopped);
    assert_eq!(provider.before_stop("shop", &Turn::default()).await.unwrap(), BeforeStop::Stopped);
    // Twice is as good as once.
    provider.stop("shop", &formation, &Turn::default()).await.unwrap();
    // The platform itself keeps what must come back.
    start(&provider, "shop").await.unwrap();
    assert_eq!(sim.formation("shop")["instances"], 3);
}

#[tokio::test]
async fn an_app_is_not_stopped_during_a_deployment_or_after_one_that_failed() {
    let sim = CleverCloud::start().await;
    sim.app("deploying").deploying().add();
    sim.app("failed").last_deployment(Ending::Fail).add();
    sim.app("cancelled").last_deployment(Ending::Cancelled).add();
    sim.app("pushed").add();
    sim.begin_deployment("pushed");
    let provider = provider(&sim).await;
    for (app, reason) in [
        ("deploying", "a deployment is under way"),
        ("pushed", "a deployment is under way"),
        ("failed", "its last deployment failed, so it might not come back"),
        ("cancelled", "its last deployment was cancelled, so it might not come back"),
    ] {
        assert_eq!(
            provider.before_stop(app, &Turn::default()).await.unwrap(),
            BeforeStop::Busy(reason.into()),
            "{app}"
        );
    }
    sim.end_deployment("pushed");
    assert!(matches!(provider.before_stop("pushed", &Turn::default()).await, Ok(BeforeStop::Runs(_))));
    for (state, reason) in [("TASK_IN_PROGRESS", "a task runs"), ("BUILDING", "a build runs")] {
        let body = json!([{"id": "1", "state": "UP"}, {"id": "2", "state": state}]);
        sim.fault(Fault::on("GET", "/instances").answers(Answer::json(200, &body)));
        assert_eq!(
            provider.before_stop("pushed", &Turn::default()).await.unwrap(),
            BeforeStop::Busy(reason.into())
        );
    }
}

#[tokio::test]
async fn a_stop_whose_answer_got_lost_is_looked_after_and_one_that_was_refused_is_told() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    sim.app("blog").add();
    let provider = provider(&sim).await;
    sim.fault(Fault::on("DELETE", "*").drops_after());
    provider.stop("shop", &Formation::single("web"), &Turn::default()).await.unwrap();
    assert_eq!((sim.stops("shop"), sim.count("DELETE", "*")), (1, 1));
    let answer = Answer::json(400, &json!({"id": 4999, "message": "Not now", "type": "error"}));
    sim.fault(Fault::on("DELETE", "*").answers(answer));
    let error = provider.stop("blog", &Formation::single("web"), &Turn::default()).await.unwrap_err();
    assert!(text(&error).contains("400 (4999): Not now"), "{error}");
    assert_eq!(sim.stops("blog"), 0);
}

#[tokio::test]
async fn being_told_to_call_less_is_waited_out() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().add();
    let provider = provider(&sim).await;
    let told = || {
        Answer::json(403, &json!({"id": 403, "message": "Too many", "type": "error"}))
            .header("retry-after", 1)
    };
    sim.fault(Fault::on("GET", "/v2/summary").answers(told()));
    sim.fault(Fault::on("POST", "*").answers(told()));
    start(&provider, "shop").await.unwrap();
    let calls = sim.calls();
    let statuses: Vec<_> = calls.iter().map(|call| (call.method.as_str(), call.status)).collect();
    assert_eq!(statuses, [("GET", 403), ("GET", 200), ("POST", 403), ("POST", 200)]);
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1));
    assert!(calls[3].at - calls[2].at >= Duration::from_secs(1));
    assert_eq!((sim.starts("shop"), sim.second_starts("shop")), (1, 0));
}

#[tokio::test]
async fn a_credential_that_is_refused_is_not_used_again_until_a_reload() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    let provider = provider(&sim).await;
    sim.revoke_token();
    for _ in 0..3 {
        let error = apps_of(&provider).await.unwrap_err();
        assert!(matches!(&error, ProviderError::Misconfigured(why) if why.contains("1504")), "{error}");
    }
    assert!(matches!(provider.status("shop").await, Err(ProviderError::Misconfigured(_))));
    assert_eq!(sim.calls().len(), 1);
    // A new one, in the same entry.
    sim.restore_token();
    sim.set_token("another-token");
    let plan = plan(&yaml(&(sim.entry("clever") + PLENTY)));
    provider.reconfigure(&*plan.providers[0].1).await.unwrap();
    assert_eq!(apps_of(&provider).await.unwrap().len(), 1);
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Running);
}

#[tokio::test]
async fn an_api_that_is_away_makes_no_app_disappear() {
    let sim = CleverCloud::start().await;
    sim.app("shop").add();
    let provider = provider(&sim).await;
    sim.down(Outage::Refused);
    assert!(matches!(apps_of(&provider).await, Err(ProviderError::Unavailable(_))));
    sim.down(Outage::None);
    assert_eq!(apps_of(&provider).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_wakes_an_app_and_an_idle_app_is_stopped() {
    let sim = CleverCloud::start().await;
    sim.app("Shop").instances(2).stopped().add();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gear =
        Gear { clock: loir::clock::Clock::system(), edge: tokio::runtime::Handle::current(), program: None };
    drop(client());
    let running = Running::start(listener, plan(&yaml(&(sim.entry("clever") + PLENTY))), gear).await.unwrap();
    let known = || running.lifecycle().apps().get(&AppId::new("clever", "shop")).cloned();
    eventually!(known().is_some());
    for stopped_status in [404, 503] {
        sim.set_stopped_status(stopped_status);
        let request = client().get(format!("http://{address}/hello")).header("host", "shop.test");
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["x-app"]), (200, &"Shop".parse().unwrap()));
        let slept = running.lifecycle().sleep(&known().unwrap(), Duration::ZERO).await;
        assert_eq!(slept, Slept::Yes);
        assert!(!sim.is_running("Shop"));
    }
    assert_eq!((sim.starts("Shop"), sim.second_starts("Shop"), sim.stops("Shop")), (2, 0, 2));
}
