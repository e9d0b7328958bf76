//! Waiting with a client for its app.

use std::{sync::Arc, time::Duration};

use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::{
    FORWARD, Gateway, RequestContext,
    audience::{self, Audience},
    notice,
    respond::{self, Answer},
};
use crate::{
    app::AppState,
    lifecycle::{Admission, ManagedApp, Refusal, Refused},
};

/// What came of waiting.
pub enum Held {
    /// The app is awake, and the request is in flight.
    Awake,
    /// It is still on its way, and the client is to come again.
    Waking(Arc<ManagedApp>),
    /// There was nothing to wait for, or the wait has come to nothing.
    Refused(Refused),
}

impl Gateway {
    /// Waits with the client, and answers it unless the app is awake then.
    pub(super) async fn hold(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        admission: Admission,
    ) -> Result<bool> {
        match self.wait(session, ctx, admission).await? {
            Held::Awake => Ok(FORWARD),
            held => self.tell(session, ctx, held).await,
        }
    }

    /// Waits with the client as long as it makes sense for that client. If the app cannot be woken and exists in another
    /// place too, it is woken there.
    pub(super) async fn wait(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        mut admission: Admission,
    ) -> Result<Held> {
        let audience = audience::audience(session.req_header());
        let mut drain = self.drain();
        let began = self.0.clock.now();
        loop {
            let mut waking = match admission {
                Admission::Forward(in_flight) => {
                    ctx.in_flight = Some(in_flight);
                    return Ok(Held::Awake);
                }
                Admission::Refuse(refused) => {
                    ctx.app = Some(refused.app.clone());
                    return Ok(Held::Refused(refused));
                }
                Admission::Hold(waking) => waking,
            };
            let app = waking.app().clone();
            ctx.app = Some(app.clone());
            let waited = self.0.clock.now().since(began);
            let patience = patience(audience, session.req_header(), &app).saturating_sub(waited);
            let outcome = tokio::select! {
                biased;
                woken = waking.awake() => Some(woken),
                () = client_gone(session) => return Error::e_explain(ErrorType::ConnectionClosed, "it did not wait").map_err(|e| e.into_down()),
                () = tokio::time::sleep(patience) => None,
                () = drain.over() => None,
            };
            drop(waking);
            ctx.waited = Some(self.0.clock.now().since(began));
            match outcome {
                Some(Ok(in_flight)) => {
                    ctx.in_flight = Some(in_flight);
                    return Ok(Held::Awake);
                }
                Some(Err(reason)) => match self.admit(session, ctx) {
                    Ok(elsewhere) if elsewhere.app().id != app.id => admission = elsewhere,
                    _ => return Ok(Held::Refused(Refused { app, reason })),
                },
                None => return Ok(Held::Waking(app)),
            }
        }
    }

    /// Answers a client that waited, or did not have to.
    pub(super) async fn tell(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        held: Held,
    ) -> Result<bool> {
        let audience = audience::audience(session.req_header());
        let language = respond::language(session);
        let posted = audience == Audience::Submitter;
        let now = self.0.clock.now();
        match held {
            Held::Awake => Ok(FORWARD),
            Held::Waking(app) => {
                let answer = Answer::waking(&self.0.pages, &app, now, language, posted);
                self.send(session, ctx, audience, answer).await
            }
            Held::Refused(Refused { app, reason: Refusal::Failed(failure) }) => {
                let answer = Answer::failed(&self.0.pages, &app, &failure, now, language, posted);
                self.send(session, ctx, audience, answer).await
            }
            Held::Refused(Refused { app, reason: Refusal::TooManyHeld }) => {
                let detail = "Too many requests wait for this app already.";
                let answer = Answer {
                    retry_after: Some(Duration::from_secs(5)),
                    state: Some(app.state()),
                    ..Answer::error(503, detail, "")
                };
                self.send(session, ctx, audience, answer).await
            }
            // The reason is for operators, who find it where the app is listed.
            Held::Refused(Refused { app, reason: Refusal::LeftAlone(_) }) => {
                let detail = "The app does not run, and this gateway is not to start it.";
                let reference = ctx.request_id(session).as_str().to_owned();
                let answer = Answer { state: Some(app.state()), ..Answer::error(503, detail, &reference) };
                self.send(session, ctx, audience, answer).await
            }
            Held::Refused(Refused { app, reason: Refusal::NotAllowed })
                if app.state() == AppState::Waking =>
            {
                // Somebody else has woken it.
                let answer = Answer::waking(&self.0.pages, &app, now, language, posted);
                self.send(session, ctx, audience, answer).await
            }
            Held::Refused(Refused {
                app,
                reason: reason @ (Refusal::Closed { .. } | Refusal::Limited { .. } | Refusal::NotAllowed),
            }) => {
                let wall = self.0.clock.unix_millis();
                let answer = notice::answer(&self.0.pages, &app, &reason, session, wall, audience);
                self.send(session, ctx, audience, answer).await
            }
            // Nobody waits for this answer: it is empty, whoever asked.
            Held::Refused(Refused { reason: Refusal::Resting(state), .. }) => {
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
