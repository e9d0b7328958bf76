//! What a rule says, in words: for `loir explain` and for events.

use super::{Access, NoWake, Ruling, Until, WakeLimits};
use crate::config::units;

/// The value of `key`.
pub(super) fn value(ruling: &Ruling, key: &str) -> String {
    let period = |value: Option<std::time::Duration>| value.map(units::duration).unwrap_or_default();
    match key {
        "idle_timeout" => period(ruling.idle_timeout),
        "wake_timeout" => period(ruling.wake_timeout),
        "hold_timeout" => period(ruling.hold_timeout),
        "hold_before_page" => period(ruling.hold_before_page),
        "stop" => ruling.stop.map(|stop| stop.as_str().to_owned()).unwrap_or_default(),
        "wakes_with" => list(ruling.wakes_with.iter().map(ToString::to_string)),
        "after" => list(ruling.after.iter().map(|(app, until)| format!("{app} {}", until.as_str()))),
        "schedule" => ruling.schedule.as_ref().map(|schedule| schedule.to_string()).unwrap_or_default(),
        "no_wake" => ruling.no_wake.as_deref().map(no_wake).unwrap_or_default(),
        "access" => ruling.access.as_deref().map(access).unwrap_or_default(),
        "limits" => limits(&ruling.limits),
        "dry_run" => ruling.dry_run.to_string(),
        _ => String::new(),
    }
}

impl Until {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Started => "started",
        }
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn no_wake(no_wake: &NoWake) -> String {
    let NoWake { paths, user_agents, monitors, methods, cidrs } = no_wake;
    let paths = paths.iter().cloned();
    let agents = user_agents.iter().cloned().chain(monitors.then(|| "monitors".to_owned()));
    list(paths.chain(agents).chain(methods.iter().cloned()).chain(cidrs.iter().map(ToString::to_string)))
}

fn access(access: &Access) -> String {
    let words = [(access.token, "token"), (access.link, "link")];
    let words = words.into_iter().filter(|(named, _)| *named).map(|(_, word)| word.to_owned());
    list(words.chain(access.networks.iter().map(ToString::to_string)))
}

fn limits(limits: &WakeLimits) -> String {
    let wakes = limits.wakes_per_hour.map(|wakes| format!("{wakes} wakes per hour"));
    let awake = limits.awake_per_day.map(|awake| format!("{} awake per day", units::duration(awake)));
    list(wakes.into_iter().chain(awake))
}
