//! `Rules`: what holds for which apps, out of `rules` in the file.
//!
//! | file | what is in it |
//! |---|---|
//! | `rules` (here) | `Rules`: of each key, what holds for an app, and who said so |
//! | `pattern` | which apps a rule is for, and the names it makes out of theirs |
//! | `words` | what a rule says, in words |

use std::{fmt, sync::Arc, time::Duration};

use ipnet::IpNet;
use regex::Captures;

use super::schedule::Schedule;
use crate::app::{AppId, StopTypes};

mod pattern;
mod words;

pub use pattern::{Match, Names, Template};

/// All rules, compiled once.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Where it is written that nothing is to be stopped, if it is.
    dry_run: Option<Arc<str>>,
}

/// One rule. What it does not say is `None`; an empty list says that there is nothing.
#[derive(Clone)]
pub struct Rule {
    /// Which apps it is for.
    pub pattern: Match,
    /// Whether what it lists is added to what earlier rules list.
    pub merge: bool,
    /// For people: `rule 3, conf/loir.yaml:41`.
    pub origin: Arc<str>,
    /// See [`Ruling::idle_timeout`].
    pub idle_timeout: Option<Duration>,
    /// See [`Ruling::wake_timeout`].
    pub wake_timeout: Option<Duration>,
    /// See [`Ruling::hold_timeout`].
    pub hold_timeout: Option<Duration>,
    /// See [`Ruling::hold_before_page`].
    pub hold_before_page: Option<Duration>,
    /// See [`Ruling::stop`].
    pub stop: Option<StopTypes>,
    /// See [`Ruling::wakes_with`].
    pub wakes_with: Option<Vec<Template>>,
    /// See [`Ruling::after`].
    pub after: Option<Vec<(Template, Until)>>,
    /// See [`Ruling::schedule`].
    pub schedule: Option<Arc<Schedule>>,
    /// See [`Ruling::no_wake`].
    pub no_wake: Option<Arc<NoWake>>,
    /// See [`Ruling::access`].
    pub access: Option<Arc<Access>>,
    /// See [`Ruling::limits`].
    pub limits: Option<WakeLimits>,
    /// See [`Ruling::hooks`].
    pub hooks: Option<Vec<Arc<str>>>,
    /// See [`Ruling::dry_run`].
    pub dry_run: Option<bool>,
}

/// Only where it stands: parts of it may come from the environment.
impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl Rule {
    /// A rule that says nothing yet.
    pub fn new(pattern: Match, origin: impl Into<Arc<str>>) -> Self {
        Self {
            pattern,
            merge: false,
            origin: origin.into(),
            idle_timeout: None,
            wake_timeout: None,
            hold_timeout: None,
            hold_before_page: None,
            stop: None,
            wakes_with: None,
            after: None,
            schedule: None,
            no_wake: None,
            access: None,
            limits: None,
            hooks: None,
            dry_run: None,
        }
    }
}

/// Which rules have said what: of each key those that count, in order.
#[derive(Default)]
struct Said(Vec<(&'static str, Vec<usize>)>);

impl Said {
    fn by(&self, key: &str) -> &[usize] {
        self.0.iter().find(|(known, _)| *known == key).map_or(&[], |(_, rules)| rules)
    }

    fn add(&mut self, key: &'static str, rule: usize) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rules)) => rules.push(rule),
            None => self.0.push((key, vec![rule])),
        }
    }

    /// The first one that says something counts.
    fn first<T: Clone>(&mut self, key: &'static str, rule: usize, said: &mut Option<T>, says: &Option<T>) {
        if said.is_none() && says.is_some() {
            said.clone_from(says);
            self.add(key, rule);
        }
    }

    /// The first one that says something counts, and those that add to it.
    fn united<T>(
        &mut self,
        key: &'static str,
        (rule, merge): (usize, bool),
        said: &mut Option<T>,
        says: Option<T>,
        unite: impl FnOnce(&mut T, T),
    ) {
        match (said, says) {
            (_, None) => return,
            (Some(_), Some(_)) if !merge => return,
            (Some(said), Some(says)) => unite(said, says),
            (said @ None, says) => *said = says,
        }
        self.add(key, rule);
    }
}

impl Rules {
    /// These rules, in this order. `dry_run` is where the file says that nothing at all is to be stopped, if it does.
    pub fn new(rules: Vec<Rule>, dry_run: Option<Arc<str>>) -> Self {
        Self { rules, dry_run }
    }

    /// What they say of one app: of each key, what the first rule says that fits and has it. What later rules list under
    /// `merge` is added.
    pub fn of(&self, app: &AppId) -> Ruling {
        self.judge(app).0
    }

    /// Which rule, counted from 0, was the first to say `key` of this app.
    pub fn index_of(&self, app: &AppId, key: &str) -> Option<usize> {
        self.judge(app).1.by(key).first().copied()
    }

    fn judge(&self, app: &AppId) -> (Ruling, Said) {
        let names = Names::from(app);
        let (mut ruling, mut said) = (Ruling::default(), Said::default());
        let (mut wakes_with, mut after, mut limits, mut dry_run) = (None, None, None, None);
        let mut hooks = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(captures) = rule.pattern.captures(&names) else { continue };
            said.first("idle_timeout", index, &mut ruling.idle_timeout, &rule.idle_timeout);
            said.first("wake_timeout", index, &mut ruling.wake_timeout, &rule.wake_timeout);
            said.first("hold_timeout", index, &mut ruling.hold_timeout, &rule.hold_timeout);
            said.first("hold_before_page", index, &mut ruling.hold_before_page, &rule.hold_before_page);
            said.first("stop", index, &mut ruling.stop, &rule.stop);
            said.first("dry_run", index, &mut dry_run, &rule.dry_run);
            let who = (index, rule.merge);
            let others = rule.wakes_with.as_deref().map(|listed| others(listed.iter(), &captures, app));
            said.united("wakes_with", who, &mut wakes_with, others, Vec::extend);
            let order = rule.after.as_deref().map(|listed| order(listed, &captures, app));
            said.united("after", who, &mut after, order, Vec::extend);
            said.united("schedule", who, &mut ruling.schedule, rule.schedule.clone(), |one, more| {
                *one = Arc::new(one.and(&more));
            });
            said.united("no_wake", who, &mut ruling.no_wake, rule.no_wake.clone(), |one, more| {
                Arc::make_mut(one).extend(&more);
            });
            said.united("access", who, &mut ruling.access, rule.access.clone(), |one, more| {
                Arc::make_mut(one).extend(&more);
            });
            said.united("limits", who, &mut limits, rule.limits.clone(), |one, more| {
                one.wakes_per_hour = one.wakes_per_hour.or(more.wakes_per_hour);
                one.awake_per_day = one.awake_per_day.or(more.awake_per_day);
            });
            said.united("hooks", who, &mut hooks, rule.hooks.clone(), Vec::extend);
        }
        ruling.limits = limits.unwrap_or_default();
        ruling.hooks = hooks.unwrap_or_default();
        ruling.dry_run = self.dry_run.is_some() || dry_run.unwrap_or(false);
        for (other, until) in after.into_iter().flatten() {
            if ruling.after.iter().all(|(known, _)| *known != other) {
                ruling.after.push((other, until));
            }
        }
        // Whoever is waited for is woken, too: else the wait would have no end.
        let waited_for = ruling.after.iter().map(|(other, _)| other.clone());
        for other in wakes_with.into_iter().flatten().chain(waited_for) {
            if !ruling.wakes_with.contains(&other) {
                ruling.wakes_with.push(other);
            }
        }
        ruling.sources = self.sources(&ruling, &said);
        (ruling, said)
    }

    fn sources(&self, ruling: &Ruling, said: &Said) -> Vec<Source> {
        let mut sources = Vec::new();
        for (key, rules) in &said.0 {
            let mut origins: Vec<&str> = rules.iter().map(|rule| &*self.rules[*rule].origin).collect();
            if *key == "dry_run" && self.dry_run.is_some() {
                origins = self.dry_run.iter().map(|origin| &**origin).collect();
            }
            let origin = origins.join(" and ").into();
            sources.push(Source { key, value: words::value(ruling, key), origin });
        }
        if let Some(origin) = self.dry_run.as_ref().filter(|_| said.by("dry_run").is_empty()) {
            sources.push(Source { key: "dry_run", value: "true".to_owned(), origin: origin.clone() });
        }
        if !ruling.wakes_with.is_empty() && said.by("wakes_with").is_empty() {
            let after =
                sources.iter().find(|source| source.key == "after").map(|source| source.origin.clone());
            let value = words::value(ruling, "wakes_with");
            sources.extend(after.map(|origin| Source { key: "wakes_with", value, origin }));
        }
        sources
    }
}

/// The app that a template names: at the same provider entry, if it names none. Nobody, if a part of the name is empty,
/// or if it is the app itself.
fn other(template: &Template, captures: &Captures<'_>, app: &AppId) -> Option<AppId> {
    let name = template.expand(captures);
    let other = match name.split_once('/') {
        Some((provider, name)) => AppId::new(provider, name),
        None => AppId::new(app.provider.clone(), name),
    };
    (!other.provider.is_empty() && !other.name.is_empty() && other != *app).then_some(other)
}

fn others<'a>(
    templates: impl Iterator<Item = &'a Template>,
    captures: &Captures<'_>,
    app: &AppId,
) -> Vec<AppId> {
    templates.filter_map(|template| other(template, captures, app)).collect()
}

fn order(listed: &[(Template, Until)], captures: &Captures<'_>, app: &AppId) -> Vec<(AppId, Until)> {
    listed.iter().filter_map(|(template, until)| Some((other(template, captures, app)?, *until))).collect()
}

/// What the rules say of one app. Empty where none says anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// It sleeps this long after its last request ended.
    pub idle_timeout: Option<Duration>,
    /// A start that takes longer has failed.
    pub wake_timeout: Option<Duration>,
    /// A program's request waits at most this long for it to wake.
    pub hold_timeout: Option<Duration>,
    /// A person's request waits this long before the holding page is shown.
    pub hold_before_page: Option<Duration>,
    /// Which process types are stopped.
    pub stop: Option<StopTypes>,
    /// Apps that are woken whenever this one is. A name without `/` is an app of the same provider entry.
    pub wakes_with: Vec<AppId>,
    /// Of those, which must have come how far before this one is started.
    pub after: Vec<(AppId, Until)>,
    /// When it is kept awake or asleep.
    pub schedule: Option<Arc<Schedule>>,
    /// Requests that neither wake it nor count as activity.
    pub no_wake: Option<Arc<NoWake>>,
    /// Who may wake it; anybody, if not set.
    pub access: Option<Arc<Access>>,
    /// How often and how long it may be awake.
    pub limits: WakeLimits,
    /// Hooks that are for it, by their names, beside those that say so themselves.
    pub hooks: Vec<Arc<str>>,
    /// Whether it is only said when it would be stopped.
    pub dry_run: bool,
    /// Who said what, key by key, for people.
    pub sources: Vec<Source>,
}

/// How far an app must have come before another is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// It has answered our probe.
    Ready,
    /// Its provider was asked to start it, and has agreed.
    Started,
}

/// Requests that neither wake an app nor count as activity: those that fit any of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoWake {
    /// Paths; `*` at the end stands for anything.
    pub paths: Vec<String>,
    /// Parts of a `User-Agent`, in lower case.
    pub user_agents: Vec<String>,
    /// Uptime monitors and link previews that are known by their `User-Agent`: `monitors` among the user agents.
    pub monitors: bool,
    /// Methods, in upper case.
    pub methods: Vec<String>,
    /// Clients.
    pub cidrs: Vec<IpNet>,
}

/// Who may wake an app. Others are served while it is awake, and told that it sleeps while it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Whoever sends a token of the admin side that may operate.
    pub token: bool,
    /// Whoever has a link that the admin side has signed.
    pub link: bool,
    /// Clients from these networks.
    pub networks: Vec<IpNet>,
}

/// How often and how long an app may be awake. Nothing is limited that is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WakeLimits {
    /// Wakes in any sixty minutes.
    pub wakes_per_hour: Option<u32>,
    /// Time awake from midnight to midnight (UTC).
    pub awake_per_day: Option<Duration>,
}

/// The origin of a value that nobody has written down.
pub const DEFAULT: &str = "default";

/// Who said what of one key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// The key, as `idle_timeout`.
    pub key: &'static str,
    /// The value in words, as `10m`.
    pub value: String,
    /// Who says it: `rule 3, conf/loir.yaml:41`, `provider entry paris, conf/loir.yaml:12` or `default`.
    pub origin: Arc<str>,
}

impl NoWake {
    fn extend(&mut self, more: &Self) {
        add(&mut self.paths, &more.paths);
        add(&mut self.user_agents, &more.user_agents);
        add(&mut self.methods, &more.methods);
        add(&mut self.cidrs, &more.cidrs);
        self.monitors |= more.monitors;
    }
}

impl Access {
    fn extend(&mut self, more: &Self) {
        self.token |= more.token;
        self.link |= more.link;
        add(&mut self.networks, &more.networks);
    }
}

fn add<T: Clone + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

impl Ruling {
    /// Who has said `key`, if anybody has: a default says nothing.
    pub fn origin_of(&self, key: &str) -> Option<Arc<str>> {
        let said = self.sources.iter().find(|source| source.key == key && &*source.origin != DEFAULT);
        said.map(|source| source.origin.clone())
    }
}

#[cfg(test)]
mod tests;
