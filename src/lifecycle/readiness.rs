//! Our own probe of an app: the only proof that it answers.
//!
//! Asking a provider is slow and costs budget; asking the app is fast and free. So the probe is early and often: a
//! refused connection is tried again after 10 ms (it costs a few tens of microseconds), an answer that is not yet the
//! right one after 100 ms, because then the app itself has to work for it.

use std::time::Duration;

use super::{Reached, resolver::Resolver};
use crate::app::{Author, Endpoint, Readiness};

const AFTER_REFUSAL: Duration = Duration::from_millis(10);
const AFTER_ANSWER: Duration = Duration::from_millis(100);
/// A provider's router answers at once, costs a handshake, and belongs to others.
const AFTER_ROUTER: Duration = Duration::from_millis(250);
/// Longer than any first answer that a person would wait for; the wake's own deadline bounds the whole.
const ONE_PROBE: Duration = Duration::from_secs(10);

/// Asks apps whether they answer. Follows no redirect, uses no proxy of the environment, keeps no connection.
#[derive(Clone)]
pub struct Prober(reqwest::Client);

/// What a probe has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The app answers.
    Ready,
    /// Somebody gives an answer that would do, the app or its provider's router.
    Unclear,
    /// The app gives another answer, or the router says that it does not run.
    NotYet,
    /// Nobody listens.
    Nothing,
}

impl Prober {
    /// Finds apps where `resolver` does. Fails only if the HTTP client cannot be built at all.
    pub fn new(resolver: Resolver) -> Result<Self, reqwest::Error> {
        reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(std::sync::Arc::new(resolver))
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(ONE_PROBE)
            .user_agent(concat!("loir/", env!("CARGO_PKG_VERSION"), " (readiness probe)"))
            .build()
            .map(Self)
    }

    /// Returns once the app gives an answer that `readiness` accepts; `confirm` is asked whether an unclear one is the
    /// app's. Has no deadline of its own: the caller has.
    pub async fn until_ready<F: Future<Output = bool>>(
        &self,
        reached: &Reached,
        host: &str,
        readiness: &Readiness,
        confirm: impl Fn() -> F,
    ) {
        let local = reached.origin().is_none();
        loop {
            let pause = match self.ask(&reached.endpoint, host, readiness).await {
                Answer::Ready => return,
                Answer::Unclear if confirm().await => return,
                Answer::Nothing if local => AFTER_REFUSAL,
                _ if local => AFTER_ANSWER,
                _ => AFTER_ROUTER,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One probe. `host` is what a local app is told that it is.
    pub async fn ask(&self, endpoint: &Endpoint, host: &str, readiness: &Readiness) -> Answer {
        let request = match endpoint {
            Endpoint::Address(address) => {
                self.0.get(format!("http://{address}{}", readiness.path)).header(http::header::HOST, host)
            }
            Endpoint::Origin(origin) => self.0.get(format!("{origin}{}", readiness.path)),
        };
        match request.header(http::header::CONNECTION, "close").send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                let author = match endpoint {
                    Endpoint::Address(_) => Author::App,
                    Endpoint::Origin(origin) => origin.router.author(status, response.headers()),
                };
                match author {
                    Author::App if readiness.accepts(status) => Answer::Ready,
                    Author::Unclear if readiness.accepts(status) => Answer::Unclear,
                    _ => Answer::NotYet,
                }
            }
            Err(error) if error.is_connect() => Answer::Nothing,
            Err(_) => Answer::NotYet,
        }
    }
}
