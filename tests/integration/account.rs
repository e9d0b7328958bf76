//! Accounts as an operator meets them: `loir check --online`, and what the log may know.

use std::fs;

use crate::{
    eventually,
    simulators::{CleverCloud, Fault, Heroku, Platform, REGIONS, Scalingo},
    support::{
        paas::gateway_for,
        program::{Program, free_address},
    },
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_lists_what_is_in_the_accounts_and_changes_nothing() {
    let platform = Scalingo::start().await;
    for region in REGIONS {
        platform.app("shop").region(region).add();
    }
    platform.app("blog").stopped().add();
    platform.app("fresh").never_deployed().add();
    platform.app("loir").add();
    let entries = [platform.entry_in("paris", REGIONS[0]), platform.entry_in("secnum", REGIONS[1])];
    let setup = gateway_for(entries).top("manage: { exclude: \"loir*\" }");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("loir.yaml");
    fs::write(&config, setup.yaml(folder.path(), free_address())).unwrap();
    let output = Program::command(&["check", "--online", "-c", config.to_str().unwrap()]).await;
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for line in [
        "paris (scalingo): 4 apps",
        "secnum (scalingo): 1 app",
        "shop.test -> http://shop.osc-fr1.localhost:",
        "shop--secnum.test -> http://shop.osc-secnum-fr1.localhost:",
        "shop.test leads to paris/shop, which is listed first",
        "left alone: it was never deployed",
        "left alone: `manage.exclude` has `loir*`",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    assert!(said.lines().any(|line| line.contains("blog") && line.contains("stopped")), "{said}");
    let changes = platform.calls().into_iter().filter(|call| call.method != "GET");
    assert!(
        changes.clone().all(|call| call.path == "/v1/tokens/exchange"),
        "{:?}",
        changes.collect::<Vec<_>>()
    );
    assert!(!folder.path().join("state").exists(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_fails_if_a_credential_does_and_still_shows_the_others() {
    let (good, bad) = (Scalingo::start().await, Scalingo::start().await);
    good.app("shop").add();
    let setup = gateway_for([good.entry("good"), bad.entry("bad")]);
    bad.revoke_token();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("loir.yaml");
    fs::write(&config, setup.yaml(folder.path(), free_address())).unwrap();
    let output = Program::command(&["check", "--online", "-c", config.to_str().unwrap()]).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("good (scalingo): 1 app") && said.contains("bad (scalingo): FAILED: "), "{said}");
    assert!(said.contains("401"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_log_at_its_most_talkative() {
    let platform = Scalingo::start().await;
    platform.set_token("tk-us-S3cr3t-0123456789");
    platform.app("shop").stopped().add();
    let (clever, heroku) = (CleverCloud::start().await, Heroku::start().await);
    heroku.set_token("HRKU-S3cr3t-0123456789");
    clever.add("notes", &[("web", 1)], false);
    heroku.add("blog", &[("web", 1)], false);
    let setup = gateway_for([platform.entry("cloud"), clever.entry_oauth("clever"), heroku.entry("heroku")]);
    let folder = tempfile::tempdir().unwrap();
    let (config, address) = (folder.path().join("loir.yaml"), free_address());
    fs::write(&config, setup.yaml(folder.path(), address)).unwrap();
    // An error that repeats what it was sent.
    platform.fault(Fault::on("GET", "*/containers").text(400, "bad token tk-us-S3cr3t-0123456789"));
    let loir = Program::run_with(&config, address, &[("LOIR_LOG", "trace")]).await;
    loir.get("shop", "/?password=hunter2").header("cookie", "sid=c00kie").send().await.unwrap();
    loir.get("shop", "/").header("authorization", "Bearer v1s1tor").send().await.unwrap();
    for app in ["notes", "blog"] {
        assert_eq!(loir.get(app, "/").send().await.unwrap().status(), 200, "{app}");
    }
    heroku.revoke_token();
    clever.fault(Fault::on("GET", "*").always().text(401, "who are you?"));
    eventually!(loir.log().contains("/v1/apps"), "calls are logged");
    platform.expire_jwts();
    loir.signal(nix::sys::signal::Signal::SIGHUP);
    loir.says("the configuration is reloaded").await;
    let (log, basic) = (loir.log(), base64(b":tk-us-S3cr3t-0123456789"));
    assert!(log.contains("TRACE"), "at its most talkative");
    let oauth = clever.oauth();
    let of_clever = [oauth.consumer_secret.as_str(), oauth.secret.as_str(), oauth.token.as_str()];
    let others = ["S3cr3t", &basic, "hunter2", "c00kie", "v1s1tor", "Bearer ey", "oauth_signature"];
    for secret in others.into_iter().chain(of_clever) {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
