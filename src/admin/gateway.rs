//! The gateway itself: its configuration, a reload, and whether all is well.

use std::time::Duration;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::oneshot;
use utoipa::IntoParams;

use super::{
    AdminSide,
    door::{Administrator, Reader},
    problem::{self, Problem, Query},
};

/// A reload asks every provider for its apps; it goes on all the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration in effect, without secrets: what `loir config show` prints.
#[utoipa::path(get, path = "/v1/config", tag = "gateway", responses(
    (status = 200, description = "YAML that loads again", body = Object, content_type = "application/yaml"),
))]
pub async fn config(_: Administrator, State(side): State<AdminSide>) -> Response {
    let shown = side.0.settings.load().shown.clone();
    ([(header::CONTENT_TYPE, "application/yaml")], shown).into_response()
}

/// Reads the configuration again, as SIGHUP does. A file with problems changes nothing.
#[utoipa::path(post, path = "/v1/reload", tag = "gateway", responses(
    (status = 204, description = "it is in effect"),
    (status = 202, description = "it is being read; a provider takes its time"),
    (status = 409, description = "this gateway cannot read it again", body = problem::Body, content_type = "application/problem+json"),
    (status = 422, description = "it has problems, and the old one stays", body = problem::Body, content_type = "application/problem+json"),
))]
pub async fn reload(_: Administrator, State(side): State<AdminSide>) -> Result<StatusCode, Problem> {
    let (done, outcome) = oneshot::channel();
    let nobody = || {
        Problem::conflict(
            "nobody reads the configuration here: the gateway ends, or was started without a file",
        )
    };
    if !side.0.reads_again.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(nobody());
    }
    side.0.parts.reloads.try_send(done).map_err(|refused| match refused {
        tokio::sync::mpsc::error::TrySendError::Full(_) => Problem::conflict("it is being read already"),
        tokio::sync::mpsc::error::TrySendError::Closed(_) => nobody(),
    })?;
    match tokio::time::timeout(PATIENCE, outcome).await {
        Err(_) => Ok(StatusCode::ACCEPTED),
        Ok(Ok(Ok(()))) => Ok(StatusCode::NO_CONTENT),
        Ok(Ok(Err(problems))) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problems)),
        Ok(Err(_)) => Err(nobody()),
    }
}

/// Whether the process answers. Needs no token on the admin side's own listener.
#[utoipa::path(get, path = "/livez", tag = "gateway", security(()), responses(
    (status = 200, description = "it lives", body = String, content_type = "text/plain"),
))]
pub async fn live() -> &'static str {
    "live\n"
}

/// How much is to be said.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Verbosity {
    /// Each part with a line of its own, for whoever may read. `true`, or without a value.
    #[param(pattern = "^(true|false)?$")]
    verbose: Option<String>,
}

/// Whether clients are to be sent here: it does not end, and what it needs can be reached. A registry that is away is said in the
/// words, and no reason to send nobody: what runs is served. Needs no token on the admin side's own listener, but for the words.
#[utoipa::path(get, path = "/readyz", tag = "gateway", security(()), params(Verbosity), responses(
    (status = 200, description = "it is ready", body = String, content_type = "text/plain"),
    (status = 503, description = "it is not: it ends", body = String, content_type = "text/plain"),
))]
pub async fn ready(
    reader: Result<Reader, Problem>,
    State(side): State<AdminSide>,
    Query(verbosity): Query<Verbosity>,
) -> Result<Response, Problem> {
    let verbose = match verbosity.verbose.as_deref() {
        None | Some("false") => false,
        Some("" | "true") => true,
        Some(_) => return Err(Problem::bad_request("verbose is true or false")),
    };
    if verbose {
        reader?;
    }
    let ends = *side.0.parts.shutdown.borrow();
    let (status, word) =
        if ends { (StatusCode::SERVICE_UNAVAILABLE, "ending") } else { (StatusCode::OK, "ready") };
    let mut text = format!("{word}\n");
    if verbose {
        let lifecycle = side.lifecycle();
        let registry = match lifecycle.fleet() {
            None => "ok (this gateway alone)",
            Some(fleet) if fleet.may_stop() => "ok",
            Some(_) => "away, or just back: nothing is stopped",
        };
        let reload = if side.0.metrics.is_fine() { "ok" } else { "failed; the one before is in effect" };
        let apps = lifecycle.apps().len();
        text = format!(
            "{word}\nregistry: {registry}\nlast reload: {reload}\napps: {apps}\nheld requests: {}\n",
            lifecycle.held()
        );
    }
    Ok((status, text).into_response())
}
