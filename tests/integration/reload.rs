//! SIGHUP: what can change changes, what cannot says so, and nobody who is connected notices.

use std::{fs, time::Duration};

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    eventually,
    support::{
        App, gateway,
        program::{Program, free_address, is_alive},
    },
};

const RELOADED: &str = "the configuration is reloaded";

async fn status(loir: &Program, app: &str) -> u16 {
    loir.get(app, "/").send().await.unwrap().status().as_u16()
}

fn app(name: &str) -> App {
    App::named(name)
}

#[tokio::test]
async fn a_new_app_appears_and_a_removed_one_vanishes_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([app("stays"), app("goes")]).keeps_state(), folder.path()).await;
    let (stays, goes) = (loir.wake("stays").await, loir.wake("goes").await);
    assert_eq!(status(&loir, "comes").await, 404);
    loir.reload(&gateway([app("stays"), app("comes")]).keeps_state());
    loir.says(RELOADED).await;
    assert_eq!(status(&loir, "goes").await, 404);
    loir.wake("comes").await;
    assert_eq!(loir.wake("stays").await, stays, "whatever stays goes on as it was");
    eventually!(!is_alive(goes));
    assert!(loir.journal("goes").ends_with(&["term".into(), "end".into()]));
    let records = || fs::read_to_string(folder.path().join("state/registry.json")).unwrap();
    eventually!(!records().contains("local/goes"), "a person took it out: it is forgotten");
}

#[tokio::test]
async fn a_removed_app_first_ends_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([app("stays"), app("goes")]), folder.path()).await;
    let goes = loir.wake("goes").await;
    let mut download = loir.get("goes", "/drip/100/20").send().await.unwrap();
    download.chunk().await.unwrap();
    loir.reload(&gateway([app("stays")]));
    loir.says(RELOADED).await;
    assert_eq!(status(&loir, "goes").await, 404);
    assert!(is_alive(goes), "somebody still downloads from it");
    let rest = download.text().await.expect("the download is not cut");
    assert!(rest.ends_with("chunk 99\n"));
    eventually!(!is_alive(goes));
}

#[tokio::test]
async fn a_removed_app_first_answers_those_who_wait_for_its_wake() {
    let folder = tempfile::tempdir().unwrap();
    let slow = || app("goes").boots_in(Duration::from_millis(700));
    let loir = Program::start(&gateway([app("stays"), slow()]), folder.path()).await;
    let waits = tokio::spawn(loir.get("goes", "/pid").send());
    eventually!(loir.journal("goes").contains(&"start".into()));
    loir.reload(&gateway([app("stays")]));
    loir.says(RELOADED).await;
    let answer = waits.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let process = answer.text().await.unwrap().parse().unwrap();
    eventually!(!is_alive(process));
}

#[tokio::test]
async fn an_app_that_was_removed_by_mistake_and_is_back_at_once_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([app("stays"), app("flickers")]), folder.path()).await;
    let process = loir.wake("flickers").await;
    let download = loir.get("flickers", "/drip/100/20").send().await.unwrap();
    loir.reload(&gateway([app("stays")]));
    loir.says(RELOADED).await;
    loir.reload(&gateway([app("stays"), app("flickers")]));
    eventually!(loir.log().matches(RELOADED).count() == 2);
    assert!(download.text().await.unwrap().ends_with("chunk 99\n"));
    assert_eq!(loir.wake("flickers").await, process);
}

#[tokio::test]
async fn a_websocket_and_a_request_in_flight_do_not_notice() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([app("hello")]), folder.path()).await;
    loir.wake("hello").await;
    let mut socket = crate::support::websocket(loir.address, "hello.test").await;
    let download = loir.get("hello", "/drip/50/20").send().await.unwrap();
    for round in 1..=3 {
        loir.reload(&gateway([app("hello"), app(&format!("other-{round}"))]));
        eventually!(loir.log().matches(RELOADED).count() == round);
        socket.send(Message::text("still there?")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still there?"));
    }
    assert!(download.text().await.unwrap().ends_with("chunk 49\n"));
    assert_eq!(loir.journal("hello").iter().filter(|line| *line == "start").count(), 1);
}

#[tokio::test]
async fn changed_timeouts_apply_to_apps_that_run() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([app("own"), app("default")]), folder.path()).await;
    loir.wake("own").await;
    loir.wake("default").await;
    loir.reload(&gateway([app("own").with("idle_timeout: 20ms"), app("default")]));
    loir.says("local/own: asleep").await;
    assert!(!loir.log().contains("local/default: asleep"));
    loir.reload(&gateway([app("own"), app("default")]).defaults("idle_timeout: 20ms"));
    loir.says("local/default: asleep").await;
}

#[tokio::test]
async fn a_changed_wake_timeout_applies_to_the_next_wake() {
    let folder = tempfile::tempdir().unwrap();
    let never = || app("never").boots_in(Duration::from_secs(3600));
    let loir = Program::start(&gateway([never().with("wake_timeout: 1h")]), folder.path()).await;
    loir.reload(&gateway([never().with("wake_timeout: 100ms")]));
    loir.says(RELOADED).await;
    assert_eq!(status(&loir, "never").await, 502);
    loir.says("no answer on / within the wake timeout of 100ms").await;
}

#[tokio::test]
async fn a_changed_command_applies_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let version = |number: u32| app("hello").env("VERSION", number);
    let loir = Program::start(&gateway([version(1)]), folder.path()).await;
    let process = loir.wake("hello").await;
    loir.reload(&gateway([version(2)]));
    loir.says(RELOADED).await;
    loir.says("local/hello runs on as it was started until it next sleeps").await;
    assert_eq!(loir.wake("hello").await, process, "nobody is thrown out");
    loir.reload(&gateway([version(2).with("idle_timeout: 1s")]));
    loir.says("local/hello: asleep").await;
    let environment = loir.get("hello", "/env").send().await.unwrap().text().await.unwrap();
    assert!(environment.contains("VERSION=2\n"), "{environment}");
}

#[tokio::test]
async fn a_changed_host_leads_to_the_same_app() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([app("hello").with("hosts: [old.example]")]), folder.path()).await;
    let process = loir.wake("hello").await;
    loir.reload(&gateway([app("hello").with("hosts: [new.example]")]));
    loir.says(RELOADED).await;
    let found = async |host: &str| {
        let url = format!("http://{}/pid", loir.address);
        crate::support::client().get(url).header("host", host).send().await.unwrap()
    };
    assert_eq!(found("new.example").await.text().await.unwrap(), process.to_string());
    assert_eq!(found("old.example").await.status(), 404);
}

#[tokio::test]
async fn a_file_with_problems_changes_nothing_and_each_problem_is_told_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let loir = Program::start(&gateway([app("hello")]), folder.path()).await;
    let process = loir.wake("hello").await;
    loir.reload(&gateway([app("other").with("idle_tiemout: 1s").with("wake_timeout: soon")]));
    loir.says("the configuration is not reloaded and the old one stays").await;
    let path = folder.path().join("loir.yaml");
    let text = fs::read_to_string(&path).unwrap();
    for mistake in ["idle_tiemout", "soon"] {
        let line = text.lines().position(|line| line.contains(mistake)).unwrap() + 1;
        loir.says(&format!("{}:{line}:", path.display())).await;
    }
    assert_eq!(loir.wake("hello").await, process);
    assert_eq!(status(&loir, "other").await, 404);

    fs::remove_file(&path).unwrap();
    loir.signal(Signal::SIGHUP);
    loir.says("loir.yaml: cannot be read").await;
    assert_eq!(loir.wake("hello").await, process);

    loir.reload(&gateway([app("hello"), app("other")]));
    loir.says(RELOADED).await;
    loir.wake("other").await;
}

#[tokio::test]
async fn a_changed_listener_needs_restart_and_everything_else_applies() {
    let folder = tempfile::tempdir().unwrap();
    let mut loir = Program::start(&gateway([app("hello")]), folder.path()).await;
    let (old, new) = (loir.address, free_address());
    loir.address = new;
    loir.reload(&gateway([app("hello"), app("other")]));
    loir.says("server.listen has changed and needs restart").await;
    loir.says(RELOADED).await;
    assert!(TcpStream::connect(new).await.is_err());
    loir.address = old;
    loir.wake("other").await;
}
