//! What Scalingo's API says, as far as we listen. Unknown fields are ignored, and whatever is not an id, a name or a state
//! may be missing.
//!
//! Source: developers.scalingo.com ("Apps", "Containers", "Operations", "Autoscalers") and go-scalingo v11.3.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    app::{Formation, Processes},
    provider::api::Readable,
};

/// `GET /v1/apps`.
#[derive(Deserialize)]
pub struct Apps {
    pub apps: Readable<App>,
    #[serde(default)]
    pub meta: Option<Meta>,
}

/// Not documented for this list; followed if it is ever there.
#[derive(Deserialize)]
pub struct Meta {
    #[serde(default)]
    pub pagination: Option<Pagination>,
}

#[derive(Deserialize)]
pub struct Pagination {
    #[serde(default)]
    pub next_page: Option<u32>,
}

/// Also part of listings: see [`Seen`](super::seen::Seen).
#[derive(Clone, Serialize, Deserialize)]
pub struct App {
    pub id: String,
    pub name: String,
    /// Empty if it is not told.
    #[serde(default, deserialize_with = "or_empty")]
    pub status: String,
    #[serde(default)]
    pub base_url: Option<String>,
    #[serde(default)]
    pub last_deployed_at: Option<String>,
}

/// `GET /v1/apps/{app}/containers`: the formation.
#[derive(Deserialize)]
pub struct Containers {
    pub containers: Vec<Container>,
}

#[derive(Deserialize)]
pub struct Container {
    pub name: String,
    pub amount: u32,
    #[serde(default)]
    pub size: Option<String>,
}

/// `GET /v1/apps/{app}/ps`: what runs.
#[derive(Deserialize)]
pub struct Running {
    pub containers: Vec<OneRunning>,
}

#[derive(Deserialize)]
pub struct OneRunning {
    #[serde(rename = "type", default)]
    pub process_type: String,
    #[serde(default)]
    pub state: String,
}

/// `GET /v1/apps/{app}/deployments`, newest first.
#[derive(Deserialize)]
pub struct Deployments {
    #[serde(default)]
    pub deployments: Vec<Deployment>,
}

#[derive(Deserialize)]
pub struct Deployment {
    #[serde(default, deserialize_with = "or_empty")]
    pub status: String,
}

/// `GET /v1/apps/{app}/autoscalers`.
#[derive(Deserialize)]
pub struct Autoscalers {
    pub autoscalers: Vec<Autoscaler>,
}

#[derive(Deserialize)]
pub struct Autoscaler {
    pub id: String,
    pub container_type: String,
    #[serde(default)]
    pub disabled: bool,
}

/// `GET /v1/regions` of the auth host.
#[derive(Deserialize)]
pub struct Regions {
    pub regions: Vec<Region>,
}

#[derive(Deserialize)]
pub struct Region {
    pub name: String,
    pub api: String,
}

/// `POST /v1/tokens/exchange`.
#[derive(Deserialize)]
pub struct Exchanged {
    pub token: String,
}

/// The part of a JWT's claims that we need (RFC 7519, 4.1.4).
#[derive(Deserialize)]
pub struct Claims {
    #[serde(default)]
    pub exp: Option<u64>,
}

impl Containers {
    /// As a formation, with the autoscalers that are on.
    pub fn formation(self, autoscalers: Vec<Autoscaler>) -> Formation {
        let on = |name: &str| {
            autoscalers
                .iter()
                .find(|one| one.container_type == name && !one.disabled)
                .map(|one| one.id.clone())
        };
        let processes = |container: Container| {
            let autoscaler = on(&container.name);
            let size = container.size.filter(|size| !size.is_empty());
            (container.name, Processes { amount: container.amount, size, autoscaler })
        };
        Formation(self.containers.into_iter().map(processes).collect())
    }
}

/// A word, or none.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}
