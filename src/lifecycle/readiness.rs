//! Our own probe of an app: the only proof that it answers.
//!
//! Asking a provider is slow and costs budget; asking the app is fast and free. So the probe is early and often: a
//! refused connection is tried again after 10 ms (it costs a few tens of microseconds), an answer that is not yet the
//! right one after 100 ms, because then the app itself has to work for it.

use std::time::Duration;

use crate::app::{Endpoint, Readiness};

const AFTER_REFUSAL: Duration = Duration::from_millis(10);
const AFTER_ANSWER: Duration = Duration::from_millis(100);
/// Longer than any first answer that a person would wait for; the wake's own deadline bounds the whole.
const ONE_PROBE: Duration = Duration::from_secs(10);

/// Asks apps whether they answer. Follows no redirect, uses no proxy of the environment, keeps no connection.
#[derive(Clone)]
pub struct Prober(reqwest::Client);

enum Answer {
    Ready,
    NotYet,
    Nothing,
}

impl Prober {
    /// Fails only if the HTTP client cannot be built at all.
    pub fn new() -> Result<Self, reqwest::Error> {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(ONE_PROBE)
            .user_agent(concat!("loir/", env!("CARGO_PKG_VERSION"), " (readiness probe)"))
            .build()
            .map(Self)
    }

    /// Returns once the app gives an answer that `readiness` accepts. Has no deadline of its own: the caller has.
    pub async fn until_ready(&self, endpoint: Endpoint, host: &str, readiness: &Readiness) {
        loop {
            let pause = match self.ask(endpoint, host, readiness).await {
                Answer::Ready => return,
                Answer::NotYet => AFTER_ANSWER,
                Answer::Nothing => AFTER_REFUSAL,
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&self, endpoint: Endpoint, host: &str, readiness: &Readiness) -> Answer {
        let url = format!("http://{}{}", endpoint.address, readiness.path);
        let request = self.0.get(url).header(http::header::HOST, host);
        match request.header(http::header::CONNECTION, "close").send().await {
            Ok(response) if readiness.accepts(response.status().as_u16()) => Answer::Ready,
            Ok(_) => Answer::NotYet,
            Err(error) if error.is_connect() => Answer::Nothing,
            Err(_) => Answer::NotYet,
        }
    }
}
