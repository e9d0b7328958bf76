//! What is asked of the history.

use serde::{Deserialize, Serialize};

use super::{Entry, EventId};
use crate::config::Pattern;

/// So many events are answered if nobody says how many.
const USUAL: usize = 100;

/// And never more than this.
const MOST: usize = 10_000;

/// Which events. What is not set does not matter. The newest come first.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams,
)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Query {
    /// Of this app, `provider/name` or `name`, or of all that fit: `*` stands for anything, `?` for one character.
    pub app: Option<String>,
    /// Only this one, as `ready`.
    pub event: Option<String>,
    /// Only what was caused so, as `request`, `idle`, `schedule`, `person`.
    pub cause: Option<String>,
    /// Only what belongs to this wake or stop.
    pub run: Option<String>,
    /// From this moment on: wall-clock milliseconds since 1970.
    pub since: Option<u64>,
    /// Before this moment.
    pub until: Option<u64>,
    /// At most so many: 100 if not set, 10,000 at most.
    #[param(maximum = 10000)]
    pub limit: Option<usize>,
    /// Only what came before this event: the last one of the page before.
    #[param(value_type = Option<String>, pattern = r"^[0-7][0-9a-f]{15}$")]
    #[schema(value_type = Option<String>)]
    pub before: Option<EventId>,
}

impl Query {
    /// At most so many are answered.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL).min(MOST)
    }

    /// The ids between which all of it lies: from the first, and before the second.
    pub fn range(&self) -> (EventId, EventId) {
        let from = EventId::at(self.since.unwrap_or(0));
        let until = self.until.map_or(EventId(i64::MAX), EventId::at);
        (from, self.before.map_or(until, |before| before.min(until)))
    }

    /// Which apps.
    pub fn apps(&self) -> Option<Pattern> {
        self.app.as_deref().map(Pattern::new)
    }

    /// Whether this is one of them.
    pub fn fits(&self, entry: &Entry) -> bool {
        let (from, before) = self.range();
        let same =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        (from..before).contains(&entry.id)
            && same(&self.event, &entry.event)
            && same(&self.cause, entry.cause.kind())
            && self.run.as_deref().is_none_or(|run| entry.run.as_deref() == Some(run))
            && self.apps().is_none_or(|pattern| pattern.fits(&entry.app))
    }
}

/// What was found, and whether it is all there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// What was found.
    pub found: Vec<T>,
    /// Why there may be more: the store cannot be asked, and this is only what waits to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}
