//! Where events are kept, and for how long: `history` in the file.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    problem::{At, Problems, list, suggest},
    scalar::Count,
    secret::Secret,
    show::as_written,
    units::{self, PositivePeriod},
    yaml::Located,
};
use crate::history::{HISTORIES, postgres};

/// In `state_dir`.
pub const FILE: &str = "history.sqlite";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// More connections than that are more than a small database allows in all.
const MOST_CONNECTIONS: usize = 100;

/// Where events are kept, and for how long.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with the keys of `history`")]
#[schemars(rename = "History")]
pub(super) struct History {
    /// `memory`, `sqlite` or `postgres`. Default: `postgres` with a `url`, `sqlite` with a `path` or a `state_dir`, else `memory`.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["memory", "sqlite", "postgres"]))]
    kind: Option<Located<String>>,
    /// Of a PostgreSQL database, which several gateways may share: `postgres://user:password@host:5432/name`, with
    /// `?sslmode=require` and so on.
    url: Option<Located<String>>,
    /// A file for SQLite. Default: `history.sqlite` in `state_dir`.
    path: Option<Located<String>>,
    /// How long single events are kept. Default: `30d`.
    retention: Option<PositivePeriod>,
    /// How long the hours of each app are kept: awake seconds, wakes, boots, requests. Default: `400d`.
    rollup_retention: Option<PositivePeriod>,
    /// So many events wait in memory while the store is away; more are lost, and counted. Default: 10000.
    queue: Option<Count>,
    /// Connections to PostgreSQL, at most. Default: 4.
    pool: Option<Located<Count>>,
}

/// Where events are kept, and for how long: validated.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryConfig {
    /// A row of [`HISTORIES`].
    pub kind: &'static str,
    /// Of the PostgreSQL.
    pub url: Option<Secret>,
    /// Of the SQLite, if it is not the usual one.
    pub path: Option<PathBuf>,
    /// How long single events are kept.
    pub retention: Duration,
    /// How long hours are kept.
    pub rollup_retention: Duration,
    /// So many events wait in memory while the store is away.
    pub queue: usize,
    /// Connections to PostgreSQL, at most.
    pub pool: usize,
    /// `url` and `path` as they may be shown.
    pub shown: (Option<String>, Option<String>),
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            kind: "memory",
            url: None,
            path: None,
            retention: 30 * DAY,
            rollup_retention: 400 * DAY,
            queue: 10_000,
            pool: 4,
            shown: (None, None),
        }
    }
}

impl HistoryConfig {
    /// What would open another store than `other` does, or the same in another way.
    pub fn differs(&self, other: &Self) -> bool {
        let fixed = |it: &Self| (it.kind, it.url.clone(), it.path.clone(), it.queue, it.pool);
        fixed(self) != fixed(other)
    }

    /// The effective options, without secrets.
    pub(super) fn show(&self) -> Value {
        let mut shown = json!({
            "type": self.kind,
            "retention": units::duration(self.retention),
            "rollup_retention": units::duration(self.rollup_retention),
            "queue": self.queue,
        });
        if let Some(url) = &self.shown.0 {
            shown["url"] = url.clone().into();
        }
        if let Some(path) = &self.shown.1 {
            shown["path"] = path.clone().into();
        }
        if self.kind == "postgres" {
            shown["pool"] = self.pool.into();
        }
        shown
    }
}

/// Reads the block; `state_dir` is whether there is one.
pub(super) fn validate(
    typed: Option<Located<History>>,
    state_dir: bool,
    problems: &mut Problems,
) -> HistoryConfig {
    let (at, typed) = typed.map_or((At::default(), History::default()), |typed| (typed.at, typed.value));
    let (url, path) = (&typed.url, &typed.path);
    let implied = match (url, path, state_dir) {
        (Some(_), _, _) => "postgres",
        (None, Some(_), _) | (None, None, true) => "sqlite",
        (None, None, false) => "memory",
    };
    let kind = typed.kind.as_ref().map_or(implied, |kind| kind_of(kind, problems).unwrap_or(implied));
    if let Some(url) = url.as_ref().filter(|_| kind != "postgres") {
        problems.push(
            url.at,
            format!("a history of type {kind} has no `url`: leave it out, or write `type: postgres`"),
        );
    }
    if let Some(path) = path.as_ref().filter(|_| kind != "sqlite") {
        problems.push(
            path.at,
            format!("a history of type {kind} has no `path`: leave it out, or write `type: sqlite`"),
        );
    }
    if let Some(path) = path.as_ref().filter(|path| path.value.trim().is_empty() || path.value.ends_with('/'))
    {
        problems.push(path.at, "`path` must name a file, for example `./state/history.sqlite`");
    }
    if kind == "sqlite" && path.is_none() && !state_dir {
        let help = "write `path: ./history.sqlite` here, or `state_dir: ./state` at the top";
        problems.push_with_help(at, "a history of type sqlite needs a file", help);
    }
    match url.as_ref().filter(|_| kind == "postgres") {
        None if kind == "postgres" => {
            let help = "write `url: ${DATABASE_URL}`, or `url: postgres://user:password@host:5432/name`";
            problems.push_with_help(at, "a history of type postgres needs a `url`", help);
        }
        Some(url) => {
            if let Err(reason) = postgres::address(&url.value) {
                let help = "write `postgres://user:password@host:5432/name`";
                problems.push_with_help(
                    url.at,
                    format!("this is no address of a PostgreSQL: {reason}"),
                    help,
                );
            }
        }
        None => {}
    }
    let usual = HistoryConfig::default();
    let pool = typed.pool.as_ref().map_or(usual.pool, |pool| pool.value.0);
    if let Some(typed) = typed.pool.as_ref().filter(|_| pool > MOST_CONNECTIONS) {
        problems.push(typed.at, format!("`pool` is at most {MOST_CONNECTIONS}; 4 are plenty"));
    }
    HistoryConfig {
        kind,
        url: url.as_ref().map(|url| Secret::new(&url.value)),
        path: path.as_ref().map(|path| PathBuf::from(&path.value)),
        retention: typed.retention.map_or(usual.retention, |period| period.0),
        rollup_retention: typed.rollup_retention.map_or(usual.rollup_retention, |period| period.0),
        queue: typed.queue.map_or(usual.queue, |count| count.0),
        pool,
        shown: (
            url.as_ref().map(|url| as_written(url, url)),
            path.as_ref().map(|path| as_written(path, path)),
        ),
    }
}

fn kind_of(typed: &Located<String>, problems: &mut Problems) -> Option<&'static str> {
    if let Some(kind) = HISTORIES.iter().find(|kind| kind.name == typed.value) {
        return Some(kind.name);
    }
    let names = || HISTORIES.iter().map(|kind| kind.name);
    let meant = suggest(&typed.written, names()).map(|name| format!(", did you mean `{name}`?"));
    let message = format!("unknown type of history `{}`{}", typed.written, meant.unwrap_or_default());
    problems.push_with_help(typed.at, message, format!("known: {}", list(names())));
    None
}
