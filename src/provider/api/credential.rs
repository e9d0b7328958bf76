//! `Credential`: what makes a call ours. `Fixed` for a token that lasts, `Renewed` for one that is fetched anew.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Method};
use reqwest::Url;
use tokio::time::Instant;

use super::ApiError;

/// What makes a call ours.
#[async_trait]
pub trait Credential: Send + Sync {
    /// The value of `Authorization` for a call, marked sensitive.
    async fn authorize(&self, method: &Method, url: &Url) -> Result<HeaderValue, ApiError>;

    /// Called when a call with the value `rejected` was answered 401: true if there is another by now, and the call may be
    /// sent once more. Many callers with the same rejected value cause one renewal.
    async fn renew(&self, rejected: &HeaderValue) -> Result<bool, ApiError>;
}

/// A header value that no Debug prints.
pub(super) fn sensitive(value: &str) -> Result<HeaderValue, ApiError> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| ApiError::Misconfigured("the token has characters that no header can hold".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A value that stays the same.
#[derive(Clone, Debug)]
pub struct Fixed(HeaderValue);

impl Fixed {
    /// `Bearer <token>`.
    pub fn bearer(token: &str) -> Result<Self, ApiError> {
        Ok(Self(sensitive(&format!("Bearer {}", token.trim()))?))
    }

    /// `Basic <base64 of user:password>`.
    pub fn basic(user: &str, password: &str) -> Result<Self, ApiError> {
        let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Ok(Self(sensitive(&format!("Basic {pair}"))?))
    }
}

#[async_trait]
impl Credential for Fixed {
    async fn authorize(&self, _: &Method, _: &Url) -> Result<HeaderValue, ApiError> {
        Ok(self.0.clone())
    }

    async fn renew(&self, _: &HeaderValue) -> Result<bool, ApiError> {
        Ok(false)
    }
}

/// Renewed so long before the end, or for a short life, after four fifths of it.
const AHEAD: Duration = Duration::from_secs(300);

/// A new token is believed to live at least this long, whatever its date says: our clock may be wrong, and a 401 would tell.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// After a renewal ahead of time failed, the next try is so much later.
const RETRY: Duration = Duration::from_secs(30);

/// A token and its end.
pub struct Token {
    /// The value of `Authorization`.
    value: HeaderValue,
    renew_at: Instant,
    ends: Instant,
}

impl Token {
    /// `token` is sent as `Bearer` until `expires_at`.
    pub fn bearer(token: &str, expires_at: SystemTime) -> Result<Self, ApiError> {
        let value = sensitive(&format!("Bearer {}", token.trim()))
            .map_err(|_| ApiError::Malformed("a token that no header can hold".into()))?;
        let life = expires_at.duration_since(SystemTime::now()).unwrap_or_default().max(SHORTEST_LIFE);
        // More than a year is as good as a year, and no addition overflows.
        let life = life.min(Duration::from_secs(365 * 86_400));
        let now = Instant::now();
        Ok(Self { value, renew_at: now + life - AHEAD.min(life / 5), ends: now + life })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Where a [`Renewed`] has its tokens from.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// A new token. An [`ApiError::Misconfigured`] is final.
    async fn fetch(&self) -> Result<Token, ApiError>;
}

/// A token that is fetched when it is first needed, and renewed before it ends.
#[derive(Clone)]
pub struct Renewed(Arc<Source>);

struct Source {
    fetch: Box<dyn Fetch>,
    token: Mutex<Option<Token>>,
    /// Held while a token is fetched: there is one fetch at a time. Inside: when and how the latest failed.
    flight: tokio::sync::Mutex<Option<(Instant, ApiError)>>,
}

impl Renewed {
    /// Nothing is fetched yet.
    pub fn new(fetch: impl Fetch + 'static) -> Self {
        Self(Arc::new(Source {
            fetch: Box::new(fetch),
            token: Mutex::new(None),
            flight: tokio::sync::Mutex::new(None),
        }))
    }
}

impl Source {
    /// The current value if it is still good, and whether it should be renewed.
    fn current(&self) -> Option<(HeaderValue, bool)> {
        let now = Instant::now();
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token
            .as_ref()
            .filter(|token| now < token.ends)
            .map(|token| (token.value.clone(), now >= token.renew_at))
    }

    /// Puts the next renewal ahead of time off; others need not try meanwhile.
    fn put_off(&self) {
        if let Some(token) = &mut *self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            token.renew_at = Instant::now() + RETRY;
        }
    }

    /// A value that `is_good`: the current one, or one fetched by whoever comes first. Those who waited for a fetch that
    /// failed share the failure.
    async fn obtain(&self, is_good: impl Fn(&HeaderValue) -> bool + Send) -> Result<HeaderValue, ApiError> {
        let since = Instant::now();
        let mut flight = self.flight.lock().await;
        if let Some((value, _)) = self.current()
            && is_good(&value)
        {
            return Ok(value);
        }
        if let Some((at, error)) = &*flight
            && *at > since
        {
            return Err(error.clone());
        }
        match self.fetch.fetch().await {
            Ok(token) => {
                let value = token.value.clone();
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                *flight = None;
                Ok(value)
            }
            Err(error) => {
                *flight = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Credential for Renewed {
    async fn authorize(&self, _: &Method, _: &Url) -> Result<HeaderValue, ApiError> {
        match self.0.current() {
            Some((value, false)) => Ok(value),
            Some((value, true)) => {
                // Nobody waits for this one: the old token is good for a while yet.
                self.0.put_off();
                let source = self.0.clone();
                tokio::spawn(async move {
                    let old = source.current().map(|(value, _)| value);
                    if let Err(error) = source.obtain(|value| Some(value) != old.as_ref()).await {
                        log::warn!("a token could not be renewed ahead of time: {error}");
                    }
                });
                Ok(value)
            }
            None => self.0.obtain(|_| true).await,
        }
    }

    async fn renew(&self, rejected: &HeaderValue) -> Result<bool, ApiError> {
        Ok(self.0.obtain(|value| value != rejected).await? != rejected)
    }
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewed")
    }
}
