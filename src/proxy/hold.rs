//! Waiting with a client for its app.

use std::time::Duration;

use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::{
    FORWARD, Gateway, RequestContext,
    audience::{self, Audience},
    respond::{self, Answer},
};
use crate::lifecycle::{ManagedApp, Refusal, Refused, Waking};

impl Gateway {
    /// Waits with the client as long as it makes sense for that client.
    pub(super) async fn hold(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        mut waking: Waking,
    ) -> Result<bool> {
        let audience = audience::audience(session.req_header());
        let app = waking.app().clone();
        let patience = patience(audience, session.req_header(), &app);
        let mut drain = self.drain();
        let began = self.0.clock.now();
        let outcome = tokio::select! {
            biased;
            woken = waking.awake() => Some(woken),
            () = client_gone(session) => return Error::e_explain(ErrorType::ConnectionClosed, "it did not wait").map_err(|e| e.into_down()),
            () = tokio::time::sleep(patience) => None,
            () = drain.over() => None,
        };
        drop(waking);
        ctx.waited = Some(self.0.clock.now().since(began));
        let language = respond::language(session);
        let posted = audience == Audience::Submitter;
        let now = self.0.clock.now();
        match outcome {
            Some(Ok(in_flight)) => {
                ctx.in_flight = Some(in_flight);
                Ok(FORWARD)
            }
            Some(Err(failure)) => {
                let answer = Answer::failed(&self.0.pages, &app, &failure, now, language, posted);
                self.send(session, ctx, audience, answer).await
            }
            None => {
                let answer = Answer::waking(&self.0.pages, &app, now, language, posted);
                self.send(session, ctx, audience, answer).await
            }
        }
    }

    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        Refused { app, reason }: Refused,
    ) -> Result<bool> {
        let audience = audience::audience(session.req_header());
        let language = respond::language(session);
        match reason {
            Refusal::Failed(failure) => {
                let posted = audience == Audience::Submitter;
                let answer =
                    Answer::failed(&self.0.pages, &app, &failure, self.0.clock.now(), language, posted);
                self.send(session, ctx, audience, answer).await
            }
            Refusal::TooManyHeld => {
                let detail = "Too many requests wait for this app already.";
                let answer = Answer {
                    retry_after: Some(Duration::from_secs(5)),
                    state: Some(app.state()),
                    ..Answer::error(503, detail, "")
                };
                self.send(session, ctx, audience, answer).await
            }
            // Nobody waits for this answer: it is empty, whoever asked.
            Refusal::Resting(state) => {
                let answer = Answer {
                    retry_after: Some(Duration::from_secs(60)),
                    state: Some(state),
                    ..Answer::error(503, "", "")
                };
                self.send(session, ctx, Audience::Subresource, answer).await
            }
        }
    }
}

/// How long this client is to wait before it is told to.
fn patience(audience: Audience, request: &RequestHeader, app: &ManagedApp) -> Duration {
    let settings = app.settings();
    let timeouts = &settings.timeouts;
    match audience {
        Audience::Visitor => timeouts.hold_before_page,
        Audience::Grpc => timeouts.hold.min(grpc_timeout(request).unwrap_or(Duration::MAX)),
        Audience::Submitter | Audience::Subresource | Audience::Program => timeouts.hold,
    }
}

/// `grpc-timeout: 250m`: up to eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(request: &RequestHeader) -> Option<Duration> {
    let text = request.headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count = u64::from(digits.parse::<u32>().ok().filter(|_| digits.len() <= 8)?);
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Returns when a client that has nothing more to send hangs up. Of any other client nothing is read: its body, or
/// the first bytes of its WebSocket, wait in the socket for the app.
async fn client_gone(session: &mut Session) {
    let downstream = session.as_downstream_mut();
    if downstream.is_upgrade_req() || !downstream.is_body_empty() {
        std::future::pending::<()>().await;
    }
    // Comes back only with an error: there is no body.
    let _ = downstream.read_body_or_idle(true).await;
}
