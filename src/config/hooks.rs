//! Commands and webhooks that are told, or asked, when an app is started or stopped: `hooks` in the file.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    command::{self, Command, Variable},
    problem::{At, Problems, suggest},
    scalar::Label,
    secret::Secret,
    show::as_written,
    units::{self, PositivePeriod},
    yaml::{Located, OneOrMany},
};
use crate::{
    hooks::{Action, Fit, Hook, Phase, Preset, Whom},
    routing::rules::Match,
};

/// Of a command as a whole, and of each try of a webhook.
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES: u32 = 5;
const MOST_RETRIES: u32 = 20;
const BACKOFF: Duration = Duration::from_secs(1);

/// What is done when an app is started or stopped: one of `command`, `webhook`, or `preset` with `url`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a hook: a map with `on` and `command`, `webhook` or `preset`")]
#[schemars(rename = "Hook")]
pub(super) struct TypedHook {
    /// Its name in the log and in metrics. Default: `hook-1`, `hook-2` and so on, by its place in the list.
    name: Option<Located<Label>>,
    /// When: one phase or a list.
    #[schemars(required)]
    on: Option<Located<OneOrMany<Located<Phase>>>>,
    /// For which apps: patterns as in rules. Default: all, or if rules name this hook, the apps of these rules.
    #[serde(rename = "match")]
    fits: Option<OneOrMany<Located<String>>>,
    /// The program and its arguments; no shell is involved. It gets the event as JSON on standard input, and as `LOIR_*`.
    command: Option<Located<Command>>,
    /// Variables for the command. Beside these and `LOIR_*`, only PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_ALL, LC_CTYPE, TZ
    /// and TMPDIR are inherited from the gateway.
    env: Option<Located<BTreeMap<Variable, Secret>>>,
    /// Where the event is sent as JSON. Never shown: the address may be a secret.
    webhook: Option<Located<Secret>>,
    /// Who receives it: `slack`, `discord` or `healthchecks`.
    preset: Option<Located<Preset>>,
    /// Where a preset sends to. Never shown.
    url: Option<Located<Secret>>,
    /// What signs a webhook: `X-Loir-Signature: t=SECONDS,v1=HEX`, HMAC-SHA256 over `SECONDS.BODY`.
    secret: Option<Located<Secret>>,
    /// How long a command may take as a whole, and each try of a webhook. Default: `10s`.
    timeout: Option<PositivePeriod>,
    /// How often a webhook that did not arrive is sent again. Default: 5.
    retries: Option<Located<u32>>,
    /// The pause before a webhook is sent again; each further one is twice as long, up to a minute. Default: `1s`.
    backoff: Option<Located<PositivePeriod>>,
}

/// From typed to needed: each hook, and how it looks in the file. `of_rules` are the hooks that rules name.
pub(super) fn hooks(
    typed: Vec<Located<TypedHook>>,
    of_rules: &[Located<String>],
    problems: &mut Problems,
) -> Vec<(Value, Hook)> {
    let mut names: Vec<(String, At)> = Vec::new();
    let mut hooks = Vec::new();
    for (number, hook) in (1..).zip(typed) {
        let at = hook.at;
        let name = hook.name.as_ref().map_or_else(|| format!("hook-{number}"), |name| name.0.clone());
        let name_at = hook.name.as_ref().map_or(at, |name| name.at);
        if let Some((_, first)) = names.iter().find(|(known, _)| *known == name) {
            let shown = hook.name.as_ref().map_or(&name, |name| &name.written);
            let message = format!("the hook name `{shown}` is taken at line {}", first.line);
            problems.push(name_at, message);
        }
        names.push((name.clone(), name_at));
        let on = phases(&hook, problems);
        if let (Some((action, shown)), Some(on)) = (action(&hook, &on, problems), on) {
            let patterns: Vec<_> = hook.fits.iter().flat_map(|fits| &fits.0).collect();
            let texts: Vec<_> = patterns.iter().map(|typed| as_written(typed, typed)).collect();
            let fits: Vec<_> = patterns.iter().filter_map(|typed| fit(typed, problems)).collect();
            let whom = match hook.fits {
                Some(_) => Whom::Fitting(fits),
                None if of_rules.iter().any(|named| named.value == name) => Whom::Rules,
                None => Whom::All,
            };
            let timeout = hook.timeout.map_or(TIMEOUT, |period| period.0);
            let on: Vec<Phase> = on.0.iter().map(|phase| phase.value).collect();
            let mut all = json!({ "name": name, "on": on, "timeout": units::duration(timeout) });
            if let Some(name) = &hook.name {
                all["name"] = as_written(name, &name.0).into();
            }
            if !texts.is_empty() {
                all["match"] = texts.into();
            }
            if let (Value::Object(all), Value::Object(shown)) = (&mut all, shown) {
                all.extend(shown);
            }
            hooks.push((all, Hook { name: Arc::from(name), on, whom, timeout, action }));
        }
    }
    for named in of_rules.iter().filter(|named| !names.iter().any(|(name, _)| *name == named.value)) {
        let known = names.iter().map(|(name, _)| name.as_str());
        let meant = suggest(&named.written, known).map(|name| format!(", did you mean `{name}`?"));
        let message = format!("there is no hook `{}`{}", named.written, meant.unwrap_or_default());
        problems.push_with_help(named.at, message, "hooks are known here by their `name`");
    }
    hooks
}

fn fit(text: &Located<String>, problems: &mut Problems) -> Option<Fit> {
    if text.trim().is_empty() {
        problems
            .push(text.at, "`match` is empty: write for example `demo-*`, or leave the key out for all apps");
        return None;
    }
    let told = |why| problems.push(text.at, format!("`{}` is not a regular expression: {why}", text.written));
    let pattern = Match::parse(text).map_err(told).ok()?;
    Some(Fit { text: text.value.clone(), pattern })
}

fn phases(hook: &Located<TypedHook>, problems: &mut Problems) -> Option<OneOrMany<Located<Phase>>> {
    let all: Vec<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
    let known = format!("one or more of {}", all.join(", "));
    let Some(on) = &hook.on else {
        if hook.lacks("on", &hook.on) {
            problems.push_with_help(hook.at, "`on` is missing: say when the hook is due", known);
        }
        return None;
    };
    if on.value.0.is_empty() && on.lost.is_empty() {
        problems.push_with_help(on.at, "`on` is an empty list: say when the hook is due", known);
    }
    let mut once: Vec<Located<Phase>> = Vec::new();
    for phase in &on.value.0 {
        if once.iter().any(|known| known.value == phase.value) {
            problems.push(phase.at, format!("`{}` stands here twice", phase.value.name()));
        } else {
            once.push(phase.clone());
        }
    }
    Some(OneOrMany(once))
}

/// What the hook does, and how that looks in the file.
fn action(
    hook: &Located<TypedHook>,
    on: &Option<OneOrMany<Located<Phase>>>,
    problems: &mut Problems,
) -> Option<(Action, Value)> {
    let ways = [
        ("command", hook.command.as_ref().map(|it| it.at)),
        ("webhook", hook.webhook.as_ref().map(|it| it.at)),
        ("preset", hook.preset.as_ref().map(|it| it.at)),
    ];
    let written: Vec<_> = ways.iter().filter_map(|(way, at)| at.map(|at| (*way, at))).collect();
    if let [(first, _), (second, at), ..] = written[..] {
        problems.push_with_help(
            at,
            format!("`{second}` beside `{first}`: a hook does one thing"),
            "make two hooks of it",
        );
        return None;
    }
    if written.is_empty() && ways.iter().all(|(way, _)| hook.lacks(way, &None::<()>)) {
        let help = "write `command: [\"/usr/local/bin/notify\"]`, or `webhook: https://...`, or `preset: slack` with `url`";
        problems.push_with_help(
            hook.at,
            "a hook does something: `command`, `webhook` or `preset` is missing",
            help,
        );
        return None;
    }
    match hook.command {
        Some(_) => run(hook, problems),
        None => send(hook, on, problems),
    }
}

fn run(hook: &Located<TypedHook>, problems: &mut Problems) -> Option<(Action, Value)> {
    let typed = hook.command.as_ref()?;
    command::check(typed, problems);
    for (key, at) in [
        ("url", hook.url.as_ref().map(|it| it.at)),
        ("secret", hook.secret.as_ref().map(|it| it.at)),
        ("retries", hook.retries.as_ref().map(|it| it.at)),
        ("backoff", hook.backoff.as_ref().map(|it| it.at)),
    ] {
        if let Some(at) = at {
            problems.push(at, format!("`{key}` is for webhooks, and this hook runs a command"));
        }
    }
    let pairs = hook.env.iter().flat_map(|env| &env.value);
    let env: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.0.clone(), value.expose().to_owned())).collect();
    if let Some(typed) = hook.env.as_ref().filter(|_| env.values().any(|value| value.contains('\0'))) {
        problems.push(typed.at, "a value in `env` has a NUL byte");
    }
    let words = &typed.value.0;
    let mut shown = json!({ "command": words.iter().map(|word| as_written(word, word)).collect::<Vec<_>>() });
    if !env.is_empty() {
        shown["env"] =
            env.keys().map(|name| (name.clone(), "***".into())).collect::<serde_json::Map<_, _>>().into();
    }
    let command = words.iter().map(|word| word.value.clone()).collect();
    Some((Action::Command { command, env }, shown))
}

fn send(
    hook: &Located<TypedHook>,
    on: &Option<OneOrMany<Located<Phase>>>,
    problems: &mut Problems,
) -> Option<(Action, Value)> {
    let preset = hook.preset.as_ref().map(|preset| preset.value);
    for phase in on.iter().flat_map(|on| &on.0).filter(|phase| phase.value.asks()) {
        // Healthchecks want to know when something begins.
        if preset == Some(Preset::Healthchecks) && phase.value == Phase::BeforeStart {
            continue;
        }
        let message = format!("`{}` asks, and only a command can answer", phase.value.name());
        problems.push_with_help(
            phase.at,
            message,
            "a webhook is told afterwards: `after_start`, `after_stop`",
        );
    }
    if let Some(env) = &hook.env {
        problems.push(env.at, "`env` is for commands, and this hook sends something");
    }
    if let (Some(secret), Some(_)) = (&hook.secret, preset) {
        let message = "`secret` signs a webhook of your own; the receiver of a preset does not look at it";
        problems.push(secret.at, message);
    }
    if let Some(secret) = hook.secret.as_ref().filter(|secret| secret.expose().is_empty()) {
        problems.push(secret.at, "`secret` is empty: leave it out, or set what signs the webhook");
    }
    if let Some(retries) = hook.retries.as_ref().filter(|retries| retries.value > MOST_RETRIES) {
        problems.push(retries.at, format!("more than {MOST_RETRIES} retries are none"));
    }
    let (key, url) = match (&hook.webhook, preset) {
        (Some(url), _) => ("webhook", Some(url)),
        (None, _) => ("url", hook.url.as_ref()),
    };
    if let (Some(_), Some(url)) = (&hook.webhook, &hook.url) {
        problems.push(url.at, "`url` belongs to a `preset`; here `webhook` says where to send to");
    }
    let Some(url) = url else {
        if preset.is_some() && hook.lacks("url", &hook.url) {
            let at = hook.preset.as_ref().map_or(hook.at, |preset| preset.at);
            problems.push_with_help(at, "a preset needs a `url`", "write for example `url: ${SLACK_URL}`");
        }
        return None;
    };
    let Some(host) = host(url.expose()) else {
        problems.push(
            url.at,
            format!("`{key}` is no address: it begins with `https://` or `http://` and has a host"),
        );
        return None;
    };
    let backoff = hook.backoff.as_ref().map_or(BACKOFF, |period| period.0);
    let retries = hook.retries.as_ref().map_or(RETRIES, |retries| retries.value);
    let mut shown = json!({ "retries": retries, "backoff": units::duration(backoff) });
    // The path of such an address is a secret as a rule, and so is what stands in for a variable.
    shown[key] =
        if is_one_variable(&url.written) { url.written.clone() } else { format!("{host}/***") }.into();
    if let Some(preset) = preset {
        shown["preset"] = json!(preset);
    }
    if hook.secret.is_some() {
        shown["secret"] = "***".into();
    }
    let secret = hook.secret.as_ref().map(|secret| secret.value.clone());
    Some((Action::Webhook { url: url.value.clone(), preset, secret, retries, backoff }, shown))
}

/// Whether nothing is written but `${NAME}`: without a default, and without a path behind it that would be a secret.
fn is_one_variable(written: &str) -> bool {
    let name = written.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

/// Scheme and host of an address, without user and password.
fn host(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let host = uri.host().filter(|host| !host.is_empty())?;
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_written_only_if_nothing_but_a_variable_is() {
        assert!(is_one_variable("${SLACK_URL}"));
        for written in [
            "${HOST}/services/T0/B0/hunter2",
            "${HOST}/${hunter2}",
            "${URL:-https://x.test/hunter2}",
            "https://x.test/${NAME}",
        ] {
            assert!(!is_one_variable(written), "{written}");
        }
    }
}
