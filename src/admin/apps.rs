//! `/v1/apps`: which apps there are, and how they are.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    AdminSide,
    door::Reader,
    problem::{Path, Problem, Query},
};
use crate::{
    app::{AppId, AppState},
    config::{Pattern, problem::suggest},
    lifecycle::{Lifecycle, ManagedApp, Outlook},
};

/// An app as it is now.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct App {
    /// `provider/name`.
    #[schema(value_type = String, example = "paris/shop")]
    pub id: AppId,
    /// How it is.
    #[schema(value_type = StateName)]
    pub state: AppState,
    /// Since when: wall-clock milliseconds since 1970.
    pub since: u64,
    /// The host names that lead to it.
    pub hosts: Vec<String>,
    /// Requests that are being proxied to it right now.
    pub in_flight: u64,
    /// Requests that wait for it right now.
    pub held: u64,
    /// Requests it has had at this gateway since that began.
    pub requests: u64,
    /// After how many milliseconds without a request it sleeps.
    pub idle_timeout: u64,
    /// Its latest boot, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<u64>,
    /// Why it is neither woken nor stopped, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
    /// Why the plan has no place for it, if so: it is proxied, and never stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond_plan: Option<String>,
    /// What its latest failed start is found under in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Until when nobody stops it: wall-clock milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_until: Option<u64>,
    /// In how many milliseconds it would sleep, if nobody asks for it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleeps_in: Option<u64>,
}

/// How an app is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateName {
    /// Stopped; a request wakes it.
    Asleep,
    /// Being started.
    Waking,
    /// Running.
    Awake,
    /// Being stopped.
    Stopping,
    /// The last start failed.
    Failed,
}

impl From<StateName> for AppState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Asleep => Self::Asleep,
            StateName::Waking => Self::Waking,
            StateName::Awake => Self::Awake,
            StateName::Stopping => Self::Stopping,
            StateName::Failed => Self::Failed,
        }
    }
}

impl App {
    /// As it is now.
    pub fn of(app: &ManagedApp, side: &AdminSide) -> Self {
        Self::with(app, side, &side.lifecycle().outlook(app))
    }

    fn with(app: &ManagedApp, side: &AdminSide, outlook: &Outlook) -> Self {
        let progress = app.progress().borrow().clone();
        let (settings, clock) = (app.settings(), side.clock());
        let mut claims: Vec<_> = settings.hosts.iter().collect();
        // What the configuration says first.
        claims.sort_by_key(|(_, claim)| *claim);
        Self {
            id: app.id.clone(),
            state: progress.state,
            since: clock.unix_millis().saturating_sub(millis(clock.now().since(progress.began))),
            hosts: claims.into_iter().map(|(host, _)| host.clone()).collect(),
            in_flight: app.in_flight(),
            held: app.held() as u64,
            requests: app.traffic().counts().requests(),
            idle_timeout: millis(settings.timeouts.idle),
            boot: progress.boots.last().copied().map(millis),
            left_alone: app.left_alone().map(|reason| reason.to_string()),
            beyond_plan: app.beyond_plan().map(|reason| reason.to_string()),
            failure: progress.failure.map(|failure| failure.reference.to_string()),
            pinned_until: outlook.pinned_until,
            sleeps_in: outlook.sleeps_in,
        }
    }
}

/// Whole milliseconds.
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Which apps.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only those in this state.
    state: Option<StateName>,
    /// Only those of this provider entry.
    provider: Option<String>,
    /// Only those whose name fits: `*` stands for anything, `?` for one character; with a `/`, it is for `provider/name`.
    pattern: Option<String>,
    /// Only those with this text in `provider/name` or in a host name.
    q: Option<String>,
}

impl Filter {
    fn fits(&self, app: &ManagedApp) -> bool {
        let contains = |text: &String| {
            let text = text.to_lowercase();
            app.id.to_string().contains(&text)
                || app.settings().hosts.iter().any(|(host, _)| host.contains(&text))
        };
        self.state.is_none_or(|state| app.state() == state.into())
            && self.provider.as_deref().is_none_or(|provider| provider == &*app.id.provider)
            && self.pattern.as_deref().is_none_or(|pattern| Pattern::new(pattern).fits(&app.id))
            && self.q.as_ref().is_none_or(contains)
    }
}

/// The apps, by provider and name.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", params(Filter), responses((status = 200, body = Vec<App>)))]
pub async fn list(_: Reader, State(side): State<AdminSide>, Query(filter): Query<Filter>) -> Json<Vec<App>> {
    let apps = side.lifecycle().apps();
    let mut apps: Vec<_> = apps.values().filter(|app| filter.fits(app)).collect();
    apps.sort_by(|one, other| one.id.cmp(&other.id));
    Json(apps.into_iter().map(|app| App::of(app, &side)).collect())
}

/// Which app.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Named {
    /// The name of its provider entry.
    #[param(example = "paris")]
    provider: String,
    /// Its name there.
    #[param(example = "shop")]
    name: String,
}

impl Named {
    /// The app, or that there is none.
    pub fn find(&self, lifecycle: &Lifecycle) -> Result<Arc<ManagedApp>, Problem> {
        let id = AppId::new(self.provider.as_str(), self.name.as_str());
        let apps = lifecycle.apps();
        apps.get(&id).cloned().ok_or_else(|| {
            let known: Vec<_> = apps.keys().map(ToString::to_string).collect();
            let meant = suggest(&id.to_string(), known.iter().map(String::as_str))
                .map(|known| format!(": did you mean {known}?"));
            let detail = format!("there is no app {id}{}", meant.unwrap_or_default());
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
    }
}

/// An app, why it is as it is, and what becomes of it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// How it is.
    #[serde(flatten)]
    pub app: App,
    /// Why it is awake and when it would sleep, in a sentence.
    pub why: String,
    /// The same in parts: what keeps it awake, who asked for it, what its schedule wants, which rule says what.
    #[schema(value_type = Object)]
    pub outlook: serde_json::Value,
}

/// One app: how it is, why it is awake, and when it will sleep.
#[utoipa::path(get, path = "/v1/apps/{provider}/{name}", tag = "apps", params(Named), responses((status = 200, body = Detail)))]
pub async fn one(
    _: Reader,
    State(side): State<AdminSide>,
    Path(named): Path<Named>,
) -> Result<Json<Detail>, Problem> {
    let app = named.find(side.lifecycle())?;
    let outlook = side.lifecycle().outlook(&app);
    let why = outlook.to_string();
    let app = App::with(&app, &side, &outlook);
    Ok(Json(Detail { app, why, outlook: serde_json::to_value(outlook).unwrap_or_default() }))
}
