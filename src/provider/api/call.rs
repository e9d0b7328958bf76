//! `Call`: what is asked of a provider.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use tokio::time::Instant;

use super::budget::{OnWait, Priority};

/// Everything but RFC 3986's unreserved characters.
pub(super) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name from outside as one segment of a path, or one value of a query.
pub fn segment(name: &str) -> impl fmt::Display {
    utf8_percent_encode(name, RESERVED)
}

/// Whether a call may be sent again when it is not known what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing, or twice is the same as once.
    Safe,
    /// Once it may have arrived, only the caller can find out what it did.
    Never,
}

/// One call, to be given to [`Api::call`](super::Api::call).
#[derive(Clone)]
pub struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) priority: Priority,
    pub(super) repeat: Repeat,
    pub(super) since: Option<Instant>,
    pub(super) waiting: Option<OnWait<'a>>,
}

impl<'a> Call<'a> {
    /// `path` begins with a slash and follows the base; a whole URL on the base's host is fine too (a `Location`). Names
    /// from outside go through [`segment`].
    pub fn new(method: Method, path: impl Into<String>, priority: Priority) -> Self {
        let repeat = if method.is_safe() { Repeat::Safe } else { Repeat::Never };
        let path = path.into();
        Self {
            method,
            path,
            headers: HeaderMap::new(),
            body: None,
            priority,
            repeat,
            since: None,
            waiting: None,
        }
    }

    /// A GET, which is repeated if it fails.
    pub fn get(path: impl Into<String>, priority: Priority) -> Self {
        Self::new(Method::GET, path, priority)
    }

    /// A POST, which is sent once.
    pub fn post(path: impl Into<String>, priority: Priority) -> Self {
        Self::new(Method::POST, path, priority)
    }

    /// A PUT, which is sent once.
    pub fn put(path: impl Into<String>, priority: Priority) -> Self {
        Self::new(Method::PUT, path, priority)
    }

    /// A PATCH, which is sent once.
    pub fn patch(path: impl Into<String>, priority: Priority) -> Self {
        Self::new(Method::PATCH, path, priority)
    }

    /// A DELETE, which is sent once.
    pub fn delete(path: impl Into<String>, priority: Priority) -> Self {
        Self::new(Method::DELETE, path, priority)
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(mut self, value: &serde_json::Value) -> Self {
        self.body = Some(Bytes::from(value.to_string()));
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// With a header, in place of the [`Api`](super::Api)'s own of that name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Twice is the same as once (absolute quantities, the exchange of a token): repeated like a GET if it fails.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Safe;
        self
    }

    /// It belongs to something that began then: it has waited since.
    #[must_use]
    pub fn since(mut self, began: Instant) -> Self {
        self.since = Some(began);
        self
    }

    /// `on_wait` is told how long the call has yet to wait for its turn, if it has to.
    #[must_use]
    pub fn waiting(mut self, on_wait: &'a (dyn Fn(Duration) + Send + Sync)) -> Self {
        self.waiting = Some(on_wait);
        self
    }
}

impl fmt::Debug for Call<'_> {
    /// Without query, headers and body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split(['?', '#']).next().unwrap_or_default();
        write!(f, "Call({} {path}, {:?}, {:?})", self.method, self.priority, self.repeat)
    }
}
