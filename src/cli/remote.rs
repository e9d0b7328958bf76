//! A running gateway, as the command line sees it: its admin side.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::print::complain;
use crate::{app::AppId, config::problem::suggest};

/// Where the admin side listens if nobody says where.
pub const URL: &str = "http://127.0.0.1:9090";

/// No answer but that of a stream takes so long.
const LONGEST: Duration = Duration::from_secs(40);

/// Which gateway.
#[derive(Args)]
pub struct Gateway {
    /// The gateway's admin side; its token is $LOIR_TOKEN, if it wants one
    #[arg(long, env = "LOIR_URL", default_value = URL, value_name = "URL")]
    url: String,
}

/// Why a command has failed. Each has an exit code of its own.
#[derive(Debug)]
pub enum Failure {
    /// It was refused, or did not come to a good end: 1.
    Refused(String),
    /// Nobody listens there, or not a gateway: 3.
    Unreachable(String),
    /// The token is missing, wrong, or may not do this: 4.
    NotAllowed(String),
    /// There is no such app, or more than one: 5.
    NoApp(String),
    /// Ctrl-C, and what goes on all the same: 130.
    Interrupted(String),
}

impl Failure {
    /// Says it, and gives the code to exit with.
    pub fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Self::Refused(text) => (text, 1),
            Self::Unreachable(text) => (text, 3),
            Self::NotAllowed(text) => (text, 4),
            Self::NoApp(text) => (text, 5),
            Self::Interrupted(text) => (text, 130),
        };
        complain(&text);
        ExitCode::from(code)
    }
}

/// A client of one gateway.
pub struct Remote {
    url: String,
    token: Option<String>,
    client: reqwest::Client,
}

impl Remote {
    /// Nothing is asked yet.
    pub fn new(gateway: &Gateway) -> Result<Self, Failure> {
        pingora_core::tls::install_default_crypto_provider();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        // What is on this machine is not asked for through a proxy, which would be shown the token.
        let client = if is_near(&gateway.url) { client.no_proxy() } else { client };
        let client = client.connect_timeout(Duration::from_secs(10)).build();
        let client = client.map_err(|error| Failure::Unreachable(format!("loir: {error}")))?;
        let token = std::env::var("LOIR_TOKEN").ok().filter(|token| !token.is_empty());
        Ok(Self { url: gateway.url.trim_end_matches('/').to_owned(), token, client })
    }

    /// Asks, and gives the answer if it is a good one.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Failure> {
        self.send(self.request(method, path, body).timeout(LONGEST)).await
    }

    /// The same, as a value.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.ask(Method::GET, path, None).await?;
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text).map_err(|_| {
            Failure::Unreachable(format!("loir: what answers at {} is no Loir of this version", self.url))
        })
    }

    /// Asks for something that goes on for as long as it likes.
    pub async fn listen(&self, path: &str, last: Option<&str>) -> Result<Response, Failure> {
        let mut request = self.request(Method::GET, path, None);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match body {
            None => request,
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        let problem: Option<Value> = serde_json::from_str(&text).ok();
        let Some(detail) = problem.as_ref().and_then(|problem| problem["detail"].as_str()) else {
            let text = format!("loir: what answers at {} ({status}) is no admin side of Loir", self.url);
            return Err(Failure::Unreachable(text));
        };
        let text = format!("loir: {detail}");
        Err(match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => Failure::NotAllowed(format!(
                "{text}\nSet LOIR_TOKEN to a token of `admin.tokens`: see `loir token new --help`"
            )),
            StatusCode::UNAUTHORIZED => Failure::NotAllowed(format!("{text} (it is the one in LOIR_TOKEN)")),
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Failure::NotAllowed(text),
            StatusCode::NOT_FOUND => Failure::NoApp(text),
            _ => Failure::Refused(text),
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let url = &self.url;
        if !error.is_connect() {
            return Failure::Unreachable(format!("loir: {url}: {cause}"));
        }
        Failure::Unreachable(format!(
            "loir: no gateway's admin side answers at {url}: {cause}\n\
             Is `loir run` up, and is `admin.listen` where this looks? Say where with --url or LOIR_URL"
        ))
    }

    /// The app that is meant: `provider/name`, or a name that only one app has.
    pub async fn app(&self, meant: &str) -> Result<AppId, Failure> {
        if let Ok(id) = meant.parse::<AppId>() {
            return Ok(id);
        }
        let apps: Vec<Value> = self.get("/v1/apps").await?;
        let ids: Vec<AppId> = apps.iter().filter_map(|app| app["id"].as_str()?.parse().ok()).collect();
        let same: Vec<_> = ids.iter().filter(|id| &*id.name == meant).collect();
        match same.as_slice() {
            [one] => Ok((*one).clone()),
            [] => {
                let meant_perhaps = suggest(meant, ids.iter().map(|id| &*id.name))
                    .map(|name| format!(": did you mean {name}?"));
                Err(Failure::NoApp(format!(
                    "loir: there is no app {meant}{}",
                    meant_perhaps.unwrap_or_default()
                )))
            }
            several => {
                let several: Vec<_> = several.iter().map(ToString::to_string).collect();
                Err(Failure::NoApp(format!("loir: {meant} may be {}: say which", several.join(" or "))))
            }
        }
    }
}

/// Whether an address is of this machine.
fn is_near(url: &str) -> bool {
    let url = reqwest::Url::parse(url).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    address.is_ok_and(|address| address.is_loopback()) || host == "localhost"
}

/// The path of an app, with what its name may hold made harmless.
pub fn path_of(app: &AppId) -> String {
    let plain = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    format!("/v1/apps/{}/{}", plain(&app.provider), plain(&app.name))
}

/// A query, from what was said of it.
pub fn query(parts: &[(&str, Option<String>)]) -> String {
    let plain = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let said = parts.iter().filter_map(|(key, value)| Some(format!("{key}={}", plain(value.as_deref()?))));
    let said: Vec<_> = said.collect();
    if said.is_empty() { String::new() } else { format!("?{}", said.join("&")) }
}

/// Runs a command that talks to a gateway.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Err(error) => complain(&format!("loir: cannot start: {error}")),
        Ok(runtime) => match runtime.block_on(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.tell(),
        },
    }
}
