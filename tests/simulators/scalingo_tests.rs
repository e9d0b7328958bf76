//! The simulated Scalingo, and what all control APIs share, told with it.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use super::{
    super::{Answer, Fault, Outage, Platform, Scalingo},
    HOUR, an_app_answers_only_while_it_runs, body, send, until, visit,
};
use crate::support::client;

async fn jwt(sim: &Scalingo) -> Response {
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ":tk-us-simulated");
    let exchange = client().post(format!("{}/v1/tokens/exchange", sim.auth_url()));
    exchange.header("authorization", format!("Basic {basic}")).send().await.unwrap()
}

/// Calls of one region of a Scalingo.
struct Paris {
    sim: Scalingo,
    jwt: String,
}

impl Paris {
    async fn new() -> Self {
        let sim = Scalingo::start().await;
        let jwt = body(jwt(&sim).await).await["token"].as_str().unwrap().to_owned();
        Self { sim, jwt }
    }

    fn call(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("{}/v1{path}", self.sim.api_url("osc-fr1"));
        client().request(method.parse().unwrap(), url).header("authorization", format!("Bearer {}", self.jwt))
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        body(answer).await
    }

    async fn scale(&self, app: &str, web: u32) -> Response {
        let wanted = json!({"containers": [{"name": "web", "amount": web}]});
        send(self.call("POST", &format!("/apps/{app}/scale")), &wanted).await
    }
}

#[tokio::test]
async fn scalingo_scales_in_an_operation_and_is_busy_meanwhile() {
    let paris = Paris::new().await;
    let shop = paris.sim.app("shop").formation(&[("web", 2), ("worker", 1)]).stopped();
    shop.autoscaler("web").boot(HOUR).stop(HOUR).add();
    let listed = paris.get("/apps").await;
    assert_eq!(listed["apps"][0]["status"], "stopped");
    assert_eq!(listed["apps"][0]["base_url"], format!("http://{}", paris.sim.host("shop")));
    assert_eq!(paris.get("/apps/shop/ps").await["containers"], json!([]));
    let asleep = visit(&paris.sim, "shop", "/").await;
    assert_eq!(asleep.status(), 503);
    assert!(asleep.headers().contains_key("x-scalingo-error"));

    let accepted = paris.scale("shop", 2).await;
    assert_eq!(accepted.status(), 202);
    let operation = accepted.headers()["location"].to_str().unwrap().to_owned();
    assert!(operation.starts_with("http://127.0.0.1:"), "{operation}");
    let formation = body(accepted).await;
    assert_eq!(
        (&formation["containers"][0]["amount"], &formation["containers"][1]["amount"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(paris.get("/apps/shop").await["app"]["status"], "scaling");
    let busy = paris.scale("shop", 1).await;
    assert_eq!(busy.status(), 422);
    assert_eq!(body(busy).await, json!({"errors": {"app": ["is scaling"]}}));
    assert!(!paris.sim.is_running("shop"));

    let path = operation.split("/v1").nth(1).unwrap();
    assert_ne!(paris.get(path).await["operation"]["status"], "done");
    paris.sim.pass("shop", HOUR);
    assert_eq!(paris.sim.state("shop"), "running");
    assert_eq!(paris.get(path).await["operation"]["status"], "done");
    assert!(paris.sim.is_running("shop"));
    assert!(!paris.sim.autoscaler_enabled("shop", "web"), "a scale by hand turns it off");
    assert_eq!(body(visit(&paris.sim, "shop", "/x").await).await["run"], 2);
    let same = paris.scale("shop", 2).await;
    assert_eq!(same.status(), 400);
    assert_eq!(body(same).await["error"], "no change in containers formation");
    assert_eq!((paris.sim.starts("shop"), paris.sim.stops("shop")), (1, 0));

    assert_eq!(paris.scale("shop", 0).await.status(), 202);
    assert!(!paris.sim.is_running("shop"), "the router lets go of it at once");
    assert_eq!(paris.sim.state("shop"), "scaling");
    paris.sim.pass("shop", HOUR);
    assert_eq!(paris.sim.state("shop"), "stopped");
    assert_eq!(paris.sim.stops("shop"), 1);
    assert_eq!(paris.sim.count("POST", "/scale"), 4);
}

#[tokio::test]
async fn scalingo_refuses_a_scale_in_each_of_its_ways() {
    let paris = Paris::new().await;
    paris.sim.app("fresh").never_deployed().add();
    paris.sim.app("poor").stopped().payment_missing().add();
    paris.sim.app("deploying").stopped().deploying().add();
    paris.sim.app("fine").stopped().add();
    paris.sim.app("failing").stopped().add();
    assert_eq!(paris.scale("fresh", 1).await.status(), 200);
    assert_eq!(paris.scale("poor", 1).await.status(), 402);
    assert_eq!(body(paris.scale("deploying", 1).await).await, json!({"errors": {"app": ["is booting"]}}));
    paris.sim.end_deployment("deploying");
    assert_eq!(paris.sim.state("deploying"), "stopped");
    assert_eq!(paris.scale("fine", 11).await.status(), 422);
    assert_eq!(body(paris.scale("gone", 1).await).await, json!({"resource": "app", "error": "not found"}));
    let unknown = json!({"containers": [{"name": "clock", "amount": 1}]});
    let unknown = send(paris.call("POST", "/apps/fine/scale"), &unknown).await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(body(unknown).await["resource"], "container_type");
    paris.sim.fail_boots("failing", 1);
    paris.scale("failing", 1).await;
    until(|| paris.sim.state("failing") == "crashed").await;
    assert_eq!(paris.scale("failing", 1).await.status(), 400, "the formation is what was asked");
}

#[tokio::test]
async fn scalingo_s_jwt_expires_and_its_limit_speaks_plain_text() {
    let paris = Paris::new().await;
    paris.sim.set_limit(Some(2));
    paris.get("/apps").await;
    paris.sim.expire_jwts();
    let expired = paris.call("GET", "/apps").send().await.unwrap();
    assert_eq!(expired.status(), 401);
    assert!(body(expired).await["error"].is_string());
    let limited = paris.call("GET", "/apps").send().await.unwrap();
    assert_eq!(limited.status(), 429);
    assert_eq!(limited.headers()["content-type"], "text/plain");
    assert!(!limited.headers().contains_key("retry-after"));
    assert_eq!(limited.text().await.unwrap().trim(), "Retry later");
    assert_eq!((paris.sim.limited_calls(), paris.sim.exchanges()), (1, 1));
    paris.sim.revoke_token();
    assert_eq!(jwt(&paris.sim).await.status(), 401);
    paris.sim.restore_token();
    assert_eq!(jwt(&paris.sim).await.status(), 200);
}

#[tokio::test]
async fn scalingo_s_regions_have_apps_of_their_own() {
    let paris = Paris::new().await;
    paris.sim.app("shop").add();
    paris.sim.app("shop").region("osc-secnum-fr1").stopped().add();
    let apps = paris.get("/apps").await;
    assert_eq!(apps["apps"].as_array().unwrap().len(), 1);
    assert_eq!(apps["apps"][0]["region"], "osc-fr1");
    assert_eq!(paris.sim.state("osc-secnum-fr1/shop"), "stopped");
    assert_eq!(visit(&paris.sim, "osc-fr1/shop", "/x").await.status(), 200);
    assert_eq!(visit(&paris.sim, "osc-secnum-fr1/shop", "/x").await.status(), 503);
    let regions = client().get(format!("{}/v1/regions", paris.sim.auth_url()));
    let regions =
        body(regions.header("authorization", format!("Bearer {}", paris.jwt)).send().await.unwrap()).await;
    assert_eq!(regions["regions"][1]["api"], paris.sim.api_url("osc-secnum-fr1"));
    an_app_answers_only_while_it_runs(&paris.sim).await;
}

#[tokio::test]
async fn faults_strike_the_next_matching_calls_only() {
    let paris = Paris::new().await;
    paris.sim.app("shop").stopped().add();
    paris.sim.fault(Fault::on("POST", "/scale").drops_after());
    let wanted = json!({"containers": [{"name": "web", "amount": 1}]}).to_string();
    assert!(paris.call("POST", "/apps/shop/scale").body(wanted.clone()).send().await.is_err());
    assert_eq!(paris.sim.starts("shop"), 1, "it was executed");
    until(|| paris.sim.is_running("shop")).await;

    paris.sim.fault(Fault::on("GET", "*/apps").drops());
    assert!(paris.call("GET", "/apps").send().await.is_err());
    paris.sim.fault(Fault::on("GET", "*/apps").truncates());
    let half = paris.call("GET", "/apps").send().await.unwrap().text().await.unwrap();
    assert!(half.starts_with('{') && serde_json::from_str::<Value>(&half).is_err(), "{half}");
    paris.sim.fault(Fault::on("GET", "*/apps").breaks_off());
    assert!(paris.call("GET", "/apps").send().await.unwrap().text().await.is_err());
    paris.sim.fault(Fault::on("GET", "*/apps").hangs());
    let before = paris.sim.count("GET", "*/apps");
    let mut hung = std::pin::pin!(paris.call("GET", "/apps").send());
    tokio::select! {
        _ = &mut hung => panic!("it was answered"),
        () = until(|| paris.sim.count("GET", "*/apps") > before) => {}
    }
    assert!(tokio::time::timeout(Duration::from_millis(50), hung).await.is_err());
    paris.sim.fault(Fault::on("*", "*").times(2).answers(Answer::text(503, "no").header("retry-after", 3)));
    for _ in 0..2 {
        let answer = paris.call("GET", "/apps").send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"3".parse().unwrap())
        );
    }
    paris.get("/apps").await;
    let calls = paris.sim.calls();
    let statuses: Vec<_> =
        calls.iter().filter(|call| call.path == "/v1/apps").map(|call| call.status).collect();
    assert_eq!(statuses, [0, 200, 200, 0, 503, 503, 200]);
    assert_eq!(
        calls.iter().find(|call| call.method == "POST" && call.path.ends_with("scale")).unwrap().body,
        wanted
    );
}

#[tokio::test]
async fn a_control_api_goes_down_and_comes_back_on_the_same_port() {
    let paris = Paris::new().await;
    paris.sim.app("shop").add();
    for _ in 0..3 {
        paris.get("/apps").await;
        paris.sim.down(Outage::Refused);
        while !paris.call("GET", "/apps").send().await.unwrap_err().is_connect() {
            tokio::task::yield_now().await;
        }
        assert_eq!(visit(&paris.sim, "shop", "/x").await.status(), 200, "apps go on");
        paris.sim.down(Outage::Unavailable);
        assert_eq!(paris.call("GET", "/apps").send().await.unwrap().status(), 503);
        paris.sim.down(Outage::None);
    }
}
