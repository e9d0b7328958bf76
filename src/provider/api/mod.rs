//! `Api`: calls to a provider's control API, as the provider wants them: not too many, authorized, repeated only if that
//! cannot do harm, and with errors that operators can read and that hold no secret.
//!
//! A call waits for its turn ([`budget`]), is authorized ([`Credential`]), sent, and its answer is sorted:
//!
//! | | may be repeated ([`Repeat::Safe`]) | may not |
//! |---|---|---|
//! | 2xx, 304 | a [`Reply`] | the same |
//! | 429, or what the provider means as such | the account pauses, then again | the same: it was not carried out |
//! | 401 | the credential is renewed and the call sent once more; else the account is misconfigured | the same |
//! | no connection | again, up to 4 times | the same: nothing was sent |
//! | timeout, reset, cut off, 500, 502, 503, 504 | again, up to 4 times | [`ApiError::Ambiguous`] |
//! | another 5xx | [`ApiError::Status`] | [`ApiError::Ambiguous`] |
//! | else | [`ApiError::Status`] | the same |
//!
//! Nothing in here knows of the rest of the house.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::Url;
use tokio::time::{Instant, sleep};

pub mod account;
pub mod budget;
mod call;
mod calls;
mod credential;
mod error;
pub mod oauth1;
pub mod pool;
mod readable;
mod reply;

pub use account::{Account, AccountState, Accounts};
pub use budget::{Budget, Limits, OnWait, Priority};
pub use call::{Call, Repeat, Waits, segment};
pub use calls::Calls;
pub use credential::{Credential, Fetch, Fixed, Renewed, Token};
pub use error::{ApiError, Refusal};
pub use pool::{Pool, Taken};
pub use readable::Readable;
pub use reply::{Plain, Quirks, Reply, code, message};

/// From sending a call to the end of its answer, unless the configuration says otherwise.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is not used again: that the other side just closed it would make a call ambiguous.
const IDLE: Duration = Duration::from_secs(20);

/// The longest body.
const BODY_CAP: usize = 16 * 1024 * 1024;

/// Tries of a call that may be repeated, the first included.
const TRIES: u32 = 4;

/// Rounds of being told to call less, after which a call gives up.
const ROUNDS: u32 = 5;

/// How long to wait before trying again, the first time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    repeat: Duration,
    pause: Duration,
}

const PACE: Pace = Pace { repeat: Duration::from_millis(500), pause: Duration::from_secs(10) };

/// A provider's control API. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    base: Url,
    headers: HeaderMap,
    account: Arc<Account>,
    credential: Arc<dyn Credential>,
    quirks: Arc<dyn Quirks>,
    /// A secret that calls do not carry, and that must not be in the provider's words either.
    hidden: Option<Arc<str>>,
    pace: Pace,
}

/// What became of one try that brought no answer.
enum Failure {
    /// There was no connection: nothing was sent.
    NotSent(String),
    /// It was sent, at least in part.
    Broken(String),
    /// The answer is longer than we read.
    TooLong,
}

impl Api {
    /// An API at `base` (scheme, host, and a path if all calls begin with it). A crypto provider for TLS must be installed.
    pub fn new(
        base: &str,
        account: Arc<Account>,
        credential: Arc<dyn Credential>,
        quirks: Arc<dyn Quirks>,
        operation_timeout: Duration,
    ) -> Result<Self, ApiError> {
        let client = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(operation_timeout)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("loir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ApiError::Misconfigured(error::reason(error)))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Self {
            client,
            base: base_url(base)?,
            headers,
            account,
            credential,
            quirks,
            hidden: None,
            pace: PACE,
        })
    }

    /// The same account, credential and connections at another base: another region.
    pub fn at(&self, base: &str) -> Result<Self, ApiError> {
        Ok(Self { base: base_url(base)?, ..self.clone() })
    }

    /// With a header on every call.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Keeps a secret that calls do not carry (they carry what was exchanged for it) out of the provider's words too.
    #[must_use]
    pub fn hiding(mut self, secret: &str) -> Self {
        self.hidden = Some(secret.into());
        self
    }

    /// The account that is charged.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Waits for its turn, calls, and sorts the answer (see the module). Dropping the future gives up: whether a call that
    /// changes something was carried out is then not known.
    pub async fn call(&self, call: Call<'_>) -> Result<Reply, ApiError> {
        let url = self.url(&call.path)?;
        let (mut failures, mut rounds, mut renewed) = (0, 0, false);
        loop {
            tokio::select! {
                biased;
                error = self.account.refused() => return Err(error),
                () = self.turn(&call) => {}
            }
            let authorization = self.authorize(&call, &url).await?;
            if let Some(waits) = call.waits {
                waits.come();
            }
            let sent = Instant::now();
            self.account.count();
            let answer = self.send(&call, url.clone(), authorization.clone()).await;
            log_call(&call, &url, sent, &answer);
            let status = answer.as_ref().map_or(0, |reply| reply.status.as_u16());
            self.account.answered(call.priority, status);
            let reason = match answer {
                Ok(reply) => {
                    if let Some(remaining) = self.quirks.remaining(&reply.headers) {
                        self.account.budget().believe_remaining(remaining, self.quirks.pool_reserve());
                    }
                    let good = reply.status.is_success() || reply.status == StatusCode::NOT_MODIFIED;
                    let throttled = reply.status == StatusCode::TOO_MANY_REQUESTS
                        || (!good && self.quirks.throttled(&reply));
                    if throttled {
                        let retry_after = self.account.throttled(sent, reply.retry_after(), self.pace.pause);
                        rounds += 1;
                        if rounds >= ROUNDS {
                            return Err(ApiError::Throttled { retry_after });
                        }
                        continue;
                    }
                    self.account.not_throttled(sent);
                    if good {
                        return Ok(reply);
                    }
                    let refusal = self.refusal(reply, &authorization);
                    let status = refusal.reply.status;
                    if status == StatusCode::UNAUTHORIZED {
                        if !renewed && self.renew(&authorization).await? {
                            renewed = true;
                            continue;
                        }
                        return Err(self.account.refuse(&refusal.to_string()));
                    }
                    if let Some(reason) = self.quirks.misconfigured(&refusal.reply) {
                        return Err(self.account.refuse(&self.clean(&reason, &authorization)));
                    }
                    let passing = matches!(status.as_u16(), 500 | 502 | 503 | 504);
                    match call.repeat {
                        Repeat::Never if status.is_server_error() => {
                            return Err(ApiError::Ambiguous(refusal.to_string()));
                        }
                        Repeat::Safe if passing => refusal.to_string(),
                        _ => return Err(ApiError::Status(Box::new(refusal))),
                    }
                }
                Err(Failure::NotSent(reason)) => reason,
                Err(Failure::Broken(reason)) if call.repeat == Repeat::Safe => reason,
                Err(Failure::Broken(reason)) => return Err(ApiError::Ambiguous(reason)),
                Err(Failure::TooLong) => {
                    let reason = format!("the answer is longer than {BODY_CAP} bytes");
                    return Err(match call.repeat {
                        Repeat::Safe => ApiError::Malformed(reason),
                        Repeat::Never => ApiError::Ambiguous(reason),
                    });
                }
            };
            failures += 1;
            if failures >= TRIES {
                return Err(ApiError::Unavailable(reason));
            }
            sleep(self.pace.repeat.mul_f64(0.75 * account::jitter(0.6)) * 2u32.pow(failures - 1)).await;
        }
    }

    async fn turn(&self, call: &Call<'_>) {
        let budget = self.account.budget();
        match call.waits {
            None => budget.acquire(call.priority, None, None).await,
            Some(waits) => {
                let tell = |estimate| waits.wait(estimate);
                budget.acquire(call.priority, Some(waits.since()), Some(&tell)).await;
            }
        }
    }

    async fn authorize(&self, call: &Call<'_>, url: &Url) -> Result<HeaderValue, ApiError> {
        let value = self.credential.authorize(&call.method, url).await.map_err(|error| self.unsent(error))?;
        Ok(marked(value))
    }

    async fn renew(&self, rejected: &HeaderValue) -> Result<bool, ApiError> {
        self.credential.renew(rejected).await.map_err(|error| self.unsent(error))
    }

    /// An error of the credential. Nothing of the call itself was carried out.
    fn unsent(&self, error: ApiError) -> ApiError {
        match error {
            ApiError::Misconfigured(reason) => self.account.refuse(&reason),
            ApiError::Ambiguous(reason) => ApiError::Unavailable(reason),
            error => error,
        }
    }

    async fn send(&self, call: &Call<'_>, url: Url, authorization: HeaderValue) -> Result<Reply, Failure> {
        let mut headers = self.headers.clone();
        for (name, value) in &call.headers {
            headers.insert(name, value.clone());
        }
        headers.insert(header::AUTHORIZATION, authorization);
        let mut request = self.client.request(call.method.clone(), url).headers(headers);
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let mut answer = request.send().await.map_err(|error| {
            let not_sent = error.is_connect() || error.is_builder();
            let reason = error::reason(error);
            if not_sent { Failure::NotSent(reason) } else { Failure::Broken(reason) }
        })?;
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        let body = match read(answer).await {
            Ok(body) => body,
            // The status says enough.
            Err(_) if !status.is_success() => Bytes::new(),
            Err(failure) => return Err(failure),
        };
        Ok(Reply { status, headers, body })
    }

    fn refusal(&self, reply: Reply, authorization: &HeaderValue) -> Refusal {
        Refusal {
            code: self.quirks.code(&reply).map(|code| self.clean(&code, authorization)),
            message: self.clean(&self.quirks.message(&reply), authorization),
            reply,
        }
    }

    /// A provider's words for a log: short, harmless, and without the credential, should the provider have repeated it.
    fn clean(&self, words: &str, authorization: &HeaderValue) -> String {
        let mut words = words.to_owned();
        let value = authorization.to_str().unwrap_or_default();
        for part in value.split([' ', '"', ',']).flat_map(|part| part.split("%26")) {
            let decoded = BASE64_STANDARD.decode(part).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.unwrap_or_default();
            for secret in [part].into_iter().chain(pair.split(':')).chain(self.hidden.as_deref()) {
                if secret.len() >= 8 && !secret.starts_with("oauth_") {
                    words = words.replace(secret, "[secret]");
                }
            }
        }
        reply::excerpt(&words)
    }

    /// Stays on the base's host, and means what it says: no `..` climbs out of a path with a name from outside.
    fn url(&self, path: &str) -> Result<Url, ApiError> {
        let odd = |what: &str| ApiError::Malformed(format!("a call to a path {what}"));
        let whole = if path.starts_with('/') {
            format!("{}{path}", self.base.as_str().trim_end_matches('/'))
        } else {
            path.to_owned()
        };
        let plain = whole.split(['?', '#']).next().unwrap_or_default();
        let dots = |segment: &str| {
            let segment = segment.to_ascii_lowercase().replace("%2e", ".");
            segment == "." || segment == ".."
        };
        if plain.split(['/', '\\']).any(dots) {
            return Err(odd("with dots for a name"));
        }
        let url = Url::parse(&whole).map_err(|_| odd("that is none"))?;
        let ours =
            url.origin() == self.base.origin() && url.username().is_empty() && url.password().is_none();
        if ours { Ok(url) } else { Err(odd("on another host")) }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({}, {:?})", self.base, self.account.state())
    }
}

/// Without the query, which might hold a secret, and without names and passwords, which are not for URLs.
fn base_url(base: &str) -> Result<Url, ApiError> {
    let wrong = |what: &str| ApiError::Misconfigured(format!("the API's address {what}"));
    let url = Url::parse(base).map_err(|error| wrong(&format!("is none: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("must begin with https:// and a host"));
    }
    let bare = url.username().is_empty() && url.password().is_none();
    if !bare || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must be no more than a host and a path"));
    }
    Ok(url)
}

async fn read(mut answer: reqwest::Response) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_CAP => return Err(Failure::TooLong),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(Failure::Broken(error::reason(error))),
        }
    }
}

fn marked(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn log_call(call: &Call<'_>, url: &Url, sent: Instant, answer: &Result<Reply, Failure>) {
    let (method, path, ms) = (&call.method, url.path(), sent.elapsed().as_millis());
    match answer {
        Ok(reply) => log::debug!("{method} {path} {} {ms} ms", reply.status.as_u16()),
        Err(Failure::NotSent(reason)) => log::debug!("{method} {path} not sent, {ms} ms: {reason}"),
        Err(Failure::Broken(reason)) => log::debug!("{method} {path} broken off, {ms} ms: {reason}"),
        Err(Failure::TooLong) => log::debug!("{method} {path} too long, {ms} ms"),
    }
}

#[cfg(test)]
mod tests;
