//! `Outlook`: why an app is awake, when it would sleep, and what its rules will make of it: for people.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Cause, Lifecycle, ManagedApp,
    event::moment,
    schedule::Stance,
    traffic::Asker,
    verdict::{Kept, Moment, Verdict, Why, limit_of, schedule_of},
};
use crate::{
    app::{AppId, AppState},
    config::units,
    routing::{
        rules::Source,
        schedule::{Standing, WhileAsleep},
    },
};

/// Who asked within this is named.
const LATELY: Duration = Duration::from_secs(60);

/// What is to be said of an app at one moment, as this gateway sees it. Moments are wall-clock milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Outlook {
    /// Which app.
    pub app: AppId,
    /// What it does.
    pub state: AppState,
    /// Since when.
    pub since: u64,
    /// Why it is awake; empty if it is not.
    pub awake_because: Vec<Reason>,
    /// Why it was woken or stopped the last time here, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_cause: Option<Cause>,
    /// What its provider calls what it did about that, where it has a name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_operation: Option<Arc<str>>,
    /// When it would sleep, if nobody asks for it again. `None` if it sleeps, or something keeps it awake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeps_at: Option<u64>,
    /// The same in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeps_in: Option<u64>,
    /// Why it would sleep then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeps_because: Option<Cause>,
    /// Why it cannot be woken by a request now, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    /// What its schedule wants next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_change: Option<NextChange>,
    /// Until when it is pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_until: Option<u64>,
    /// The other apps of its group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Member>,
    /// Why it is neither woken nor stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<Arc<str>>,
    /// Whether it is only said when it would be stopped.
    pub dry_run: bool,
    /// Requests in flight, at this gateway.
    pub in_flight: u64,
    /// Requests that wait for it, at this gateway.
    pub held: usize,
    /// Who asked in the last minute, at this gateway; those who asked last come first.
    pub asked_by: Vec<Visitor>,
    /// Wakes in the last sixty minutes, at any gateway.
    pub wakes_this_hour: usize,
    /// Seconds awake since midnight (UTC).
    pub awake_seconds_today: u64,
    /// It sleeps when nobody has used it for so long, in milliseconds.
    pub idle_timeout: u64,
    /// Which rule said what.
    pub sources: Vec<Source>,
}

/// What keeps an app awake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// These are being answered.
    InFlight {
        /// How many.
        requests: u64,
    },
    /// Somebody has asked in the last minute.
    Asked {
        /// By whom.
        by: Visitor,
    },
    /// Its last use was not long enough ago.
    Used {
        /// How long ago, in milliseconds.
        ago: u64,
    },
    /// Somebody has pinned it.
    Pinned {
        /// Until when.
        until: u64,
    },
    /// Its schedule keeps it warm.
    Schedule {
        /// The rule.
        rule: Arc<str>,
        /// Until when.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    /// Others of its group are in use, or kept awake.
    Group {
        /// One of them.
        app: AppId,
    },
    /// It is neither woken nor stopped.
    LeftAlone {
        /// Why.
        why: Arc<str>,
    },
    /// Nothing is stopped, for now: it would be.
    DryRun,
}

/// Somebody who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Visitor {
    /// In how many seconds of the last minute: as many requests at least.
    pub requests: usize,
    /// What calls itself so in `User-Agent`; empty if it says nothing.
    pub name: String,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// Why an app that does not run cannot be woken by a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// The schedule or the limit.
    pub by: Cause,
    /// Until when, if that is in sight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Whether a person may wake it all the same.
    pub ask: bool,
}

/// What a schedule wants next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextChange {
    /// When.
    pub at: u64,
    /// `awake`, `asleep` or `free`.
    pub to: &'static str,
}

/// Another app of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Which.
    pub app: AppId,
    /// What it does.
    pub state: AppState,
}

impl Lifecycle {
    /// What is to be said of `app` now.
    pub fn outlook(&self, app: &ManagedApp) -> Outlook {
        let at = Moment::of(&self.clock);
        let (settings, state) = (app.settings(), app.state());
        let ruling = &settings.ruling;
        let verdict = app.verdict(at);
        let next = app.next_standing(&settings, at.wall);
        let asked_by = visitors(&app.traffic().askers(), at);
        let (wakes_this_hour, awake_seconds_today) = {
            let usage = app.ruled.usage();
            (usage.wakes(at.wall), usage.awake_today(at.wall).as_secs())
        };
        let awake = state == AppState::Awake;
        let kept_by = self.group_keeps(app, at).filter(|_| awake);
        let mut outlook = Outlook {
            app: app.id.clone(),
            state,
            since: at.wall.saturating_sub(millis(at.now.since(app.since()))),
            awake_because: Vec::new(),
            last_cause: app.run().map(|run| run.cause),
            last_operation: app.ruled.operation(),
            sleeps_at: None,
            sleeps_in: None,
            sleeps_because: None,
            closed: None,
            next_change: next.as_ref().map(|(at, standing)| NextChange { at: *at, to: word(standing) }),
            pinned_until: app.ruled.pinned(at.wall),
            group: self
                .group_of(app)
                .map(|other| Member { app: other.id.clone(), state: other.state() })
                .collect(),
            left_alone: app.left_alone(),
            dry_run: ruling.dry_run,
            in_flight: app.in_flight(),
            held: app.held(),
            asked_by,
            wakes_this_hour,
            awake_seconds_today,
            idle_timeout: millis(settings.timeouts.idle),
            sources: ruling.sources.clone(),
        };
        if !awake {
            outlook.closed = closed(app, at);
            return outlook;
        }
        if let Verdict::Stop { after, why } = verdict
            && outlook.in_flight == 0
            && kept_by.is_none()
        {
            let idle = at.now.since(app.cell.last_activity());
            let mut end = (at.wall.saturating_add(millis(after.saturating_sub(idle))), why);
            if let Some((opens, Standing::Asleep(_))) = next {
                end = end.min_by_moment((opens, Why::Schedule));
            }
            if let Some(left) = app.ruled.usage().left_today(&ruling.limits, at.wall)
                && why != Why::Limit
            {
                end = end.min_by_moment((at.wall.saturating_add(millis(left)), Why::Limit));
            }
            outlook.sleeps_at = Some(end.0);
            outlook.sleeps_in = Some(end.0.saturating_sub(at.wall));
            outlook.sleeps_because = Some(end.1.cause(ruling, end.0));
        }
        outlook.awake_because = self.reasons(app, &outlook, verdict, kept_by, at);
        outlook
    }

    fn reasons(
        &self,
        app: &ManagedApp,
        outlook: &Outlook,
        verdict: Verdict,
        kept_by: Option<AppId>,
        at: Moment,
    ) -> Vec<Reason> {
        let ruling = &app.settings().ruling;
        let mut reasons = Vec::new();
        if let Some(why) = &outlook.left_alone {
            reasons.push(Reason::LeftAlone { why: why.clone() });
        }
        match verdict {
            Verdict::Keep(Kept::Pinned(until)) => reasons.push(Reason::Pinned { until }),
            Verdict::Keep(Kept::Warm) => {
                let Cause::Schedule { rule } = schedule_of(ruling, at.wall) else { return reasons };
                let until = match &outlook.next_change {
                    // It is awake ahead of its window: until that ends.
                    Some(next) if next.to == "awake" => app.next_standing_after(next.at),
                    next => next.as_ref().map(|next| next.at),
                };
                reasons.push(Reason::Schedule { rule, until });
            }
            Verdict::Nothing | Verdict::Wake | Verdict::Stop { .. } => {}
        }
        if outlook.in_flight > 0 {
            reasons.push(Reason::InFlight { requests: outlook.in_flight });
        }
        reasons.extend(outlook.asked_by.iter().map(|by| Reason::Asked { by: by.clone() }));
        if let Verdict::Stop { after, .. } = verdict {
            let ago = at.now.since(app.cell.last_activity());
            if ago < after && outlook.asked_by.is_empty() && outlook.in_flight == 0 {
                reasons.push(Reason::Used { ago: millis(ago) });
            }
        }
        reasons.extend(kept_by.map(|app| Reason::Group { app }));
        if outlook.dry_run && outlook.sleeps_in == Some(0) {
            reasons.push(Reason::DryRun);
        }
        reasons
    }
}

impl ManagedApp {
    /// When what its schedule wants at `wall` ends.
    fn next_standing_after(&self, wall: u64) -> Option<u64> {
        self.settings().ruling.schedule.as_ref()?.next(wall).map(|(end, _)| end)
    }
}

trait Sooner {
    fn min_by_moment(self, other: Self) -> Self;
}

impl Sooner for (u64, Why) {
    fn min_by_moment(self, other: Self) -> Self {
        if other.0 < self.0 { other } else { self }
    }
}

fn closed(app: &ManagedApp, at: Moment) -> Option<Closed> {
    let settings = app.settings();
    let ruling = &settings.ruling;
    if let Stance::Closed { wake: wake @ (WhileAsleep::Never | WhileAsleep::Ask), opens } =
        app.stance(&settings, at.wall)
    {
        return Some(Closed {
            by: schedule_of(ruling, at.wall),
            until: opens,
            ask: wake == WhileAsleep::Ask,
        });
    }
    let (reached, wait) = app.ruled.usage().refuses(&ruling.limits, at.wall)?;
    let by = Cause::Limit { limit: limit_of(ruling, reached) };
    Some(Closed { by, until: Some(at.wall.saturating_add(millis(wait))), ask: false })
}

/// Who asked in the last minute, by name and address.
fn visitors(askers: &[Asker], at: Moment) -> Vec<Visitor> {
    let mut visitors: Vec<Visitor> = Vec::new();
    for asker in askers.iter().rev().filter(|asker| at.now.since(asker.at) <= LATELY) {
        let name = agent_name(&asker.agent);
        let same = |visitor: &&mut Visitor| visitor.name == name && visitor.client == asker.client;
        match visitors.iter_mut().find(same) {
            Some(visitor) => visitor.requests += 1,
            None => visitors.push(Visitor { requests: 1, name: name.to_owned(), client: asker.client }),
        }
    }
    visitors
}

/// What a `User-Agent` calls itself: `UptimeRobot` of `Mozilla/5.0 (compatible; UptimeRobot/2.0; ...)`, `curl` of `curl/8.5`.
pub fn agent_name(agent: &str) -> &str {
    let product = |text: &str| text.find(['/', ' ', ';', ')', '+']).unwrap_or(text.len());
    if let Some((_, rest)) = agent.split_once("compatible; ") {
        return &rest[..product(rest)];
    }
    // Every browser says that it is all of those that came before it.
    for (token, name) in
        [("Firefox/", "Firefox"), ("Edg/", "Edge"), ("Chrome/", "Chrome"), ("Safari/", "Safari")]
    {
        if agent.starts_with("Mozilla/") && agent.contains(token) {
            return name;
        }
    }
    agent[..product(agent)].trim()
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Free => "free",
        Standing::Awake => "awake",
        Standing::Asleep(_) => "asleep",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Rounded as people say it: seconds up to two minutes, then minutes.
fn roughly(millis: u64) -> String {
    let seconds = millis.div_ceil(1000);
    let rounded = match seconds {
        0..120 => seconds,
        120..7200 => seconds.div_ceil(60) * 60,
        _ => seconds.div_ceil(900) * 900,
    };
    units::duration(Duration::from_secs(rounded))
}

impl fmt::Display for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = if self.requests == 1 { "request" } else { "requests" };
        write!(f, "{} {requests} in the last minute", self.requests)?;
        match (self.name.as_str(), self.client) {
            ("", None) => Ok(()),
            ("", Some(client)) => write!(f, " from {client}"),
            (name, None) => write!(f, " from {name}"),
            (name, Some(client)) => write!(f, " from {name} ({client})"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight { requests: 1 } => f.write_str("1 request is in flight"),
            Self::InFlight { requests } => write!(f, "{requests} requests are in flight"),
            Self::Asked { by } => fmt::Display::fmt(by, f),
            Self::Used { ago } => write!(f, "it was used {} ago", roughly(*ago)),
            Self::Pinned { until } => write!(f, "it is pinned until {}", moment(*until)),
            Self::Schedule { rule, until: None } => write!(f, "its schedule keeps it awake ({rule})"),
            Self::Schedule { rule, until: Some(until) } => {
                write!(f, "its schedule keeps it awake until {} ({rule})", moment(*until))
            }
            Self::Group { app } => write!(f, "{app} of its group is in use"),
            Self::LeftAlone { why } => write!(f, "it is left alone: {why}"),
            Self::DryRun => f.write_str("dry_run: nothing is stopped"),
        }
    }
}

/// One line, as `awake because: 3 requests in the last minute from UptimeRobot (203.0.113.9); would sleep in 8m`.
impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        for (number, reason) in self.awake_because.iter().enumerate() {
            write!(f, "{}{reason}", if number == 0 { " because: " } else { ", " })?;
        }
        if let Some(closed) = &self.closed {
            write!(f, "; not woken by requests: {}", closed.by)?;
            if let Some(until) = closed.until {
                write!(f, ", until {}", moment(until))?;
            }
        }
        match (self.sleeps_in, &self.sleeps_because) {
            (Some(0), _) if self.dry_run => f.write_str("; would sleep now"),
            (Some(left), Some(Cause::Idle { .. }) | None) => write!(f, "; would sleep in {}", roughly(left)),
            (Some(left), Some(cause)) => write!(f, "; would sleep in {}: {cause}", roughly(left)),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;

    #[test]
    fn who_asked_is_called_what_it_calls_itself() {
        for (agent, name) in [
            ("Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", "UptimeRobot"),
            ("curl/8.5.0", "curl"),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox"),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                "Chrome",
            ),
            ("", ""),
            ("Better Uptime Bot", "Better"),
        ] {
            assert_eq!(agent_name(agent), name, "{agent}");
        }
    }

    #[test]
    fn visitors_of_the_last_minute_are_told_together() {
        let asker = |at: u64, ip: &str, agent: &str| Asker {
            at: Millis(at * 1000),
            client: Some(ip.parse().unwrap()),
            agent: agent.into(),
        };
        let robot = "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)";
        let askers = [
            asker(10, "203.0.113.9", robot),
            asker(50, "203.0.113.9", robot),
            asker(70, "198.51.100.7", "curl/8"),
            asker(80, "203.0.113.9", robot),
            asker(90, "203.0.113.9", robot),
        ];
        let told: Vec<_> = visitors(&askers, Moment { now: Millis(100_000), wall: 0 })
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "3 requests in the last minute from UptimeRobot (203.0.113.9)",
                "1 request in the last minute from curl (198.51.100.7)"
            ]
        );
    }

    #[test]
    fn lengths_are_told_as_people_say_them() {
        for (millis, told) in
            [(0, "0s"), (7_001, "8s"), (471_000, "8m"), (7_000_000, "1h57m"), (8_000_000, "2h15m")]
        {
            assert_eq!(roughly(millis), told);
        }
    }
}
