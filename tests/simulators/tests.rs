//! The simulators against the notes on the providers.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use super::{Answer, CleverCloud, Ending, Fault, Heroku, Outage, Platform, Scalingo, SecondStart};
use crate::support::client;

async fn body(response: Response) -> Value {
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

async fn send(request: RequestBuilder, json: &Value) -> Response {
    request.header("content-type", "application/json").body(json.to_string()).send().await.unwrap()
}

/// Waits until it holds.
async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("never came true");
}

/// A request at a platform's router.
async fn visit(platform: &impl Platform, app: &str, path: &str) -> Response {
    visit_host(&platform.host(app), path).await
}

async fn visit_host(host: &str, path: &str) -> Response {
    let port = host.rsplit(':').next().unwrap();
    client().get(format!("http://127.0.0.1:{port}{path}")).header("host", host).send().await.unwrap()
}

/// The part of the story that all platforms share, told in their own dialect by the tests below.
async fn an_app_answers_only_while_it_runs(platform: &impl Platform) {
    platform.add("awake", &[("web", 1)], true);
    platform.add("asleep", &[("web", 1)], false);
    let answer = visit(platform, "awake", "/hello?x=1").await;
    assert_eq!(answer.status(), 200);
    let said = body(answer).await;
    assert_eq!(
        (&said["app"], &said["run"], &said["path"]),
        (&json!("awake"), &json!(1), &json!("/hello?x=1"))
    );
    assert_eq!(said["host"], json!(platform.host("awake")));
    assert_eq!(visit(platform, "awake", "/status/418").await.status(), 418);
    assert_eq!(
        visit(platform, "awake", "/redirect?to=http%3A%2F%2Fx%2Fy").await.headers()["location"],
        "http://x/y"
    );
    assert!(
        visit(platform, "asleep", "/").await.status().is_client_error() || !platform.is_running("asleep")
    );
    assert_eq!(platform.served("awake"), 3);
    assert_eq!((platform.starts("awake"), platform.served("asleep")), (0, 0));
    platform.crash("awake");
    assert!(!platform.is_running("awake"));
    assert_eq!(visit(platform, "awake", "/").await.status(), 503);
}

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
    let boot = Duration::from_millis(300);
    paris
        .sim
        .app("shop")
        .formation(&[("web", 2), ("worker", 1)])
        .stopped()
        .autoscaler("web")
        .boot(boot)
        .add();
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
    until(|| paris.sim.state("shop") == "running").await;
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
    until(|| paris.sim.state("shop") == "stopped").await;
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
    let hung = paris.call("GET", "/apps").timeout(Duration::from_millis(100)).send().await;
    assert!(hung.unwrap_err().is_timeout());
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
        assert!(paris.call("GET", "/apps").send().await.is_err());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(paris.call("GET", "/apps").send().await.unwrap_err().is_connect());
        assert_eq!(visit(&paris.sim, "shop", "/x").await.status(), 200, "apps go on");
        paris.sim.down(Outage::Unavailable);
        assert_eq!(paris.call("GET", "/apps").send().await.unwrap().status(), 503);
        paris.sim.down(Outage::None);
    }
}

const HEROKU: &str = "application/vnd.heroku+json; version=3";

fn heroku(sim: &Heroku, method: &str, path: &str) -> RequestBuilder {
    let request = client().request(method.parse().unwrap(), format!("{}{path}", sim.api_url()));
    request.header("authorization", "Bearer HRKU-simulated").header("accept", HEROKU)
}

async fn heroku_get(sim: &Heroku, path: &str) -> Value {
    let answer = heroku(sim, "GET", path).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    body(answer).await
}

async fn quantity(sim: &Heroku, app: &str, kind: &str, quantity: u32) -> Response {
    let update = json!({"updates": [{"type": kind, "quantity": quantity}]});
    send(heroku(sim, "PATCH", &format!("/apps/{app}/formation")), &update).await
}

#[tokio::test]
async fn heroku_turns_pages_only_for_the_range_it_gave_out() {
    let sim = Heroku::start().await;
    sim.set_page_size(2);
    (1..=5).for_each(|number| sim.app(&format!("app-{number}")).add());
    sim.app("hidden").team_list_only("acme").add();
    let first = heroku(&sim, "GET", "/apps").header("range", "id ..; max=1000").send().await.unwrap();
    assert_eq!(first.status(), 206);
    let next = first.headers()["next-range"].to_str().unwrap().to_owned();
    assert!(next.starts_with("id ]") && next.ends_with("..; max=2"), "{next}");
    let trimmed = next.replace("; max=2", "");
    let refused = heroku(&sim, "GET", "/apps").header("range", trimmed).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &body(refused).await["id"]),
        (416, &json!("requested_range_not_satisfiable"))
    );

    let mut names = body(first).await.as_array().unwrap().clone();
    let mut next = Some(next);
    while let Some(range) = next {
        let page = heroku(&sim, "GET", "/apps").header("range", &range).send().await.unwrap();
        next = page.headers().get("next-range").map(|next| next.to_str().unwrap().to_owned());
        assert_eq!(page.status().as_u16(), if next.is_some() { 206 } else { 200 });
        names.extend(body(page).await.as_array().unwrap().clone());
    }
    assert_eq!(names.len(), 5);
    assert_eq!(heroku_get(&sim, "/teams/acme/apps").await[0]["name"], "hidden");
}

#[tokio::test]
async fn heroku_accepts_a_start_twice_and_holds_requests_meanwhile() {
    let sim = Heroku::start().await;
    sim.app("shop").formation(&[("web", 2), ("worker", 1)]).stopped().boot(Duration::from_millis(200)).add();
    assert_eq!(heroku_get(&sim, "/apps/shop/dynos").await, json!([]));
    assert_eq!(visit(&sim, "shop", "/x").await.status(), 503);
    let url = heroku_get(&sim, "/apps/shop").await["web_url"].clone();
    assert_eq!(url, format!("http://{}/", sim.host("shop")));
    for _ in 0..2 {
        let accepted = quantity(&sim, "shop", "web", 2).await;
        assert_eq!(accepted.status(), 200);
        assert_eq!(body(accepted).await.as_array().unwrap().len(), 2);
    }
    until(|| sim.state("shop") == "starting").await;
    assert!(!sim.is_running("shop"));
    assert_eq!(visit(&sim, "shop", "/x").await.status(), 200, "the request was held");
    until(|| sim.state("shop") == "up").await;
    assert_eq!((sim.starts("shop"), sim.formation("shop")["worker"]), (1, 0));
    sim.set_answers_changed_only(true);
    assert_eq!(body(quantity(&sim, "shop", "web", 0).await).await.as_array().unwrap().len(), 1);
    assert_eq!(sim.state("shop"), "down");
    until(|| sim.state("shop") == "none").await;
    assert_eq!(sim.stops("shop"), 1);
    assert_eq!(
        visit_host(&format!("shop.localhost:{}", sim.router_port()), "/").await.status(),
        404,
        "no suffix"
    );
}

#[tokio::test]
async fn heroku_checks_each_call_and_counts_it() {
    let sim = Heroku::start().await;
    sim.app("shop").formation(&[("web", 1)]).size("web", "Eco").add();
    sim.app("empty").never_deployed().add();
    let bare =
        client().get(format!("{}/apps", sim.api_url())).header("authorization", "Bearer HRKU-simulated");
    assert_eq!(body(bare.send().await.unwrap()).await["id"], "not_acceptable");
    sim.revoke_token();
    let refused = heroku(&sim, "GET", "/apps").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &body(refused).await["id"]), (401, &json!("unauthorized")));
    sim.restore_token();
    assert_eq!(heroku_get(&sim, "/apps/empty/formation").await, json!([]));
    assert_eq!(quantity(&sim, "shop", "web", 2).await.status(), 422, "one Eco dyno at most");
    assert_eq!(quantity(&sim, "shop", "clock", 1).await.status(), 404);
    sim.set_unknown_type_is_422(true);
    assert_eq!(quantity(&sim, "shop", "clock", 1).await.status(), 422);
    assert_eq!(heroku(&sim, "GET", "/apps/gone").send().await.unwrap().status(), 404);
    let listed = heroku(&sim, "GET", "/apps").send().await.unwrap();
    assert_eq!(listed.headers()["ratelimit-remaining"], "4494");
    let again =
        heroku(&sim, "GET", "/apps").header("if-none-match", &listed.headers()["etag"]).send().await.unwrap();
    assert_eq!(again.status(), 304);
    sim.set_limit(Some(1));
    heroku_get(&sim, "/apps").await;
    let limited = heroku(&sim, "GET", "/apps").send().await.unwrap();
    assert_eq!(
        (limited.status().as_u16(), &limited.headers()["ratelimit-remaining"]),
        (429, &"0".parse().unwrap())
    );
    assert_eq!(body(limited).await["id"], "rate_limit");
    assert_eq!(heroku_get(&sim, "/account/rate-limits").await["remaining"], 0);
    assert_eq!(sim.limited_calls(), 1);
}

#[tokio::test]
async fn heroku_wakes_idle_dynos_itself_and_shows_maintenance() {
    let sim = Heroku::start().await;
    sim.app("eco").idle().add();
    sim.app("shop").maintenance().one_off("run").add();
    sim.app("waits").stopped().deploying().add();
    assert_eq!(sim.state("eco"), "idle");
    assert_eq!(visit(&sim, "eco", "/x").await.status(), 200);
    assert_eq!((sim.eco_wakes("eco"), sim.starts("eco")), (1, 0));
    assert_eq!(visit(&sim, "shop", "/x").await.status(), 503);
    let dynos = heroku_get(&sim, "/apps/shop/dynos").await;
    assert_eq!((&dynos[0]["state"], &dynos[1]["type"]), (&json!("up"), &json!("run")));
    assert_eq!(heroku_get(&sim, "/apps/waits/releases").await[0]["status"], "pending");
    quantity(&sim, "waits", "web", 1).await;
    assert_eq!(sim.state("waits"), "none");
    sim.end_deployment("waits");
    until(|| sim.is_running("waits")).await;
    an_app_answers_only_while_it_runs(&sim).await;
}

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
async fn clever_start(sim: &CleverCloud, app: &str) -> String {
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
    let (boot, lag) = (Duration::from_millis(400), Duration::from_millis(80));
    sim.app("shop").instances(2).stopped().boot(boot).state_lag(lag).add();
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
    until(|| sim.state("shop") == "WANTS_TO_BE_UP").await;
    let by_id = format!("{path}/deployments/{deployment}");
    assert_eq!(clever(&sim, "GET", &by_id).send().await.unwrap().status(), 404, "not yet by its id");
    let newest = clever_get(&sim, &format!("{path}/deployments?limit=1")).await[0].clone();
    assert_eq!((&newest["uuid"], &newest["state"]), (&json!(deployment), &json!("WIP")));
    let instances = clever_get(&sim, &format!("{path}/instances")).await;
    assert_eq!(instances.as_array().unwrap().len(), 2);
    assert_ne!(instances[0]["state"], "UP");

    until(|| sim.state("shop") == "SHOULD_BE_UP").await;
    assert_eq!(clever_get(&sim, &format!("{path}/instances")).await[0]["state"], "UP");
    assert_eq!(clever_get(&sim, &by_id).await["state"], "OK");
    let served = visit(&sim, "shop", "/x").await;
    assert!(served.headers().contains_key("sozu-id"));
    assert_eq!((sim.starts("shop"), sim.second_starts("shop")), (1, 0));

    let stopped = clever(&sim, "DELETE", &format!("{path}/instances")).send().await.unwrap();
    assert_eq!(stopped.status(), 200);
    assert_eq!(clever_get(&sim, &format!("{path}/deployments")).await[0]["action"], "UNDEPLOY");
    assert_eq!(clever_get(&sim, &format!("{path}/instances")).await[0]["state"], "STOPPING");
    until(|| sim.state("shop") == "SHOULD_BE_DOWN").await;
    until(|| sim.with("shop", |app| app.instances.is_empty())).await;
    assert_eq!((sim.stops("shop"), sim.formation("shop")["instances"]), (1, 2));
}

#[tokio::test]
async fn clever_cloud_begins_a_second_deployment_if_asked_twice() {
    let sim = CleverCloud::start().await;
    sim.app("shop").stopped().add();
    let first = clever_start(&sim, "shop").await;
    let second = clever_start(&sim, "shop").await;
    assert_ne!(first, second);
    assert_eq!((sim.starts("shop"), sim.second_starts("shop")), (1, 1));
    until(|| sim.is_running("shop")).await;
    clever_start(&sim, "shop").await;
    assert!(sim.is_running("shop"), "the instances before go on");
    assert_eq!(sim.second_starts("shop"), 2);
    until(|| sim.with("shop", |app| app.run) == 2).await;
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
    sim.app("mine").owner(super::clever_cloud::USER).add();
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

/// Told of every platform: a start that fails, an app that cannot be started, a state nobody knows.
async fn a_platform_can_misbehave(platform: &dyn Platform) {
    platform.add("shop", &[("web", 2)], true);
    platform.add_never_deployed("fresh");
    assert!(!platform.is_running("fresh"));
    platform.set_unknown_state("shop");
    assert_eq!(platform.state("shop"), "frobnicating");
    platform.set_state_word("shop", None);
    platform.set_boot("shop", Duration::from_millis(30));
    platform.set_api_lag("shop", 40);
    assert_eq!(platform.timing("shop").reported(), Duration::from_millis(70));
    platform.begin_deployment("shop");
    assert!(platform.is_running("shop"), "what ran before goes on");
    platform.end_deployment("shop");
    until(|| platform.is_running("shop")).await;
    platform.block("shop");
    platform.rename("shop", "store");
    assert_eq!(platform.formation("store").values().sum::<u32>(), 2);
    platform.delete("store");
}

#[tokio::test]
async fn every_platform_can_misbehave() {
    a_platform_can_misbehave(&Scalingo::start().await).await;
    a_platform_can_misbehave(&CleverCloud::start().await).await;
    a_platform_can_misbehave(&Heroku::start().await).await;
}

#[tokio::test]
async fn a_fault_may_wait_for_the_second_page() {
    let sim = Heroku::start().await;
    sim.fault(Fault::on("GET", "/apps").skips(1).html(502));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(heroku(&sim, "GET", "/apps").send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 502, 200]);
}
