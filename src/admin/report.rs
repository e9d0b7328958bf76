//! `/v1/report`: what sleeping was good for.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    AdminSide,
    acts::period,
    apps::millis,
    door::Reader,
    problem::{Problem, Query},
};
use crate::history::report::{Report, ReportRequest};

/// Of what, and how it is written.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// From when on: a duration before now, as `30d`, or a moment, as `2026-11-01T00:00:00Z`. Default: `30d`.
    #[param(pattern = r"^[1-9][0-9]{0,2}[smhd]$")]
    since: Option<String>,
    /// Before when; written the same way. Default: now.
    #[param(pattern = r"^[1-9][0-9]{0,2}[smhd]$")]
    until: Option<String>,
    /// Of this app, `provider/name` or `name`, or of all that fit: `*` stands for anything, `?` for one character.
    app: Option<String>,
    /// How it is written. Default: `json`.
    format: Option<Format>,
    /// What another setting would have done: `idle_timeout=10m`.
    #[param(pattern = r"^idle_timeout=[1-9][0-9]{0,2}[smhd]$")]
    what_if: Option<String>,
}

/// How a report is written.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For programs.
    #[default]
    Json,
    /// For people.
    Text,
    /// For spreadsheets.
    Csv,
}

impl Wanted {
    fn request(&self, now: u64) -> Result<ReportRequest, Problem> {
        let moment = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
        let what_if = self.what_if.as_deref().map(|text| match text.split_once('=') {
            Some(("idle_timeout", long)) => period(long).map(|long| long.as_secs().max(1)),
            _ => Err(Problem::bad_request("`what_if` is written as idle_timeout=10m")),
        });
        Ok(ReportRequest {
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            app: self.app.clone(),
            what_if_idle_seconds: what_if.transpose()?,
        })
    }
}

/// A moment, or so long before `now`: in milliseconds since 1970.
fn moment(text: &str, now: u64) -> Result<u64, Problem> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(u64::try_from(moment.as_millisecond()).unwrap_or(0));
    }
    let wrong = |_| Problem::bad_request("a moment is written as `30d`, or as 2026-11-01T00:00:00Z");
    period(text).map(|before| now.saturating_sub(millis(before))).map_err(wrong)
}

/// Hours asleep, money where a price is known, energy and CO2e as ranges.
#[utoipa::path(get, path = "/v1/report", tag = "history", params(Wanted), responses(
    (status = 200, content((Report = "application/json"), (String = "text/plain"), (String = "text/csv"))),
    (status = 422, description = "a duration that is none", body = super::problem::Body, content_type = "application/problem+json"),
))]
pub async fn report(
    _: Reader,
    State(side): State<AdminSide>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let request = wanted.request(side.clock().unix_millis())?;
    let report = side.history().report(&request).await;
    Ok(match wanted.format.unwrap_or_default() {
        Format::Json => Json(report).into_response(),
        Format::Text => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], report.text()).into_response()
        }
        Format::Csv => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], report.csv()).into_response(),
    })
}
