//! What Heroku's API says, as far as we listen. Unknown fields are ignored, and whatever is not an id, a name, a quantity
//! or a state may be missing or null.
//!
//! Source: the published schema of the Platform API v3 (github.com/heroku/platform-api, `schema.json`, 2026-06-05).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::app::{Formation, Processes};

/// An element of `GET /apps`. Also part of listings: see [`Seen`](super::seen::Seen).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct App {
    pub id: String,
    pub name: String,
    /// Null for an app that cannot be reached from outside.
    #[serde(default)]
    pub web_url: Option<String>,
    #[serde(default)]
    pub maintenance: Option<bool>,
    #[serde(default)]
    pub internal_routing: Option<bool>,
    #[serde(default)]
    pub archived_at: Option<String>,
    #[serde(default)]
    pub space: Option<Named>,
    /// `cedar` or `fir`.
    #[serde(default)]
    pub generation: Option<Named>,
    #[serde(default)]
    pub released_at: Option<String>,
    #[serde(default)]
    pub slug_size: Option<u64>,
}

/// What is only of interest for its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Named {
    #[serde(default)]
    pub name: Option<String>,
}

/// An element of `GET /apps/{app}/formation`.
#[derive(Deserialize)]
pub struct ProcessType {
    #[serde(rename = "type")]
    pub name: String,
    pub quantity: u32,
    #[serde(default)]
    pub dyno_size: Option<Named>,
}

/// An element of `GET /apps/{app}/dynos`.
#[derive(Deserialize)]
pub struct Dyno {
    /// A process type, or `run`, `release`, `scheduler`.
    #[serde(rename = "type")]
    pub kind: String,
    /// crashed, down, idle, starting, up.
    pub state: String,
}

/// An element of `GET /apps/{app}/releases`.
#[derive(Deserialize)]
pub struct Release {
    /// pending, succeeded, failed, expired.
    #[serde(default)]
    pub status: Option<String>,
}

impl App {
    pub fn in_maintenance(&self) -> bool {
        self.maintenance == Some(true)
    }

    pub fn is_fir(&self) -> bool {
        let name = self.generation.as_ref().and_then(|generation| generation.name.as_deref());
        name.is_some_and(|name| name.eq_ignore_ascii_case("fir"))
    }

    pub fn space(&self) -> Option<&str> {
        self.space.as_ref()?.name.as_deref()
    }
}

/// How many of each type are wanted.
pub fn formation(types: Vec<ProcessType>) -> Formation {
    let processes = |one: ProcessType| {
        let size = one.dyno_size.and_then(|size| size.name);
        (one.name, Processes { amount: one.quantity, size, autoscaler: None })
    };
    Formation(types.into_iter().map(processes).collect())
}

/// The same, without sizes.
pub fn quantities(types: Vec<ProcessType>) -> BTreeMap<String, u32> {
    types.into_iter().map(|one| (one.name, one.quantity)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::api::Readable;

    #[test]
    fn one_odd_element_does_not_spoil_a_list_and_nothing_but_ids_and_names_is_needed() {
        let text = r#"[{"id":"1","name":"bare"},{"id":"2"},7,
            {"id":"3","name":"full","web_url":null,"maintenance":null,"generation":{"id":"x","name":"Fir"},"space":null}]"#;
        let apps: Readable<App> = serde_json::from_str(text).unwrap();
        let names: Vec<_> = apps.0.iter().map(|app| (app.name.as_str(), app.is_fir())).collect();
        assert_eq!(names, [("bare", false), ("full", true)]);
        assert!(serde_json::from_str::<Readable<App>>(r#"{"id":"oops"}"#).is_err());
    }
}
