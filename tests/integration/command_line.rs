//! The commands for daily use, as a process that talks to a running gateway.

use std::{fs, process::Output};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::admin::{OPERATE, READ, with_admin, with_tokens};
use crate::{
    eventually,
    support::{App, Gateway, gateway, program::free_address},
};

async fn run(url: &str, token: &str, args: &[&str]) -> Output {
    let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_loir"))
        .args(args)
        .env("LOIR_URL", url)
        .env("LOIR_TOKEN", token)
        .env("COLUMNS", "80")
        .env("http_proxy", "http://127.0.0.1:9")
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(std::time::Duration::from_secs(60), run).await.expect("loir ends").unwrap()
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}", gateway.running.admin_address().unwrap())
}

/// What it prints if all is well.
async fn fine(gateway: &Gateway, args: &[&str]) -> String {
    let output = run(&url(gateway), "", args).await;
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Its exit code and what it complains of.
async fn wrong(url: &str, token: &str, args: &[&str]) -> (i32, String) {
    let output = run(url, token, args).await;
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_day_with_apps() {
    let gateway = with_admin(gateway([App::named("shop"), App::named("blog")])).start().await;
    let table = fine(&gateway, &["apps"]).await;
    assert!(table.starts_with("APP ") && table.contains("local/shop") && table.contains("asleep"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let woken = fine(&gateway, &["wake", "shop"]).await;
    assert!(woken.starts_with("local/shop is awake after "), "{woken}");
    assert_eq!(fine(&gateway, &["wake", "local/shop"]).await, "local/shop is awake\n");
    let apps = fine(&gateway, &["apps", "--state", "awake", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&apps).unwrap()[0]["id"], "local/shop");
    gateway.get("shop", "/pid").header("user-agent", "deploy-check/2.0").send().await.unwrap();
    let explained = fine(&gateway, &["explain", "shop"]).await;
    assert!(
        explained.starts_with("local/shop: awake because: ") && explained.contains("would sleep in"),
        "{explained}"
    );
    assert!(explained.contains("deploy-check") && explained.contains("idle_timeout"), "{explained}");
    assert!(fine(&gateway, &["pin", "shop", "--for", "3h"]).await.contains("is not stopped until"));
    let (code, why) = wrong(&url(&gateway), "", &["sleep", "shop"]).await;
    assert!(code == 1 && why.contains("is not stopped"), "{why}");
    fine(&gateway, &["unpin", "shop"]).await;
    assert_eq!(fine(&gateway, &["sleep", "shop"]).await, "local/shop is asleep\n");
    assert_eq!(gateway.times("shop", "start"), 1);

    gateway.get("blog", "/pid").header("user-agent", "deploy-check/2.0").send().await.unwrap();
    let events = fine(&gateway, &["events", "--app", "blog"]).await;
    assert!(events.lines().next().unwrap().contains("local/blog: asked for (request "), "{events}");
    let top = fine(&gateway, &["top"]).await;
    assert!(top.contains("deploy-check/2.0") && top.contains("local (by hand)"), "{top}");
    assert!(fine(&gateway, &["report", "--since", "7d", "--format", "csv"]).await.lines().count() > 1);
    assert!(fine(&gateway, &["report", "--what-if", "idle_timeout=10m"]).await.contains("asleep"));
}

#[tokio::test]
async fn what_goes_to_another_program_is_not_cut() {
    let name = "shop-of-many-colours-in-a-long-narrow-lane";
    let gateway = with_admin(gateway([App::named(name)])).start().await;
    assert!(fine(&gateway, &["apps"]).await.contains('\u{2026}'), "a terminal of 80 columns is too narrow");
    let whole = tokio::process::Command::new(env!("CARGO_BIN_EXE_loir"))
        .args(["apps", "--url", &url(&gateway)])
        .env_remove("COLUMNS")
        .output();
    let whole = String::from_utf8(whole.await.unwrap().stdout).unwrap();
    assert!(!whole.contains('\u{2026}') && whole.matches(name).count() == 2, "{whole}");
}

#[tokio::test]
async fn each_way_to_fail_says_what_to_do_and_has_a_code() {
    let gateway = with_tokens(gateway([App::named("shop")])).start().await;
    let here = url(&gateway);
    let nowhere = format!("http://{}", free_address());
    for (url, token, args, expected, part) in [
        (&nowhere, "", &["apps"][..], 3, "--url or LOIR_URL"),
        (&here, "", &["apps"], 4, "LOIR_TOKEN"),
        (&here, "nobodys-0123456789", &["apps"], 4, "nobody has this token"),
        (&here, READ, &["wake", "shop"], 4, "this needs operate"),
        (&here, READ, &["explain", "shpo"], 5, "did you mean shop?"),
        (&here, READ, &["explain", "local/shpo"], 5, "did you mean local/shop?"),
        (&here, OPERATE, &["pin", "shop", "--for", "soon"], 1, "is not a duration"),
        (&here, READ, &["wake"], 2, "Usage"),
    ] {
        let (code, text) = wrong(url, token, args).await;
        assert_eq!(code, expected, "{args:?}: {text}");
        assert!(text.contains(part) && !text.contains(token.get(..8).unwrap_or("?!")), "{args:?}: {text}");
    }
    // What listens on the main port is a gateway, but not its admin side.
    let main = format!("http://{}", gateway.address);
    assert_eq!(wrong(&main, "", &["apps"]).await.0, 5);
}

#[tokio::test]
async fn a_failed_wake_is_told_and_ctrl_c_leaves_one_going() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    fs::write(&broken, "").unwrap();
    let slow = App::named("slow").boots_in(std::time::Duration::from_secs(3));
    let gateway =
        with_admin(gateway([App::named("shop").env("FAIL_IF", broken.display()), slow])).start().await;
    let (code, text) = wrong(&url(&gateway), "", &["wake", "shop"]).await;
    assert!(code == 1 && text.contains("did not wake (reference "), "{text}");
    let mut wake = tokio::process::Command::new(env!("CARGO_BIN_EXE_loir"))
        .args(["wake", "slow", "--url", &url(&gateway)])
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(wake.stderr.take().unwrap()).lines();
    let progress = said.next_line().await.unwrap().unwrap();
    assert!(progress.contains("local/slow is waking: "), "{progress}");
    kill(Pid::from_raw(wake.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    while let Some(line) = said.next_line().await.unwrap() {
        rest.push_str(&line);
    }
    assert!(rest.contains("goes on waking"), "{rest}");
    assert_eq!(wake.wait().await.unwrap().code(), Some(130));
    eventually!(gateway.app("slow").state() == loir::app::AppState::Awake);
    assert_eq!(gateway.times("slow", "start"), 1);
}

#[tokio::test]
async fn events_are_followed() {
    let gateway = with_admin(gateway([App::named("shop")])).start().await;
    let mut follow = tokio::process::Command::new(env!("CARGO_BIN_EXE_loir"))
        .args(["events", "-f", "--url", &url(&gateway)])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    gateway.wake("shop").await;
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("local/shop: ready after") {
                return;
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ready).await.expect("it is told");
}

#[tokio::test]
async fn a_new_token_is_the_one_of_its_hash() {
    let output = run("", "", &["token", "new", "--name", "ci", "--scope", "operate"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let token = text.lines().next().unwrap();
    assert!(text.contains(&loir::credentials::TokenHash::of(token).to_string()), "{text}");
    let block = text.split_once("configuration:\n").unwrap().1;
    let gateway =
        gateway([]).top(&block.replace("admin:\n", "admin:\n  listen: 127.0.0.1:0\n")).start().await;
    let (code, said) = wrong(&url(&gateway), token, &["wake", "nothing"]).await;
    assert_eq!(code, 5, "it is let in: {said}");
}

#[tokio::test]
async fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run("", "", &["completions", shell]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("explain") && text.contains("wake"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run("", "", &["manpage", "--output", folder.path().to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    for page in ["loir.1", "loir-apps.1", "loir-explain.1", "loir-token-new.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
    assert!(!folder.path().join("loir-keeper.1").exists(), "what is hidden has no page");
}
