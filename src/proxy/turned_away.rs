//! A provider's router says that it has no app to give a request to, while we believe that the app is awake: somebody
//! stopped it, or it crashed, and we have not heard of it. Its page is not shown. The provider is asked, and if it
//! agrees, the request is held as if it had come to a sleeping app.

use pingora_core::{Error, ErrorType, Result, upstreams::peer::HttpPeer};
use pingora_proxy::Session;
use std::time::Duration;

use super::{Gateway, RequestContext, forward, hold::Held, origin};
use crate::{app::Author, lifecycle::Admission};

/// The answer that is there is passed on if the provider's takes longer: it may be the app's own.
const PATIENCE: Duration = Duration::from_secs(10);

const TURNED_AWAY: ErrorType = ErrorType::Custom("the provider's router has no app for it");

impl Gateway {
    /// An answer that may be the router's. `Ok` if it is to be passed on.
    pub(super) async fn doubt_answer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        author: Author,
        status: u16,
    ) -> Result<()> {
        let Some(app) = ctx.app().cloned() else { return Ok(()) };
        let certain = author == Author::Router && status == 503;
        let runs = self.0.lifecycle.confirm(&app, certain, PATIENCE).await;
        if runs || session.was_upgraded() {
            ctx.believed = true;
            return Ok(());
        }
        ctx.in_flight = None;
        ctx.app = Some(app);
        ctx.origin = None;
        (ctx.turned_away, ctx.certain) = (true, certain);
        Error::e_explain(TURNED_AWAY, "the app does not run").map_err(|error| error.into_up())
    }

    /// A request that was turned away comes again: it waits as if it had just arrived. Once is enough: the next answer is
    /// passed on, whatever it is.
    pub(super) async fn come_again(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<()> {
        // What was sent of the body is sent again.
        ctx.body_bytes = 0;
        let admission = match self.admit(session, ctx) {
            Ok(admission) => admission,
            Err(problem) => return Error::e_explain(ErrorType::HTTPStatus(problem.status), problem.detail),
        };
        match self.wait(session, ctx, admission).await? {
            Held::Awake => {
                (ctx.turned_away, ctx.believed) = (false, true);
                Ok(())
            }
            held => {
                ctx.held = Some(held);
                Error::e_explain(TURNED_AWAY, "the app is not awake yet")
            }
        }
    }

    /// What to tell a client whose request was turned away, and cannot or need not come again now. Whatever it was, the
    /// app is wanted: it is woken.
    pub(super) fn turned_away(&self, session: &Session, ctx: &mut RequestContext) -> Option<Held> {
        if !ctx.turned_away {
            return None;
        }
        let held = ctx.held.take().or_else(|| match self.admit(session, ctx).ok()? {
            Admission::Forward(in_flight) => Some(Held::Waking(in_flight.app().clone())),
            Admission::Hold(waking) => Some(Held::Waking(waking.app().clone())),
            Admission::Refuse(refused) => Some(Held::Refused(refused)),
        });
        held.or_else(|| ctx.app.clone().map(Held::Waking))
    }

    /// The app's host name has no known address: DNS may not have answered yet.
    pub(super) async fn look_up(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        let reached = |ctx: &RequestContext| ctx.in_flight.as_ref()?.app().reached().clone();
        let reached = match reached(ctx) {
            Some(reached) => reached,
            None => {
                // It ended between its admission and now, and nothing was sent: it waits like anybody who comes now.
                (ctx.in_flight, ctx.turned_away) = (None, true);
                self.come_again(session, ctx).await?;
                match reached(ctx) {
                    Some(reached) => reached,
                    None => return Error::e_explain(ErrorType::HTTPStatus(502), "the app is gone"),
                }
            }
        };
        reached.looked_up().await;
        match reached.address() {
            Some(address) => {
                ctx.origin = origin::of(&reached);
                Ok(Box::new(forward::peer(&reached, address, &ctx.settings, session.req_header())))
            }
            None => Error::e_explain(ErrorType::HTTPStatus(502), "the app's host name has no address"),
        }
    }
}
