//! The simulated Heroku.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use super::{
    super::{Fault, Heroku, Platform},
    HOUR, an_app_answers_only_while_it_runs, body, send, until, visit, visit_host,
};
use crate::support::client;

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
    sim.app("shop").formation(&[("web", 2), ("worker", 1)]).stopped().boot(HOUR).stop(HOUR).add();
    assert_eq!(heroku_get(&sim, "/apps/shop/dynos").await, json!([]));
    assert_eq!(visit(&sim, "shop", "/x").await.status(), 503);
    let url = heroku_get(&sim, "/apps/shop").await["web_url"].clone();
    assert_eq!(url, format!("http://{}/", sim.host("shop")));
    for _ in 0..2 {
        let accepted = quantity(&sim, "shop", "web", 2).await;
        assert_eq!(accepted.status(), 200);
        assert_eq!(body(accepted).await.as_array().unwrap().len(), 2);
    }
    assert_eq!(sim.state("shop"), "none", "a dyno is listed a little later");
    sim.pass("shop", HOUR / 2);
    assert_eq!((sim.state("shop").as_str(), sim.is_running("shop")), ("starting", false));
    let mut held = std::pin::pin!(visit(&sim, "shop", "/x"));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut held).await.is_err());
    sim.pass("shop", HOUR / 2);
    assert_eq!(held.await.status(), 200);
    assert_eq!(sim.state("shop"), "up");
    assert_eq!((sim.starts("shop"), sim.formation("shop")["worker"]), (1, 0));
    sim.set_answers_changed_only(true);
    assert_eq!(body(quantity(&sim, "shop", "web", 0).await).await.as_array().unwrap().len(), 1);
    assert_eq!(sim.state("shop"), "down");
    assert!(!sim.is_running("shop"), "the router lets go of it at once");
    assert_eq!(visit(&sim, "shop", "/x").await.status(), 503);
    sim.pass("shop", HOUR);
    assert_eq!(sim.state("shop"), "none");
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
    sim.set_pool(4500, 0);
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
    sim.set_pool(1, 0);
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
