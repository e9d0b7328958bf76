//! `rules` in the file: what was typed, and what becomes of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    problem::{At, Problems},
    scalar::{Count, Networks, Scalar, UrlPath, scalar},
    schedule,
    units::{Period, PositivePeriod},
    yaml::{Located, OneOrMany},
};
use crate::{
    app::StopTypes,
    routing::{
        Rules,
        rules::{Access, Match, NoWake, Rule, Template, Until, WakeLimits},
    },
};

/// What holds for the apps that a pattern fits. Of each key the first rule counts that fits and has it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a rule: a map with `match` and what holds for these apps")]
#[schemars(rename = "Rule")]
pub(super) struct Typed {
    /// For which apps: a pattern for the whole name, or with a `/` for the whole `provider/name`. Letters, digits, `-`, `_`, `/`,
    /// `*` (anything) and `?` (one character) alone are such a pattern; anything else is a regular expression.
    #[schemars(required)]
    r#match: Option<Located<String>>,
    /// Whether what this rule lists is added to what earlier rules list. Default: `false`, it counts only if they list nothing.
    merge: Option<bool>,
    /// An app sleeps this long after its last request ended. Default: `defaults.idle_timeout`.
    idle_timeout: Option<Located<PositivePeriod>>,
    /// A start that takes longer has failed. Default: that of the provider entry, else `defaults.wake_timeout`.
    wake_timeout: Option<Located<PositivePeriod>>,
    /// A program's request waits at most this long for an app to wake. Default: `defaults.hold_timeout`.
    hold_timeout: Option<Located<PositivePeriod>>,
    /// A person's request waits this long before the holding page is shown. Default: `defaults.hold_before_page`.
    hold_before_page: Option<Located<Period>>,
    /// Which process types are stopped: `all`, or only `web`. Default: that of the provider entry.
    stop: Option<StopTypes>,
    /// Apps that are woken whenever this one is: names at the same provider entry, or `provider/name`. `$1` is what the first
    /// brackets of `match` have captured, `$name` what `(?<name>...)` has.
    wakes_with: Option<OneOrMany<Located<String>>>,
    /// Which apps must be `ready`, or at least `started`, before this one is started. They are woken with it.
    after: Option<Located<BTreeMap<String, Located<Until>>>>,
    /// When the app is kept awake or asleep. Of windows that hold at the same time the first one counts.
    schedule: Option<OneOrMany<Located<schedule::Typed>>>,
    /// Requests that are answered without waking the app, and are no activity: those that fit any of these.
    no_wake: Option<Located<TypedNoWake>>,
    /// Who may wake the app. Default: anybody.
    access: Option<Located<TypedAccess>>,
    /// How often and how long the app may be awake. Default: without limit.
    limits: Option<Located<TypedLimits>>,
    /// Whether it is only recorded when the app would be stopped. Default: `false`.
    dry_run: Option<bool>,
}

/// Requests that are answered without waking the app, and are no activity: those that fit any of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with some of `paths`, `user_agents`, `methods` and `cidrs`")]
#[schemars(rename = "NoWake")]
struct TypedNoWake {
    /// Paths; `*` at the end stands for anything.
    paths: Option<OneOrMany<Located<UrlPath>>>,
    /// Parts of the `User-Agent`, in any case. `monitors` stands for the uptime monitors and link previews that are known.
    user_agents: Option<OneOrMany<Located<String>>>,
    /// Methods.
    methods: Option<OneOrMany<Located<Method>>>,
    /// Networks of clients.
    cidrs: Option<OneOrMany<Located<Networks>>>,
}

/// Who may wake the app. Others are served while it is awake, and told that it sleeps while it does.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `wake`")]
#[schemars(rename = "Access")]
struct TypedAccess {
    /// Any of: `token` (whoever sends `X-Loir-Token` with a token that may operate), `link` (whoever has a link that was signed by
    /// the admin side), networks like `10.0.0.0/8`, and `cidr` (the networks in `cidrs`).
    #[schemars(required)]
    wake: Option<Located<OneOrMany<Located<Waker>>>>,
    /// The networks that `cidr` stands for. Default: none.
    cidrs: Option<OneOrMany<Located<Networks>>>,
}

/// How often and how long the app may be awake.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `wakes_per_hour` and `awake_hours_per_day`")]
#[schemars(rename = "WakeLimits")]
struct TypedLimits {
    /// Wakes in any sixty minutes. Default: without limit.
    wakes_per_hour: Option<Located<Count>>,
    /// Hours awake from midnight to midnight (UTC), as `8` or `0.5`. Default: without limit.
    awake_hours_per_day: Option<Located<Hours>>,
}

/// A method of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method(pub String);

impl Scalar for Method {
    const NAME: &'static str = "Method";
    fn parse(text: &str) -> Result<Self, String> {
        match http::Method::from_bytes(text.to_ascii_uppercase().as_bytes()) {
            Ok(method) => Ok(Self(method.as_str().to_owned())),
            Err(_) => Err("is not a method: write for example `OPTIONS`".to_owned()),
        }
    }
    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z-]+$", "examples": ["OPTIONS", "HEAD"] })
    }
}

/// Who may wake an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waker {
    /// Whoever sends a token.
    Token,
    /// Whoever has a signed link.
    Link,
    /// Whoever is in the networks that are listed beside.
    Cidr,
    /// Whoever is in these networks.
    Networks(Vec<IpNet>),
}

impl Scalar for Waker {
    const NAME: &'static str = "Waker";
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "token" => Ok(Self::Token),
            "link" => Ok(Self::Link),
            "cidr" => Ok(Self::Cidr),
            _ => Networks::parse(text).map(|networks| Self::Networks(networks.0)).map_err(|_| {
                "is not one of `token`, `link`, `cidr` or a network like `10.0.0.0/8`".to_owned()
            }),
        }
    }
    fn schema() -> Value {
        json!({
            "type": "string",
            "pattern": "^(token|link|cidr|loopback|private|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$",
            "examples": ["token", "link", "10.0.0.0/8"]
        })
    }
}

/// A number of hours, at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours(pub Duration);

impl Scalar for Hours {
    const NAME: &'static str = "Hours";
    fn parse(text: &str) -> Result<Self, String> {
        let hours: Option<f64> = text.parse().ok();
        match hours.filter(|hours| *hours > 0.0 && *hours <= 24.0) {
            // In whole seconds, so that it can be said again.
            Some(hours) => Ok(Self(Duration::from_secs((hours * 3600.0).round().max(1.0) as u64))),
            None => Err("is not a number of hours of a day: write for example `8` or `0.5`".to_owned()),
        }
    }
    fn schema() -> Value {
        json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 24 })
    }
}

scalar!(Method, Waker, Hours);

/// The rules, and where each stands.
pub(super) fn rules(
    typed: Vec<Located<Typed>>,
    dry_run: Option<&Located<bool>>,
    problems: &mut Problems,
) -> (Rules, Vec<At>) {
    let file = problems.name().to_owned();
    let mut rules = Vec::new();
    let mut places = Vec::new();
    for (typed, number) in typed.into_iter().zip(1..) {
        let origin = format!("rule {number}, {file}:{}", typed.at.line);
        let at = typed.at;
        if let Some(rule) = rule(typed, origin, problems) {
            rules.push(rule);
            places.push(at);
        }
    }
    let dry_run =
        dry_run.filter(|dry_run| dry_run.value).map(|it| format!("dry_run, {file}:{}", it.at.line).into());
    (Rules::new(rules, dry_run), places)
}

fn rule(typed: Located<Typed>, origin: String, problems: &mut Problems) -> Option<Rule> {
    let Some(text) = &typed.r#match else {
        if typed.lacks("match", &typed.r#match) {
            problems.push_with_help(
                typed.at,
                "`match` is missing: a rule needs one",
                "write for example `match: 'demo-*'`, or `match: '*'` for all apps",
            );
        }
        return None;
    };
    let pattern = pattern(text, problems)?;
    let mut rule = Rule::new(pattern, origin);
    let Typed { merge, stop, dry_run, .. } = typed.value;
    (rule.merge, rule.stop, rule.dry_run) = (merge.unwrap_or(false), stop, dry_run);
    rule.idle_timeout = typed.idle_timeout.as_ref().map(|period| period.0);
    rule.wake_timeout = typed.wake_timeout.as_ref().map(|period| period.0);
    rule.hold_timeout = typed.hold_timeout.as_ref().map(|period| period.0);
    rule.hold_before_page = typed.hold_before_page.as_ref().map(|period| period.0);
    if let (Some(page), Some(hold)) = (&typed.hold_before_page, &typed.hold_timeout)
        && page.0 > hold.0
    {
        let help = "a person would be sent away before the holding page is due: make it the shorter one";
        problems.push_with_help(page.at, "`hold_before_page` is longer than `hold_timeout`", help);
    }
    let mut template = |name: &str, at: At, written: &str| match Template::parse(name, &rule.pattern) {
        _ if name.is_empty() => {
            problems.push(at, "an app without name: write a name, or `provider/name`");
            None
        }
        Ok(template) => Some(template),
        Err(why) => {
            problems.push(at, format!("`{written}` {why}"));
            None
        }
    };
    rule.wakes_with = typed.wakes_with.as_ref().map(|names| {
        names.0.iter().filter_map(|name| template(name, name.at, &name.written)).collect::<Vec<_>>()
    });
    rule.after = typed.after.as_ref().map(|after| {
        let after = after.value.iter();
        after.filter_map(|(name, until)| Some((template(name, until.at, name)?, until.value))).collect()
    });
    let windows = typed.schedule.as_ref().map(|windows| schedule::windows(&windows.0, problems));
    rule.schedule = windows.map(Arc::new);
    rule.no_wake = typed.no_wake.as_ref().map(|typed| Arc::new(no_wake(typed, problems)));
    rule.access = typed.access.as_ref().and_then(|typed| access(typed, problems)).map(Arc::new);
    rule.limits = typed.limits.as_ref().map(limits);
    Some(rule)
}

fn pattern(text: &Located<String>, problems: &mut Problems) -> Option<Match> {
    if text.trim().is_empty() {
        problems.push(text.at, "`match` is empty: write for example `demo-*`, or `*` for all apps");
        return None;
    }
    match Match::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            let message = format!("`{}` is not a regular expression: {why}", text.written);
            let help =
                "a pattern of letters, digits, `-`, `_`, `/`, `*` and `?` alone is none and needs no care";
            problems.push_with_help(text.at, message, help);
            None
        }
    }
}

fn no_wake(typed: &Located<TypedNoWake>, problems: &mut Problems) -> NoWake {
    let paths = typed.paths.iter().flat_map(|paths| &paths.0);
    let mut no_wake = NoWake { paths: paths.map(|path| path.0.clone()).collect(), ..NoWake::default() };
    for path in typed.paths.iter().flat_map(|paths| &paths.0) {
        if path.0.strip_suffix('*').unwrap_or(&path.0).contains('*') {
            problems.push(path.at, format!("`{}`: `*` can only stand at the end of a path", path.written));
        }
        if path.0.contains('?') {
            problems.push(path.at, format!("`{}`: a path is wanted, without a query", path.written));
        }
    }
    for agent in typed.user_agents.iter().flat_map(|agents| &agents.0) {
        match agent.trim() {
            "" => problems.push(agent.at, "an empty text would fit every `User-Agent`"),
            "monitors" => no_wake.monitors = true,
            part => no_wake.user_agents.push(part.to_lowercase()),
        }
    }
    no_wake.methods = typed.methods.iter().flat_map(|all| &all.0).map(|method| method.0.clone()).collect();
    no_wake.cidrs = networks(typed.cidrs.as_ref());
    no_wake
}

fn networks(typed: Option<&OneOrMany<Located<Networks>>>) -> Vec<IpNet> {
    typed.into_iter().flat_map(|all| &all.0).flat_map(|networks| networks.0.iter().copied()).collect()
}

fn access(typed: &Located<TypedAccess>, problems: &mut Problems) -> Option<Access> {
    let Some(wake) = &typed.wake else {
        if typed.lacks("wake", &typed.wake) {
            problems.push(typed.at, "`wake` is missing: say who may wake the app, as `wake: [token, link]`");
        }
        return None;
    };
    let mut access = Access::default();
    let mut by_list = false;
    for waker in &wake.value.0 {
        match &waker.value {
            Waker::Token => access.token = true,
            Waker::Link => access.link = true,
            Waker::Cidr => by_list = true,
            Waker::Networks(networks) => access.networks.extend(networks),
        }
    }
    let listed = networks(typed.cidrs.as_ref());
    match by_list {
        true => access.networks.extend(listed),
        false if !listed.is_empty() => {
            let help = "write `cidr` under `wake`, or the networks themselves";
            problems.push_with_help(typed.at, "`cidrs` means nothing without `cidr` under `wake`", help);
        }
        false => {}
    }
    if access == Access::default() && wake.lost.is_empty() {
        let help =
            "name `token`, `link` or a network; for nobody at all, list the app under `manage.exclude`";
        problems.push_with_help(wake.at, "nobody could wake the app", help);
    }
    Some(access)
}

fn limits(typed: &Located<TypedLimits>) -> WakeLimits {
    let number = |count: &Located<Count>| u32::try_from(count.0).unwrap_or(u32::MAX);
    WakeLimits {
        wakes_per_hour: typed.wakes_per_hour.as_ref().map(number),
        awake_per_day: typed.awake_hours_per_day.as_ref().map(|hours| hours.0),
    }
}
