//! The options of a `scalingo` entry.

use std::{any::Any, sync::Arc, time::Duration};

use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::{
    config::{
        Environment, ProviderEntry,
        problem::Problems,
        scalar::Label,
        secret::Secret,
        show::as_written,
        yaml::{Located, OneOrMany},
    },
    provider::{
        Provider, ProviderConfig, ProviderContext, ProviderError,
        api::Limits,
        connection::connect,
        paas::{self, BaseUrl, Paas, PaasConfig, Usual},
    },
};

/// Where tokens are exchanged and regions are listed.
const AUTH: &str = "https://auth.scalingo.com";

/// The one that is open to everybody.
const REGION: &str = "osc-fr1";

/// What the platform's own command line tool reads.
const TOKEN: &str = "SCALINGO_API_TOKEN";

/// The platform allows 60 calls a minute: 40 go on all the time, 20 more at once after a rest.
const USUAL: Usual = Usual {
    list_every: Duration::from_secs(60),
    wake_timeout: Duration::from_secs(5 * 60),
    limits: Limits { per_minute: 40, burst: 20, reserve_for_wakes: 10 },
};

/// The validated options of a `scalingo` entry.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingoConfig {
    /// What all PaaS entries have.
    pub paas: Paas,
    /// Which regions.
    pub regions: Regions,
    /// Exchanged for a short-lived token each hour.
    pub api_token: Secret,
    /// Where that is done.
    pub auth_url: String,
    /// The app that the gateway itself runs as, if it runs there: its region and its name.
    pub own: Option<(String, String)>,
    shown: Value,
}

/// The regions of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// These.
    Named(Vec<String>),
    /// Those that the account may use.
    All,
}

paas::options! {
    /// Apps of a Scalingo account in one region, or in all.
    #[schemars(rename = "ScalingoProvider")]
    struct Typed {
        /// The region: `osc-fr1`, `osc-secnum-fr1`. Default: `osc-fr1`.
        region: Option<Located<Label>>,
        /// In the place of `region`: several, or `all` that the account may use.
        regions: Option<Located<OneOrMany<Located<Label>>>>,
        /// An API token (`tk-us-...`). Default: SCALINGO_API_TOKEN in the environment.
        api_token: Option<Secret>,
        /// Where tokens are exchanged. Default: the provider's own.
        auth_url: Option<Located<BaseUrl>>,
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
    if let (Some(_), Some(regions)) = (&typed.region, &typed.regions) {
        problems.push(regions.at, "`region` and `regions` stand here both: leave one of them out");
    }
    let common = typed.common();
    if let (Some(url), Some(regions)) = (&common.api_url, &typed.regions)
        && (regions.value.0.len() > 1 || regions.value.0.iter().any(|region| region.0 == "all"))
    {
        problems.push(url.at, "`api_url` is the address of one region's API, and `regions` names more");
    }
    let paas = Paas::of(common, &USUAL, problems);
    let token = paas::secret(typed.api_token, env, TOKEN);
    if token.is_none() {
        let help = "create one in the dashboard, and set SCALINGO_API_TOKEN or write `api_token: ${NAME}`";
        problems.push_with_help(at, "a Scalingo account needs an `api_token`", help);
    }
    let mut shown = paas.show();
    shown["api_token"] = "***".into();
    shown["auth_url"] =
        typed.auth_url.as_ref().map_or_else(|| AUTH.into(), |url| as_written(url, &url.0)).into();
    let written = |region: &Located<Label>| as_written(region, &region.0);
    let regions = match (typed.regions, typed.region) {
        (Some(regions), _) if regions.value.0.iter().any(|region| region.0 == "all") => {
            shown["regions"] = "all".into();
            Regions::All
        }
        (Some(regions), _) => {
            shown["regions"] = regions.value.0.iter().map(written).collect();
            Regions::Named(regions.value.0.into_iter().map(|region| region.value.0).collect())
        }
        (None, region) => {
            let region = region.unwrap_or_else(|| Located::nowhere(Label(REGION.to_owned())));
            shown["region"] = written(&region).into();
            Regions::Named(vec![region.value.0])
        }
    };
    // Set in every container of the platform.
    let own = env.get("REGION_NAME").zip(env.get("APP")).filter(|_| env.get("CONTAINER").is_some());
    Some(Arc::new(ScalingoConfig {
        paas,
        regions,
        api_token: token?,
        auth_url: typed.auth_url.map_or_else(|| AUTH.into(), |url| url.value.0),
        own: own.map(|(region, app)| (region.to_owned(), app.to_owned())),
        shown,
    }))
}

impl PaasConfig for ScalingoConfig {
    fn paas(&self) -> &Paas {
        &self.paas
    }

    fn reaches_like(&self, other: &Self) -> bool {
        let what = |config: &Self| {
            let timeout = config.paas.operation_timeout;
            (
                config.regions.clone(),
                config.api_token.clone(),
                config.auth_url.clone(),
                config.paas.api_url.clone(),
                timeout,
            )
        };
        what(self) == what(other)
    }
}

impl ProviderConfig for ScalingoConfig {
    fn connect(&self, context: ProviderContext) -> Result<Arc<dyn Provider>, ProviderError> {
        connect::<super::Scalingo>(self, context)
    }

    fn show(&self) -> Value {
        self.shown.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
