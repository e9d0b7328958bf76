//! What Clever Cloud's API says, as far as we listen. Unknown fields are ignored, and whatever is not an id, a name or a
//! state may be missing or null.
//!
//! Source: the types of clever-client.js and of the Terraform provider (2026-08), since the published ones are incomplete.

use serde::{Deserialize, Serialize};

use crate::provider::api::Readable;

/// `GET /v2/summary`: everything the credential sees.
#[derive(Deserialize)]
pub struct Summary {
    pub user: Owner,
    pub organisations: Vec<Owner>,
}

/// The user with the personal space, or an organisation.
#[derive(Deserialize)]
pub struct Owner {
    pub id: String,
    pub applications: Readable<Listed>,
}

/// An app, as the summary has it.
#[derive(Deserialize)]
pub struct Listed {
    pub id: String,
    pub name: String,
    pub state: String,
    #[serde(default)]
    pub archived: Option<bool>,
}

/// `GET P/applications`: what the summary does not tell of an app. Also part of listings, as are its parts: see
/// [`Seen`](super::seen::Seen).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Application {
    pub id: String,
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub vhosts: Option<Vec<Vhost>>,
    #[serde(default)]
    pub instance: Option<Instances>,
}

/// `shop.example.com`, perhaps with a path, and mostly with a slash at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vhost {
    #[serde(default)]
    pub fqdn: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instances {
    #[serde(default)]
    pub min_instances: Option<u32>,
    /// `REGULAR`, `TASK`, `MIGRATION`.
    #[serde(default)]
    pub lifetime: Option<String>,
}

/// `GET P/applications/{id}/instances`.
#[derive(Deserialize)]
pub struct Instance {
    #[serde(default)]
    pub state: Option<String>,
}

/// `GET P/applications/{id}/deployments`: a row, of which the newest comes first.
#[derive(Clone, Debug, Deserialize)]
pub struct Deployment {
    #[serde(default)]
    pub uuid: Option<String>,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub date: Option<u64>,
    /// `WIP`, `OK`, `FAIL`, `CANCELLED`, `TASK_RUNNING`.
    #[serde(default)]
    pub state: Option<String>,
    /// `DEPLOY`, `UNDEPLOY`, `CANCEL`, ...
    #[serde(default)]
    pub action: Option<String>,
}

/// The answer to a start.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    #[serde(default)]
    pub deployment_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_news_do_no_harm_and_an_odd_app_is_left_out_alone() {
        let summary: Summary = serde_json::from_str(
            r#"{"user": {"id": "user_1", "applications": [], "new": 1}, "organisations": [{"id": "orga_2", "applications": [
                {"id": "app_1", "name": "shop", "state": "SHOULD_BE_UP", "archived": null}, {"id": 7}, null]}]}"#,
        )
        .unwrap();
        assert_eq!(summary.organisations[0].applications.0.len(), 1);
        let Readable::<Application>(apps) =
            serde_json::from_str(r#"[{"id": "app_1", "zone": null, "vhosts": null, "instance": null}, 7]"#)
                .unwrap();
        assert_eq!(apps.len(), 1);
        // Half of a list is no list.
        for half in
            [r#"{"user": {"id": "u", "applications": []}}"#, r#"{"organisations": []}"#, "{}", "[]", "null"]
        {
            assert!(serde_json::from_str::<Summary>(half).is_err(), "{half}");
        }
    }
}
