//! `Call`: what is asked of a provider.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use tokio::time::Instant;

use super::budget::Priority;

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

/// Whoever waits for a call, or for several in a row.
pub trait Waits: Send + Sync {
    /// When it began to: all of its calls are queued as of then.
    fn since(&self) -> Instant;

    /// The next call has yet to wait about so long for its turn.
    fn wait(&self, estimate: Duration);

    /// The call is made now.
    fn come(&self);
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
    pub(super) waits: Option<&'a dyn Waits>,
}

impl<'a> Call<'a> {
    /// `path` begins with a slash and follows the base; a whole URL on the base's host is fine too (a `Location`). Names
    /// from outside go through [`segment`].
    pub fn new(method: Method, path: impl Into<String>, priority: Priority) -> Self {
        let repeat = if method.is_safe() { Repeat::Safe } else { Repeat::Never };
        let path = path.into();
        Self { method, path, headers: HeaderMap::new(), body: None, priority, repeat, waits: None }
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

    /// It is one of the calls that somebody waits for.
    #[must_use]
    pub fn waiting(mut self, waits: &'a dyn Waits) -> Self {
        self.waits = Some(waits);
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
