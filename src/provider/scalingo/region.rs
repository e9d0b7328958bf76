//! One region's API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire;
use crate::{
    app::Formation,
    provider::{
        FirstOfTwo, ProviderError, Turn,
        api::{Api, ApiError, Call, Priority, Refusal, segment},
        latest::Latest,
    },
};

/// More pages than this are a loop.
const MOST_PAGES: u32 = 100;

/// One region, and what it last said.
pub struct Region {
    /// `osc-fr1`.
    pub name: String,
    /// Where its API is.
    pub url: String,
    /// Its API.
    pub api: Api,
    apps: Latest<Vec<wire::App>>,
    /// The latest of them all.
    known: ArcSwap<Vec<wire::App>>,
}

/// What became of a scale.
pub enum Outcome {
    /// It is under way.
    Accepted,
    /// It runs like that already.
    NoChange,
    /// It was noted, and nothing starts: there is nothing to start.
    NeverDeployed,
    /// The app is being deployed, scaled or restarted: later.
    Busy,
    /// One of the types does not exist any more.
    TypeGone,
    /// The amount or size is not allowed, with the reason.
    DoesNotFit(String),
    /// It may have been done or not.
    NotKnown,
}

impl Region {
    /// The region `name`, whose `api` is at `url`.
    pub fn new(name: &str, url: &str, api: Api) -> Self {
        let (apps, known) = (Latest::default(), ArcSwap::default());
        Self { name: name.to_owned(), url: url.to_owned(), api, apps, known }
    }

    /// All apps, as of `since` or later.
    pub async fn list(
        &self,
        since: Instant,
        priority: Priority,
    ) -> Result<Arc<Vec<wire::App>>, ProviderError> {
        let apps = self.apps.since(since, priority, async || self.fetch(priority).await).await?;
        self.known.store(apps.clone());
        Ok(apps)
    }

    async fn fetch(&self, priority: Priority) -> Result<Vec<wire::App>, ApiError> {
        let mut apps = Vec::new();
        let mut path = "/v1/apps".to_owned();
        for _ in 0..MOST_PAGES {
            let page: wire::Apps = self.api.call(Call::get(path, priority)).await?.json()?;
            apps.extend(page.apps.0);
            match page.meta.and_then(|meta| meta.pagination).and_then(|pagination| pagination.next_page) {
                Some(next) => path = format!("/v1/apps?page={next}"),
                None => return Ok(apps),
            }
        }
        Err(ApiError::Malformed("the list of apps has no end".into()))
    }

    /// It said this, to whomever.
    pub fn learn(&self, apps: Vec<wire::App>) {
        self.known.store(Arc::new(apps));
    }

    /// What it said last.
    pub fn known(&self) -> Arc<Vec<wire::App>> {
        self.known.load_full()
    }

    /// Whether it has ever said anything.
    pub fn is_known(&self) -> bool {
        !self.known.load().is_empty()
    }

    /// One app, as of `since` or later.
    pub async fn look(
        &self,
        app: &str,
        since: Instant,
        priority: Priority,
    ) -> Result<wire::App, ProviderError> {
        let apps = self.list(since, priority).await?;
        apps.iter()
            .find(|one| one.name == app)
            .cloned()
            .ok_or_else(|| ProviderError::NotFound(app.to_owned()))
    }

    /// How many of each type are wanted.
    pub async fn formation(
        &self,
        app: &str,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Formation, ProviderError> {
        let path = format!("/v1/apps/{}/containers", segment(app));
        let first = FirstOfTwo(turn);
        let call = Call::get(path, priority).waiting(&first);
        let reply = self.api.call(call).await;
        let containers: wire::Containers = reply.map_err(|error| ProviderError::about(app, error))?.json()?;
        Ok(containers.formation(Vec::new()))
    }

    /// The same, with the autoscalers that are on: what must come back after a sleep.
    pub async fn formation_to_keep(&self, app: &str, turn: &Turn) -> Result<Formation, ProviderError> {
        let get =
            |what: &str| Call::get(format!("/v1/apps/{}/{what}", segment(app)), Priority::Stop).waiting(turn);
        let autoscalers: wire::Autoscalers = self.api.call(get("autoscalers")).await?.json()?;
        let containers: wire::Containers = self.api.call(get("containers")).await?.json()?;
        Ok(containers.formation(autoscalers.autoscalers))
    }

    /// Whether a deployment is on its way, from the queue on. The app's state only tells its last part.
    pub async fn is_being_deployed(&self, app: &str, turn: &Turn) -> Result<bool, ProviderError> {
        let path = format!("/v1/apps/{}/deployments?per_page=1", segment(app));
        let latest: wire::Deployments =
            self.api.call(Call::get(path, Priority::Stop).waiting(turn)).await?.json()?;
        let under_way = |state: &str| matches!(state, "queued" | "building" | "pushing" | "starting");
        Ok(latest.deployments.first().is_some_and(|deployment| under_way(&deployment.status)))
    }

    /// Whether somebody runs a command in a container of its own.
    pub async fn runs_one_off(&self, app: &str, turn: &Turn) -> Result<bool, ProviderError> {
        let call = Call::get(format!("/v1/apps/{}/ps", segment(app)), Priority::Stop).waiting(turn);
        let running: wire::Running = self.api.call(call).await?.json()?;
        let alive = |state: &str| matches!(state, "running" | "booting" | "starting");
        Ok(running.containers.iter().any(|one| one.process_type == "one-off" && alive(&one.state)))
    }

    /// Sets the amounts of these types; the others stay as they are, and so do all sizes.
    pub async fn scale(
        &self,
        app: &str,
        formation: &Formation,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Outcome, ProviderError> {
        let containers: Vec<Value> = formation
            .0
            .iter()
            .map(|(name, processes)| json!({ "name": name, "amount": processes.amount }))
            .collect();
        let path = format!("/v1/apps/{}/scale", segment(app));
        let call = Call::post(path, priority).json(&json!({ "containers": containers })).waiting(turn);
        match self.api.call(call).await {
            Ok(reply) if reply.status == StatusCode::ACCEPTED => {
                // `.../operations/ID`, which `scalingo operations-show` takes.
                let location = reply.header(http::header::LOCATION.as_str());
                if let Some((_, id)) = location.and_then(|url| url.rsplit_once("/operations/")) {
                    turn.operates(id);
                }
                Ok(Outcome::Accepted)
            }
            Ok(_) => Ok(Outcome::NeverDeployed),
            Err(ApiError::Ambiguous(reason)) => {
                log::warn!("{app}: {reason}; its state is read again");
                Ok(Outcome::NotKnown)
            }
            Err(ApiError::Status(refusal)) => refused(app, &refusal),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether an API at `url` is where one at `known` is: at the same host, or at one of the same domain.
pub fn is_beside(url: &str, known: &str) -> bool {
    let (Ok(url), Ok(known)) = (Url::parse(url), Url::parse(known)) else { return false };
    let (Some(host), Some(at)) = (url.host_str(), known.host_str()) else { return false };
    let domain = known.domain().and_then(|domain| domain.split_once('.')).map(|(_, domain)| domain);
    let inside = |domain: &str| {
        domain.contains('.') && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    url.scheme() == known.scheme() && (host == at || domain.is_some_and(inside))
}

/// Scalingo's refusals of a scale (developers.scalingo.com, "Scale an application", and what its tools have met).
fn refused(app: &str, refusal: &Refusal) -> Result<Outcome, ProviderError> {
    let body: Value = serde_json::from_slice(&refusal.reply.body).unwrap_or_default();
    let says =
        |key: &str, word: &str| body.get(key).and_then(Value::as_str).is_some_and(|text| text.contains(word));
    match refusal.reply.status.as_u16() {
        400 if says("error", "no change") => Ok(Outcome::NoChange),
        404 if says("resource", "container_type") => Ok(Outcome::TypeGone),
        404 => Err(ProviderError::NotFound(app.to_owned())),
        409 => Ok(Outcome::Busy),
        // The words differ by what it is busy with; the key is always the same.
        422 if body.pointer("/errors/app").is_some() => Ok(Outcome::Busy),
        422 => Ok(Outcome::DoesNotFit(refusal.to_string())),
        _ => Err(ProviderError::Refused(refusal.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_only_believed_to_be_where_the_account_is() {
        let auth = "https://auth.scalingo.com";
        for (url, known, expected) in [
            ("https://api.osc-fr1.scalingo.com", auth, true),
            ("https://auth.scalingo.com/", auth, true),
            ("http://api.osc-fr1.scalingo.com", auth, false),
            ("https://api.scalingo.com.evil.com", auth, false),
            ("https://evilscalingo.com", auth, false),
            ("https://api.scalingo.com@evil.com", auth, false),
            ("https://evil.com/.scalingo.com", auth, false),
            ("http://127.0.0.1:4001", "http://127.0.0.1:4000", true),
            ("http://10.0.0.1", "http://127.0.0.1", false),
            ("https://evil.com", "https://auth.com", false),
            ("", auth, false),
        ] {
            assert_eq!(is_beside(url, known), expected, "{url} beside {known}");
        }
    }
}
