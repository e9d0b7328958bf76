//! `loir apps`, `wake`, `sleep`, `pin`, `unpin`, `explain`: what one does with apps every day.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    print::{print, say},
    remote::{Failure, Gateway, Remote, path_of, query},
    table::{Table, ago, lasting},
};
use crate::app::AppId;

/// A list that is watched is asked for so often.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// An app on its way is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A wake that takes longer shows that something goes on.
const LONG: Duration = Duration::from_secs(1);

pub async fn apps(
    gateway: &Gateway,
    pattern: Option<String>,
    state: Option<String>,
    as_json: bool,
    watch: bool,
) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let path = format!("/v1/apps{}", query(&[("pattern", pattern), ("state", state)]));
    loop {
        let apps: Vec<Value> = remote.get(&path).await?;
        let text = if as_json { pretty(&json!(apps)) } else { table(&apps) };
        if watch && std::io::stdout().is_terminal() {
            // Home, and nothing below.
            let _ = print(&format!("\x1b[H\x1b[2J{text}"));
        } else if print(text.trim_end()).is_err() || !watch {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn table(apps: &[Value]) -> String {
    if apps.is_empty() {
        return "no apps".to_owned();
    }
    let mut table = Table::new(&["APP", "STATE", "FOR", "REQUESTS", "SLEEPS IN", "HOST"]);
    for app in apps {
        let text = |key: &str| app[key].as_str().unwrap_or_default().to_owned();
        let sleeps = match (app["pinned_until"].as_u64(), app["sleeps_in"].as_u64()) {
            _ if app["left_alone"].is_string() => "left alone".to_owned(),
            (Some(_), _) => "pinned".to_owned(),
            (None, Some(left)) => lasting(left),
            (None, None) => "-".to_owned(),
        };
        // The shortest is what people type.
        let hosts = app["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let host = hosts.min_by_key(|host| host.len()).unwrap_or("-").to_owned();
        let requests = app["requests"].as_u64().unwrap_or(0).to_string();
        table.row([text("id"), text("state"), ago(app["since"].as_u64()), requests, sleeps, host]);
    }
    table.to_string()
}

/// Wakes an app and waits for it.
pub async fn wake(gateway: &Gateway, meant: &str) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let app = remote.app(meant).await?;
    let began = Instant::now();
    let answer = remote.ask(Method::POST, &format!("{}/wake", path_of(&app)), None).await?;
    if answer.status() != reqwest::StatusCode::ACCEPTED {
        say(&format!("{app} is awake"));
        return Ok(());
    }
    let woken = tokio::select! {
        woken = followed(&remote, &app, began, "waking", "awake") => woken?,
        _ = tokio::signal::ctrl_c() => {
            let text = format!("\n{app} goes on waking: `loir explain {app}` says how it is");
            return Err(Failure::Interrupted(text));
        }
    };
    match woken["state"].as_str() {
        Some("awake") => {
            say(&format!("{app} is awake after {:.1} s", began.elapsed().as_secs_f64()));
            Ok(())
        }
        _ => {
            let reference = woken["failure"].as_str().map(|reference| format!(" (reference {reference})"));
            let text = format!(
                "loir: {app} did not wake{}: see the gateway's log, or `loir events --app {app}`",
                reference.unwrap_or_default()
            );
            Err(Failure::Refused(text))
        }
    }
}

/// Stops an app and waits for it.
pub async fn sleep(gateway: &Gateway, meant: &str) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let app = remote.app(meant).await?;
    let began = Instant::now();
    let answer = remote.ask(Method::POST, &format!("{}/sleep", path_of(&app)), None).await?;
    if answer.status() == reqwest::StatusCode::ACCEPTED {
        let slept = tokio::select! {
            slept = followed(&remote, &app, began, "stopping", "asleep") => slept?,
            _ = tokio::signal::ctrl_c() => {
                let text = format!("\n{app} goes on being stopped: `loir explain {app}` says how it is");
                return Err(Failure::Interrupted(text));
            }
        };
        if slept["state"] != "asleep" {
            let text = format!(
                "loir: {app} is not asleep but {}: see `loir events --app {app}`",
                slept["state"].as_str().unwrap_or("?")
            );
            return Err(Failure::Refused(text));
        }
    }
    say(&format!("{app} is asleep"));
    Ok(())
}

/// Looks at the app until it is in neither of the states on the way.
async fn followed(
    remote: &Remote,
    app: &AppId,
    began: Instant,
    word: &str,
    end: &str,
) -> Result<Value, Failure> {
    let is_seen = std::io::stderr().is_terminal();
    let mut shown = false;
    loop {
        let now: Value = remote.get(&path_of(app)).await?;
        let state = now["state"].as_str().unwrap_or_default();
        if state == end || !matches!(state, "waking" | "stopping") {
            if shown {
                eprint!("\r\x1b[K");
            }
            return Ok(now);
        }
        if began.elapsed() >= LONG {
            let usual = now["boot"]
                .as_u64()
                .filter(|_| word == "waking")
                .map(|boot| format!(", usually {}", lasting(boot)));
            let line =
                format!("{app} is {word}: {} s{}", began.elapsed().as_secs(), usual.unwrap_or_default());
            if is_seen {
                eprint!("\r\x1b[K{line}");
                let _ = std::io::stderr().flush();
            } else if !shown {
                eprintln!("{line}");
            }
            shown = true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Keeps an app from being stopped.
pub async fn pin(
    gateway: &Gateway,
    meant: &str,
    long: Option<String>,
    until: Option<String>,
) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let app = remote.app(meant).await?;
    let body = match until {
        Some(until) => json!({ "until": until }),
        None => json!({ "for": long.unwrap_or_else(|| "2h".to_owned()) }),
    };
    remote.ask(Method::POST, &format!("{}/pin", path_of(&app)), Some(&body)).await?;
    let now: Value = remote.get(&path_of(&app)).await?;
    let until = now["pinned_until"].as_i64().and_then(|until| jiff::Timestamp::from_millisecond(until).ok());
    let until = until.map(|until| format!(" until {}", until.strftime("%Y-%m-%d %H:%M UTC")));
    say(&format!(
        "{app} is not stopped{}; it is {} now",
        until.unwrap_or_default(),
        now["state"].as_str().unwrap_or("?")
    ));
    Ok(())
}

/// Lets an app be stopped again.
pub async fn unpin(gateway: &Gateway, meant: &str) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let app = remote.app(meant).await?;
    remote.ask(Method::POST, &format!("{}/unpin", path_of(&app)), None).await?;
    say(&format!("{app} may be stopped again"));
    Ok(())
}

/// Why an app is as it is, and what becomes of it.
pub async fn explain(gateway: &Gateway, meant: &str, as_json: bool) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let app = remote.app(meant).await?;
    let now: Value = remote.get(&path_of(&app)).await?;
    if as_json {
        say(&pretty(&now));
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("{app}: {}", text(&now["why"]))];
    lines.push(format!("  {} for {}", text(&now["state"]), ago(now["since"].as_u64())));
    let outlook = &now["outlook"];
    if let Some(cause) = cause(&outlook["last_cause"]) {
        lines.push(format!("  last woken or stopped by: {cause}"));
    }
    if let Some(next) =
        outlook["next_change"]["at"].as_i64().and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
    {
        let to = text(&outlook["next_change"]["to"]);
        lines.push(format!("  its schedule: {to} at {}", next.strftime("%Y-%m-%d %H:%M UTC")));
    }
    for member in outlook["group"].as_array().into_iter().flatten() {
        lines.push(format!("  in its group: {} ({})", text(&member["app"]), text(&member["state"])));
    }
    let sources = outlook["sources"].as_array().cloned().unwrap_or_default();
    if !sources.iter().any(|source| source["key"] == "idle_timeout") {
        lines.push(format!("  idle_timeout {}", lasting(now["idle_timeout"].as_u64().unwrap_or(0))));
    }
    for source in sources {
        lines.push(format!(
            "  {} {}: {}",
            text(&source["key"]),
            text(&source["value"]),
            text(&source["origin"])
        ));
    }
    let hosts: Vec<_> = now["hosts"].as_array().into_iter().flatten().map(text).collect();
    lines.push(format!("  at {}", hosts.join(", ")));
    say(&lines.join("\n"));
    Ok(())
}

/// A cause in words.
pub fn cause(cause: &Value) -> Option<String> {
    serde_json::from_value::<crate::lifecycle::Cause>(cause.clone()).ok().map(|cause| cause.to_string())
}
