//! A webhook: a message that is sent by HTTP, signed, and sent again if it did not arrive.

use std::{fmt::Write as _, time::Duration};

use jiff::fmt::rfc2822;
use reqwest::{Client, Response, StatusCode, Url, header};
use ring::hmac;

use super::{Failed, Message, Preset, preset};
use crate::{clock::Clock, config::secret::Secret};

/// A receiver may ask for a longer pause than our own, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Our own pauses double up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// The header with the signature: `t=SECONDS,v1=HEX`.
pub const SIGNATURE: &str = "x-loir-signature";

/// The header with the phase.
pub const PHASE: &str = "x-loir-phase";

/// The header with the message's id, the same in each try.
pub const DELIVERY: &str = "x-loir-delivery";

/// Where and how something is sent.
pub(super) struct Target<'a> {
    pub url: &'a Secret,
    pub preset: Option<Preset>,
    pub secret: Option<&'a Secret>,
    pub timeout: Duration,
    pub retries: u32,
    pub backoff: Duration,
}

/// A client for all webhooks. No redirect is followed: a receiver does not decide where our messages go.
pub(super) fn client() -> Result<Client, String> {
    Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("loir/", env!("CARGO_PKG_VERSION"), " (webhook)"))
        .build()
        .map_err(|error| error.without_url().to_string())
}

/// Sends the message until it has arrived.
///
/// # Errors
///
/// If the receiver refuses it (any status but 2xx, 408, 429 and 5xx), or if no try of all has arrived. The reason does not name
/// the address, which may be a secret.
pub(super) async fn deliver(
    client: &Client,
    target: &Target<'_>,
    message: &Message,
    clock: &Clock,
    label: &str,
) -> Result<(), Failed> {
    let refused = |reason: String| Failed { reason, timed_out: false };
    let url = Url::parse(target.url.expose()).map_err(|_| refused("its address is none".into()))?;
    let form = preset::form(target.preset, url, message);
    let mut pause = target.backoff;
    for tries_left in (0..=target.retries).rev() {
        let mut request = client
            .post(form.url.clone())
            .timeout(target.timeout)
            .header(header::CONTENT_TYPE, form.content_type)
            .header(PHASE, message.phase.name())
            .header(DELIVERY, &*message.id)
            .body(form.body.clone());
        if let Some(secret) = target.secret {
            request = request.header(SIGNATURE, signature(secret, clock.unix_millis() / 1000, &form.body));
        }
        let (reason, timed_out, wanted) = match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let reason = format!("the receiver answers {}", answer.status().as_u16());
                if !is_passing(answer.status()) {
                    return Err(refused(reason));
                }
                (reason, false, retry_after(&answer))
            }
            Err(error) => {
                let timed_out = error.is_timeout();
                (in_words(&error), timed_out, None)
            }
        };
        if tries_left == 0 {
            return Err(Failed { reason, timed_out });
        }
        // A tenth more or less, so that gateways that failed together do not come again together.
        let own = pause.mul_f64(0.9 + 0.2 * fastrand::f64());
        let wait = wanted.map_or(own, |wanted| wanted.min(LONGEST_PAUSE).max(own));
        log::debug!(target: super::output::TARGET, "{label}: {reason}; again in {wait:?}");
        tokio::time::sleep(wait).await;
        pause = pause.saturating_mul(2).min(LONGEST_BACKOFF);
    }
    Err(refused("it was not tried".into()))
}

/// `t=SECONDS,v1=HEX`, where HEX is HMAC-SHA256 over `SECONDS.BODY`.
pub fn signature(secret: &Secret, seconds: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    let mut shown = format!("t={seconds},v1=");
    for byte in tag.as_ref() {
        // Writing to a String never fails.
        let _ = write!(shown, "{byte:02x}");
    }
    shown
}

/// Whether the same may be answered otherwise later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// `Retry-After`: seconds or a date, which is compared with the receiver's own clock.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let wanted = text(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let (then, now) = (date(wanted)?, date(text(header::DATE)?)?);
    Duration::try_from(then.duration_since(now)).ok()
}

/// What went wrong, without the address: reqwest's own words would name it.
fn in_words(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the connection broke"
    };
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac hunter2`
    #[test]
    fn the_signature_is_the_one_that_openssl_computes() {
        let signed = signature(&Secret::new("hunter2"), 1_700_000_000, r#"{"a":1}"#);
        assert_eq!(
            signed,
            "t=1700000000,v1=56b25cbf563812b38800e5f4dd1febfde087d36841155e70b3aa285517e1570a"
        );
    }
}
