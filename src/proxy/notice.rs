//! The answers to those for whom an app is not woken: its schedule keeps it asleep, it has reached a limit, or they may not.

use std::time::Duration;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pingora_proxy::Session;

use super::{
    anyway::WAKE,
    audience::Audience,
    holding::{Notice, Pages, Why},
    respond::{self, Answer},
};
use crate::lifecycle::{ManagedApp, Refusal};

/// What stands for itself in a path, and needs no care in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// What `reason` is to whoever sent this request at `wall`, in milliseconds since 1970.
pub fn answer(
    pages: &Pages,
    app: &ManagedApp,
    reason: &Refusal,
    session: &Session,
    wall: u64,
    audience: Audience,
) -> Answer<'static> {
    let settings = app.settings();
    let ruling = &settings.ruling;
    let (mut opens_at, mut anyway) = (None, None);
    let (detail, retry_after, why) = match reason {
        Refusal::Closed { opens, ask } => {
            let zone = ruling.schedule.as_ref().and_then(|schedule| schedule.zone(wall).map(str::to_owned));
            let zone = zone.and_then(|name| TimeZone::get(&name).ok()).unwrap_or(TimeZone::UTC);
            let opens = opens.and_then(|opens| Some((opens, moment(opens, &zone)?)));
            opens_at = opens.as_ref().map(|(_, at)| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
            if *ask && audience == Audience::Visitor {
                anyway = Some(button(session));
            }
            let left = opens.as_ref().map(|(at, _)| Duration::from_millis(at.saturating_sub(wall)));
            let now = moment(wall, &zone).unwrap_or_default();
            let why = Why::Closed { opens: opens.map(|(_, at)| at), now };
            ("The app's schedule keeps it asleep. Nothing was forwarded to it.", left, why)
        }
        Refusal::Limited { retry_after } => (
            "The app was woken as often, or was awake as long, as its rules allow. Nothing was forwarded to it.",
            Some(*retry_after),
            Why::Limited(*retry_after),
        ),
        _ => {
            let access = ruling.access.as_deref().cloned().unwrap_or_default();
            let why = Why::NotAllowed {
                token: access.token,
                link: access.link,
                network: !access.networks.is_empty(),
            };
            ("The app sleeps, and this request may not wake it. Nothing was forwarded to it.", None, why)
        }
    };
    let posted = audience == Audience::Submitter;
    let notice = Notice { app: &app.id.name, why, anyway, posted };
    Answer {
        retry_after: retry_after.map(|after| after.max(Duration::from_secs(1))),
        state: Some(app.state()),
        opens: opens_at,
        page: Some(pages.notice(&notice, respond::language(session))),
        ..Answer::error(503, detail, "")
    }
}

fn moment(at: u64, zone: &TimeZone) -> Option<Zoned> {
    let at = Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()?;
    Some(at.to_zoned(zone.clone()))
}

/// Where the button leads, and from there back to this page.
fn button(session: &Session) -> String {
    let uri = &session.req_header().uri;
    let here = uri.path_and_query().map_or("/", |here| here.as_str());
    format!("{WAKE}?to={}", utf8_percent_encode(here, PLAIN))
}
