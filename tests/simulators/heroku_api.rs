//! The routes of the simulated Heroku and the bodies they answer with.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    api::{Answer, Asked, Control, uuid},
    heroku::{Inner, World},
    heroku_app::{App, Dyno, Type},
};

const LIMIT_TEXT: &str =
    "Your account reached the API rate limit\nPlease wait a few minutes before making new requests";
const LIMIT_URL: &str = "https://devcenter.heroku.com/articles/platform-api-reference#rate-limits";

impl Control for Inner {
    fn answer(&self, asked: &Asked) -> Answer {
        let mut world = self.world.lock().unwrap();
        let mut answer = self.checked(&mut world, asked);
        if asked.method == "GET" && answer.status < 300 {
            let etag = etag(&answer.body);
            if asked.header("if-none-match") == Some(&etag) {
                answer = Answer::empty(304);
            }
            answer = answer.header("etag", etag);
        }
        let remaining = world.pool.remaining(Instant::now());
        answer.header("ratelimit-remaining", remaining).header("request-id", uuid())
    }
}

fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn error(status: u16, id: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"id": id, "message": message}))
}

fn no_app() -> Answer {
    Answer::json(404, &json!({"id": "not_found", "message": "Couldn't find that app.", "resource": "app"}))
}

impl Inner {
    fn checked(&self, world: &mut World, asked: &Asked) -> Answer {
        let accept = asked.header("accept").unwrap_or_default().replace(' ', "");
        if !accept.contains("application/vnd.heroku+json;version=3") {
            return error(406, "not_acceptable", "The \"Accept\" header should include a version.");
        }
        if world.revoked || !is_authorized(asked, &world.token) {
            return error(401, "unauthorized", "Invalid credentials provided.");
        }
        if (asked.method.as_str(), asked.path.as_str()) == ("GET", "/account/rate-limits") {
            let remaining = world.pool.remaining(Instant::now());
            return Answer::json(200, &json!({"remaining": remaining}));
        }
        if !world.pool.take(Instant::now()) {
            world.limited += 1;
            return Answer::json(429, &json!({"id": "rate_limit", "message": LIMIT_TEXT, "url": LIMIT_URL}));
        }
        let now = Instant::now();
        world.apps.iter_mut().for_each(|app| app.settle(now));
        match (asked.method.as_str(), asked.segments().as_slice()) {
            ("GET", ["account"]) => Answer::json(200, &json!({"id": "us-1", "email": "ops@acme.test"})),
            ("GET", ["apps"]) => self.list(world, asked, |app| !app.team_list_only),
            ("GET", ["users", "~", "apps"]) => self.list(world, asked, |app| app.team.is_none()),
            ("GET", ["teams", team, "apps"]) => {
                self.list(world, asked, |app| app.team.as_deref() == Some(team))
            }
            ("POST", ["filters", "apps"]) => {
                let body = asked.json().unwrap_or_default();
                let ids = body["in"]["id"].as_array().cloned().unwrap_or_default();
                let apps = world.apps.iter().filter(|app| ids.contains(&json!(app.id)));
                Answer::json(200, &apps.map(|app| self.app_json(app)).collect())
            }
            ("GET", ["pipeline-couplings"]) => Answer::json(200, &couplings(world)),
            ("GET", ["regions"]) => Answer::json(200, &json!([region("us"), region("eu")])),
            (method, ["apps", name, rest @ ..]) => {
                let modes = (world.answers_changed_only, world.unknown_type_is_422);
                match world.find(name) {
                    Some(app) => self.of_app(app, method, rest, asked, modes),
                    None => no_app(),
                }
            }
            _ => error(404, "not_found", "The requested API endpoint was not found."),
        }
    }

    /// A list in pages. A range is the beginning, or what an earlier `Next-Range` said to the letter.
    fn list(&self, world: &mut World, asked: &Asked, is_in: impl Fn(&App) -> bool) -> Answer {
        let mut apps: Vec<&App> = world.apps.iter().filter(|app| is_in(app)).collect();
        apps.sort_by(|one, other| one.id.cmp(&other.id));
        let range = asked.header("range").unwrap_or("id ..");
        let parts = range.split_once(';').unwrap_or((range, ""));
        let after = match parts.0.trim() {
            _ if world.ranges.contains(range) => {
                range.strip_prefix("id ]").and_then(|rest| rest.split("..").next())
            }
            "id .." | "id" => None,
            _ => return error(416, "requested_range_not_satisfiable", "Requested range not satisfiable."),
        };
        let wanted = parts.1.split(',').find_map(|part| part.trim().strip_prefix("max=")?.parse().ok());
        let most = world.page_size.unwrap_or(1000).min(wanted.unwrap_or(200));
        apps.retain(|app| after.is_none_or(|after| app.id.as_str() > after));
        let more = apps.len() > most;
        apps.truncate(most);
        let body: Value = apps.iter().map(|app| self.app_json(app)).collect();
        let answer =
            Answer::json(if more { 206 } else { 200 }, &body).header("accept-ranges", "id, name, updated_at");
        let (Some(first), Some(last)) = (apps.first(), apps.last()) else { return answer };
        let answer = answer.header("content-range", format!("id {}..{}; max={most}", first.id, last.id));
        if !more {
            return answer;
        }
        let next = format!("id ]{}..; max={most}", last.id);
        world.ranges.insert(next.clone());
        answer.header("next-range", next)
    }

    fn of_app(
        &self,
        app: &mut App,
        method: &str,
        rest: &[&str],
        asked: &Asked,
        modes: (bool, bool),
    ) -> Answer {
        match (method, rest) {
            ("GET", []) => Answer::json(200, &self.app_json(app)),
            ("PATCH", []) => {
                let body = asked.json().unwrap_or_default();
                app.maintenance = body["maintenance"].as_bool().unwrap_or(app.maintenance);
                Answer::json(200, &self.app_json(app))
            }
            ("GET", ["formation"]) => Answer::json(200, &formation_json(app, |_| true)),
            ("GET", ["formation", kind]) => {
                match app.types.iter().find(|one| one.name == *kind || one.id == *kind) {
                    Some(one) => Answer::json(200, &type_json(app, one)),
                    None => unknown_type(kind, modes.1),
                }
            }
            ("PATCH", ["formation"]) => {
                let updates = asked.json().ok().and_then(|body| body["updates"].as_array().cloned());
                self.patch(app, updates, asked, modes, false)
            }
            ("PATCH", ["formation", kind]) => {
                let update = asked.json().ok().map(|mut body| {
                    body["type"] = json!(kind);
                    vec![body]
                });
                self.patch(app, update, asked, modes, true)
            }
            ("GET", ["dynos"]) => {
                let listed = app.dynos.iter().filter(|dyno| dyno.listed);
                Answer::json(200, &listed.map(|dyno| dyno_json(app, dyno)).collect())
            }
            ("DELETE", ["dynos"]) => {
                app.reboot();
                Answer::json(202, &json!({}))
            }
            ("GET", ["domains"]) => {
                let host = self.host(app);
                let host = host.split(':').next();
                Answer::json(
                    200,
                    &json!([{"id": uuid(), "hostname": host, "kind": "heroku", "cname": null, "status": "none", "acm_status": null}]),
                )
            }
            ("GET", ["releases"]) => Answer::json(200, &releases(app)),
            _ => error(404, "not_found", "The requested API endpoint was not found."),
        }
    }

    fn patch(
        &self,
        app: &mut App,
        updates: Option<Vec<Value>>,
        asked: &Asked,
        (changed_only, unknown_is_422): (bool, bool),
        single: bool,
    ) -> Answer {
        let Some(updates) = updates else {
            return error(400, "bad_request", "Unable to parse the JSON request.");
        };
        if let Some((status, id)) = app.blocked {
            return error(status, id, "This account may not do that.");
        }
        let now = etag(formation_json(app, |_| true).to_string().as_bytes());
        if asked.header("if-match").is_some_and(|wanted| wanted != now) {
            return error(412, "precondition_failed", "The resource has changed.");
        }
        match changed(app, &updates, unknown_is_422) {
            Ok((target, names)) => {
                app.scale(target);
                let body = formation_json(app, |one| !(changed_only || single) || names.contains(&one.name));
                Answer::json(200, if single { &body[0] } else { &body })
            }
            Err(refused) => refused,
        }
    }

    fn app_json(&self, app: &App) -> Value {
        let deployed = !app.types.is_empty();
        let released = app.released.map_or_else(|| "2026-11-18T09:00:00Z".into(), |at| at.to_string());
        let team = app.team.as_ref().map(|team| json!({"id": format!("te-{team}"), "name": team}));
        json!({
            "id": app.id, "name": app.name, "region": {"id": "rg-eu", "name": "eu"}, "space": null,
            "team": team, "organization": team, "owner": {"id": "us-1", "email": "acme@herokumanager.test"},
            "web_url": (!app.without_web_url).then(|| format!("http://{}/", self.host(app))),
            "git_url": format!("https://git.heroku.test/{}.git", app.name), "maintenance": app.maintenance, "acm": true,
            "internal_routing": app.internal_routing.then_some(true),
            "generation": {"id": "ge-1", "name": app.generation}, "stack": {"id": "st-1", "name": "heroku-24"},
            "build_stack": {"id": "st-1", "name": "heroku-24"},
            "buildpack_provided_description": deployed.then_some("Node.js"), "archived_at": null,
            "created_at": "2025-03-01T09:00:00Z", "updated_at": "2026-11-19T21:00:00Z",
            "released_at": released, "repo_size": 0, "slug_size": deployed.then_some(31_457_280),
        })
    }
}

fn is_authorized(asked: &Asked, token: &str) -> bool {
    let Some(sent) = asked.header("authorization") else { return false };
    let basic = sent.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
    sent == format!("Bearer {token}") || basic.is_some_and(|pair| pair == format!(":{token}").as_bytes())
}

fn unknown_type(kind: &str, is_422: bool) -> Answer {
    let (status, id) = if is_422 { (422, "invalid_params") } else { (404, "not_found") };
    error(status, id, &format!("Couldn't find that process type ({kind})."))
}

/// The formation after these updates and the types they name; all of them, or the first mistake.
fn changed(app: &App, updates: &[Value], unknown_is_422: bool) -> Result<(Vec<Type>, Vec<String>), Answer> {
    let mut target = app.types.clone();
    let mut names = Vec::new();
    for update in updates {
        let kind = update["type"].as_str().or(update["id"].as_str()).unwrap_or_default();
        let one = target.iter_mut().find(|one| one.name == kind || one.id == kind);
        let one = one.ok_or_else(|| unknown_type(kind, unknown_is_422))?;
        match &update["quantity"] {
            Value::Null => {}
            Value::Number(number) if number.as_u64().is_some_and(|number| number <= 100) => {
                one.quantity = number.as_u64().unwrap_or_default() as u32;
            }
            Value::String(text) if text.parse::<u32>().is_ok() => one.quantity = text.parse().unwrap(),
            _ => return Err(error(422, "invalid_params", "quantity is not valid.")),
        }
        match &update["dyno_size"] {
            Value::Null => {}
            Value::Object(size) => {
                let size = size.get("name").or(size.get("id")).and_then(Value::as_str);
                one.size =
                    size.map(capitalized).ok_or_else(|| error(422, "invalid_params", "no such dyno size"))?;
            }
            _ => return Err(error(400, "bad_request", "dyno_size must be an object.")),
        }
        names.push(one.name.clone());
    }
    let single = |one: &&Type| ["Eco", "Basic"].contains(&one.size.as_str());
    if let Some(one) = target.iter().filter(single).find(|one| one.quantity > 1) {
        let text = format!("Cannot run more than 1 {} size dynos.", one.size);
        return Err(error(422, "invalid_params", &text));
    }
    let tier = |one: &Type| one.size.split('-').next().unwrap_or_default().to_owned();
    let resized = updates.iter().any(|update| !update["dyno_size"].is_null());
    if resized && target.windows(2).any(|two| (tier(&two[0]) == "Eco") != (tier(&two[1]) == "Eco")) {
        return Err(error(422, "invalid_params", "Cannot mix Eco dynos with other dyno types."));
    }
    Ok((target, names))
}

/// `standard-1x` as Cedar says it: `Standard-1X`.
fn capitalized(size: &str) -> String {
    let part = |part: &str| match part.chars().next() {
        Some(first) if first.is_ascii_alphabetic() && part.len() > 1 => {
            format!("{}{}", first.to_ascii_uppercase(), part[1..].to_ascii_lowercase())
        }
        _ => part.to_ascii_uppercase(),
    };
    size.split('-').map(part).collect::<Vec<_>>().join("-")
}

fn formation_json(app: &App, is_in: impl Fn(&Type) -> bool) -> Value {
    app.types.iter().filter(|one| is_in(one)).map(|one| type_json(app, one)).collect()
}

fn type_json(app: &App, one: &Type) -> Value {
    json!({
        "id": one.id, "type": one.name, "quantity": one.quantity, "size": one.size,
        "dyno_size": {"id": format!("ds-{}", one.size), "name": one.size}, "command": format!("bin/{}", one.name),
        "app": {"id": app.id, "name": app.name}, "created_at": "2025-03-01T09:05:00Z", "updated_at": "2026-11-19T21:00:00Z",
    })
}

fn dyno_json(app: &App, dyno: &Dyno) -> Value {
    let size =
        app.types.iter().find(|one| one.name == dyno.kind).map_or("Standard-1X", |one| one.size.as_str());
    json!({
        "id": dyno.id, "name": format!("{}.{}", dyno.kind, dyno.index), "type": dyno.kind, "state": app.shown_state(dyno),
        "size": size, "command": format!("bin/{}", dyno.kind), "attach_url": null,
        "app": {"id": app.id, "name": app.name}, "release": {"id": "re-1", "version": app.version},
        "created_at": "2026-11-20T08:00:00Z", "updated_at": "2026-11-20T08:00:20Z",
    })
}

/// Newest first.
fn releases(app: &App) -> Value {
    let release = |version: u32, status: &str, current: bool| {
        json!({
            "id": format!("re-{version}"), "version": version, "status": status, "current": current,
            "description": "Deploy abc123", "app": {"id": app.id, "name": app.name}, "created_at": "2026-11-18T09:00:00Z",
        })
    };
    let current = release(app.version, "succeeded", true);
    if app.deploying {
        json!([release(app.version + 1, "pending", false), current])
    } else {
        json!([current])
    }
}

fn couplings(world: &World) -> Value {
    let coupling = |app: &App| {
        let stage = app.stage.as_ref()?;
        Some(
            json!({"id": format!("pc-{}", app.id), "app": {"id": app.id}, "pipeline": {"id": "pi-1"}, "stage": stage}),
        )
    };
    world.apps.iter().filter_map(coupling).collect()
}

fn region(name: &str) -> Value {
    json!({
        "id": format!("rg-{name}"), "name": name, "country": name, "description": name, "locale": name,
        "private_capable": false, "provider": {"name": "amazon-web-services", "region": name},
    })
}
