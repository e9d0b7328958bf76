//! The routes of the simulated Clever Cloud and the bodies they answer with.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    api::{Answer, Asked, Control, uuid},
    clever_cloud::{Inner, ORGANISATION, USER, World},
    clever_cloud_app::{App, Deployment, Instance, Refused},
};

/// When everything was made, in milliseconds since 1970.
pub const THEN: u64 = 1_763_600_000_000;

impl Control for Inner {
    fn answer(&self, asked: &Asked) -> Answer {
        let mut world = self.world.lock().unwrap();
        self.checked(&mut world, asked).header("sozu-id", uuid().to_uppercase())
    }
}

/// An error of v2.
fn error(status: u16, id: u32, message: &str) -> Answer {
    Answer::json(status, &json!({"id": id, "message": message, "type": "error"}))
}

fn no_app() -> Answer {
    error(404, 4004, "The application was not found.")
}

/// What answers where there is no route.
fn no_route() -> Answer {
    Answer::html(404, "<!DOCTYPE html><html><body><h1>Action not found</h1></body></html>")
}

fn check_credential(world: &World, asked: &Asked) -> Result<(), Answer> {
    let v4 = asked.path.starts_with("/v4/");
    let not_connected = || error(401, 2001, "Not connected");
    let refused = || match v4 {
        true => Answer::json(401, &json!({"code": "invalid-token", "error": "The token is invalid"})),
        false => error(403, 1504, "You don’t have the right to access this resource"),
    };
    let Some(sent) = asked.header("authorization") else { return Err(not_connected()) };
    if asked.door == "bridge" {
        let good = !world.revoked && sent.strip_prefix("Bearer ") == Some(&world.token);
        return if good { Ok(()) } else { Err(refused()) };
    }
    let Some(fields) = sent.strip_prefix("OAuth ") else { return Err(not_connected()) };
    let field = |name: &str| {
        let own = fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        own.map(|value| value.trim_matches('"'))
    };
    let oauth = &world.oauth;
    let signed = match field("oauth_signature_method") {
        // Nobody here checks an HMAC: it must be there, with all that goes into it.
        Some("HMAC-SHA512" | "HMAC-SHA1") => {
            ["oauth_signature", "oauth_nonce", "oauth_timestamp"].iter().all(|name| field(name).is_some())
        }
        None | Some("PLAINTEXT") => {
            field("oauth_signature") == Some(&format!("{}%26{}", oauth.consumer_secret, oauth.secret))
        }
        Some(_) => false,
    };
    let named = field("oauth_consumer_key") == Some(&oauth.consumer_key)
        && field("oauth_token") == Some(&oauth.token);
    if signed && named && !world.revoked { Ok(()) } else { Err(refused()) }
}

impl Inner {
    fn checked(&self, world: &mut World, asked: &Asked) -> Answer {
        if let Err(refused) = check_credential(world, asked) {
            return refused;
        }
        let now = Instant::now();
        if world.limit.take(now).is_err() {
            world.limited += 1;
            return match asked.path.starts_with("/v4/") {
                true => Answer::json(429, &json!({"code": "rate-limited", "error": "Too many requests"})),
                false => error(403, 403, "Too many requests"),
            };
        }
        world.apps.iter_mut().for_each(|app| app.settle(now));
        let method = asked.method.as_str();
        match asked.segments().as_slice() {
            ["v2", "self"] if method == "GET" => {
                Answer::json(200, &json!({"id": USER, "name": "me", "admin": false}))
            }
            ["v2", "self", "tokens", "current"] if method == "GET" => {
                Answer::json(200, &json!({"token": "current", "expirationDate": THEN + 31_536_000_000_u64}))
            }
            ["v2", "summary"] if method == "GET" => Answer::json(200, &summary(world)),
            ["v2", "self", rest @ ..] => self.of_owner(world, None, rest, asked),
            ["v2", "organisations", owner] if method == "GET" => match owner.starts_with("user_") {
                true => error(403, 1504, "You don’t have the right to access this resource"),
                false => Answer::json(200, &json!({"id": owner, "name": "Acme"})),
            },
            ["v2", "organisations", owner, rest @ ..] => self.of_owner(world, Some(owner), rest, asked),
            ["v4", "products", "zones"] if method == "GET" => Answer::json(200, &zones()),
            ["v4", "orchestration", "organisations", owner, "applications", id, rest @ ..]
                if method == "GET" =>
            {
                let app = world.apps.iter().find(|app| app.id == *id && app.owner == *owner);
                match (app, rest) {
                    (None, _) => {
                        Answer::json(404, &json!({"code": "clever.core.not-found", "error": "not found"}))
                    }
                    (Some(app), ["instances"]) => Answer::json(200, &instances_v4(app, asked)),
                    (Some(app), ["deployments"]) => Answer::json(200, &deployments_v4(app)),
                    _ => no_route(),
                }
            }
            _ => no_route(),
        }
    }

    /// What is below `/v2/self` (no owner: one's own, an app also of one's organisations) or an organisation.
    fn of_owner(&self, world: &mut World, owner: Option<&str>, rest: &[&str], asked: &Asked) -> Answer {
        let by_id_lag = world.by_id_lag;
        let bare = world.bare_start_answer;
        let is_listed = |app: &&App| app.owner == owner.unwrap_or(USER);
        match (asked.method.as_str(), rest) {
            ("GET", ["applications"]) => {
                Answer::json(200, &world.apps.iter().filter(is_listed).map(app_json).collect())
            }
            ("GET", ["deployments"]) => {
                let all = world.apps.iter().filter(is_listed);
                let all: BTreeMap<_, _> = all.map(|app| (&app.id, deployments(app, 10, 0, None))).collect();
                Answer::json(200, &json!(all))
            }
            (method, ["applications", id, rest @ ..]) => {
                let found = world
                    .apps
                    .iter_mut()
                    .find(|app| app.id == *id && owner.is_none_or(|owner| app.owner == owner));
                match found {
                    Some(app) => of_app(app, method, rest, asked, by_id_lag, bare),
                    None => no_app(),
                }
            }
            _ => no_route(),
        }
    }
}

fn of_app(
    app: &mut App,
    method: &str,
    rest: &[&str],
    asked: &Asked,
    by_id_lag: std::time::Duration,
    bare: bool,
) -> Answer {
    let number =
        |name: &str, usual: usize| asked.query.get(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    match (method, rest) {
        ("GET", []) => Answer::json(200, &app_json(app)),
        ("GET", ["instances"]) => {
            let wanted = asked.query.get("deploymentId");
            let all =
                app.instances.iter().filter(|one| wanted.is_none_or(|wanted| one.deployment == *wanted));
            Answer::json(200, &all.map(|one| instance_json(app, one)).collect())
        }
        ("POST", ["instances"]) => started(app, bare),
        ("DELETE", ["instances"]) => {
            app.stop();
            let text = "The application has successfully been stopped.";
            Answer::json(200, &json!({"id": 321, "message": text, "type": "success"}))
        }
        ("GET", ["deployments"]) => {
            let action = asked.query.get("action").map(String::as_str);
            Answer::json(200, &json!(deployments(app, number("limit", 10), number("offset", 0), action)))
        }
        (_, ["deployments"]) => error(405, 405, "Method not allowed"),
        ("GET", ["deployments", id]) => {
            let found = app.deployments.iter().find(|row| row.uuid == *id || row.number.to_string() == *id);
            match found.filter(|row| row.listed_at + by_id_lag <= Instant::now()) {
                Some(row) => Answer::json(200, &deployment_json(app, row)),
                None => error(404, 4005, "The deployment was not found."),
            }
        }
        ("DELETE", ["deployments", id, "instances"]) => match app.cancel(id) {
            true => Answer::json(
                200,
                &json!({"id": 322, "message": "The deployment is being cancelled.", "type": "success"}),
            ),
            false => error(404, 4005, "The deployment was not found."),
        },
        ("GET", ["vhosts"]) => Answer::json(200, &vhosts(app)),
        ("GET", ["vhosts", "favourite"]) => match &app.favourite {
            Some(fqdn) => Answer::json(200, &json!({"fqdn": fqdn})),
            None => error(404, 4021, "This application has no favourite domain."),
        },
        _ => no_route(),
    }
}

fn started(app: &mut App, bare: bool) -> Answer {
    match app.start() {
        Ok(deployment) => {
            let text = "The application has successfully been queued for redeploy.";
            let mut body = json!({"id": 320, "message": text, "type": "success"});
            if !bare {
                body["deploymentId"] = json!(deployment);
            }
            Answer::json(200, &body)
        }
        Err(Refused::NeverDeployed) => error(400, 4014, "The application has never been deployed."),
        Err(Refused::Blocked) => error(403, 4016, "The application is blocked."),
        Err(Refused::Conflict) => error(409, 4009, "A deployment is already in progress."),
    }
}

/// Newest first.
fn deployments(app: &App, limit: usize, offset: usize, action: Option<&str>) -> Vec<Value> {
    let now = Instant::now();
    let rows = app.deployments.iter().rev().filter(|row| row.listed_at <= now);
    let rows = rows.filter(|row| action.is_none_or(|action| row.action == action));
    rows.skip(offset).take(limit).map(|row| deployment_json(app, row)).collect()
}

fn deployment_json(app: &App, row: &Deployment) -> Value {
    json!({
        "id": row.number, "uuid": row.uuid, "date": row.date, "state": row.state, "action": row.action,
        "commit": "abc123", "cause": row.cause, "instances": (row.action == "DEPLOY").then_some(app.instances_wanted),
        "author": {"id": USER, "name": "me"},
    })
}

fn deployments_v4(app: &App) -> Value {
    let state = |row: &Deployment| match row.state {
        "WIP" => "WORK_IN_PROGRESS",
        "FAIL" => "FAILED",
        "OK" => "SUCCEEDED",
        other => other,
    };
    let rows = app.deployments.iter().rev();
    rows.map(
        |row| json!({"id": row.uuid, "applicationId": app.id, "ownerId": app.owner, "state": state(row)}),
    )
    .collect()
}

fn flavor(name: &str) -> Value {
    json!({"name": name, "mem": 1152, "cpus": 1, "price": 0.5, "available": true})
}

fn instance_json(app: &App, one: &Instance) -> Value {
    let row = app.deployments.iter().find(|row| row.uuid == one.deployment);
    json!({
        "id": one.id, "appId": app.id, "ip": "10.2.3.4", "appPort": 23456, "state": one.state, "flavor": flavor(&app.flavor),
        "commit": "abc123", "deployNumber": row.map(|row| row.number), "deployId": one.deployment,
        "instanceNumber": one.number, "displayName": "Sleepy Snorlax", "creationDate": THEN,
    })
}

fn instances_v4(app: &App, asked: &Asked) -> Value {
    let allowed = |name: &str, one: &Instance| asked.query.get(name).is_none_or(|state| state == one.state);
    let all = app.instances.iter().filter(|one| allowed("includeState", one));
    all.map(|one| {
        json!({
            "id": one.id, "ownerId": app.owner, "applicationId": app.id, "deploymentId": one.deployment,
            "name": "Sleepy Snorlax", "flavor": app.flavor, "index": one.number, "state": one.state, "hypervisorId": "hv-1",
            "creationDate": "2026-11-20T08:00:00Z", "deletionDate": null, "network": {"ip": "10.2.3.4", "port": 23456},
            "isBuildVm": false,
        })
    })
    .collect()
}

fn vhosts(app: &App) -> Value {
    app.vhosts.iter().map(|fqdn| json!({"fqdn": fqdn})).collect()
}

fn app_json(app: &App) -> Value {
    json!({
        "id": app.id, "name": app.name, "description": app.name, "zone": app.zone, "zoneId": "zo-1", "ownerId": app.owner,
        "state": app.shown_state(), "commitId": (!app.never_deployed).then_some("abc123"), "branch": "master",
        "archived": app.archived, "homogeneous": app.homogeneous, "stickySessions": false, "cancelOnPush": false,
        "favourite": false, "separateBuild": false, "forceHttps": if app.force_https { "ENABLED" } else { "DISABLED" },
        "creationDate": THEN, "last_deploy": app.deployments.iter().map(|row| row.number).max().unwrap_or(0),
        "vhosts": vhosts(app), "deployUrl": format!("git+ssh://git@push.localhost/{}.git", app.id),
        "deployment": {"shutdownable": false, "type": "GIT", "repoState": "CREATED",
            "url": format!("git+ssh://git@push.localhost/{}.git", app.id),
            "httpUrl": format!("https://push.localhost/{}.git", app.id)},
        "instance": {"type": "node", "version": "20260701",
            "variant": {"id": "va-1", "slug": "node", "name": "Node.js", "deployType": "node", "logo": "https://logo.localhost"},
            "minInstances": app.instances_wanted, "maxInstances": app.instances_wanted, "maxAllowedInstances": 40,
            "minFlavor": flavor(&app.flavor), "maxFlavor": flavor(&app.flavor), "flavors": [], "defaultEnv": {},
            "lifetime": app.lifetime, "instanceAndVersion": "node-20260701"},
        "buildFlavor": {"name": "M"}, "webhookUrl": null, "webhookSecret": null, "appliance": null,
    })
}

/// The person with their own apps, then the organisations; the personal space is among them once more.
fn summary(world: &World) -> Value {
    let of = |owner: &str| -> Vec<Value> {
        let own = world.apps.iter().filter(|app| app.owner == owner);
        own.map(|app| {
            json!({
                "id": app.id, "name": app.name, "instanceType": "node", "instanceVariant": "va-1", "variantSlug": "node",
                "archived": app.archived, "homogeneous": app.homogeneous, "state": app.shown_state(), "commit": "abc123",
                "variantLogoUrl": "https://logo.localhost", "systemTags": [], "customerTags": [],
            })
        })
        .collect()
    };
    let mut owners: Vec<&str> = vec![ORGANISATION, USER];
    for app in &world.apps {
        if !owners.contains(&app.owner.as_str()) {
            owners.push(&app.owner);
        }
    }
    let organisation = |owner: &&str| {
        json!({
            "id": owner, "name": if *owner == USER { "me" } else { "Acme" }, "role": "ADMIN", "canPay": true,
            "applications": of(owner), "addons": [], "consumers": [], "providers": [],
        })
    };
    let organisations: Vec<Value> = owners.iter().map(organisation).collect();
    json!({
        "user": {"id": USER, "name": "me", "admin": false, "applications": of(USER), "addons": [], "consumers": []},
        "organisations": organisations,
    })
}

fn zones() -> Value {
    let zone = |name: &str| {
        json!({
            "id": format!("zo-{name}"), "name": name, "country": "France", "countryCode": "FR", "city": name,
            "displayName": null, "lat": 48.8, "lon": 2.3, "outboundIPs": [], "tags": ["region:eu", "for:applications"],
        })
    };
    ["par", "rbx", "mtl", "sgp"].iter().map(|name| zone(name)).collect()
}
