//! What any provider entry may say of one of its apps.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    app::Readiness,
    config::{
        problem::Problems,
        scalar::{StatusRange, UrlPath},
        yaml::{Located, OneOrMany},
    },
};

/// Which answer shows that an app is ready.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `path` and `status`")]
pub(super) struct Ready {
    /// What is asked with GET. Default: `/`.
    pub path: Option<Located<UrlPath>>,
    /// Status codes that count, alone or as a range. Default: `200-499`.
    pub status: Option<Located<OneOrMany<StatusRange>>>,
}

/// What was typed, with defaults filled in.
pub(super) fn readiness(typed: Option<&Ready>, problems: &mut Problems) -> Readiness {
    let mut ready = Readiness::default();
    if let Some(path) = typed.and_then(|typed| typed.path.as_ref()) {
        ready.path = path.value.0.clone();
    }
    if let Some(status) = typed.and_then(|typed| typed.status.as_ref()) {
        if status.0.is_empty() && status.lost.is_empty() {
            problems.push(status.at, "`status` is an empty list: the app would never be ready");
        }
        ready.status = status.value.0.iter().map(|range| (range.0, range.1)).collect();
    }
    ready
}

/// For `loir config show`.
pub(super) fn show_readiness(ready: &Readiness) -> Value {
    let status = ready.status.iter().map(|(low, high)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    });
    json!({ "path": ready.path, "status": status.collect::<Vec<_>>() })
}
