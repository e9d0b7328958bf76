//! `/v1/events`: what has happened, and what happens.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::sse,
};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use utoipa::{IntoParams, ToSchema};

use super::{
    AdminSide,
    door::Reader,
    problem::{self, Problem, Query},
};
use crate::{
    config::Pattern,
    history::{self, Entry, EventId},
};

/// A silent stream is closed by proxies after 30 or 60 seconds.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// So many listen at once.
pub const LISTENERS: usize = 64;

/// So many events are listed, or counted, at once, at most.
const MOST: usize = 10_000;

/// So many events that somebody has missed are sent again.
const MISSED: usize = 1_000;

/// Events, the newest first.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// What was found.
    pub found: Vec<Entry>,
    /// Why there may be more: the store cannot be asked, and this is only what waits to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// What was lost, if anything was, and how the store does.
    pub gap: history::Gap,
}

/// What has happened. A page ends at `limit`; the next one is `before` its last event.
#[utoipa::path(get, path = "/v1/events", tag = "history", params(history::Query), responses((status = 200, body = Events)))]
pub async fn find(
    _: Reader,
    State(side): State<AdminSide>,
    Query(query): Query<history::Query>,
) -> Result<Json<Events>, Problem> {
    let latest = i64::MAX.unsigned_abs();
    if query.limit.is_some_and(|limit| limit > MOST)
        || query.since.max(query.until).is_some_and(|at| at > latest)
    {
        return Err(Problem::bad_request(format!("at most {MOST} events, and moments of this world")));
    }
    let history = side.history();
    let answer = history.events(&query).await;
    Ok(Json(Events { found: answer.found, incomplete: answer.incomplete, gap: history.gap() }))
}

/// Which events.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Of this app, `provider/name` or `name`, or of all that fit: `*` stands for anything, `?` for one character.
    app: Option<String>,
}

/// What happens, from now on, as server-sent events: `id` is the event's, `event` its name, `data` the same JSON as in a list.
/// `Last-Event-ID` says which was the last that was seen: those since then come first. `event: missed` says how many were not sent
/// (9,000 stands for as many or more).
#[utoipa::path(get, path = "/v1/events/live", tag = "history", params(
    Which,
    ("Last-Event-ID" = Option<String>, Header, description = "the `id` of the last event that was seen"),
), responses(
    (status = 200, description = "events, and a comment every 15 seconds", body = String, content_type = "text/event-stream"),
    (status = 409, description = "too many listen already", body = problem::Body, content_type = "application/problem+json"),
))]
pub async fn live(
    _: Reader,
    State(side): State<AdminSide>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<sse::Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let place = side.0.listeners.clone().try_acquire_owned();
    let place =
        place.map_err(|_| Problem::new(StatusCode::CONFLICT, "too many listen already").after(HEARTBEAT))?;
    let last: Option<EventId> = match headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default()) {
        None | Some("") => None,
        Some(id) => {
            Some(id.parse().map_err(|wrong| Problem::bad_request(format!("Last-Event-ID: {wrong}")))?)
        }
    };
    // First listen, then look: nothing falls between.
    let live = side.history().live();
    let pattern = which.app.as_deref().map(Pattern::new);
    let (left_out, missed) = match last {
        None => (0, Vec::new()),
        Some(last) => missed(&side, which.app, last).await,
    };
    let listening = Listening {
        live,
        pattern,
        sent: missed.iter().map(|entry| entry.id).collect(),
        shutdown: side.0.parts.shutdown.clone(),
        _place: place,
    };
    let left_out = (left_out > 0).then(|| not_sent(left_out as u64));
    let since = stream::iter(left_out.into_iter().chain(missed.iter().map(event)).collect::<Vec<_>>());
    let from_now =
        stream::unfold(listening, |mut listening| async move { Some((listening.next().await?, listening)) });
    // So that whoever listens knows at once that it does.
    let hello = stream::iter([sse::Event::default().comment("listening")]);
    let all = hello.chain(since).chain(from_now).map(Ok);
    Ok(sse::Sse::new(all).keep_alive(sse::KeepAlive::new().interval(HEARTBEAT).text("heartbeat")))
}

/// What has happened since `last`, the oldest first, and how many events before that are not sent again.
async fn missed(side: &AdminSide, app: Option<String>, last: EventId) -> (usize, Vec<Entry>) {
    let since = Some(last.unix_millis());
    let query = history::Query { app, since, limit: Some(MOST), ..history::Query::default() };
    let mut found = side.history().events(&query).await.found;
    found.retain(|entry| entry.id > last);
    let left_out = found.len().saturating_sub(MISSED);
    found.truncate(MISSED);
    found.reverse();
    (left_out, found)
}

struct Listening {
    live: broadcast::Receiver<Arc<Entry>>,
    pattern: Option<Pattern>,
    /// These are not sent again. Not all up to the last of them: that may be of another gateway, whose clock is ahead of ours.
    sent: HashSet<EventId>,
    shutdown: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Listening {
    /// The next event; `None` when the gateway ends.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let heard = tokio::select! {
                heard = self.live.recv() => heard,
                _ = self.shutdown.wait_for(|ends| *ends) => return None,
            };
            match heard {
                Ok(entry) => {
                    if !self.sent.contains(&entry.id)
                        && self.pattern.as_ref().is_none_or(|pattern| pattern.fits(&entry.app))
                    {
                        return Some(event(&entry));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    return Some(not_sent(missed));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

fn not_sent(events: u64) -> sse::Event {
    sse::Event::default().event("missed").data(events.to_string())
}

fn event(entry: &Entry) -> sse::Event {
    let data = serde_json::to_string(entry).unwrap_or_default();
    sse::Event::default().id(entry.id.to_string()).event(entry.event.clone()).data(data)
}
