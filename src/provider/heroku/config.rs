//! The options of a `heroku` entry.

use std::{any::Any, sync::Arc, time::Duration};

use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::{
    config::{
        Environment, ProviderEntry,
        problem::Problems,
        secret::Secret,
        show::as_written,
        yaml::{Located, OneOrMany},
    },
    provider::{
        Provider, ProviderConfig, ProviderContext, ProviderError,
        api::Limits,
        connection::connect,
        paas::{self, Paas, PaasConfig, Usual},
    },
};

/// The API.
const API: &str = "https://api.heroku.com";

/// What the platform's own command line tool reads.
const TOKEN: &str = "HEROKU_API_KEY";

/// The platform has a pool of 4500 calls for an account, and fills it by 75 a minute. Some are left to the account's other
/// tools.
const USUAL: Usual = Usual {
    list_every: Duration::from_secs(5 * 60),
    wake_timeout: Duration::from_secs(5 * 60),
    limits: Limits { per_minute: 60, burst: 400, reserve_for_wakes: 50 },
};

/// The validated options of a `heroku` entry.
#[derive(Clone, Debug, PartialEq)]
pub struct HerokuConfig {
    /// What all PaaS entries have.
    pub paas: Paas,
    /// Long-lived, or ending when its maker said so.
    pub api_token: Secret,
    /// Only the apps of this team.
    pub team: Option<String>,
    /// Only the apps in these spaces, if any are named.
    pub spaces: Vec<String>,
    /// The id and the name of the app that the gateway itself runs as, if it runs there.
    pub own: [Option<String>; 2],
    shown: Value,
}

paas::options! {
    /// Apps of a Heroku account, or of one of its teams.
    #[schemars(rename = "HerokuProvider")]
    struct Typed {
        /// An API token (`HRKU-...`). Default: HEROKU_API_KEY in the environment.
        api_token: Option<Secret>,
        /// Only the apps of this team. Default: all that the account can reach.
        team: Option<Located<String>>,
        /// Only the apps in these Private Spaces.
        spaces: Option<Located<OneOrMany<Located<String>>>>,
    }
}

/// The JSON Schema of the options.
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Typed>()
}

/// Reads the options of an entry.
pub fn configure(
    entry: &ProviderEntry,
    env: &Environment,
    problems: &mut Problems,
) -> Option<Arc<dyn ProviderConfig>> {
    let mut typed: Typed = entry.options.decode(problems)?;
    let at = entry.options.at();
    let paas = Paas::of(typed.common(), &USUAL, problems);
    let token = paas::secret(typed.api_token, env, TOKEN);
    if token.is_none() {
        let help = "make one with `heroku authorizations:create`, and set HEROKU_API_KEY or write `api_token: ${NAME}`";
        problems.push_with_help(at, "a Heroku account needs an `api_token`", help);
    }
    if let Some(team) = typed.team.as_ref().filter(|team| team.value.trim().is_empty()) {
        problems.push(team.at, "`team` is empty: name one, or leave it out for all apps of the account");
    }
    if let Some(spaces) =
        typed.spaces.as_ref().filter(|spaces| spaces.value.0.is_empty() && spaces.lost.is_empty())
    {
        problems.push(spaces.at, "`spaces` is an empty list: no app would be found");
    }
    let mut shown = paas.show();
    shown["api_token"] = "***".into();
    if let Some(team) = &typed.team {
        shown["team"] = as_written(team, &team.value).into();
    }
    let spaces = typed.spaces.map(|spaces| spaces.value.0).unwrap_or_default();
    if !spaces.is_empty() {
        shown["spaces"] = spaces.iter().map(|space| as_written(space, &space.value)).collect();
    }
    // Set in the dynos of an app that has `runtime-dyno-metadata` (devcenter.heroku.com/articles/dyno-metadata).
    let own = |variable| env.get(variable).filter(|value| !value.is_empty()).map(str::to_owned);
    let own = [own("HEROKU_APP_ID"), own("HEROKU_APP_NAME")];
    if env.get("DYNO").is_some() && own.iter().all(Option::is_none) {
        let help = "heroku labs:enable runtime-dyno-metadata, and deploy again";
        let message =
            "the gateway runs at Heroku and cannot tell which app it is: it might put itself to sleep";
        problems.push_with_help(entry.options.at(), message, help);
    }
    Some(Arc::new(HerokuConfig {
        paas,
        api_token: token?,
        team: typed.team.map(|team| team.value),
        spaces: spaces.into_iter().map(|space| space.value).collect(),
        own,
        shown,
    }))
}

impl HerokuConfig {
    /// Where the API is.
    pub(super) fn api_url(&self) -> &str {
        self.paas.api_url.as_deref().unwrap_or(API)
    }
}

impl PaasConfig for HerokuConfig {
    fn paas(&self) -> &Paas {
        &self.paas
    }

    fn reaches_like(&self, other: &Self) -> bool {
        self.api_token == other.api_token
            && self.api_url() == other.api_url()
            && self.paas.operation_timeout == other.paas.operation_timeout
    }
}

impl ProviderConfig for HerokuConfig {
    fn connect(&self, context: ProviderContext) -> Result<Arc<dyn Provider>, ProviderError> {
        connect::<super::Heroku>(self, context)
    }

    fn show(&self) -> Value {
        self.shown.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
