//! `Pool`: an account's budget when several gateways call with the same credential.
//!
//! Each gateway has its own [`Budget`](super::Budget), which decides who of its callers goes next; the pool decides how
//! often all gateways together may call. An account is known to it by a hash, never by its secret.

use std::time::Duration;

use async_trait::async_trait;

use super::budget::{Limits, Priority};

/// One bucket of tokens for each account, shared by all gateways.
///
/// Guarantees: over any minute, all gateways together are given no more than `burst + per_minute` of [`Taken::Yes`] that
/// they do not give back; whoever is told to come back and does, goes in the end.
#[async_trait]
pub trait Pool: Send + Sync {
    /// Takes a token for a call, if one is to be had now. One caller of each priority asks at a time; it is the same one, as
    /// far as the pool knows, until it is given a token.
    async fn take(&self, account: &str, limits: Limits, priority: Priority) -> Taken;

    /// The call for which a token was taken will not be made.
    async fn give_back(&self, account: &str);

    /// The provider wants no calls for so long: no gateway makes any. Of two pauses the longer stands.
    async fn pause(&self, account: &str, pause: Duration);
}

/// What a [`Pool`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The call may be made.
    Yes,
    /// Not yet.
    In {
        /// When to ask again: a token is kept until shortly after that.
        wait: Duration,
        /// How many gateways wait for the account, this one included: whoever is behind the one that asked gets only every
        /// so many-th token.
        sharers: u32,
    },
    /// The pool cannot be asked right now: everybody minds their own budget.
    Unknown,
}
