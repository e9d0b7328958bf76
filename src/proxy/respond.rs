//! Our own answers: the only file that knows status codes, `Accept` and languages.
//!
//! | situation | visitor | submitter | subresource | program | gRPC |
//! |---|---|---|---|---|---|
//! | waking | 503 page | 503 page that never reloads | 503, empty | 503 problem | status 14 |
//! | not woken (schedule, limit, no right) | 503 page | 503 page | 503, empty | 503 problem | status 14 |
//! | failed | 502 page | 502 page | 502, empty | 502 problem | status 14 |
//! | any error | page | page | empty | problem | see `grpc_status` |
//!
//! None of them may be kept by a cache, and each says what it is in `X-Loir-State`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{
    audience::{Audience, prefers_html},
    holding::{self, ErrorPage, Language, Pages, Stage, Wake},
};
use crate::{
    app::AppState,
    clock::Millis,
    lifecycle::{Failure, ManagedApp, Progress, Step},
};

/// The header that marks every answer of ours, with the app's state in it.
pub const STATE: &str = "X-Loir-State";

/// The header of a response that waited for a wake: so many seconds.
pub const COLD_START: &str = "X-Loir-Cold-Start";

/// What is wrong with a request, in our words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status code.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: &'static str,
    /// With 405: the methods that would do.
    pub allow: Option<&'static str>,
}

impl Problem {
    /// A problem that is none of the method.
    pub const fn new(status: u16, detail: &'static str) -> Self {
        Self { status, detail, allow: None }
    }

    /// The same, with the methods that would do.
    pub const fn allowing(self, methods: &'static str) -> Self {
        Self { allow: Some(methods), ..self }
    }
}

/// What we have to say instead of an app.
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// For programs: what is wrong and what to do.
    pub detail: &'a str,
    /// The methods that would do, with 405.
    pub allow: Option<&'static str>,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// The app's state, if there is an app.
    pub state: Option<AppState>,
    /// When its schedule lets the app be woken, for programs (RFC 3339).
    pub opens: Option<String>,
    /// What a person may quote to the operator.
    pub reference: &'a str,
    /// The page for people, if it is not the general one for the status.
    pub page: Option<holding::Page>,
}

impl<'a> Answer<'a> {
    /// An error that has nothing to do with an app's state.
    pub fn error(status: u16, detail: &'a str, reference: &'a str) -> Self {
        Self {
            status,
            detail,
            allow: None,
            retry_after: None,
            state: None,
            opens: None,
            reference,
            page: None,
        }
    }

    /// The app is on its way; `posted` if the request carried something that is now not submitted.
    pub fn waking(
        pages: &Pages,
        app: &ManagedApp,
        now: Millis,
        language: Language,
        posted: bool,
    ) -> Answer<'static> {
        let progress = app.progress().borrow().clone();
        let elapsed = elapsed(&progress, now);
        let usual = estimate(&progress, elapsed);
        let wake =
            Wake { app: &app.id.name, elapsed, usual, stage: Stage::Waking(step(progress.step)), posted };
        // What is left of the usual boot, within what makes sense to wait before asking again.
        let left = usual.map_or(Duration::from_secs(5), |usual| usual.p50.saturating_sub(elapsed));
        let longest = match progress.step {
            Step::Queued(queue) => queue + Duration::from_secs(30),
            _ => Duration::from_secs(30),
        };
        let left = left.clamp(Duration::from_secs(1), longest);
        Answer {
            status: 503,
            detail: "The app is waking up. Nothing was forwarded to it; send the request again after Retry-After.",
            allow: None,
            retry_after: Some(left),
            state: Some(progress.state),
            opens: None,
            reference: "",
            page: Some(pages.holding(&wake, language)),
        }
    }

    /// The app did not wake, or crashed, and is not tried again yet.
    pub fn failed(
        pages: &Pages,
        app: &ManagedApp,
        failure: &'a Failure,
        now: Millis,
        language: Language,
        posted: bool,
    ) -> Self {
        let retry_after = failure.retry_at.since(now);
        let shown = holding::Failure { reference: &failure.reference, retry_after };
        let wake = Wake {
            app: &app.id.name,
            elapsed: Duration::ZERO,
            usual: None,
            stage: Stage::Failed(shown),
            posted,
        };
        Answer {
            status: 502,
            detail: "The app could not be started. It is tried again for the first request after Retry-After.",
            allow: None,
            retry_after: Some(retry_after.max(Duration::from_secs(1))),
            state: Some(AppState::Failed),
            opens: None,
            reference: &failure.reference,
            page: Some(pages.holding(&wake, language)),
        }
    }

    /// Sends it, in the form that `audience` understands.
    pub async fn send(
        self,
        session: &mut Session,
        pages: &Pages,
        audience: Audience,
        request_id: &str,
    ) -> Result<()> {
        let mut head = ResponseHeader::build(self.status, Some(16))?;
        let (kind, body, csp) = self.content(session, pages, audience);
        never_cached(&mut head)?;
        if let Some(methods) = self.allow {
            head.insert_header(header::ALLOW, HeaderValue::from_static(methods))?;
        }
        if let Some(after) = self.retry_after {
            head.insert_header("Retry-After", HeaderValue::from(whole_seconds(after)))?;
        }
        head.insert_header(STATE, HeaderValue::from_static(self.state.map_or("none", AppState::as_str)))?;
        head.insert_header("X-Request-Id", request_id)?;
        if let Some(csp) = csp {
            head.insert_header("Content-Security-Policy", csp)?;
            head.insert_header("Referrer-Policy", HeaderValue::from_static("same-origin"))?;
        }
        if audience == Audience::Grpc {
            // A gRPC client looks at trailers; with nothing else to send they go into the header (trailers-only).
            head.set_status(200)?;
            head.insert_header("grpc-status", HeaderValue::from(grpc_status(self.status)))?;
            let message = if self.detail.is_empty() { "the app is not available" } else { self.detail };
            head.insert_header("grpc-message", message)?;
            if let Some(after) = self.retry_after {
                head.insert_header("grpc-retry-pushback-ms", after.as_millis().to_string())?;
            }
        }
        if let Some(kind) = kind {
            head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(kind))?;
        }
        send(session, head, body).await
    }

    fn content(
        &self,
        session: &Session,
        pages: &Pages,
        audience: Audience,
    ) -> (Option<&'static str>, Bytes, Option<String>) {
        let headers = &session.req_header().headers;
        let person = matches!(audience, Audience::Visitor | Audience::Submitter);
        match audience {
            Audience::Grpc => (Some("application/grpc"), Bytes::new(), None),
            Audience::Subresource => (None, Bytes::new(), None),
            _ if person || (self.page.is_none() && prefers_html(headers)) => {
                let page = self.page.clone().unwrap_or_else(|| {
                    let language = language(session);
                    pages.error(ErrorPage { status: self.status, reference: self.reference }, language)
                });
                let csp = if is_framed(headers) { page.csp.replace(OWN_FRAMES, "") } else { page.csp };
                (Some("text/html; charset=utf-8"), page.body.into(), Some(csp))
            }
            _ => (Some("application/problem+json"), self.problem(), None),
        }
    }

    fn problem(&self) -> Bytes {
        let title = http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": title.unwrap_or("Error"),
            "status": self.status,
            "detail": self.detail,
        });
        if !self.reference.is_empty() {
            problem["instance"] = format!("urn:loir:{}", self.reference).into();
        }
        if let Some(state) = self.state {
            problem["loir"] = serde_json::json!({
                "state": state.as_str(),
                "retry_after": self.retry_after.map(whole_seconds),
                "status_url": super::reserved::STATUS,
            });
            if let Some(opens) = &self.opens {
                problem["loir"]["opens"] = opens.as_str().into();
            }
        }
        problem.to_string().into()
    }
}

/// The part of a page's policy that keeps it out of the frames of other sites.
const OWN_FRAMES: &str = "; frame-ancestors 'self'";

/// Whether the answer is for a frame of some page. An app that is embedded elsewhere must be able to wake there, else
/// the browser shows an error of its own and never asks again; and there is nothing on our pages to be clicked in error.
fn is_framed(headers: &http::HeaderMap) -> bool {
    headers.get("sec-fetch-dest").is_some_and(|dest| dest == "iframe" || dest == "frame")
}

/// Our status codes as gRPC has them: a client tries again what is UNAVAILABLE, and only that.
fn grpc_status(status: u16) -> u16 {
    const UNKNOWN: u16 = 2;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    match status {
        400 => INTERNAL,
        404 | 405 => UNIMPLEMENTED,
        413 | 431 => RESOURCE_EXHAUSTED,
        502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// What the page shows of a wake, for events and for polling.
pub fn status(progress: &Progress, now: Millis) -> serde_json::Value {
    let usual = estimate(progress, elapsed(progress, now));
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut status = serde_json::json!({
        "state": progress.state.as_str(),
        "step": step(progress.step).as_str(),
        "elapsed_ms": millis(elapsed(progress, now)),
        "p50_ms": usual.map(|usual| millis(usual.p50)),
        "p90_ms": usual.map(|usual| millis(usual.p90)),
    });
    if let Some(failure) = &progress.failure {
        status["reference"] = (*failure.reference).into();
        status["retry_after"] = whole_seconds(failure.retry_at.since(now)).into();
    }
    status
}

/// The usual boot; for a start that waits for its turn in the account's quota, after that.
fn estimate(progress: &Progress, elapsed: Duration) -> Option<holding::Estimate> {
    let usual = holding::estimate(&progress.boots);
    let Step::Queued(queue) = progress.step else { return usual };
    let usual = usual.unwrap_or(holding::Estimate { p50: Duration::ZERO, p90: Duration::ZERO });
    let queue = elapsed + queue;
    Some(holding::Estimate { p50: queue + usual.p50, p90: queue + usual.p90 })
}

fn step(step: Step) -> holding::Step {
    match step {
        Step::Queued(_) | Step::Starting => holding::Step::Starting,
        Step::Probing => holding::Step::Probing,
        Step::Ready => holding::Step::Ready,
    }
}

fn elapsed(progress: &Progress, now: Millis) -> Duration {
    if progress.state == AppState::Waking { now.since(progress.began) } else { Duration::ZERO }
}

/// Rounded up: a client that comes back a moment too early has come in vain.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The language the client asks for.
pub fn language(session: &Session) -> Language {
    let accept = session.get_header(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Language::from_accept_language(accept.unwrap_or_default())
}

/// On everything we say ourselves.
pub fn never_cached(head: &mut ResponseHeader) -> Result<()> {
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    head.insert_header("CDN-Cache-Control", HeaderValue::from_static("no-store"))?;
    head.insert_header("X-Robots-Tag", HeaderValue::from_static("noindex"))?;
    head.insert_header("X-Content-Type-Options", HeaderValue::from_static("nosniff"))?;
    let vary = "Accept, Accept-Language, Sec-Fetch-Mode, Sec-Fetch-Dest";
    head.insert_header("Vary", HeaderValue::from_static(vary))
}

/// Sends a whole answer. What is left of the request's body is read for a moment, so that a client that is still
/// sending hears the answer instead of a reset connection.
pub async fn send(session: &mut Session, mut head: ResponseHeader, body: Bytes) -> Result<()> {
    const STILL_SENDING: Duration = Duration::from_secs(2);
    // A client that waits for `100 Continue` has sent nothing, and now need not.
    if session.get_header(header::EXPECT).is_none() && !session.is_upgrade_req() {
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(STILL_SENDING));
    }
    head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(body.len()))?;
    let empty = body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
