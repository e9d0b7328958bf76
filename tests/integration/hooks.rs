//! Hooks: what they are told, what they may prevent, and that nothing they do harms anybody.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use loir::{
    app::{AppId, AppState},
    clock::Clock,
    config::secret::Secret,
    hooks::{Action, Hook, Hooks, Outcome, Phase, Whom, webhook::signature},
    lifecycle::{Cause, Event, Happening, Run, Slept, Witness},
};
use nix::sys::signal::Signal;

use crate::{
    eventually,
    support::{
        App, Gateway, gateway,
        program::{Program, group_is_alive, is_alive},
        receiver::Receiver,
    },
};

/// A hook that runs this script. `$DIR` is a folder to write to.
fn script(on: &str, folder: &Path, script: &str) -> String {
    format!(
        "  - on: {on}\n    command: [/bin/sh, -c, {script:?}]\n    env: {{ DIR: {:?} }}\n",
        folder.display().to_string()
    )
}

fn hooks(hooks: &[String]) -> String {
    format!("hooks:\n{}", hooks.concat())
}

/// What a script has written, once it has written it all.
async fn written(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    eventually!(fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')), "{}", path.display());
    fs::read_to_string(path).unwrap()
}

/// The process ids that a script has written.
async fn process(folder: &Path, name: &str) -> u32 {
    written(folder, name).await.trim().parse().unwrap()
}

/// Neither running nor a zombie: `/proc` does not know it.
fn is_no_more(process: u32) -> bool {
    !Path::new(&format!("/proc/{process}")).exists()
}

fn count(loir: &Gateway, phase: Phase, outcome: Outcome) -> u64 {
    loir.running.hooks().counts().of(phase, outcome)
}

#[tokio::test]
async fn a_command_is_told_of_the_event_on_its_standard_input_and_in_variables() {
    let folder = tempfile::tempdir().unwrap();
    let tell = "cat > $DIR/json; env > $DIR/env.new; echo >> $DIR/env.new; mv $DIR/env.new $DIR/env";
    let loir = gateway([App::named("hello")])
        .top(&hooks(&[script("after_start", folder.path(), tell)]))
        .start()
        .await;
    let request = loir.get("hello", "/pid").header("user-agent", "curl/8");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let variables = written(folder.path(), "env").await;
    let json: serde_json::Value = serde_json::from_str(&written(folder.path(), "json").await).unwrap();
    assert_eq!(json["phase"], "after_start");
    assert_eq!(json["app"], "local/hello");
    assert_eq!(json["event"], "ready");
    assert_eq!(json["cause"]["by"], "request");
    assert_eq!(json["cause"]["agent"], "curl/8");
    assert!(json["took"].is_u64() && json["run"].is_string() && json["at"].is_u64(), "{json}");
    let run = format!("LOIR_RUN={}", json["run"].as_str().unwrap());
    for line in
        ["LOIR_PHASE=after_start", "LOIR_APP=local/hello", "LOIR_APP_NAME=hello", "LOIR_EVENT=ready", &run]
    {
        assert!(variables.lines().any(|found| found == line), "{line}\n{variables}");
    }
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok(), "a stand-in for a secret of ours");
    assert!(!variables.contains("CARGO_"), "nothing of our environment:\n{variables}");
}

#[tokio::test]
async fn a_hook_is_only_for_the_apps_it_fits() {
    let folder = tempfile::tempdir().unwrap();
    let only = script("after_start", folder.path(), "echo $LOIR_APP >> $DIR/apps")
        + "    match: [shop-*, local/blog]\n";
    let loir = gateway(["shop-a", "hello", "blog"].map(App::named)).top(&hooks(&[only])).start().await;
    for app in ["hello", "shop-a", "blog"] {
        loir.wake(app).await;
    }
    eventually!(written(folder.path(), "apps").await == "local/shop-a\nlocal/blog\n");
    eventually!(count(&loir, Phase::AfterStart, Outcome::Ok) == 2);
}

#[tokio::test]
async fn a_hook_that_a_rule_names_is_for_the_apps_of_that_rule() {
    let folder = tempfile::tempdir().unwrap();
    let note = |name: &str| {
        let note = format!("echo {name} $LOIR_APP_NAME >> $DIR/apps");
        script("after_start", folder.path(), &note) + &format!("    name: {name}\n")
    };
    let all = hooks(&[note("everybody"), note("ruled"), note("both") + "    match: '(hello|none)'\n"]);
    let rules = "rules:\n  - match: 'shop-(a|b)'\n    hooks: [ruled, both]\n";
    let loir = gateway(["shop-a", "hello"].map(App::named)).top(&all).top(rules).start().await;
    loir.wake("hello").await;
    eventually!(count(&loir, Phase::AfterStart, Outcome::Ok) == 2);
    loir.wake("shop-a").await;
    eventually!(count(&loir, Phase::AfterStart, Outcome::Ok) == 5);
    let told = written(folder.path(), "apps").await;
    let told: BTreeSet<_> = told.lines().collect();
    let expected = ["everybody hello", "both hello", "everybody shop-a", "ruled shop-a", "both shop-a"];
    assert_eq!(told, BTreeSet::from(expected));
}

#[tokio::test]
async fn a_command_may_veto_a_stop_and_its_last_line_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let veto = "echo looking; echo a backup is running >&2; exit 3";
    let loir = gateway([App::named("hello")])
        .top(&hooks(&[script("before_stop", folder.path(), veto)]))
        .start()
        .await;
    loir.wake("hello").await;
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0);
    for _ in 0..20 {
        let Slept::Kept(reason) = loir.running.lifecycle().sleep(&app, Duration::ZERO).await else {
            panic!()
        };
        assert_eq!(reason, "hook hook-1: a backup is running (exit status 3)");
    }
    assert_eq!(app.state(), AppState::Awake);
    assert_eq!(loir.times("hello", "term"), 0);
    assert_eq!(count(&loir, Phase::BeforeStop, Outcome::Failed), 20);
}

#[tokio::test]
async fn a_command_that_agrees_is_asked_before_the_app_is_told_anything() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |phase| {
        let note = "echo $LOIR_PHASE >> $DIR/order";
        let asked = "grep -c . $DIR/../hello.journal >> $DIR/order; true";
        script(phase, folder.path(), &format!("{note}; {asked}"))
    };
    let hooks = hooks(&[ask("before_start"), ask("before_stop")]);
    let loir = gateway([App::named("hello")]).top(&hooks).start().await;
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    let order = written(folder.path(), "order").await;
    let phases: Vec<_> = order.lines().filter(|line| line.starts_with("before")).collect();
    assert_eq!(phases, ["before_start", "before_stop"]);
    assert_eq!((loir.times("hello", "start"), loir.times("hello", "end")), (1, 1));
}

#[tokio::test]
async fn a_command_may_fail_a_wake_and_only_the_operator_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = "echo 'licence of hunter2 has expired'; exit 1";
    let told = script("wake_failed", folder.path(), "echo $LOIR_TEXT > $DIR/failed");
    let loir = gateway([App::named("hello")])
        .keeps_state()
        .top(&hooks(&[script("before_start", folder.path(), refuse), told]))
        .start()
        .await;
    let answer = loir.get("hello", "/").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let page = answer.text().await.unwrap();
    assert!(!page.contains("hunter2"), "{page}");
    assert!(loir.journal("hello").is_empty(), "it was not even started");
    let text = written(folder.path(), "failed").await;
    assert!(text.contains("hook hook-1: licence of hunter2 has expired (exit status 1)"), "{text}");
    let records = fs::read_to_string(loir.folder.path().join("state/registry.json")).unwrap();
    assert!(records.contains("licence of hunter2 has expired"), "{records}");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_it_has_started_and_counts_as_a_veto() {
    let folder = tempfile::tempdir().unwrap();
    let hang = "trap '' TERM; sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/pid; echo waiting for godot; wait; wait";
    let hook = script("before_stop", folder.path(), hang) + "    timeout: 300ms\n";
    let loir = gateway([App::named("hello")]).top(&hooks(&[hook])).start().await;
    loir.wake("hello").await;
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0);
    let Slept::Kept(reason) = loir.running.lifecycle().sleep(&app, Duration::ZERO).await else { panic!() };
    assert!(reason.contains("waiting for godot (no end within its timeout of 300ms)"), "{reason}");
    let (hook, child) = (process(folder.path(), "pid").await, process(folder.path(), "child").await);
    eventually!(is_no_more(hook), "no zombie is left");
    eventually!(!is_alive(child) && !group_is_alive(hook));
    assert_eq!(count(&loir, Phase::BeforeStop, Outcome::TimedOut), 1);
    assert_eq!(loir.running.hooks().running(), 0);
}

#[tokio::test]
async fn a_stop_that_is_given_up_does_not_wait_for_its_hook_and_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let hang = "trap '' TERM; echo $$ > $DIR/pid; sleep 1000";
    let hook = script("before_stop", folder.path(), hang) + "    timeout: 1h\n";
    let loir = gateway([App::named("hello")]).top(&hooks(&[hook])).start().await;
    loir.wake("hello").await;
    let app = loir.app("hello");
    eventually!(app.in_flight() == 0);
    let lifecycle = loir.running.lifecycle().clone();
    let stop = tokio::spawn(async move { lifecycle.sleep(&app, Duration::ZERO).await });
    let hook = process(folder.path(), "pid").await;
    assert_eq!(loir.get("hello", "/pid").send().await.unwrap().status(), 200, "it is answered at once");
    assert!(matches!(stop.await.unwrap(), Slept::Kept(_)));
    eventually!(is_no_more(hook) && !group_is_alive(hook));
    assert_eq!(count(&loir, Phase::BeforeStop, Outcome::GivenUp), 1);
    assert_eq!(loir.times("hello", "start"), 1);
}

#[tokio::test]
async fn what_a_hook_has_forked_neither_hangs_anybody_nor_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let fork = "sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/pid";
    let loir = gateway([App::named("hello")])
        .top(&hooks(&[script("before_start", folder.path(), fork)]))
        .start()
        .await;
    loir.wake("hello").await;
    let (hook, child) = (process(folder.path(), "pid").await, process(folder.path(), "child").await);
    eventually!(is_no_more(hook), "no zombie is left");
    eventually!(!is_alive(child), "its pipe was open, and its group is gone");
    assert_eq!(count(&loir, Phase::BeforeStart, Outcome::Ok), 1);
}

#[tokio::test]
async fn a_hook_that_is_killed_or_cannot_be_run_is_a_failure_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let killed = script("after_start", folder.path(), "echo $$ > $DIR/pid; kill -9 $$");
    let absent = "  - { on: after_start, command: [/nowhere/notify] }\n".to_owned();
    let loir = gateway([App::named("hello")]).top(&hooks(&[killed, absent])).start().await;
    loir.wake("hello").await;
    let hook = process(folder.path(), "pid").await;
    eventually!(count(&loir, Phase::AfterStart, Outcome::Failed) == 2);
    eventually!(is_no_more(hook));
    loir.wake("hello").await;
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_slows_down_nobody_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let flood =
        script("after_start", folder.path(), "echo $$ > $DIR/pid; while :; do echo flooooooooood; done");
    let flood = flood + "    timeout: 1s\n";
    let setup = gateway([App::named("hello"), App::named("other")])
        .top(&hooks(&[flood + "    name: flood\n    match: hello\n"]));
    let loir = Program::start(&setup, folder.path()).await;
    loir.wake("hello").await;
    let hook = process(folder.path(), "pid").await;
    loir.wake("other").await;
    let mut answered = 0;
    while is_alive(hook) {
        assert_eq!(loir.get("other", "/pid").send().await.unwrap().status(), 200);
        answered += 1;
    }
    assert!(answered > 10, "{answered}");
    loir.says("more bytes of its output are left out").await;
    loir.says("flood: after_start of local/hello: flooooooooood (no end within its timeout of 1s)").await;
    let said = loir.log().matches("flooooooooood").count() * "flooooooooood\n".len();
    assert!((8 * 1024..20 * 1024).contains(&said), "{said} bytes of it are in the log");
    eventually!(is_no_more(hook) && !group_is_alive(hook));
}

#[tokio::test]
async fn hooks_that_are_only_told_never_keep_a_wake_or_a_request_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let hang = script("[after_start, after_stop]", folder.path(), "sleep 1000") + "    timeout: 1h\n";
    let all: Vec<_> = (0..6).map(|_| hang.clone()).collect();
    let loir = gateway([App::named("hello")]).top(&hooks(&all)).start().await;
    for _ in 0..3 {
        loir.wake("hello").await;
        loir.put_to_sleep("hello").await;
    }
    assert_eq!(loir.times("hello", "start"), 3);
    eventually!(loir.running.hooks().running() == 4, "so many run at once, and no more");
}

#[tokio::test]
async fn when_the_gateway_ends_so_do_its_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let hang = "trap '' TERM; echo $$ > $DIR/pid; sleep 1000";
    let hang = script("after_start", folder.path(), hang) + "    timeout: 1h\n";
    let mut loir = Program::start(&gateway([App::named("hello")]).top(&hooks(&[hang])), folder.path()).await;
    loir.wake("hello").await;
    let hook = process(folder.path(), "pid").await;
    loir.signal(Signal::SIGTERM);
    assert!(loir.ended().await.success());
    eventually!(!is_alive(hook) && !group_is_alive(hook));
}

#[tokio::test]
async fn when_the_gateway_is_killed_its_keeper_ends_its_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let hang = "trap '' TERM; (sleep 1000) & echo $$ > $DIR/pid; sleep 1000";
    let hang = script("after_start", folder.path(), hang) + "    timeout: 1h\n";
    let setup = gateway([App::named("hello")]).keeps_state().provider("leave_running: true");
    let mut loir = Program::start(&setup.top(&hooks(&[hang])), folder.path()).await;
    let app = loir.wake("hello").await;
    let hook = process(folder.path(), "pid").await;
    loir.kill().await;
    eventually!(!is_alive(hook) && !group_is_alive(hook));
    assert!(is_alive(app), "an app that may outlive the gateway is no hook");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(app.cast_signed()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_reload_replaces_the_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let setup = |name: &str| {
        let note = script("after_start", folder.path(), &format!("echo told > $DIR/{name}"));
        gateway([App::named("hello"), App::named("other")]).top(&hooks(&[note]))
    };
    let loir = Program::start(&setup("first"), folder.path()).await;
    loir.wake("hello").await;
    written(folder.path(), "first").await;
    loir.reload(&setup("second"));
    loir.says("the configuration is reloaded").await;
    fs::remove_file(folder.path().join("first")).unwrap();
    loir.wake("other").await;
    written(folder.path(), "second").await;
    assert!(!folder.path().join("first").exists());
}

#[tokio::test]
async fn a_webhook_is_signed_and_sent_again_until_it_has_arrived() {
    let receiver = Receiver::start().await.answers(503, &[]).answers(429, &[("retry-after", "1")]);
    let hook = format!(
        "  - {{ on: [after_start, after_stop], webhook: \"{}\", secret: hunter2, backoff: 20ms }}\n",
        receiver.url("/hook?key=hunter2")
    );
    let loir = gateway([App::named("hello")]).top(&hooks(&[hook])).start().await;
    let began = Instant::now();
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    eventually!(receiver.received().len() == 4);
    assert!(began.elapsed() >= Duration::from_millis(900), "Retry-After is a wish that is granted");
    let received = receiver.received();
    let events: Vec<_> =
        received.iter().map(|one| one.json()["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["ready", "ready", "ready", "asleep"], "in order, though the first one came late");
    let ids: Vec<_> = received.iter().map(|one| one.header("x-loir-delivery")).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    for one in &received {
        assert_eq!(one.path, "/hook?key=hunter2");
        assert_eq!(one.header("content-type"), "application/json");
        assert_eq!(one.header("x-loir-phase"), one.json()["phase"].as_str().unwrap());
        let signed = one.header("x-loir-signature");
        let seconds: u64 = signed.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
        assert!(Clock::system().unix_millis().abs_diff(seconds * 1000) < 120_000, "{signed}");
        assert_eq!(signed, signature(&Secret::new("hunter2"), seconds, &one.body));
        assert!(!one.body.contains("127.0.0.1"), "who the client was is nobody's business: {}", one.body);
    }
    eventually!(count(&loir, Phase::AfterStart, Outcome::Ok) == 1);
}

#[tokio::test]
async fn what_a_receiver_refuses_is_not_sent_again_and_no_redirect_is_followed() {
    let elsewhere = Receiver::start().await;
    let receiver =
        Receiver::start().await.answers(400, &[]).answers(307, &[("location", &elsewhere.url("/"))]);
    let hook = format!(
        "  - {{ on: [after_start, after_stop], webhook: \"{}\", backoff: 1ms }}\n",
        receiver.url("/")
    );
    let loir = gateway([App::named("hello")]).top(&hooks(&[hook])).start().await;
    loir.wake("hello").await;
    loir.put_to_sleep("hello").await;
    eventually!(count(&loir, Phase::AfterStop, Outcome::Failed) == 1);
    assert_eq!(count(&loir, Phase::AfterStart, Outcome::Failed), 1);
    assert_eq!(receiver.received().len(), 2);
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn slack_discord_and_healthchecks_get_what_they_understand() {
    let receiver = Receiver::start().await;
    let preset = |on: &str, preset: &str| {
        format!("  - {{ on: {on}, preset: {preset}, url: \"{}\" }}\n", receiver.url(&format!("/{preset}")))
    };
    let all = hooks(&[
        preset("after_start", "slack"),
        preset("wake_failed", "discord"),
        preset("[before_start, after_start, wake_failed]", "healthchecks"),
    ]);
    let broken = App::named("broken").runs(&["/nowhere/app"]);
    let loir = gateway([App::named("hello"), broken]).top(&all).start().await;
    loir.wake("hello").await;
    assert_eq!(loir.get("broken", "/").send().await.unwrap().status(), 502);
    eventually!(receiver.received().len() == 6);
    let at = |path: &str| receiver.received().into_iter().filter(|one| one.path == path).collect::<Vec<_>>();
    let slack = at("/slack")[0].json()["text"].as_str().unwrap().to_owned();
    assert!(slack.contains("local/hello: ready after") && slack.contains("(because: a request)"), "{slack}");
    let discord = at("/discord")[0].json()["content"].as_str().unwrap().to_owned();
    assert!(discord.contains("local/broken: did not wake: cannot run /nowhere/app"), "{discord}");
    assert_eq!(at("/healthchecks/start").len(), 2);
    assert_eq!(at("/healthchecks").len(), 1);
    assert!(at("/healthchecks/fail")[0].body.starts_with("local/broken: did not wake"));
}

#[tokio::test]
async fn apps_that_sleep_together_are_one_message() {
    let receiver = Receiver::start().await;
    let hook = format!("  - {{ on: sweep, preset: slack, url: \"{}\" }}\n", receiver.url("/"));
    let clock = Clock::manual();
    let slow = App::named("two").env("STOP_MS", 500);
    let loir = gateway([App::named("one"), slow]).clock(&clock).top(&hooks(&[hook])).start().await;
    loir.wake("one").await;
    loir.wake("two").await;
    eventually!(loir.app("one").in_flight() == 0 && loir.app("two").in_flight() == 0);
    clock.advance(Duration::from_secs(3600));
    eventually!(loir.app("one").state() == AppState::Asleep && loir.app("two").state() == AppState::Asleep);
    eventually!(!receiver.received().is_empty());
    let text = receiver.received()[0].json()["text"].as_str().unwrap().to_owned();
    assert!(text.contains("2 asleep: one, two") || text.contains("2 asleep: two, one"), "{text}");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn an_address_that_is_a_secret_is_in_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = crate::support::program::free_address();
    let hook = format!(
        "  - {{ on: after_start, preset: slack, url: \"http://u:hunter2@{nobody}/hunter2\", retries: 1, backoff: 1ms }}\n"
    );
    let loir = Program::start(&gateway([App::named("hello")]).top(&hooks(&[hook])), folder.path()).await;
    loir.wake("hello").await;
    loir.says("hook-1: after_start of local/hello: cannot connect").await;
    assert!(!loir.log().contains("hunter2"), "{}", loir.log());
}

#[tokio::test]
async fn what_is_too_much_is_lost_and_counted_and_never_waited_for() {
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(&format!("http://{}/", receiver.local_addr().unwrap()));
    let action =
        Action::Webhook { url, preset: None, secret: None, retries: 0, backoff: Duration::from_secs(1) };
    let on = vec![Phase::AfterStart];
    let hook = Hook { name: "slow".into(), on, whom: Whom::All, timeout: Duration::from_secs(3600), action };
    pingora_core::tls::install_default_crypto_provider();
    let here = tokio::runtime::Handle::current();
    let hooks = Hooks::new(vec![hook], Default::default(), here, Clock::system(), "test", None).unwrap();
    let happening = |event: Event, cause: Cause| Happening {
        at: 0,
        app: AppId::new("local", "hello"),
        event,
        run: Some(Run::new(cause)),
        gateway: "test".into(),
        operation: None,
    };
    for _ in 0..1000 {
        // What another gateway has done is that one's to tell.
        hooks.see(&happening(Event::Elsewhere(AppState::Awake), Cause::Fleet));
        hooks.see(&happening(Event::Ready(Duration::ZERO), Cause::Fleet));
    }
    assert_eq!(hooks.counts().of(Phase::AfterStart, Outcome::Dropped), 0);
    for _ in 0..1000 {
        hooks.see(&happening(Event::Ready(Duration::ZERO), Cause::Gateway));
    }
    let dropped = hooks.counts().of(Phase::AfterStart, Outcome::Dropped);
    assert!((743..=744).contains(&dropped), "{dropped}: 256 wait, and perhaps one is under way");
    hooks.end().await;
    eventually!(hooks.counts().of(Phase::AfterStart, Outcome::GivenUp) == 1);
}

#[tokio::test]
async fn hooks_can_be_tried_before_anything_happens() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await.answers(500, &[]));
    let told = script("after_stop", folder.path(), "cat > $DIR/json") + "    name: told\n";
    let slack = format!("  - {{ name: slack, on: sweep, preset: slack, url: \"{}\" }}\n", receiver.url("/x"));
    let only = "  - { on: after_stop, match: other, command: [\"false\"] }\n".to_owned();
    let config = folder.path().join("loir.yaml");
    fs::write(&config, hooks(&[told, slack, only])).unwrap();
    let try_out = async |args: &[&str]| {
        let line = [&["hooks", "test", "-c", config.to_str().unwrap(), "--app", "local/shop"], args].concat();
        let output = Program::command(&line).await;
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    };
    let all = "told: after_stop: fine\nslack: sweep: the receiver answers 500\n";
    assert_eq!(try_out(&[]).await, (all.into(), 1));
    assert_eq!(try_out(&["--on", "sweep"]).await, ("slack: sweep: fine\n".into(), 0));
    assert_eq!(try_out(&["hook-3"]).await, ("hook-3: after_stop: exit status 1\n".into(), 1));
    assert_eq!(try_out(&["nobody"]).await, (String::new(), 1));
    let json: serde_json::Value = serde_json::from_str(&written(folder.path(), "json").await).unwrap();
    assert_eq!((json["app"].as_str(), json["phase"].as_str()), (Some("local/shop"), Some("after_stop")));
}

#[test]
fn every_example_of_the_documentation_loads() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hooks.md")).unwrap();
    let env = ["SLACK_URL", "DISCORD_URL", "PING_URL", "HOOK_SECRET"].map(|name| (name, "https://x.test/"));
    let examples: Vec<_> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let source = loir::server::Source { name: "docs/hooks.md".into(), text: example.into() };
        let plan = loir::server::load(source, &loir::config::Environment::from_iter(env))
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!plan.config.hooks.is_empty());
    }
}
