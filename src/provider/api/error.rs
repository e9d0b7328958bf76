//! `ApiError`: why a call to a provider failed, in words for operators. None of them holds a secret.

use std::{fmt, time::Duration};

use http::StatusCode;

use super::Reply;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The credential or the configuration is wrong: nothing will work until somebody sees to it.
    #[error("{0}")]
    Misconfigured(String),
    /// The provider answered, and refused.
    #[error("{0}")]
    Status(Box<Refusal>),
    /// The provider wants fewer calls, and wanted so too often. Nothing was done.
    #[error("the provider wants fewer calls: none for {:.0} s", .retry_after.as_secs_f64())]
    Throttled {
        /// How long it wants no call.
        retry_after: Duration,
    },
    /// The call was sent and what became of it is not known: it may have been carried out. Read before doing it again.
    #[error("whether the provider did it is not known: {0}")]
    Ambiguous(String),
    /// The provider cannot be reached or does not work, in spite of several tries. Nothing was done.
    #[error("the provider is not available: {0}")]
    Unavailable(String),
    /// The provider's answer is not what we expect, or the call is not one that can be sent.
    #[error("the provider's answer is not understood: {0}")]
    Malformed(String),
}

impl ApiError {
    /// Whether it is the provider that does not work at the moment, and the same call may succeed later.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Throttled { .. } | Self::Ambiguous(_))
    }

    /// The status of a refusal.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status(refusal) => Some(refusal.reply.status),
            _ => None,
        }
    }

    /// The refusal, for whoever knows the provider's words.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Status(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The provider's own code for it, if there is one: Clever's and Heroku's `id`, Scalingo's `code`.
    pub code: Option<String>,
    /// The provider's words, short and without what does not belong into a log.
    pub message: String,
    /// All of it. The body is not for logs.
    pub reply: Reply,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the provider answered {}", self.reply.status.as_u16())?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// The error and its causes in one line, without the URL.
pub(super) fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.ends_with(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}
