//! What an operator does to an app. Each says how the app is afterwards.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AdminSide,
    apps::{App, Named, millis},
    door::{Operator, Person},
    problem::{self, Path, Problem},
};
use crate::{
    app::AppState,
    config::{scalar::Scalar, units::PositivePeriod},
    credentials::LINK_PATH,
    lifecycle::{Cause, ManagedApp, Refusal, Roused, Slept, cell::NotIdle},
};

/// Whoever asks for a stop waits so long for its end; it goes on all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// No link is good for longer.
const LONGEST_LINK: Duration = Duration::from_secs(366 * 24 * 3600);

fn cause(person: &Person) -> Cause {
    Cause::Person { name: person.name.clone() }
}

/// It is under way: where it can be seen.
fn accepted(app: &ManagedApp, side: &AdminSide) -> Response {
    let place = HeaderValue::from_str(&format!("/v1/apps/{}", app.id)).ok();
    let mut response = (StatusCode::ACCEPTED, Json(App::of(app, side))).into_response();
    if let Some(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// Wakes an app. To do so twice wakes it once.
#[utoipa::path(post, path = "/v1/apps/{provider}/{name}/wake", tag = "apps", params(Named), responses(
    (status = 200, description = "it is awake already", body = App),
    (status = 202, description = "it is on its way up", body = App, headers(("Location", description = "where that can be seen"))),
    (status = 409, description = "it cannot be woken", body = problem::Body, content_type = "application/problem+json"),
))]
pub async fn wake(
    Operator(person): Operator,
    State(side): State<AdminSide>,
    Path(named): Path<Named>,
) -> Result<Response, Problem> {
    let app = named.find(side.lifecycle())?;
    match side.lifecycle().wake(&app, cause(&person)) {
        Ok(Roused::Awake) => Ok(Json(App::of(&app, &side)).into_response()),
        Ok(Roused::Begun | Roused::UnderWay) => Ok(accepted(&app, &side)),
        Err(Refusal::LeftAlone(reason)) => {
            Err(Problem::conflict(format!("{} is left alone: {reason}", app.id)))
        }
        Err(_) => Err(Problem::conflict(format!("{} cannot be woken now", app.id))),
    }
}

/// Stops an app now, if nobody uses it at this moment.
#[utoipa::path(post, path = "/v1/apps/{provider}/{name}/sleep", tag = "apps", params(Named), responses(
    (status = 200, description = "it is asleep", body = App),
    (status = 202, description = "it is being stopped", body = App, headers(("Location", description = "where that can be seen"))),
    (status = 409, description = "it is not stopped", body = problem::Body, content_type = "application/problem+json"),
))]
pub async fn sleep(
    Operator(person): Operator,
    State(side): State<AdminSide>,
    Path(named): Path<Named>,
) -> Result<Response, Problem> {
    let app = named.find(side.lifecycle())?;
    if app.state() == AppState::Asleep {
        return Ok(Json(App::of(&app, &side)).into_response());
    }
    let (lifecycle, stopped) = (side.lifecycle().clone(), app.clone());
    let stop = tokio::spawn(async move { lifecycle.sleep_now(&stopped, cause(&person)).await });
    match tokio::time::timeout(PATIENCE, stop).await {
        Err(_) => Ok(accepted(&app, &side)),
        Ok(Ok(Slept::Yes)) => Ok(Json(App::of(&app, &side)).into_response()),
        Ok(Ok(Slept::NotIdle(why))) => {
            let why = match why {
                NotIdle::State(state) => format!("it is {state}"),
                NotIdle::InFlight(requests) => format!("{requests} requests are in flight"),
                NotIdle::Recent(_) => "it was used just now".to_owned(),
            };
            Err(Problem::conflict(format!("{} is not stopped: {why}", app.id)))
        }
        Ok(Ok(Slept::Kept(why))) => Err(Problem::conflict(format!("{} is not stopped: {why}", app.id))),
        Ok(Err(error)) => Err(Problem::conflict(format!("{} is not stopped: {error}", app.id))),
    }
}

/// Until when an app is not stopped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// A duration from now, as `2h` or `7 days`.
    #[schema(example = "2h", pattern = r"^[1-9][0-9]{0,2}[smhd]$")]
    r#for: Option<String>,
    /// In its place: a moment, as `2026-12-24T18:00:00Z`.
    #[schema(example = "2099-12-24T18:00:00Z")]
    until: Option<String>,
}

impl Pin {
    /// In milliseconds since 1970.
    fn until(&self, now: u64) -> Result<u64, Problem> {
        let unfit = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        match (&self.r#for, &self.until) {
            (Some(long), None) => Ok(now.saturating_add(millis(period(long)?))),
            (None, Some(until)) => {
                let until: jiff::Timestamp =
                    until.parse().map_err(|_| unfit("`until` is written as 2026-12-24T18:00:00Z"))?;
                let until = u64::try_from(until.as_millisecond()).unwrap_or(0);
                if until <= now { Err(unfit("`until` has passed already")) } else { Ok(until) }
            }
            _ => Err(unfit("say either `for` or `until`")),
        }
    }
}

/// Keeps an app from being stopped, until then. It is not woken by that.
#[utoipa::path(post, path = "/v1/apps/{provider}/{name}/pin", tag = "apps", params(Named), request_body = Pin, responses(
    (status = 200, body = App),
    (status = 409, description = "it cannot be pinned now", body = problem::Body, content_type = "application/problem+json"),
))]
pub async fn pin(
    Operator(person): Operator,
    State(side): State<AdminSide>,
    Path(named): Path<Named>,
    problem::Json(pin): problem::Json<Pin>,
) -> Result<Json<App>, Problem> {
    let app = named.find(side.lifecycle())?;
    let until = pin.until(side.clock().unix_millis())?;
    let pinned = side.lifecycle().pin(&app, until, cause(&person)).await;
    pinned.map_err(|error| Problem::conflict(format!("{} is not pinned: {error}", app.id)))?;
    Ok(Json(App::of(&app, &side)))
}

/// Lets an app be stopped again. Whether it was pinned is all the same.
#[utoipa::path(post, path = "/v1/apps/{provider}/{name}/unpin", tag = "apps", params(Named), responses(
    (status = 200, body = App),
    (status = 409, description = "it cannot be changed now", body = problem::Body, content_type = "application/problem+json"),
))]
pub async fn unpin(
    Operator(person): Operator,
    State(side): State<AdminSide>,
    Path(named): Path<Named>,
) -> Result<Json<App>, Problem> {
    let app = named.find(side.lifecycle())?;
    let unpinned = side.lifecycle().unpin(&app, cause(&person)).await;
    unpinned.map_err(|error| Problem::conflict(format!("{} is as it was: {error}", app.id)))?;
    Ok(Json(App::of(&app, &side)))
}

/// For how long.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct For {
    /// A duration, as `2h` or `7 days`.
    #[schema(example = "2h", pattern = r"^[1-9][0-9]{0,1}[smhd]$")]
    r#for: String,
}

/// A duration as in the configuration.
pub fn period(text: &str) -> Result<Duration, Problem> {
    PositivePeriod::parse(text)
        .map(|period| period.0)
        .map_err(|wrong| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the duration {wrong}")))
}

/// A link that wakes an app.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Whoever opens it wakes the app. Without a host if none leads to the app.
    pub link: String,
    /// When it runs out: wall-clock milliseconds since 1970.
    pub until: u64,
}

/// Signs a link that wakes an app for a while, without a token.
#[utoipa::path(post, path = "/v1/apps/{provider}/{name}/wake-link", tag = "apps", params(Named), request_body = For, responses(
    (status = 201, body = Link),
))]
pub async fn wake_link(
    _: Operator,
    State(side): State<AdminSide>,
    Path(named): Path<Named>,
    problem::Json(wanted): problem::Json<For>,
) -> Result<(StatusCode, Json<Link>), Problem> {
    let app = named.find(side.lifecycle())?;
    let long = period(&wanted.r#for)?;
    if long > LONGEST_LINK {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "a link is good for a year at most"));
    }
    let until = side.clock().unix_millis().saturating_add(millis(long));
    let text = side.credentials().sign_link(&app.id, until);
    let host = App::of(&app, &side).hosts.into_iter().next().unwrap_or_default();
    let link = if host.is_empty() { String::new() } else { format!("https://{host}") };
    Ok((StatusCode::CREATED, Json(Link { link: format!("{link}{LINK_PATH}{text}"), until })))
}
