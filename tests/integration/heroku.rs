//! Apps at Heroku: what is asked of its API, and what is not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use loir::{
    app::{AppId, AppStatus, Endpoint, Formation, Processes},
    clock::Clock,
    config::Environment,
    lifecycle::Slept,
    provider::{
        Accounts, AppInfo, BeforeStop, Provider, ProviderConfig, ProviderContext, ProviderError, Queue, Turn,
    },
    server::{Gear, Running, Source, load},
};

use crate::{
    eventually,
    simulators::{Answer, Fault, Heroku, Outage, Platform},
    support::{self, paas::apps_of},
};

const NONE: [(&str, &str); 0] = [];

/// The options of an entry, with further lines.
fn options(sim: &Heroku, lines: &[&str], env: &[(&str, &str)]) -> Arc<dyn ProviderConfig> {
    let mut text = format!("server:\n  domain: example.com\nproviders:\n{}", sim.entry("heroku"));
    for line in lines {
        text += &format!("    {line}\n");
    }
    let env: Environment = env.iter().copied().collect();
    let source = Source { name: "loir.yaml".into(), text };
    let plan = load(source, &env).unwrap_or_else(|problems| panic!("{problems}"));
    plan.providers[0].1.clone()
}

fn connect_with(sim: &Heroku, lines: &[&str], env: &[(&str, &str)]) -> Arc<dyn Provider> {
    // Brings what TLS needs.
    support::client();
    let context = ProviderContext {
        name: "heroku".into(),
        state_dir: None,
        program: None,
        events: tokio::sync::mpsc::unbounded_channel().0,
        accounts: Arc::new(Accounts::default()),
    };
    options(sim, lines, env).connect(context).unwrap()
}

fn connect(sim: &Heroku) -> Arc<dyn Provider> {
    connect_with(sim, &[], &NONE)
}

/// A provider that has listed once, with no call noted yet.
async fn listed(sim: &Heroku) -> Arc<dyn Provider> {
    let provider = connect(sim);
    apps_of(&provider).await.unwrap();
    sim.clear_calls();
    provider
}

fn formation(types: &[(&str, u32)]) -> Formation {
    let processes = |amount| Processes { amount, ..Processes::default() };
    Formation(types.iter().map(|(name, amount)| ((*name).to_owned(), processes(*amount))).collect())
}

fn amounts(formation: &Formation) -> BTreeMap<String, u32> {
    formation.0.iter().map(|(name, processes)| (name.clone(), processes.amount)).collect()
}

/// The calls about an app since they were last forgotten: `GET /formation`.
fn calls(sim: &Heroku, app: &str) -> Vec<String> {
    let id = format!("/apps/{}", sim.id(app));
    sim.calls().iter().map(|call| format!("{} {}", call.method, call.path.replace(&id, ""))).collect()
}

fn info<'a>(list: &'a [AppInfo], name: &str) -> &'a AppInfo {
    list.iter().find(|info| info.name == name).unwrap_or_else(|| panic!("{name} is not in the list"))
}

async fn start(
    provider: &Arc<dyn Provider>,
    app: &str,
    saved: Option<&Formation>,
) -> Result<Endpoint, ProviderError> {
    provider.start(app, saved, &Turn::default()).await
}

async fn stop(provider: &Arc<dyn Provider>, app: &str) -> Formation {
    let BeforeStop::Runs(saved) = provider.before_stop(app, &Turn::default()).await.unwrap() else {
        panic!("it does not run")
    };
    provider.stop(app, &saved, &Turn::default()).await.unwrap();
    saved
}

#[tokio::test]
async fn a_request_wakes_an_app_and_an_idle_app_sleeps_behind_a_gateway() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 2), ("worker", 3), ("clock", 0)], true);
    sim.app("repair").maintenance().stopped().add();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let text = format!("server:\n  listen: {address}\n  domain: test\nproviders:\n{}", sim.entry("heroku"));
    let gear = Gear { clock: Clock::system(), edge: tokio::runtime::Handle::current(), program: None };
    let client = support::client();
    let running = Running::start(listener, support::plan(&text), gear).await.unwrap();
    let get = async |app: &str| {
        let request = client.get(format!("http://{address}/hello")).header("host", format!("{app}.test"));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let shop = || running.lifecycle().apps().get(&AppId::new("heroku", "shop")).cloned();
    eventually!(shop().is_some());
    assert_eq!(get("shop").await.0, 200);
    for round in 1..=2 {
        assert_eq!(running.lifecycle().sleep(&shop().unwrap(), Duration::ZERO).await, Slept::Yes);
        assert!(!sim.is_running("shop") && sim.formation("shop").values().all(|quantity| *quantity == 0));
        sim.clear_calls();
        let (status, body) = get("shop").await;
        assert!(status == 200 && body.contains("/hello"), "{status} {body}");
        assert_eq!(sim.formation("shop")["web"], 2);
        assert_eq!(sim.formation("shop")["worker"], 3);
        assert_eq!((sim.starts("shop"), sim.count("PATCH", "/formation")), (round, 1));
    }
    // Somebody turns it off: the router's page is not believed, the API is asked, and the app is woken.
    sim.set_formation("shop", &[("web", 0), ("worker", 0)]);
    assert_eq!(get("shop").await.0, 200);
    let (status, body) = get("repair").await;
    assert!(status == 503 && body.contains("maintenance"), "{status} {body}");
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page_with_the_state_of_every_app() {
    let sim = Heroku::start().await;
    sim.set_page_size(2);
    for n in 0..5 {
        sim.add(&format!("app-{n}"), &[("web", 1), ("worker", 2)], n % 2 == 0);
    }
    let provider = connect(&sim);
    let list = apps_of(&provider).await.unwrap();
    assert_eq!(list.len(), 5);
    for n in 0..5 {
        let name = format!("app-{n}");
        let one = info(&list, &name);
        let expected = if n % 2 == 0 { AppStatus::Running } else { AppStatus::Stopped };
        assert_eq!((&one.status, one.key.as_ref()), (&expected, Some(&sim.id(&name))));
        assert_eq!(one.endpoint.as_ref().unwrap().to_string(), format!("http://{}", sim.host(&name)));
        assert_eq!(one.left_alone, None);
    }
    assert_eq!((sim.count("GET", "/apps"), sim.count("GET", "/formation"), sim.calls().len()), (3, 5, 8));
    apps_of(&provider).await.unwrap();
    assert_eq!(sim.calls().len(), 8 + 3, "nothing has happened: only the pages are read");
}

#[tokio::test]
async fn a_list_with_a_page_that_fails_is_an_error_and_never_a_shorter_list() {
    let sim = Heroku::start().await;
    sim.set_page_size(2);
    for n in 0..5 {
        sim.add(&format!("app-{n}"), &[("web", 1)], true);
    }
    let provider = connect(&sim);
    let second = || Fault::on("GET", "/apps").skips(1);
    for fault in [
        second().truncates(),
        second().html(200),
        second().times(4).html(502),
        // Again and again: the list has no end that it could have.
        second()
            .always()
            .answers(Answer::json(416, &serde_json::json!({"id": "requested_range_not_satisfiable"}))),
    ] {
        sim.fault(fault.clone());
        let error = apps_of(&provider).await.expect_err(&format!("{fault:?}"));
        assert!(matches!(error, ProviderError::Unavailable(_) | ProviderError::Refused(_)), "{error:?}");
        sim.clear_faults();
    }
    assert_eq!(sim.count("GET", "/formation"), 0);
    // A range that is not understood any more: once from the beginning.
    sim.fault(
        second().answers(Answer::json(416, &serde_json::json!({"id": "requested_range_not_satisfiable"}))),
    );
    assert_eq!(apps_of(&provider).await.unwrap().len(), 5);
}

#[tokio::test]
async fn an_app_whose_formation_cannot_be_read_keeps_what_is_known_of_it_and_is_never_left_out() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 1)], true);
    sim.add("blog", &[("web", 1)], false);
    let provider = connect(&sim);
    let of_shop = format!("/apps/{}/formation", sim.id("shop"));
    sim.fault(Fault::on("GET", &of_shop).truncates());
    let list = apps_of(&provider).await.unwrap();
    assert!(matches!(info(&list, "shop").status, AppStatus::Unknown(_)), "nothing is known of shop");
    assert_eq!(info(&list, "blog").status, AppStatus::Stopped);
    assert_eq!(apps_of(&provider).await.unwrap().len(), 2);
    sim.clear_calls();
    // A stop that went wrong: shop has to be looked at again.
    sim.fault(
        Fault::on("PATCH", "/formation").answers(Answer::json(409, &serde_json::json!({"id": "conflict"}))),
    );
    provider.stop("shop", &formation(&[("web", 1)]), &Turn::default()).await.unwrap_err();
    sim.fault(Fault::on("GET", &of_shop).truncates());
    let list = apps_of(&provider).await.unwrap();
    assert_eq!(
        (&info(&list, "shop").status, &info(&list, "blog").status),
        (&AppStatus::Running, &AppStatus::Stopped)
    );
    assert_eq!(sim.count("GET", "/formation"), 1, "only of the one that is doubtful");
    apps_of(&provider).await.unwrap();
    assert_eq!(sim.count("GET", "/formation"), 2, "and again, since that went wrong");
    apps_of(&provider).await.unwrap();
    assert_eq!(sim.count("GET", "/formation"), 2);
}

#[tokio::test]
async fn an_app_that_is_deleted_meanwhile_is_not_in_the_list_and_one_that_is_forbidden_is_left_alone() {
    let sim = Heroku::start().await;
    for name in ["shop", "gone", "secret"] {
        sim.add(name, &[("web", 1)], true);
    }
    let on = |app: &str| Fault::on("GET", &format!("/apps/{}/formation", sim.id(app)));
    let answer = |status, id: &str| Answer::json(status, &serde_json::json!({"id": id, "message": "No."}));
    sim.fault(on("gone").answers(answer(404, "not_found")));
    sim.fault(on("secret").answers(answer(403, "forbidden")));
    let list = apps_of(&connect(&sim)).await.unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(info(&list, "shop").left_alone, None);
    let reason = info(&list, "secret").left_alone.as_deref().unwrap();
    assert!(reason.contains("cannot be read") && reason.contains("forbidden"), "{reason}");
}

#[tokio::test]
async fn apps_that_are_not_to_be_woken_say_why() {
    let sim = Heroku::start().await;
    sim.app("repair").maintenance().stopped().add();
    sim.app("inside").internal_routing().add();
    sim.app("nowhere").without_web_url().add();
    sim.app("new").never_deployed().add();
    sim.app("queue").formation(&[("worker", 2)]).add();
    sim.app("loir").add();
    sim.app("loir-too").add();
    let by_id = connect_with(&sim, &[], &[("HEROKU_APP_ID", &sim.id("loir-too"))]);
    assert!(info(&apps_of(&by_id).await.unwrap(), "loir-too").left_alone.is_some());
    sim.clear_calls();
    let provider = connect_with(&sim, &[], &[("HEROKU_APP_NAME", "loir")]);
    let list = apps_of(&provider).await.unwrap();
    for (name, reason, status, reachable) in [
        ("repair", Some("it is in maintenance"), AppStatus::Running, true),
        ("inside", Some("it is only reachable inside its space"), AppStatus::Stopped, false),
        ("nowhere", Some("it has no public address"), AppStatus::Stopped, false),
        ("new", Some("it was never deployed"), AppStatus::Stopped, true),
        ("queue", Some("it has no web process"), AppStatus::Stopped, true),
        ("loir", Some("it is this gateway itself"), AppStatus::Running, true),
        ("loir-too", None, AppStatus::Running, true),
    ] {
        let one = info(&list, name);
        let said = (one.left_alone.as_deref(), &one.status, one.endpoint.is_some());
        assert_eq!(said, (reason, &status, reachable), "{name}");
    }
    assert_eq!(sim.count("GET", "/formation"), 3, "of the others it does not matter");
    // Its page is passed on, although it wants no dyno.
    assert_eq!(provider.status("repair").await.unwrap(), AppStatus::Running);
    sim.set_maintenance("repair", false);
    assert_eq!(provider.status("repair").await.unwrap(), AppStatus::Stopped);
    for app in ["new", "queue", "nowhere"] {
        assert!(matches!(start(&provider, app, None).await, Err(ProviderError::Refused(_))), "{app}");
    }
    // A first release is seen in the list.
    sim.end_deployment("new");
    let list = apps_of(&provider).await.unwrap();
    assert_eq!((&info(&list, "new").left_alone, &info(&list, "new").status), (&None, &AppStatus::Running));
}

#[tokio::test]
async fn a_team_is_listed_by_its_own_list_and_a_space_is_a_filter() {
    let sim = Heroku::start().await;
    sim.app("mine").add();
    sim.app("ours").team_list_only("acme").add();
    let names = async |provider: Arc<dyn Provider>| {
        apps_of(&provider).await.unwrap().iter().map(|info| info.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(connect(&sim)).await, ["mine"]);
    assert_eq!(names(connect_with(&sim, &["team: acme"], &NONE)).await, ["ours"]);
    assert!(names(connect_with(&sim, &["spaces: [hidden]"], &NONE)).await.is_empty());
}

#[tokio::test]
async fn a_stop_takes_every_process_and_a_start_brings_back_exactly_those() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 2), ("worker", 3), ("clock", 0)], true);
    for changed_only in [false, true] {
        sim.set_answers_changed_only(changed_only);
        let provider = listed(&sim).await;
        let saved = stop(&provider, "shop").await;
        assert_eq!(
            amounts(&saved),
            BTreeMap::from([("clock".into(), 0), ("web".into(), 2), ("worker".into(), 3)])
        );
        let stopped = ["GET /formation", "GET ", "GET /dynos", "GET /releases", "PATCH /formation"];
        assert_eq!(calls(&sim, "shop"), stopped);
        let body = r#"{"updates":[{"quantity":0,"type":"web"},{"quantity":0,"type":"worker"}]}"#;
        assert_eq!(sim.calls()[4].body, body, "what is at 0 is not touched");
        assert!(sim.formation("shop").values().all(|quantity| *quantity == 0));
        sim.clear_calls();
        assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Stopped);
        assert_eq!(provider.before_stop("shop", &Turn::default()).await.unwrap(), BeforeStop::Stopped);
        assert_eq!(info(&apps_of(&provider).await.unwrap(), "shop").status, AppStatus::Stopped);
        assert_eq!(calls(&sim, "shop"), ["GET /formation", "GET /formation", "GET /apps"]);
        sim.clear_calls();
        let endpoint = start(&provider, "shop", Some(&saved)).await.unwrap();
        assert_eq!(endpoint.to_string(), format!("http://{}", sim.host("shop")));
        assert_eq!(calls(&sim, "shop"), ["GET /formation", "PATCH /formation"]);
        assert_eq!(sim.formation("shop"), amounts(&saved));
        assert_eq!(info(&apps_of(&provider).await.unwrap(), "shop").status, AppStatus::Running);
        eventually!(provider.status("shop").await.unwrap() == AppStatus::Running);
        assert_eq!(sim.calls().len(), sim.count("GET", "/dynos") * 2 + 3, "two calls for a state");
        sim.clear_calls();
    }
    assert_eq!((sim.starts("shop"), sim.stops("shop")), (2, 2));
}

#[tokio::test]
async fn only_web_is_stopped_if_only_web_is_given() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 2), ("worker", 3)], true);
    let provider = listed(&sim).await;
    provider.stop("shop", &formation(&[("web", 2)]), &Turn::default()).await.unwrap();
    assert_eq!(sim.formation("shop"), BTreeMap::from([("web".into(), 0), ("worker".into(), 3)]));
    assert_eq!(provider.status("shop").await.unwrap(), AppStatus::Stopped);
    assert_eq!(info(&apps_of(&provider).await.unwrap(), "shop").status, AppStatus::Stopped);
    assert_eq!(
        provider.before_stop("shop", &Turn::default()).await.unwrap(),
        BeforeStop::Stopped,
        "its workers are meant to run"
    );
    start(&provider, "shop", Some(&formation(&[("web", 2)]))).await.unwrap();
    assert_eq!(sim.formation("shop"), BTreeMap::from([("web".into(), 2), ("worker".into(), 3)]));
}

#[tokio::test]
async fn an_app_that_was_never_put_to_sleep_here_gets_one_web_dyno_and_nothing_else() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 1), ("worker", 1)], false);
    let provider = listed(&sim).await;
    start(&provider, "shop", None).await.unwrap();
    assert_eq!(sim.formation("shop"), BTreeMap::from([("web".into(), 1), ("worker".into(), 0)]));
    // Somebody saved an app without web dynos: a request needs one all the same.
    sim.add("odd", &[("web", 1), ("worker", 1)], false);
    let provider = listed(&sim).await;
    start(&provider, "odd", Some(&formation(&[("web", 0), ("worker", 2)]))).await.unwrap();
    assert_eq!(sim.formation("odd"), BTreeMap::from([("web".into(), 1), ("worker".into(), 2)]));
}

#[tokio::test]
async fn somebody_who_has_started_it_meanwhile_knows_better() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 1), ("worker", 0)], false);
    let provider = listed(&sim).await;
    sim.set_formation("shop", &[("web", 1), ("worker", 1)]);
    start(&provider, "shop", Some(&formation(&[("web", 3), ("worker", 5)]))).await.unwrap();
    assert_eq!(calls(&sim, "shop"), ["GET /formation", "GET /dynos"]);
    assert_eq!(sim.formation("shop"), BTreeMap::from([("web".into(), 1), ("worker".into(), 1)]));
    assert_eq!(info(&apps_of(&provider).await.unwrap(), "shop").status, AppStatus::Running);
}

#[tokio::test]
async fn process_types_that_are_new_stay_as_they_are_and_those_that_are_gone_are_gone() {
    for is_422 in [false, true] {
        let sim = Heroku::start().await;
        sim.set_unknown_type_is_422(is_422);
        sim.app("shop").formation(&[("web", 0), ("mailer", 0), ("cron", 0)]).add();
        let provider = listed(&sim).await;
        let saved = formation(&[("web", 2), ("worker", 3), ("mailer", 1)]);
        start(&provider, "shop", Some(&saved)).await.unwrap();
        let expected = BTreeMap::from([("web".into(), 2), ("mailer".into(), 1), ("cron".into(), 0)]);
        assert_eq!(sim.formation("shop"), expected);
        // Gone between the look and the change: looked at again, once.
        sim.set_formation("shop", &[("web", 0), ("mailer", 0)]);
        let status = if is_422 { 422 } else { 404 };
        let no_type =
            serde_json::json!({"id": "not_found", "message": "Couldn't find that process type (mailer)."});
        sim.fault(Fault::on("PATCH", "/formation").answers(Answer::json(status, &no_type)));
        sim.clear_calls();
        start(&provider, "shop", Some(&saved)).await.unwrap();
        assert_eq!(
            calls(&sim, "shop"),
            ["GET /formation", "PATCH /formation", "GET /formation", "PATCH /formation"]
        );
        sim.set_formation("shop", &[("web", 0), ("mailer", 0)]);
        sim.fault(Fault::on("PATCH", "/formation").always().answers(Answer::json(status, &no_type)));
        assert!(matches!(start(&provider, "shop", Some(&saved)).await, Err(ProviderError::Refused(_))));
        sim.clear_faults();
        // The same at a stop.
        sim.set_formation("shop", &[("web", 2), ("mailer", 1)]);
        let BeforeStop::Runs(saved) = provider.before_stop("shop", &Turn::default()).await.unwrap() else {
            panic!("it runs")
        };
        sim.drop_type("shop", "mailer");
        provider.stop("shop", &saved, &Turn::default()).await.unwrap();
        assert!(sim.formation("shop").values().all(|quantity| *quantity == 0));
    }
}

#[tokio::test]
async fn eco_dynos_that_sleep_by_themselves_run_and_get_one_of_each_type_if_more_do_not_fit() {
    let sim = Heroku::start().await;
    sim.app("idle").idle().add();
    sim.app("eco").formation(&[("web", 0), ("worker", 0)]).size("web", "Eco").size("worker", "Eco").add();
    let provider = listed(&sim).await;
    assert_eq!(provider.status("idle").await.unwrap(), AppStatus::Running, "the platform wakes it by itself");
    start(&provider, "eco", Some(&formation(&[("web", 2), ("worker", 3)]))).await.unwrap();
    assert_eq!(sim.formation("eco"), BTreeMap::from([("web".into(), 1), ("worker".into(), 1)]));
    assert_eq!(sim.count("PATCH", "/formation"), 2);
    // What cannot be made smaller is not tried again.
    sim.set_formation("eco", &[("web", 0), ("worker", 0)]);
    let mixed =
        serde_json::json!({"id": "invalid_params", "message": "Cannot mix Eco dynos with other dyno types."});
    sim.fault(Fault::on("PATCH", "/formation").always().answers(Answer::json(422, &mixed)));
    sim.clear_calls();
    let error = start(&provider, "eco", None).await.unwrap_err();
    assert!(error.to_string().contains("Cannot mix"), "{error}");
    assert_eq!(sim.count("PATCH", "/formation"), 1);
}

#[tokio::test]
async fn an_app_whose_owner_may_not_start_it_is_refused_with_the_reason() {
    for (status, id) in
        [(402, "delinquent"), (403, "suspended"), (423, "locked"), (422, "verification_needed")]
    {
        let sim = Heroku::start().await;
        sim.app("shop").stopped().blocked(status, id).add();
        let provider = listed(&sim).await;
        match start(&provider, "shop", Some(&formation(&[("web", 2)]))).await {
            Err(ProviderError::Refused(reason)) => assert!(reason.contains(id), "{reason}"),
            other => panic!("{id}: {other:?}"),
        }
        assert_eq!(calls(&sim, "shop"), ["GET /formation", "PATCH /formation"]);
    }
}

#[tokio::test]
async fn a_change_that_got_lost_on_its_way_back_is_simply_sent_again() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 2), ("worker", 3)], true);
    let provider = listed(&sim).await;
    for fault in
        [Fault::on("PATCH", "/formation").drops_after(), Fault::on("PATCH", "/formation").breaks_off()]
    {
        sim.fault(fault.clone());
        let saved = stop(&provider, "shop").await;
        assert_eq!(sim.count("PATCH", "/formation"), 2, "{fault:?}");
        sim.fault(fault);
        start(&provider, "shop", Some(&saved)).await.unwrap();
        assert_eq!(sim.formation("shop"), BTreeMap::from([("web".into(), 2), ("worker".into(), 3)]));
        sim.clear_calls();
    }
    assert_eq!((sim.starts("shop"), sim.stops("shop")), (2, 2), "once each");
    // An answer that cannot be read: the stop looks for itself.
    sim.fault(Fault::on("PATCH", "/formation").truncates());
    stop(&provider, "shop").await;
    assert_eq!(calls(&sim, "shop")[4..], ["PATCH /formation", "GET /formation"]);
    // One that was not carried out at all is no stop.
    sim.set_formation("shop", &[("web", 2)]);
    sim.fault(Fault::on("PATCH", "/formation").answers(Answer::json(200, &serde_json::json!([]))));
    assert!(matches!(
        provider.stop("shop", &formation(&[("web", 2)]), &Turn::default()).await,
        Err(ProviderError::Failed(_))
    ));
}

#[tokio::test]
async fn an_app_that_is_at_work_is_not_stopped() {
    let sim = Heroku::start().await;
    sim.app("migrates").one_off("run").add();
    sim.app("releases").deploying().add();
    sim.app("builds").fir().add();
    sim.app("repair").add();
    let provider = listed(&sim).await;
    sim.set_maintenance("repair", true);
    let pending = serde_json::json!([{"id": "re-43", "version": 43, "status": "pending", "current": false}]);
    let of_builds = format!("/apps/{}/releases", sim.id("builds"));
    sim.fault(Fault::on("GET", &of_builds).answers(Answer::json(206, &pending)));
    for (app, reason) in [
        ("migrates", "a one-off dyno runs"),
        ("releases", "a release is under way"),
        ("builds", "a release is under way"),
        ("repair", "it is in maintenance"),
    ] {
        assert_eq!(
            provider.before_stop(app, &Turn::default()).await.unwrap(),
            BeforeStop::Busy(reason.into()),
            "{app}"
        );
    }
    assert!(matches!(provider.before_stop("builds", &Turn::default()).await.unwrap(), BeforeStop::Runs(_)));
}

#[tokio::test]
async fn the_state_of_one_app_is_what_its_dynos_say() {
    let sim = Heroku::start().await;
    sim.app("shop").boot(Duration::from_secs(3600)).one_off("run").stopped().add();
    let provider = listed(&sim).await;
    let status = async || provider.status("shop").await.unwrap();
    assert_eq!(status().await, AppStatus::Stopped);
    sim.set_formation("shop", &[("web", 2)]);
    assert_eq!(status().await, AppStatus::Starting, "not even listed yet");
    sim.pass("shop", Duration::from_secs(1800));
    assert_eq!(status().await, AppStatus::Starting);
    sim.pass("shop", Duration::from_secs(1800));
    assert_eq!(status().await, AppStatus::Running);
    sim.set_state_word("shop", Some("frobnicating"));
    assert_eq!(status().await, AppStatus::Unknown("frobnicating".into()));
    sim.set_state_word("shop", None);
    sim.crash("shop");
    assert!(matches!(status().await, AppStatus::Crashed(_)));
    assert!(matches!(provider.status("nobody").await, Err(ProviderError::NotFound(_))));
    sim.delete("shop");
    assert!(matches!(provider.status("shop").await, Err(ProviderError::NotFound(_))));
}

#[tokio::test]
async fn an_app_that_has_crashed_stays_so_in_the_list_until_a_start_restarts_it_once() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 2)], true);
    let provider = listed(&sim).await;
    sim.crash("shop");
    assert_eq!(
        info(&apps_of(&provider).await.unwrap(), "shop").status,
        AppStatus::Running,
        "nobody has asked"
    );
    provider.status("shop").await.unwrap();
    assert!(matches!(info(&apps_of(&provider).await.unwrap(), "shop").status, AppStatus::Crashed(_)));
    sim.clear_calls();
    start(&provider, "shop", None).await.unwrap();
    assert_eq!(calls(&sim, "shop"), ["GET /formation", "GET /dynos", "DELETE /dynos"]);
    assert_eq!(info(&apps_of(&provider).await.unwrap(), "shop").status, AppStatus::Running);
    eventually!(sim.is_running("shop"));
    // If that gets lost, it is not sent again.
    sim.crash("shop");
    sim.fault(Fault::on("DELETE", "/dynos").drops_after());
    start(&provider, "shop", None).await.unwrap();
    assert_eq!(sim.count("DELETE", "/dynos"), 2);
}

#[tokio::test]
async fn an_hour_of_lists_of_300_apps_costs_a_third_of_what_the_platform_allows() {
    let sim = Heroku::start().await;
    for n in 0..300 {
        sim.add(&format!("app-{n}"), &[("web", 1)], n % 3 == 0);
    }
    let provider = connect(&sim);
    for _ in 0..12 {
        assert_eq!(apps_of(&provider).await.unwrap().len(), 300);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(5 * 60)).await;
        tokio::time::resume();
    }
    let in_an_hour = sim.calls().len();
    assert!((312..=12 + 600).contains(&in_an_hour), "{in_an_hour} calls in the first hour");
    // Whatever was seen by then is looked at again within the hour.
    apps_of(&provider).await.unwrap();
    assert_eq!(sim.limited_calls(), 0);
    let again = sim.count("GET", "/formation");
    assert_eq!(again, 600, "each once more");
    assert!(sim.calls().len() < 1500);
}

#[tokio::test]
async fn the_last_calls_of_the_platforms_pool_are_for_wakes() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 1)], false);
    let provider = listed(&sim).await;
    sim.set_pool(300, 1);
    provider.status("shop").await.unwrap();
    let list = tokio::time::timeout(Duration::from_millis(500), provider.list()).await;
    assert!(list.is_err() && sim.count("GET", "/apps") == 0, "a list can wait");
    start(&provider, "shop", None).await.unwrap();
    assert_eq!(sim.formation("shop")["web"], 1);
}

#[tokio::test]
async fn a_start_that_has_to_wait_for_the_platform_says_so() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 1)], false);
    let provider = listed(&sim).await;
    sim.set_pool(0, 0);
    let turn = Turn::default();
    let mut told = turn.watch();
    tokio::select! {
        started = provider.start("shop", None, &turn) => panic!("it was not to start: {started:?}"),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("nobody was told"),
        _ = told.wait_for(|queue| matches!(queue, Queue::Waiting(wait) if *wait > Duration::from_secs(5))) => {}
    }
    assert_eq!((sim.limited_calls(), sim.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_token_that_is_refused_is_used_no_more_until_a_reload_brings_another() {
    let sim = Heroku::start().await;
    sim.add("shop", &[("web", 1)], false);
    let provider = listed(&sim).await;
    sim.set_token("HRKU-another-one");
    for _ in 0..3 {
        let error = apps_of(&provider).await.unwrap_err();
        assert!(matches!(&error, ProviderError::Misconfigured(_)), "{error:?}");
        assert!(!error.to_string().contains("HRKU"), "{error}");
    }
    assert_eq!(sim.calls().len(), 1);
    let new = options(&sim, &["list_every: 7m"], &NONE);
    assert!(!new.show().to_string().contains("HRKU"));
    provider.reconfigure(&*new).await.unwrap();
    assert_eq!(provider.list_every(), Some(Duration::from_secs(7 * 60)));
    start(&provider, "shop", None).await.unwrap();
    assert_eq!(sim.count("GET", "/apps"), 1, "where it is was known before");
    // The same token again: what was seen with it is still good.
    apps_of(&provider).await.unwrap();
    sim.clear_calls();
    provider.reconfigure(&*options(&sim, &["stop: web"], &NONE)).await.unwrap();
    apps_of(&provider).await.unwrap();
    assert_eq!(calls(&sim, "shop"), ["GET /apps"]);
}

#[tokio::test]
async fn an_api_that_does_not_work_is_not_asked_for_every_app() {
    let sim = Heroku::start().await;
    for n in 0..40 {
        sim.add(&format!("app-{n}"), &[("web", 1)], true);
    }
    let provider = connect(&sim);
    sim.fault(Fault::on("GET", "/formation").always().html(200));
    assert!(matches!(apps_of(&provider).await, Err(ProviderError::Unavailable(_))));
    assert!(sim.count("GET", "/formation") <= 15, "eight failures, and seven that were under way");
    sim.clear_faults();
    sim.down(Outage::Refused);
    assert!(matches!(apps_of(&provider).await, Err(ProviderError::Unavailable(_))));
    sim.down(Outage::None);
    assert_eq!(apps_of(&provider).await.unwrap().len(), 40);
}

#[test]
fn what_is_wrong_with_an_entry_is_told_with_its_place() {
    let problems = |lines: &str| {
        let text = format!(
            "server:\n  domain: example.com\nproviders:\n  - name: heroku\n    type: heroku\n{lines}"
        );
        let env: Environment = NONE.into_iter().collect();
        let source = Source { name: "loir.yaml".into(), text };
        load(source, &env).err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    assert!(problems("").contains("HEROKU_API_KEY"));
    assert!(problems("    api_token: ''\n").contains("needs an `api_token`"));
    assert!(problems("    api_token: x\n    team: ''\n").contains("`team` is empty"));
    assert!(problems("    api_token: x\n    spaces: []\n").contains("empty list"));
    assert_eq!(problems("    api_token: x\n    team: acme\n    spaces: den\n"), "");
}
