//! The routes of the simulated Scalingo and the bodies they answer with.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    api::{Answer, Asked, Control},
    scalingo::{Inner, REGIONS, World},
    scalingo_app::{App, Refused, Type},
    traffic::Order,
};

impl Control for Inner {
    fn answer(&self, asked: &Asked) -> Answer {
        let mut world = self.world.lock().unwrap();
        let answer = match (asked.method.as_str(), asked.segments().as_slice()) {
            ("POST", ["v1", "tokens", "exchange"]) if asked.door == "auth" => exchange(&mut world, asked),
            _ => self.with_jwt(&mut world, asked),
        };
        answer.header("x-request-id", format!("{:032x}", fastrand::u128(..)))
    }
}

/// `Basic base64(":" + token)` against a JWT.
fn exchange(world: &mut World, asked: &Asked) -> Answer {
    let basic = asked.header("authorization").and_then(|value| value.strip_prefix("Basic "));
    let pair =
        basic.and_then(|text| STANDARD.decode(text).ok()).and_then(|pair| String::from_utf8(pair).ok());
    if world.revoked || pair != Some(format!(":{}", world.token)) {
        return error(401, "not authorized");
    }
    world.exchanges += 1;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({
        "iss": "Scalingo Authentication Service", "iat": now.as_secs(),
        "exp": (now + world.jwt_lifetime).as_secs(), "uuid": "us-0001", "jti": fastrand::u64(..).to_string(),
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let jwt = format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(&claims));
    world.jwts.insert(jwt.clone(), Instant::now() + world.jwt_lifetime);
    Answer::json(200, &json!({"token": jwt}))
}

fn error(status: u16, text: &str) -> Answer {
    Answer::json(status, &json!({"error": text}))
}

fn not_found(resource: &str) -> Answer {
    Answer::json(404, &json!({"resource": resource, "error": "not found"}))
}

impl Inner {
    fn with_jwt(&self, world: &mut World, asked: &Asked) -> Answer {
        let now = Instant::now();
        if asked.door != "auth"
            && let Err(wait) = world.limit.take(now)
        {
            world.limited += 1;
            let answer = Answer::text(429, "Retry later\n");
            return if world.retry_after { answer.header("retry-after", wait.as_secs() + 1) } else { answer };
        }
        let bearer = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if bearer.and_then(|jwt| world.jwts.get(jwt)).is_none_or(|end| *end <= now) {
            return error(401, "invalid or expired authentication token");
        }
        let segments = asked.segments();
        if asked.door == "auth" {
            return match (asked.method.as_str(), segments.as_slice()) {
                ("GET", ["v1", "regions"]) => Answer::json(200, &json!({"regions": self.regions()})),
                _ => not_found("route"),
            };
        }
        match (asked.method.as_str(), segments.as_slice()) {
            ("GET", ["v1", "apps"]) => {
                let apps = world.apps.iter_mut().filter(|app| app.region == asked.door);
                let apps: Vec<_> = apps
                    .map(|app| {
                        app.settle(now);
                        self.app_json(app)
                    })
                    .collect();
                Answer::json(200, &json!({"apps": apps}))
            }
            ("GET", ["v1", "features", "container_sizes"]) => Answer::json(200, &sizes()),
            ("GET", ["v1", "events"]) => Answer::json(200, &json!({"events": [], "meta": one_page()})),
            (method, ["v1", "apps", name, rest @ ..]) => {
                let ps_shows_stopped = world.ps_shows_stopped;
                match world.find(Some(&asked.door), name) {
                    Some(app) => self.of_app(app, method, rest, asked, ps_shows_stopped),
                    None => not_found("app"),
                }
            }
            _ => not_found("route"),
        }
    }

    fn of_app(
        &self,
        app: &mut App,
        method: &str,
        rest: &[&str],
        asked: &Asked,
        ps_shows_stopped: bool,
    ) -> Answer {
        match (method, rest) {
            ("GET", []) => Answer::json(200, &json!({"app": self.app_json(app)})),
            ("GET", ["containers"]) => Answer::json(200, &json!({"containers": formation_json(app)})),
            ("GET", ["ps"]) => Answer::json(200, &json!({"containers": ps_json(app, ps_shows_stopped)})),
            ("POST", ["scale"]) => match wanted(asked) {
                Some(wanted) => self.scale(app, &wanted),
                None => error(400, "There was a problem in the JSON you submitted"),
            },
            ("POST", ["restart"]) => match app.restart() {
                Ok(id) => Answer::empty(202).header("location", self.operation_url(app, &id)),
                Err(refused) => refusal(app, &refused),
            },
            ("GET", ["operations", id]) => match app.operations.iter().find(|one| one.id == *id) {
                Some(one) => Answer::json(
                    200,
                    &json!({"operation": {
                        "id": one.id, "app_id": app.id, "created_at": "2026-11-20T08:00:00.000+01:00",
                        "finished_at": one.finished.then_some("2026-11-20T08:00:09.000+01:00"),
                        "status": one.status, "type": one.kind, "error": one.error,
                    }}),
                ),
                None => not_found("operation"),
            },
            ("GET", ["autoscalers"]) => {
                let all: Vec<_> = app.autoscalers.iter().map(|one| autoscaler_json(app, &one.id)).collect();
                Answer::json(200, &json!({"autoscalers": all}))
            }
            ("PATCH" | "PUT", ["autoscalers", id]) => {
                let body = asked.json().unwrap_or_default();
                let Some(one) = app.autoscalers.iter_mut().find(|one| one.id == *id) else {
                    return not_found("autoscaler");
                };
                one.disabled = body["autoscaler"]["disabled"].as_bool().unwrap_or(one.disabled);
                Answer::json(200, &json!({"autoscaler": autoscaler_json(app, id)}))
            }
            ("GET", ["domains"]) => Answer::json(200, &json!({"domains": []})),
            ("GET", ["events"]) => Answer::json(200, &json!({"events": [], "meta": one_page()})),
            ("GET", ["deployments"]) => Answer::json(200, &json!({"deployments": [], "meta": one_page()})),
            ("GET", ["scm_repo_link", "review_apps"]) => Answer::json(200, &json!({"review_apps": []})),
            _ => not_found("route"),
        }
    }

    fn scale(&self, app: &mut App, wanted: &[(String, u32, Option<String>)]) -> Answer {
        let in_flight = self.front.traffic.in_flight(&app.id);
        let (at, start) = (Instant::now(), wanted.iter().any(|(_, amount, _)| *amount > 0));
        let booting = app.booting;
        let answer = self.scaled(app, wanted);
        let (app, status) = (app.name.clone(), answer.status);
        self.front.traffic.ordered(Order { at, app, start, status, in_flight, booting });
        answer
    }

    fn scaled(&self, app: &mut App, wanted: &[(String, u32, Option<String>)]) -> Answer {
        match app.scale(wanted) {
            Ok(operation) => {
                let body = json!({"containers": formation_json(app)});
                match operation {
                    Some(id) => Answer::json(202, &body).header("location", self.operation_url(app, &id)),
                    None => Answer::json(200, &body),
                }
            }
            Err(refused) => refusal(app, &refused),
        }
    }

    fn operation_url(&self, app: &App, id: &str) -> String {
        let at = REGIONS.iter().position(|region| *region == app.region).unwrap();
        format!("http://127.0.0.1:{}/v1/apps/{}/operations/{id}", self.ports().apis[at], app.name)
    }

    fn regions(&self) -> Vec<Value> {
        let region = |(name, port): (&str, u16)| {
            let api = format!("http://127.0.0.1:{port}");
            json!({
                "name": name, "display_name": format!("Paris - {name}"), "ssh": format!("ssh.{name}.localhost:22"),
                "api": api, "dashboard": format!("https://dashboard.{name}.localhost"),
                "database_api": format!("https://db-api.{name}.localhost"), "default": name == REGIONS[0],
            })
        };
        REGIONS.into_iter().zip(self.ports().apis).map(region).collect()
    }

    fn app_json(&self, app: &App) -> Value {
        let base_url = format!("http://{}", self.host(app));
        let deployed = app.status != "new";
        let usual = || "2026-11-18T10:00:00.000+01:00".to_owned();
        let at = app.deployed.map_or_else(usual, |at| at.to_string());
        let mut body = json!({
            "id": app.id, "name": app.name, "region": app.region, "status": app.shown_status(),
            "url": app.url.as_ref().unwrap_or(&base_url), "base_url": base_url,
            "owner": {"id": "us-0001", "username": "acme", "email": "ops@acme.test"},
            "project": {"id": "prj-0001", "name": "default"},
            "git_url": format!("git@ssh.{}.localhost:{}.git", app.region, app.name), "parent_app_name": null,
            "created_at": "2025-03-01T09:00:00.000+01:00", "updated_at": "2026-11-19T22:10:00.000+01:00",
            "last_deployed_at": deployed.then_some(at),
            "last_deployed_by": deployed.then_some("acme"),
            "last_deployment_id": deployed.then_some("dep-0001"),
            "force_https": app.force_https, "sticky_session": app.sticky, "router_logs": false, "flags": {}, "limits": {},
            "links": {"deployments_stream": "wss://deployments.localhost/apps/stream"}, "stack_id": "st-1",
        });
        if app.without_base_url {
            body.as_object_mut().unwrap().remove("base_url");
        }
        body
    }
}

/// The list in a scale's body, unless it is malformed.
fn wanted(asked: &Asked) -> Option<Vec<(String, u32, Option<String>)>> {
    let body = asked.json().ok()?;
    let one = |one: &Value| {
        let amount = u32::try_from(one["amount"].as_u64()?).ok()?;
        Some((one["name"].as_str()?.to_owned(), amount, one["size"].as_str().map(str::to_owned)))
    };
    body["containers"].as_array()?.iter().map(one).collect()
}

fn refusal(app: &App, refused: &Refused) -> Answer {
    match refused {
        Refused::NoChange => error(400, "no change in containers formation"),
        Refused::Busy(doing) => Answer::json(422, &json!({"errors": {"app": [doing]}})),
        Refused::UnknownType(name) => {
            Answer::json(404, &json!({"resource": "container_type", "error": format!("{name} not found")}))
        }
        Refused::TooMany(name) => {
            Answer::json(422, &json!({"errors": {"amount": [format!("{name} must be at most 10")]}}))
        }
        Refused::Payment => Answer::json(
            402,
            &json!({"error": "a payment method is required", "url": "https://dashboard.scalingo.test/billing", "name": app.name}),
        ),
        Refused::Suspended => {
            Answer::json(403, &json!({"error": "this account is suspended", "code": "suspended"}))
        }
    }
}

fn formation_json(app: &App) -> Vec<Value> {
    let one = |(at, one): (usize, &Type)| {
        json!({
            "id": format!("ct-{at}"), "app_id": app.id, "name": one.name, "amount": one.amount, "size": one.size,
            "command": format!("bin/{}", one.name),
        })
    };
    app.types.iter().enumerate().map(one).collect()
}

fn ps_json(app: &App, shows_stopped: bool) -> Vec<Value> {
    let container = |kind: &str, index: u32, size: &str, state: &str| {
        json!({
            "id": format!("{}-{kind}-{index}", app.id), "app_id": app.id, "type": kind, "type_index": index,
            "label": format!("{kind}-{index}"), "state": state, "created_at": "2026-11-20T08:00:00.000Z",
            "deleted_at": null, "command": format!("bin/{kind}"), "size": "",
            "container_size": {"id": "cs-1", "name": size, "human_name": size, "memory": 536_870_912_u64, "ordinal": 3,
                "sku": format!("{}-app-{size}", app.region)},
        })
    };
    let mut all = Vec::new();
    for one in &app.types {
        let state = match (app.up, app.booting && !(one.name == "web" && app.serves), app.status) {
            (true, true, _) => "booting",
            (true, false, _) => "running",
            (false, _, "scaling") => "stopping",
            _ => "stopped",
        };
        // A stop has set the amounts to 0; its containers are still there until it ends.
        let amount = if app.up { one.amount } else { one.amount.max(1) };
        if state != "stopped" || (shows_stopped && app.status != "new") {
            all.extend((1..=amount).map(|index| container(&one.name, index, &one.size, state)));
        }
    }
    if app.one_off {
        all.push(container("one-off", 4321, "M", "running"));
    }
    all
}

fn autoscaler_json(app: &App, id: &str) -> Value {
    let one = app.autoscalers.iter().find(|one| one.id == id).unwrap();
    json!({
        "id": one.id, "app_id": app.id, "container_type": one.container_type, "metric": "rpm_per_container",
        "target": 150, "min_containers": 1, "max_containers": 4, "disabled": one.disabled,
    })
}

fn sizes() -> Value {
    let one = |(at, name): (usize, &str)| json!({"id": format!("cs-{at}"), "name": name, "human_name": name, "ordinal": at});
    let all: Vec<_> = ["S", "M", "L", "XL", "2XL", "3XL"].into_iter().enumerate().map(one).collect();
    json!({"container_sizes": all})
}

fn one_page() -> Value {
    json!({"pagination": {"current_page": 1, "prev_page": null, "next_page": null, "total_pages": 1, "total_count": 0}})
}
