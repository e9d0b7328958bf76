//! The options of a `clever_cloud` entry.

use std::{any::Any, sync::Arc, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    config::{
        Environment, ProviderEntry,
        problem::{At, Problems},
        scalar::Scalar,
        secret::Secret,
        yaml::Located,
    },
    provider::{
        Provider, ProviderConfig, ProviderContext, ProviderError,
        api::{Limits, oauth1::Signature},
        connection::connect,
        paas::{self, Paas, PaasConfig, Usual},
    },
};

/// The only host that takes API tokens.
const BRIDGE: &str = "https://api-bridge.clever-cloud.com";

/// The host that takes OAuth.
const API: &str = "https://api.clever-cloud.com";

/// What the platform's own command line tool reads: together they are one half of an OAuth credential.
const TOKEN: &str = "CLEVER_TOKEN";
const SECRET: &str = "CLEVER_SECRET";
/// The other half, which that tool has built in.
const CONSUMER_KEY: &str = "CLEVER_CONSUMER_KEY";
const CONSUMER_SECRET: &str = "CLEVER_CONSUMER_SECRET";

/// The platform does not say how many calls it bears.
const USUAL: Usual = Usual {
    list_every: Duration::from_secs(60),
    wake_timeout: Duration::from_secs(15 * 60),
    limits: Limits { per_minute: 60, burst: 5, reserve_for_wakes: 2 },
};

/// The validated options of a `clever_cloud` entry.
#[derive(Clone, Debug, PartialEq)]
pub struct CleverCloudConfig {
    /// What all PaaS entries have.
    pub paas: Paas,
    /// How calls are authorized.
    pub access: Access,
    /// Whose apps: `orga_...` or `user_...`. Everything the credential sees, if `None`.
    pub organisation: Option<String>,
    /// The id of the app that the gateway itself runs as, if it runs there.
    pub own: Option<String>,
}

/// How calls are authorized.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// An API token.
    Token(Secret),
    /// OAuth 1.
    Oauth(Oauth),
}

/// An OAuth 1 credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Oauth {
    /// Names the program.
    pub consumer_key: Secret,
    /// The program's secret.
    pub consumer_secret: Secret,
    /// Names the user's consent.
    pub token: Secret,
    /// The secret of `token`.
    pub secret: Secret,
    /// How calls are signed.
    pub signature: Signature,
}

paas::options! {
    /// Apps of a Clever Cloud account.
    #[schemars(rename = "CleverCloudProvider")]
    struct Typed {
        /// An API token. Default: CLEVER_TOKEN in the environment, if CLEVER_SECRET is not set.
        token: Option<Located<Secret>>,
        /// In the place of `token`: OAuth 1. What is not written comes from CLEVER_TOKEN, CLEVER_SECRET,
        /// CLEVER_CONSUMER_KEY and CLEVER_CONSUMER_SECRET in the environment.
        oauth: Option<Located<TypedOauth>>,
        /// Whose apps: `orga_...`, or `user_...` for the personal space. Default: all that the credential sees.
        organisation: Option<Located<Owner>>,
    }
}

/// The four parts of an OAuth credential.
#[derive(Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with `consumer_key`, `consumer_secret`, `token` and `secret`"
)]
#[schemars(rename = "CleverCloudOauth")]
struct TypedOauth {
    /// Names the program. Default: CLEVER_CONSUMER_KEY in the environment.
    consumer_key: Option<Secret>,
    /// The program's secret. Default: CLEVER_CONSUMER_SECRET in the environment.
    consumer_secret: Option<Secret>,
    /// Names the user's consent. Default: CLEVER_TOKEN in the environment.
    token: Option<Secret>,
    /// The secret of `token`. Default: CLEVER_SECRET in the environment.
    secret: Option<Secret>,
    /// How calls are signed. Default: `plaintext`, as the platform's own tools do, under TLS.
    signature: Option<TypedSignature>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "CleverCloudSignature")]
enum TypedSignature {
    /// The secrets themselves.
    Plaintext,
    /// HMAC-SHA512 over method, URL and parameters.
    HmacSha512,
}

/// The id of an organisation or of a user.
struct Owner(String);

impl Scalar for Owner {
    const NAME: &'static str = "CleverCloudOwner";
    fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("orga_").or_else(|| text.strip_prefix("user_")).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !rest.is_empty() && rest.chars().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err("is not the id of an owner: `orga_...`, or `user_...` for the personal space".to_owned())
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(orga|user)_[A-Za-z0-9_-]+$" })
    }
}

crate::config::scalar::scalar!(Owner);

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
    let paas = Paas::of(typed.common(), &USUAL, problems);
    let access = access(typed.token, typed.oauth, entry.options.at(), env, problems);
    // Set in every instance of the platform; the first name is the older one.
    let own = ["APP_ID", "CC_APP_ID"].into_iter().filter_map(|name| env.get(name));
    let own = own.map(str::trim).find(|id| id.starts_with("app_")).map(str::to_owned);
    let organisation = typed.organisation.map(|owner| owner.value.0);
    Some(Arc::new(CleverCloudConfig { paas, access: access?, organisation, own }))
}

fn access(
    token: Option<Located<Secret>>,
    oauth: Option<Located<TypedOauth>>,
    at: At,
    env: &Environment,
    problems: &mut Problems,
) -> Option<Access> {
    let set = |variable: &str| paas::secret(None, env, variable);
    match (token, oauth) {
        (Some(_), Some(oauth)) => {
            problems.push(oauth.at, "`token` and `oauth` stand here both: leave one of them out");
            None
        }
        (Some(token), None) => {
            let written = paas::secret(Some(token.value), &Environment::default(), TOKEN);
            if written.is_none() {
                problems.push_with_help(token.at, "`token` is empty", NEEDS);
            }
            written.map(Access::Token)
        }
        (None, Some(oauth)) => {
            let mut part = |key: &str, typed: &Option<Secret>, variable: &str| {
                let found = paas::secret(typed.clone(), env, variable);
                if found.is_none() && (typed.is_some() || oauth.lacks(key, typed)) {
                    let help = format!("write `{key}: ${{NAME}}`, or set {variable}");
                    problems.push_with_help(oauth.at, format!("`oauth` needs a `{key}`"), help);
                }
                found
            };
            let consumer_key = part("consumer_key", &oauth.consumer_key, CONSUMER_KEY);
            let consumer_secret = part("consumer_secret", &oauth.consumer_secret, CONSUMER_SECRET);
            let token = part("token", &oauth.token, TOKEN);
            let secret = part("secret", &oauth.secret, SECRET);
            let signature = match oauth.signature {
                Some(TypedSignature::HmacSha512) => Signature::HmacSha512,
                Some(TypedSignature::Plaintext) | None => Signature::Plaintext,
            };
            Some(Access::Oauth(Oauth {
                consumer_key: consumer_key?,
                consumer_secret: consumer_secret?,
                token: token?,
                secret: secret?,
                signature,
            }))
        }
        (None, None) => match (set(TOKEN), set(SECRET)) {
            (Some(token), Some(secret)) => {
                let mut consumer = |variable: &str| {
                    let found = set(variable);
                    if found.is_none() {
                        let message = format!("{TOKEN} and {SECRET} are set, and {variable} is not");
                        let help = format!(
                            "{TOKEN} and {SECRET} are one half of an OAuth credential: set {CONSUMER_KEY} and \
                             {CONSUMER_SECRET} too, or write `token: ${{NAME}}` with an API token"
                        );
                        problems.push_with_help(at, message, help);
                    }
                    found
                };
                let consumer_key = consumer(CONSUMER_KEY);
                let consumer_secret = consumer(CONSUMER_SECRET);
                Some(Access::Oauth(Oauth {
                    consumer_key: consumer_key?,
                    consumer_secret: consumer_secret?,
                    token,
                    secret,
                    signature: Signature::default(),
                }))
            }
            (Some(token), None) => Some(Access::Token(token)),
            (None, _) => {
                problems.push_with_help(at, "a Clever Cloud account needs a `token` or `oauth`", NEEDS);
                None
            }
        },
    }
}

/// What to do without a credential.
const NEEDS: &str =
    "create an API token with `clever tokens create`, and set CLEVER_TOKEN or write `token: ${NAME}`";

impl CleverCloudConfig {
    /// Where the API is.
    pub(super) fn api_url(&self) -> &str {
        let usual = match self.access {
            Access::Token(_) => BRIDGE,
            Access::Oauth(_) => API,
        };
        self.paas.api_url.as_deref().unwrap_or(usual)
    }
}

impl PaasConfig for CleverCloudConfig {
    fn paas(&self) -> &Paas {
        &self.paas
    }

    fn reaches_like(&self, other: &Self) -> bool {
        let what = |config: &Self| {
            (config.access.clone(), config.api_url().to_owned(), config.paas.operation_timeout)
        };
        what(self) == what(other)
    }
}

impl ProviderConfig for CleverCloudConfig {
    fn connect(&self, context: ProviderContext) -> Result<Arc<dyn Provider>, ProviderError> {
        connect::<super::CleverCloud>(self, context)
    }

    fn show(&self) -> Value {
        let mut shown = self.paas.show();
        shown["api_url"] = self.api_url().into();
        match &self.access {
            Access::Token(_) => shown["token"] = "***".into(),
            Access::Oauth(oauth) => {
                let signature = match oauth.signature {
                    Signature::Plaintext => "plaintext",
                    Signature::HmacSha512 => "hmac-sha512",
                };
                shown["oauth"] = json!({
                    "consumer_key": "***", "consumer_secret": "***", "token": "***", "secret": "***",
                    "signature": signature,
                });
            }
        }
        if let Some(organisation) = &self.organisation {
            shown["organisation"] = organisation.as_str().into();
        }
        shown
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
