//! `loir events`, `report`, `top`: what has happened, and what it was good for.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

use super::{
    operate::cause,
    print::{print, say},
    remote::{Failure, Gateway, Remote, query},
    table::{Table, plain},
};
use crate::config::{scalar::Scalar, units::PositivePeriod};

/// After a stream has broken off.
const AGAIN: Duration = Duration::from_secs(2);

/// What `loir events` shows.
#[derive(clap::Args)]
pub struct Which {
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Only of this app, or of all that fit: `*` stands for anything
    #[arg(long)]
    app: Option<String>,
    /// Only this event, as `ready`
    #[arg(long)]
    event: Option<String>,
    /// Only what was caused so: request, idle, schedule, group, limit, person, provider, fleet or gateway
    #[arg(long)]
    cause: Option<String>,
    /// Only of so long before now, as `2h`
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// At most so many of the past
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub async fn events(gateway: &Gateway, which: Which) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let since = which.since.as_deref().map(before).transpose()?;
    let path = format!(
        "/v1/events{}",
        query(&[
            ("app", which.app.clone()),
            ("event", which.event.clone()),
            ("cause", which.cause.clone()),
            ("since", since.map(|since| since.to_string())),
            ("limit", Some(which.limit.to_string())),
        ])
    );
    let answer: Value = remote.get(&path).await?;
    let mut found = answer["found"].as_array().cloned().unwrap_or_default();
    // The newest is the last line, as in a log.
    found.reverse();
    for event in &found {
        if show(event, which.json).is_err() {
            return Ok(());
        }
    }
    if let Some(incomplete) = answer["incomplete"].as_str() {
        super::print::complain(&format!("loir: there may be more: {incomplete}"));
    }
    let lost = answer["gap"]["lost"].as_u64().unwrap_or(0);
    if lost > 0 {
        super::print::complain(&format!("loir: {lost} events were lost while the store was away"));
    }
    if !which.follow {
        return Ok(());
    }
    let last = found.last().and_then(|event| event["id"].as_str()).map(str::to_owned);
    follow(&remote, &which, last).await
}

/// Shows what happens until Ctrl-C; a connection that breaks off is made again, and nothing is missed.
async fn follow(remote: &Remote, which: &Which, mut last: Option<String>) -> Result<(), Failure> {
    let path = format!("/v1/events/live{}", query(&[("app", which.app.clone())]));
    let mut tried = false;
    loop {
        match remote.listen(&path, last.as_deref()).await {
            Ok(mut stream) => {
                tried = true;
                let mut text = Vec::new();
                while let Ok(Some(bytes)) = stream.chunk().await {
                    text.extend_from_slice(&bytes);
                    while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                        let block: Vec<u8> = text.drain(..end + 2).collect();
                        if !take(&String::from_utf8_lossy(&block), which, &mut last) {
                            return Ok(());
                        }
                    }
                }
            }
            // The first time, that is the answer.
            Err(failure) if !tried => return Err(failure),
            Err(Failure::Unreachable(_)) => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One block of a stream. `false` if nobody reads what is shown.
fn take(block: &str, which: &Which, last: &mut Option<String>) -> bool {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    if let Some(id) = field("id") {
        *last = Some(id.to_owned());
    }
    let Some(data) = field("data") else { return true };
    if field("event") == Some("missed") {
        super::print::complain(&format!("loir: {data} events came too fast to be shown"));
        return true;
    }
    let Ok(event) = serde_json::from_str::<Value>(data) else { return true };
    let fits = |wanted: &Option<String>, found: &Value| {
        wanted.as_ref().is_none_or(|wanted| found == wanted.as_str())
    };
    if !fits(&which.event, &event["event"]) || !fits(&which.cause, &event["cause"]["by"]) {
        return true;
    }
    show(&event, which.json).is_ok()
}

fn show(event: &Value, as_json: bool) -> std::io::Result<()> {
    if as_json {
        return print(&event.to_string());
    }
    let at =
        event["at"].as_i64().and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).unwrap_or_default();
    let text = |key: &str| plain(event[key].as_str().unwrap_or_default());
    let because = match event["event"].as_str() {
        Some("asked-for" | "kept-awake" | "would-sleep") => {
            cause(&event["cause"]).map(|cause| format!(" ({})", plain(&cause)))
        }
        _ => None,
    };
    print(&format!(
        "{}  {}: {}{}",
        at.strftime("%Y-%m-%d %H:%M:%S"),
        text("app"),
        text("text"),
        because.unwrap_or_default()
    ))
}

/// What `loir report` shows.
#[derive(clap::Args)]
pub struct Wanted {
    /// From when on: so long before now, or a moment as 2026-11-01T00:00:00Z
    #[arg(long, default_value = "30d")]
    since: String,
    /// Before when [default: now]
    #[arg(long)]
    until: Option<String>,
    /// Only of this app, or of all that fit: `*` stands for anything
    #[arg(long)]
    app: Option<String>,
    /// How it is written
    #[arg(long, default_value = "text", value_parser = ["text", "json", "csv"])]
    format: String,
    /// Also what another setting would have done, as `idle_timeout=10m`
    #[arg(long, value_name = "SETTING")]
    what_if: Option<String>,
}

pub async fn report(gateway: &Gateway, wanted: Wanted) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let path = format!(
        "/v1/report{}",
        query(&[
            ("since", Some(wanted.since)),
            ("until", wanted.until),
            ("app", wanted.app),
            ("format", Some(wanted.format)),
            ("what_if", wanted.what_if),
        ])
    );
    let answer = remote.ask(reqwest::Method::GET, &path, None).await?;
    let text = answer.text().await.map_err(|error| Failure::Unreachable(format!("loir: {error}")))?;
    say(text.trim_end());
    Ok(())
}

/// Who wakes what most.
pub async fn top(gateway: &Gateway, since: &str, app: Option<String>) -> Result<(), Failure> {
    let remote = Remote::new(gateway)?;
    let from = before(since)?;
    let path = format!(
        "/v1/events{}",
        query(&[
            ("event", Some("asked-for".to_owned())),
            ("since", Some(from.to_string())),
            ("app", app),
            ("limit", Some("10000".to_owned())),
        ])
    );
    let answer: Value = remote.get(&path).await?;
    let found = answer["found"].as_array().cloned().unwrap_or_default();
    let mut wakes: HashMap<(String, String), (usize, u64)> = HashMap::new();
    for event in &found {
        let app = event["app"].as_str().unwrap_or_default().to_owned();
        let (count, latest) = wakes.entry((who(&event["cause"]), app)).or_default();
        *count += 1;
        *latest = (*latest).max(event["at"].as_u64().unwrap_or(0));
    }
    if wakes.is_empty() {
        say(&format!("nobody has woken an app in the last {since}"));
        return Ok(());
    }
    let mut rows: Vec<_> = wakes.into_iter().collect();
    rows.sort_by(|(one, (count, _)), (other, (more, _))| more.cmp(count).then_with(|| one.cmp(other)));
    let mut table = Table::new(&["WAKES", "APP", "LAST", "WHO"]);
    for ((who, app), (count, latest)) in rows {
        table.row([count.to_string(), app, super::table::ago(Some(latest)), who]);
    }
    say(table.to_string().trim_end());
    Ok(())
}

/// Whoever is behind a cause, so that many requests of one count together.
fn who(cause: &Value) -> String {
    let text = |key: &str| cause[key].as_str().unwrap_or_default();
    match text("by") {
        "request" if !text("agent").is_empty() => text("agent").to_owned(),
        "request" if !text("client").is_empty() => text("client").to_owned(),
        "request" => "somebody".to_owned(),
        "person" => format!("{} (by hand)", text("name")),
        "schedule" => format!("schedule ({})", text("rule")),
        "group" => format!("with {}", text("app")),
        other => other.to_owned(),
    }
}

/// So long before now, in milliseconds since 1970.
fn before(text: &str) -> Result<u64, Failure> {
    let long =
        PositivePeriod::parse(text).map_err(|wrong| Failure::Refused(format!("loir: `{text}` {wrong}")))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(now.saturating_sub(long.0).as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_monitor_count_together() {
        let request = |id: &str| serde_json::json!({ "by": "request", "id": id, "client": "192.0.2.1", "agent": "UptimeRobot" });
        assert_eq!(who(&request("a")), who(&request("b")));
        assert_eq!(who(&serde_json::json!({ "by": "person", "name": "ops" })), "ops (by hand)");
    }

    #[test]
    fn a_length_of_time_is_one() {
        assert!(before("7d").is_ok());
        assert!(matches!(before("yesterday"), Err(Failure::Refused(_))));
    }
}
