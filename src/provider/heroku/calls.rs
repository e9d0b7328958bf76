//! The calls of the Platform API that we make.

use std::collections::BTreeMap;

use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT, RANGE},
};
use serde_json::{Value, json};

use super::wire;
use crate::{
    app::{AppStatus, Formation, WEB},
    provider::{
        FirstOfTwo, ProviderError, Turn,
        api::{Api, ApiError, Call, Priority, Readable, Refusal, segment},
    },
};

/// More pages than this are a loop.
const MOST_PAGES: u32 = 100;

/// The longest first page that there is; the following ones are as the API says.
const FIRST_PAGE: HeaderValue = HeaderValue::from_static("id ..; max=1000");

/// Dynos of the Fir generation are only told under this name.
const FIR: HeaderValue = HeaderValue::from_static("application/vnd.heroku+json; version=3.sdk");

/// An account's API.
#[derive(Clone)]
pub struct Calls(pub Api);

/// Why an app must not be stopped in the middle of a release.
pub const RELEASING: &str = "a release is under way";

/// What became of a scale.
pub enum Scaled {
    /// It is wanted so now, as far as the answer says: it may name all types, only the changed ones, or none.
    To(BTreeMap<String, u32>),
    /// One of the types does not exist any more.
    TypeGone(String),
    /// These quantities are not allowed, with the reason.
    DoesNotFit(String),
    /// Something else is under way: later.
    Busy(String),
}

/// What an app's dynos do.
pub struct Dynos(Vec<wire::Dyno>);

impl Calls {
    /// All apps that the account can reach, or those of a team.
    pub async fn apps(&self, team: Option<&str>) -> Result<Vec<wire::App>, ProviderError> {
        let path = team.map_or_else(|| "/apps".to_owned(), |team| format!("/teams/{}/apps", segment(team)));
        match self.pages(&path).await {
            // The list has changed under our hands.
            Err(error) if error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
                Ok(self.pages(&path).await?)
            }
            done => Ok(done?),
        }
    }

    async fn pages(&self, path: &str) -> Result<Vec<wire::App>, ApiError> {
        let mut apps = Vec::new();
        let mut range = FIRST_PAGE;
        for _ in 0..MOST_PAGES {
            let page = self.0.call(Call::get(path, Priority::List).header(RANGE, range)).await?;
            apps.extend(page.json::<Readable<wire::App>>()?.0);
            match page.headers.get("next-range") {
                Some(next) => range = next.clone(),
                None => return Ok(apps),
            }
        }
        Err(ApiError::Malformed("the list of apps has no end".into()))
    }

    /// One app.
    pub async fn app(&self, app: &wire::App, priority: Priority) -> Result<wire::App, ProviderError> {
        let call = Call::get(path(app, ""), priority);
        Ok(self.0.call(call).await.map_err(|error| missing(app, error))?.json()?)
    }

    /// How many of each type are wanted. `turn` is told if that has to wait.
    pub async fn formation(
        &self,
        app: &wire::App,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Formation, ApiError> {
        let first = FirstOfTwo(turn);
        let reply = self.0.call(Call::get(path(app, "/formation"), priority).waiting(&first)).await;
        // All of it or nothing: a type that is left out would not come back.
        let types: Vec<wire::ProcessType> = reply?.json()?;
        Ok(wire::formation(types))
    }

    /// What runs.
    pub async fn dynos(
        &self,
        app: &wire::App,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Dynos, ProviderError> {
        let mut call = Call::get(path(app, "/dynos"), priority).waiting(turn);
        if app.is_fir() {
            call = call.header(ACCEPT, FIR);
        }
        let reply = self.0.call(call).await;
        Ok(Dynos(reply.map_err(|error| missing(app, error))?.json::<Readable<wire::Dyno>>()?.0))
    }

    /// Whether the newest release is not through yet.
    pub async fn is_releasing(&self, app: &wire::App) -> Result<bool, ProviderError> {
        let newest = HeaderValue::from_static("version ..; max=1, order=desc");
        let call = Call::get(path(app, "/releases"), Priority::Stop).header(RANGE, newest);
        let reply = self.0.call(call).await.map_err(|error| missing(app, error))?;
        let releases: Readable<wire::Release> = reply.json()?;
        Ok(releases.0.first().is_some_and(|release| release.status.as_deref() == Some("pending")))
    }

    /// Sets the quantities of these types; the others stay as they are, and so do all sizes.
    pub async fn scale(
        &self,
        app: &wire::App,
        wanted: &BTreeMap<String, u32>,
        priority: Priority,
        turn: &Turn,
    ) -> Result<Scaled, ProviderError> {
        let update = |(name, quantity): (&String, &u32)| json!({ "type": name, "quantity": quantity });
        let updates: Vec<Value> = wanted.iter().map(update).collect();
        // Absolute numbers: twice is the same as once.
        let call = Call::patch(path(app, "/formation"), priority)
            .json(&json!({ "updates": updates }))
            .repeatable()
            .waiting(turn);
        match self.0.call(call).await {
            Ok(reply) => {
                let said = reply.json::<Readable<wire::ProcessType>>();
                Ok(Scaled::To(said.map(|types| wire::quantities(types.0)).unwrap_or_default()))
            }
            Err(ApiError::Status(refusal)) => refused(&refusal),
            Err(error) => Err(error.into()),
        }
    }

    /// All dynos end and begin anew.
    pub async fn restart(&self, app: &wire::App, turn: &Turn) -> Result<(), ProviderError> {
        let call = Call::delete(path(app, "/dynos"), Priority::Wake).waiting(turn);
        match self.0.call(call).await {
            Ok(_) | Err(ApiError::Ambiguous(_)) => Ok(()),
            Err(error) => Err(missing(app, error)),
        }
    }
}

fn path(app: &wire::App, rest: &str) -> String {
    format!("/apps/{}{rest}", segment(&app.id))
}

/// Whether this means that there is no such app.
pub fn is_gone(error: &ApiError) -> bool {
    matches!(error.status(), Some(StatusCode::NOT_FOUND | StatusCode::GONE))
}

pub fn missing(app: &wire::App, error: ApiError) -> ProviderError {
    if is_gone(&error) { ProviderError::NotFound(app.name.clone()) } else { error.into() }
}

/// Heroku's refusals of a scale. Which status an unknown type has is not documented, nor are the words for quantities that
/// the size of a dyno does not allow.
fn refused(refusal: &Refusal) -> Result<Scaled, ProviderError> {
    let reason = refusal.to_string();
    let about_a_type = refusal.message.to_ascii_lowercase().contains("process type");
    match (refusal.reply.status.as_u16(), refusal.code.as_deref()) {
        (422, Some("verification_needed" | "delinquent" | "suspended")) => {
            Err(ProviderError::Refused(reason))
        }
        // If it is the app that is gone, the next look tells.
        (404, _) => Ok(Scaled::TypeGone(reason)),
        (422, _) if about_a_type && refusal.message.contains("find") => Ok(Scaled::TypeGone(reason)),
        (422, _) => Ok(Scaled::DoesNotFit(reason)),
        (409, _) => Ok(Scaled::Busy(reason)),
        _ => Err(ProviderError::Refused(reason)),
    }
}

impl Dynos {
    /// What the web dynos say of an app that wants some: devcenter.heroku.com, "Dynos", and the schema's five states. One
    /// that is `down` is on its way out, and the next one is on its way.
    pub fn status(&self) -> AppStatus {
        let web = self.0.iter().filter(|dyno| dyno.kind == WEB && dyno.state != "down");
        let states: Vec<&str> = web.map(|dyno| dyno.state.as_str()).collect();
        let all = |state: &str| !states.is_empty() && states.iter().all(|one| *one == state);
        let odd = states.iter().find(|state| !matches!(**state, "crashed" | "idle" | "starting" | "up"));
        match odd {
            _ if states.contains(&"up") => AppStatus::Running,
            Some(word) => AppStatus::Unknown((*word).to_owned()),
            // Eco: the platform's router wakes it.
            None if all("idle") => AppStatus::Running,
            None if all("crashed") => AppStatus::Crashed("all its web dynos have crashed".into()),
            None => AppStatus::Starting,
        }
    }

    /// Why the app must not be stopped now: a command or a release phase is at work.
    pub fn busy(&self) -> Option<&'static str> {
        let alive = |kind: &str| {
            self.0.iter().any(|dyno| dyno.kind == kind && matches!(dyno.state.as_str(), "up" | "starting"))
        };
        if alive("run") { Some("a one-off dyno runs") } else { alive("release").then_some(RELEASING) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_web_dynos_tell_the_state_and_no_other_dyno_does() {
        let dynos = |all: &[(&str, &str)]| {
            let dyno =
                |(kind, state): &(&str, &str)| wire::Dyno { kind: (*kind).into(), state: (*state).into() };
            Dynos(all.iter().map(dyno).collect()).status()
        };
        let crashed = AppStatus::Crashed("all its web dynos have crashed".into());
        let unknown = AppStatus::Unknown("frobnicating".into());
        for (all, expected) in [
            (&[][..], AppStatus::Starting),
            (&[("web", "starting")], AppStatus::Starting),
            (&[("web", "starting"), ("web", "up"), ("worker", "crashed")], AppStatus::Running),
            (&[("web", "idle"), ("web", "idle"), ("run", "up")], AppStatus::Running),
            (&[("web", "idle"), ("web", "starting")], AppStatus::Starting),
            (&[("web", "crashed"), ("web", "down"), ("worker", "up")], crashed),
            (&[("web", "crashed"), ("web", "starting")], AppStatus::Starting),
            (&[("web", "down"), ("run", "up"), ("release", "up"), ("scheduler", "up")], AppStatus::Starting),
            (&[("web", "frobnicating"), ("web", "starting")], unknown),
            (&[("web", "frobnicating"), ("web", "up")], AppStatus::Running),
        ] {
            assert_eq!(dynos(all), expected, "{all:?}");
        }
    }
}
