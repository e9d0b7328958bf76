//! The simulated Clever Cloud.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{
    super::{CleverCloud, Ending, Platform, SecondStart, USER},
    HOUR, an_app_answers_only_while_it_runs, body, until, visit,
};
use crate::support::client;

fn clever(sim: &CleverCloud, method: &str, path: &str) -> RequestBuilder {
    let request = client().request(method.parse().unwrap(), format!("{}{path}", sim.api_url()));
    request.header("authorization", "Bearer cc-token-simulated")
}

async fn clever_get(sim: &CleverCloud, path: &str) -> Value {
    let answer = clever(sim, "GET", path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    body(answer).await
}

/// Asks for a start and returns the deployment.
pub(super) async fn clever_start(sim: &CleverCloud, app: &str) -> String {
    let accepted = clever(sim, "POST", &format!("{}/instances", own(sim, app))).send().await.unwrap();
    assert_eq!(accepted.status(), 200);
    let said = body(accepted).await;
    assert_eq!(said["id"], 320);
    said["deploymentId"].as_str().unwrap().to_owned()
}

/// The app's path, by way of one's own space.
fn own(sim: &CleverCloud, app: &str) -> String {
    format!("/v2/self/applications/{}", sim.id(app))
}

#[tokio::test]
async fn clever_cloud_starts_by_a_deployment_and_says_so_late() {
    let sim = CleverCloud::start().await;
    sim.app("shop").instances(2).stopped().boot(HOUR).stop(HOUR).state_lag(HOUR / 10).add();
    sim.set_by_id_lag(HOUR / 10);
    let path = own(&sim, "shop");
    let told = clever_get(&sim, &path).await;
    assert_eq!((&told["state"], &told["instance"]["minInstances"]), (&json!("SHOULD_BE_DOWN"), &json!(2)));
    assert_eq!(told["vhosts"][0]["fqdn"], format!("{}/", sim.host("shop")));
    let asleep = visit(&sim, "shop", "/").await;
    assert_eq!(asleep.status(), 404);
    assert!(asleep.headers().contains_key("sozu-id"));
    sim.set_stopped_status(503);
    assert_eq!(visit(&sim, "shop", "/").await.status(), 503);

    let deployment = clever_start(&sim, "shop").await;
    assert!(deployment.starts_with("deployment_"));
    assert_eq!(clever_get(&sim, &path).await["state"], "SHOULD_BE_DOWN", "the state lags");
    sim.pass("shop", HOUR / 10);
    assert_eq!(sim.state("shop"), "WANTS_TO_BE_UP");
    let by_id = format!("{path}/deployments/{deployment}");
    assert_eq!(clever(&sim, "GET", &by_id).send().await.unwrap().status(), 404, "not yet by its id");
    let newest = clever_get(&sim, &format!("{path}/deployments?limit=1")).await[0].clone();
    assert_eq!((&newest["uuid"], &newest["state"]), (&json!(deployment), &json!("WIP")));
    let instances = clever_get(&sim, &format!("{path}/instances")).await;
    assert_eq!(instances.as_array().unwrap().len(), 2);
    assert_ne!(instances[0]["state"], "UP");

    assert_eq!(clever_get(&sim, &path).await["state"], "WANTS_TO_BE_UP");
    sim.pass("shop", HOUR);
    assert_eq!(sim.state("shop"), "SHOULD_BE_UP");
    assert_eq!(clever_get(&sim, &format!("{path}/instances")).await[0]["state"], "UP");
    assert_eq!(clever_get(&sim, &by_id).await["state"], "OK");
    let served = visit(&sim, "shop", "/x").await;
    assert!(served.headers().contains_key("sozu-id"));
    assert_eq!((sim.starts("shop"), sim.second_starts("shop")), (1, 0));

    let stopped = clever(&sim, "DELETE", &format!("{path}/instances")).send().await.unwrap();
    assert_eq!(stopped.status(), 200);
    assert_eq!(clever_get(&sim, &format!("{path}/deployments")).await[0]["action"], "UNDEPLOY");
    assert_eq!(clever_get(&sim, &format!("{path}/instances")).await[0]["state"], "STOPPING");
    assert_eq!(sim.state("shop"), "SHOULD_BE_UP", "the state lags");
    sim.pass("shop", HOUR);
    assert_eq!(sim.state("shop"), "SHOULD_BE_DOWN");
    assert_eq!(clever_get(&sim, &format!("{path}/instances")).await, json!([]));
    assert_eq!((sim.stops("shop"), sim.formation("shop")["instances"]), (1, 2));
}

#[tokio::test]
async fn clever_cloud_begins_a_second_deployment_if_asked_twice() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().boot(HOUR).add();
    let first = clever_start(&sim, "shop").await;
    let second = clever_start(&sim, "shop").await;
    assert_ne!(first, second);
    assert_eq!((sim.starts("shop"), sim.second_starts("shop")), (1, 1));
    sim.pass("shop", HOUR);
    assert!(sim.is_running("shop"));
    clever_start(&sim, "shop").await;
    assert!(sim.is_running("shop"), "the instances before go on");
    assert_eq!(sim.second_starts("shop"), 2);
    sim.pass("shop", HOUR);
    assert_eq!(body(visit(&sim, "shop", "/x").await).await["run"], 2);
    sim.set_second_start("shop", SecondStart::Conflicts);
    sim.begin_deployment("shop");
    let conflict = clever(&sim, "POST", &format!("{}/instances", own(&sim, "shop"))).send().await.unwrap();
    assert_eq!(conflict.status(), 409);
}

#[tokio::test]
async fn clever_cloud_deployments_fail_and_are_cancelled() {
    let sim = CleverCloud::start().await;
    sim.app("fails").stopped().add();
    sim.app("cancelled").stopped().add();
    sim.app("fresh").never_deployed().add();
    sim.app("moderated").blocked("MODERATED").add();
    sim.next_ending("fails", Ending::Fail);
    sim.next_ending("cancelled", Ending::Cancelled);
    let (fails, cancelled) = (clever_start(&sim, "fails").await, clever_start(&sim, "cancelled").await);
    let newest = |app: &str| sim.with(app, |app| app.deployments.last().cloned().unwrap());
    until(|| newest("fails").state == "FAIL").await;
    assert_eq!((newest("fails").uuid, sim.state("fails")), (fails, "WANTS_TO_BE_UP".into()));
    until(|| newest("cancelled").action == "CANCEL").await;
    assert_ne!(newest("cancelled").uuid, cancelled);
    let never = clever(&sim, "POST", &format!("{}/instances", own(&sim, "fresh"))).send().await.unwrap();
    assert!(never.status().is_client_error());
    assert_eq!(body(never).await["id"], 4014);
    let moderated =
        clever(&sim, "POST", &format!("{}/instances", own(&sim, "moderated"))).send().await.unwrap();
    assert_eq!(moderated.status(), 403);
    assert_eq!(sim.starts("moderated"), 0);
}

#[tokio::test]
async fn clever_cloud_knows_who_asks_and_how_often() {
    let sim = CleverCloud::start().await;
    sim.app("mine").owner(USER).add();
    sim.app("ours").without_default_vhost().add();
    let bare = client().get(format!("{}/v2/summary", sim.api_url())).send().await.unwrap();
    assert_eq!((bare.status().as_u16(), &body(bare).await["id"]), (401, &json!(2001)));
    let oauth = r#"OAuth oauth_consumer_key="ck-simulated", oauth_token="ot-simulated", oauth_signature="cs-simulated%26os-simulated""#;
    for (authorization, status) in
        [(oauth, 200), ("Bearer cc-token-simulated", 401), ("OAuth oauth_token=\"x\"", 403)]
    {
        let asked =
            client().get(format!("{}/v2/summary", sim.oauth_url())).header("authorization", authorization);
        assert_eq!(asked.send().await.unwrap().status(), status, "{authorization}");
    }
    let summary = clever_get(&sim, "/v2/summary").await;
    assert_eq!(summary["user"]["applications"][0]["name"], "mine");
    assert_eq!(summary["organisations"][0]["applications"][0]["name"], "ours");
    assert_eq!(summary["organisations"][1]["applications"][0]["name"], "mine", "once more");
    assert_eq!(clever_get(&sim, &format!("{}/vhosts", own(&sim, "ours"))).await, json!([]));
    let favourite =
        clever(&sim, "GET", &format!("{}/vhosts/favourite", own(&sim, "mine"))).send().await.unwrap();
    assert_eq!(body(favourite).await["id"], 4021);
    let nowhere = clever(&sim, "GET", "/v2/nowhere").send().await.unwrap();
    assert!(nowhere.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    sim.set_limit(Some(0));
    let limited = clever(&sim, "GET", "/v2/summary").send().await.unwrap();
    assert_eq!((limited.status().as_u16(), &body(limited).await["id"]), (403, &json!(403)));
    sim.revoke_token();
    let revoked = clever(&sim, "GET", "/v2/summary").send().await.unwrap();
    assert_eq!((revoked.status().as_u16(), &body(revoked).await["id"]), (403, &json!(1504)));
    sim.restore_token();
    sim.set_limit(None);
    an_app_answers_only_while_it_runs(&sim).await;
}
