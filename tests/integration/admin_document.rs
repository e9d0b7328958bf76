//! The OpenAPI document: it is the one that is committed, and whatever is sent to whatever it names is answered as it says.

use std::{fs, path::Path};

use fastrand::Rng;
use serde_json::{Value, json};

use super::admin::{ADMIN, ask, with_tokens};
use crate::support::{App, Gateway, gateway};

/// A thousand here, and ten thousand with LOIR_CASES=10000.
const CASES: usize = 2_000;

#[test]
fn the_committed_document_is_the_one_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(committed == loir::admin::openapi::json(), "run `make schema` and commit docs/openapi.json");
}

/// An operation of the document.
struct Operation {
    method: String,
    path: String,
    statuses: Vec<(String, Vec<String>)>,
    parameters: Vec<Value>,
    body: bool,
    open: bool,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let types = |response: &Value| {
                response["content"]
                    .as_object()
                    .map(|content| content.keys().cloned().collect())
                    .unwrap_or_default()
            };
            let responses = operation["responses"].as_object().unwrap();
            all.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                statuses: responses
                    .iter()
                    .map(|(status, response)| (status.clone(), types(response)))
                    .collect(),
                parameters: operation["parameters"].as_array().cloned().unwrap_or_default(),
                body: operation.get("requestBody").is_some(),
                open: operation["security"].as_array().is_some_and(|all| all.contains(&json!({}))),
            });
        }
    }
    all
}

const VALUES: [&str; 22] = [
    "",
    "local",
    "shop",
    "blog",
    "awake",
    "asleep",
    "json",
    "csv",
    "text",
    "true",
    "2h",
    "30d",
    "idle_timeout=10m",
    "0",
    "-1",
    "99999999999999999999",
    "2026-11-21T00:00:00Z",
    "*",
    "00c9a4c2e1b80001",
    "%00",
    "%FF%FE",
    "..%2f..%2fpid",
];

fn value(random: &mut Rng) -> String {
    match random.usize(..4) {
        0 => percent_encoding::utf8_percent_encode(
            &(0..random.usize(..12)).map(|_| random.char(..)).collect::<String>(),
            percent_encoding::NON_ALPHANUMERIC,
        )
        .to_string(),
        _ => VALUES[random.usize(..VALUES.len())].to_owned(),
    }
}

fn body(random: &mut Rng) -> String {
    let moment = ["2099-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "soon", "-999999-01-01T00:00:00Z"];
    let long = ["2h", "1s", "0s", "10 years", "99999999999999 days", "", "-1h", "1"];
    match random.usize(..8) {
        0 => String::new(),
        1 => "{".to_owned(),
        2 => json!([1, "x", null]).to_string(),
        3 => json!({ "for": random.u64(..) }).to_string(),
        4 => json!({ "until": moment[random.usize(..moment.len())] }).to_string(),
        5 => json!({ "for": long[random.usize(..long.len())], "until": null }).to_string(),
        6 => "[".repeat(random.usize(..5_000)),
        _ => json!({ "for": long[random.usize(..long.len())] }).to_string(),
    }
}

/// Sends one request that may or may not make sense. What was sent, if the answer is not as documented.
async fn one_case(gateway: &Gateway, operation: &Operation, random: &mut Rng) -> Result<(), String> {
    let mut path = operation.path.clone();
    let mut query = Vec::new();
    for parameter in &operation.parameters {
        let name = parameter["name"].as_str().unwrap();
        match parameter["in"].as_str().unwrap() {
            "path" => {
                let usual = if name == "provider" { "local" } else { "shop" };
                let mut chosen = if random.u8(..3) > 0 { usual.to_owned() } else { value(random) };
                // An empty part is another path.
                if chosen.is_empty() {
                    chosen = "x".to_owned();
                }
                path = path.replace(&format!("{{{name}}}"), &chosen);
            }
            "query" if random.bool() => query.push(format!("{name}={}", value(random))),
            _ => {}
        }
    }
    if random.u8(..10) == 0 {
        query.push(format!("{}={}", value(random), value(random)));
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"];
    let method =
        if random.u8(..8) == 0 { methods[random.usize(..methods.len())] } else { operation.method.as_str() };
    let has_token = random.u8(..4) > 0;
    let mut request = ask(gateway, method, &path);
    if has_token {
        request = request.bearer_auth(ADMIN);
    }
    let mut sent = format!("{method} {path}");
    if operation.body || random.u8(..6) == 0 {
        let text = body(random);
        sent.push_str(&format!(" {}", text.chars().take(60).collect::<String>()));
        request = request.body(text);
        let types = ["application/json", "application/json; charset=utf-8", "text/plain", "application/xml"];
        if random.u8(..8) > 0 {
            let kind = if random.u8(..4) > 0 { types[0] } else { types[random.usize(..types.len())] };
            request = request.header("content-type", kind);
        }
    }
    if random.u8(..20) == 0 {
        request = request.header("last-event-id", value(random).replace('%', "x"));
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        // What cannot be sent is no case.
        Err(error) if error.is_builder() => return Ok(()),
        Err(error) => return Err(format!("{sent}: {error}")),
    };
    let status = answer.status().as_u16();
    let kind = answer
        .headers()
        .get("content-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let kind = kind.split(';').next().unwrap_or_default();
    let told = format!("{sent}: {status} {kind}");
    if status >= 500 {
        return Err(told);
    }
    if !has_token && !operation.open && status != 401 {
        return Err(format!("{told} without a token"));
    }
    if status >= 400 && method != "HEAD" && kind != "application/problem+json" {
        return Err(told);
    }
    let is_own = method == operation.method || (method == "HEAD" && operation.method == "GET");
    if !is_own {
        return if matches!(status, 401 | 404 | 405) || (status < 400) {
            Ok(())
        } else {
            Err(format!("{told} for another method"))
        };
    }
    match operation.statuses.iter().find(|(documented, _)| *documented == status.to_string()) {
        None => Err(format!("{told} is not documented")),
        Some((_, types))
            if method == "HEAD" || types.is_empty() || types.iter().any(|documented| documented == kind) =>
        {
            Ok(())
        }
        Some((_, types)) => Err(format!("{told}: documented are {types:?}")),
    }
}

#[tokio::test]
async fn whatever_is_asked_is_answered_as_the_document_says() {
    let gateway = with_tokens(gateway([App::named("shop"), App::named("blog")])).start().await;
    let document: Value =
        ask(&gateway, "GET", "/openapi.json").bearer_auth(ADMIN).send().await.unwrap().json_value().await;
    let operations = operations(&document);
    assert!(operations.len() >= 16, "{}", operations.len());
    let cases = std::env::var("LOIR_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let seed = std::env::var("LOIR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    let mut wrong = Vec::new();
    for number in 0..cases {
        let operation = &operations[number % operations.len()];
        if let Err(told) = one_case(&gateway, operation, &mut random).await {
            wrong.push(told);
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "LOIR_SEED={seed}: {} of {cases}:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(30)].join("\n")
    );
}

trait JsonValue {
    async fn json_value(self) -> Value;
}

impl JsonValue for reqwest::Response {
    async fn json_value(self) -> Value {
        serde_json::from_str(&self.text().await.unwrap()).unwrap()
    }
}
