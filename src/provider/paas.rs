//! What the entries of all PaaS providers have in common: their options, and their errors.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AppSettings, EntrySettings, ProviderConfig, ProviderError,
    api::{ApiError, Limits},
    settings::{Ready, readiness, show_readiness},
};
use crate::{
    app::StopTypes,
    config::{
        problem::{At, Problems},
        scalar::{Count, HostName, Scalar},
        secret::Secret,
        show::as_written,
        units::{self, PositivePeriod},
        yaml::{Located, OneOrMany},
    },
};

/// What an entry says beside its credential, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Paas {
    /// Where the control API is, if the entry says so.
    pub api_url: Option<String>,
    /// How long one call may take.
    pub operation_timeout: Duration,
    /// How long between two lists.
    pub list_every: Duration,
    /// How often the account may be called.
    pub limits: Limits,
    /// What holds for every app that says nothing of its own.
    pub every_app: AppSettings,
    /// By name.
    pub apps: BTreeMap<String, AppSettings>,
    shown: Value,
}

/// The options of an entry of one type.
pub trait PaasConfig: ProviderConfig + Clone + 'static {
    /// What all types have.
    fn paas(&self) -> &Paas;

    /// Whether the same credential reaches the same place.
    fn reaches_like(&self, other: &Self) -> bool;
}

/// What a provider does unless the entry says otherwise.
pub struct Usual {
    /// How long between two lists.
    pub list_every: Duration,
    /// How long its apps may take to start.
    pub wake_timeout: Duration,
    /// How often an account may be called.
    pub limits: Limits,
}

/// The options as typed: what [`options!`] puts into each provider's own struct.
pub struct Typed {
    pub api_url: Option<Located<BaseUrl>>,
    pub operation_timeout: Option<PositivePeriod>,
    pub list_every: Option<PositivePeriod>,
    pub wake_timeout: Option<PositivePeriod>,
    pub budget: Option<Budget>,
    pub stop: Option<StopTypes>,
    pub containment: Option<bool>,
    pub apps: Option<Vec<Located<TypedApp>>>,
}

/// A struct of options with those that all PaaS entries have, and `common` to take them out.
macro_rules! options {
    ($(#[$about:meta])* struct $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        $(#[$about])*
        struct $name {
            $($(#[$doc])* $field: $type,)*
            /// Where the control API is. Default: the provider's own.
            api_url: Option<$crate::config::yaml::Located<$crate::provider::paas::BaseUrl>>,
            /// How long one call of the control API may take. Default: `30s`.
            operation_timeout: Option<$crate::config::units::PositivePeriod>,
            /// How long between two lists of all apps; a tenth more or less by chance.
            list_every: Option<$crate::config::units::PositivePeriod>,
            /// How long an app may take to start, if it says nothing of its own. The time that a start waits for the
            /// account's quota does not count.
            wake_timeout: Option<$crate::config::units::PositivePeriod>,
            /// How often the account may be called, by all entries that use it together.
            budget: Option<$crate::provider::paas::Budget>,
            /// Which process types are stopped: `all`, or only `web`. Default: `all`.
            stop: Option<$crate::app::StopTypes>,
            /// Whether the app's own host name is kept out of redirects, cookies and CORS answers that visitors see.
            /// Default: `true`.
            containment: Option<bool>,
            /// What holds for single apps.
            apps: Option<Vec<$crate::config::yaml::Located<$crate::provider::paas::TypedApp>>>,
        }

        impl $name {
            /// Takes out what all PaaS entries have.
            fn common(&mut self) -> $crate::provider::paas::Typed {
                $crate::provider::paas::Typed {
                    api_url: self.api_url.take(),
                    operation_timeout: self.operation_timeout.take(),
                    list_every: self.list_every.take(),
                    wake_timeout: self.wake_timeout.take(),
                    budget: self.budget.take(),
                    stop: self.stop.take(),
                    containment: self.containment.take(),
                    apps: self.apps.take(),
                }
            }
        }
    };
}
pub(super) use options;

/// How often an account may be called.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `requests_per_minute` and `reserve_for_wakes`")]
pub struct Budget {
    /// In the long run.
    requests_per_minute: Option<Count>,
    /// Of those that may come at once after a rest, so many are for wakes alone.
    reserve_for_wakes: Option<Count>,
}

/// What holds for one app.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an app: a map with `name` and what holds for it")]
#[schemars(rename = "PaasApp")]
pub struct TypedApp {
    /// The app's name at the provider.
    #[schemars(required)]
    name: Option<Located<String>>,
    /// Host names beside NAME.DOMAIN.
    hosts: Option<OneOrMany<Located<HostName>>>,
    /// Overrides `defaults.idle_timeout`.
    idle_timeout: Option<PositivePeriod>,
    /// Overrides the entry's `wake_timeout`.
    wake_timeout: Option<PositivePeriod>,
    /// Which answer shows that the app is ready.
    ready: Option<Ready>,
    /// Overrides the entry's `stop`.
    stop: Option<StopTypes>,
    /// Overrides the entry's `containment`.
    containment: Option<bool>,
}

/// The address of an API: `http` or `https`, a host, perhaps a port and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(pub String);

impl Scalar for BaseUrl {
    const NAME: &'static str = "BaseUrl";
    fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        match url {
            Some(url) if !url.username().is_empty() || url.password().is_some() => {
                Err("has a name or password in it: credentials have keys of their own".to_owned())
            }
            Some(url) if url.has_host() && url.query().is_none() && url.fragment().is_none() => {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err("is not an address like `https://api.example.com`".to_owned()),
        }
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^https?://", "examples": ["https://api.example.com"] })
    }
}

crate::config::scalar::scalar!(BaseUrl);

impl Paas {
    /// What was typed, with defaults filled in.
    pub fn of(typed: Typed, usual: &Usual, problems: &mut Problems) -> Self {
        let entry = EntrySettings {
            wake_timeout: Some(typed.wake_timeout.map_or(usual.wake_timeout, |period| period.0)),
            stop: typed.stop,
        };
        let every_app =
            AppSettings { entry, contain: typed.containment.unwrap_or(true), ..AppSettings::default() };
        let mut limits = usual.limits;
        if let Some(budget) = typed.budget {
            let number = |count: Count| u32::try_from(count.0).unwrap_or(u32::MAX);
            limits.per_minute = budget.requests_per_minute.map_or(limits.per_minute, number);
            // Fewer in the long run are fewer at once, in proportion.
            let burst = u64::from(limits.burst) * u64::from(limits.per_minute);
            let burst = burst.div_ceil(u64::from(usual.limits.per_minute));
            limits.burst = u32::try_from(burst).unwrap_or(u32::MAX).min(limits.burst).max(1);
            limits.reserve_for_wakes = budget.reserve_for_wakes.map_or(limits.reserve_for_wakes, number);
            limits.reserve_for_wakes = limits.reserve_for_wakes.min(limits.burst.saturating_sub(1));
        }
        let mut apps: BTreeMap<String, AppSettings> = BTreeMap::new();
        let mut places: Vec<(String, At)> = Vec::new();
        let mut shown_apps = Vec::new();
        for app in typed.apps.unwrap_or_default() {
            let Some(name) = &app.name else {
                if app.lacks("name", &app.name) {
                    problems.push(app.at, "`name` is missing: say which app this is for");
                }
                continue;
            };
            if let Some((_, first)) = places.iter().find(|(known, _)| *known == name.value) {
                let message = format!("the app name `{}` is taken at line {}", name.written, first.line);
                problems.push(name.at, message);
            }
            places.push((name.value.clone(), name.at));
            let settings = AppSettings {
                place: Some(format!("{}:{}", problems.name(), app.at.line).into()),
                hosts: app.hosts.iter().flat_map(|hosts| &hosts.0).map(|host| host.0.clone()).collect(),
                idle_timeout: app.idle_timeout.map(|period| period.0),
                wake_timeout: app.wake_timeout.map(|period| period.0),
                ready: readiness(app.ready.as_ref(), problems),
                stop: app.stop,
                contain: app.containment.unwrap_or(every_app.contain),
                entry,
            };
            let mut as_typed = settings.clone();
            let hosts = app.hosts.iter().flat_map(|hosts| &hosts.0);
            as_typed.hosts = hosts.map(|host| as_written(host, &host.0)).collect();
            if let Some(path) = app.ready.as_ref().and_then(|ready| ready.path.as_ref()) {
                as_typed.ready.path = as_written(path, &path.0);
            }
            shown_apps.push(show_app(&as_written(name, name), &as_typed));
            apps.insert(name.value.clone(), settings);
        }
        let shown_url = typed.api_url.as_ref().map(|url| as_written(url, &url.0));
        let mut paas = Self {
            shown: Value::Null,
            api_url: typed.api_url.map(|url| url.value.0),
            operation_timeout: typed
                .operation_timeout
                .map_or(super::api::OPERATION_TIMEOUT, |period| period.0),
            list_every: typed.list_every.map_or(usual.list_every, |period| period.0),
            limits,
            every_app,
            apps,
        };
        paas.shown = paas.show_with(shown_url, shown_apps);
        paas
    }

    /// What the entry says of an app, by the first of its names that it mentions.
    pub fn settings(&self, names: &[&str]) -> AppSettings {
        names.iter().find_map(|name| self.apps.get(*name)).unwrap_or(&self.every_app).clone()
    }

    /// For `loir config show`: what came from the environment is shown as it was written.
    pub fn show(&self) -> Value {
        self.shown.clone()
    }

    fn show_with(&self, api_url: Option<String>, apps: Vec<Value>) -> Value {
        let mut shown = json!({
            "operation_timeout": units::duration(self.operation_timeout),
            "list_every": units::duration(self.list_every),
            "budget": {
                "requests_per_minute": self.limits.per_minute,
                "reserve_for_wakes": self.limits.reserve_for_wakes,
            },
            "stop": self.every_app.entry.stop.unwrap_or_default(),
            "containment": self.every_app.contain,
        });
        if let Some(url) = api_url {
            shown["api_url"] = url.into();
        }
        if let Some(wake) = self.every_app.entry.wake_timeout {
            shown["wake_timeout"] = units::duration(wake).into();
        }
        if !apps.is_empty() {
            shown["apps"] = apps.into();
        }
        shown
    }
}

fn show_app(name: &str, app: &AppSettings) -> Value {
    let mut shown = json!({
        "name": name,
        "ready": show_readiness(&app.ready),
        "containment": app.contain,
    });
    if !app.hosts.is_empty() {
        shown["hosts"] = json!(app.hosts);
    }
    if let Some(stop) = app.stop {
        shown["stop"] = json!(stop);
    }
    for (key, period) in [("idle_timeout", app.idle_timeout), ("wake_timeout", app.wake_timeout)] {
        if let Some(period) = period {
            shown[key] = units::duration(period).into();
        }
    }
    shown
}

/// A secret that is typed, or set in the environment under the name that the platform's own tools use. An empty one is
/// none.
pub fn secret(typed: Option<Secret>, env: &crate::config::Environment, variable: &str) -> Option<Secret> {
    let set = |secret: &Secret| !secret.expose().trim().is_empty();
    typed.filter(set).or_else(|| env.get(variable).map(|text| Secret::new(text.trim())).filter(set))
}

impl ProviderError {
    /// What the error of a call about one app means.
    pub(super) fn about(app: &str, error: ApiError) -> Self {
        match error.status() {
            Some(StatusCode::NOT_FOUND) => Self::NotFound(app.to_owned()),
            _ => error.into(),
        }
    }
}

impl From<ApiError> for ProviderError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Misconfigured(reason) => Self::Misconfigured(reason),
            ApiError::Status(refusal) => Self::Refused(refusal.to_string()),
            ApiError::Ambiguous(_) => Self::Failed(error.to_string()),
            ApiError::Unavailable(_) | ApiError::Throttled { .. } | ApiError::Malformed(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}
