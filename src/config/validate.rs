//! From what was typed to what is needed. Knows no provider and no registry: their names are handed in, and their
//! options are kept for them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{
    AccessLog, Config, HostingPlan, Limits, Manage, Pattern, ProviderEntry, RegistryEntry, Server,
    ServerTimeouts, SharedApp,
    file::{self, File},
    history,
    interpolate::Environment,
    problem::{At, Problems, suggest},
    rules, savings,
    scalar::{HostName, Label, Listen, Scalar},
    show,
    yaml::{Kind, Located, Node, OneOrMany, Options, decode},
};
use crate::app::{AppId, Timeouts};

/// A word after `type:`, and one sentence about it.
pub type KnownType = (&'static str, &'static str);

/// The configuration as far as it could be read, and what its values looked like in the file.
pub struct Checked {
    /// Complete if there was no problem.
    pub config: Config,
    /// Where it listens, and where that is written.
    pub listen: Located<SocketAddr>,
    /// The domains, and where each is written.
    pub domains: Vec<Located<HostName>>,
    /// `state_dir` as written.
    pub state_dir: Option<String>,
    /// The name of each provider entry as written, and where.
    pub names: Vec<Located<String>>,
    /// Each shared app as written.
    pub shared: Vec<serde_json::Value>,
    /// Where each rule stands.
    pub rules: Vec<At>,
    /// Blocks that are shown as they were written.
    pub written: Vec<(&'static str, serde_json::Value)>,
}

/// These need no defaults to be understood, and have texts that mean more than what became of them.
const AS_WRITTEN: [&str; 3] = ["rules", "dry_run", "plan"];

/// Reads the tree. Every problem goes to the list, and what is wrong is left out or at its default.
pub fn validate(
    mut tree: Node,
    env: &Environment,
    providers: &[KnownType],
    registries: &[KnownType],
    problems: &mut Problems,
) -> Checked {
    let (registry, entries) = (tree.take("registry"), tree.take("providers"));
    let written = AS_WRITTEN.into_iter();
    let written = written.filter_map(|key| Some((key, tree.entry(key)?.value.as_written()))).collect();
    let file: File = decode(tree, problems).unwrap_or_default();
    let (rules, places) = rules::rules(file.rules.unwrap_or_default(), file.dry_run.as_ref(), problems);
    let typed = file.server.unwrap_or_default();
    let listen = listen(typed.listen.as_ref(), env, problems);
    let domains = domains(typed.domain.as_ref(), problems);
    let state_dir = file.state_dir.filter(|dir| {
        if dir.is_empty() {
            problems.push(dir.at, "`state_dir` is empty: name a directory, or leave the key out");
        }
        !dir.is_empty()
    });
    let (names, providers): (Vec<_>, Vec<_>) = entries
        .map(|entries| self::providers(entries.value, providers, problems))
        .unwrap_or_default()
        .into_iter()
        .unzip();
    let (shared, apps): (Vec<_>, Vec<_>) =
        apps(file.apps.unwrap_or_default(), &names, problems).into_iter().unzip();
    let config = Config {
        server: server(typed, listen.value, &domains),
        registry: self::registry(registry.map(|entry| entry.value), registries, problems),
        state_dir: state_dir.as_ref().map(|dir| PathBuf::from(&dir.value)),
        defaults: defaults(file.defaults.unwrap_or_default(), problems),
        providers,
        manage: manage(file.manage.unwrap_or_default()),
        apps,
        rules: Arc::new(rules),
        dry_run: file.dry_run.is_some_and(|dry_run| dry_run.value),
        plan: file.plan.map_or_else(HostingPlan::default, |plan| plan.0),
        history: history::validate(file.history, state_dir.is_some(), problems),
        savings: savings::validate(file.savings, problems),
        admin: super::admin::admin(
            file.admin.unwrap_or_default(),
            listen.value,
            state_dir.is_some(),
            problems,
        ),
    };
    let state_dir = state_dir.map(|dir| dir.written);
    Checked { config, shared, listen, domains, state_dir, names, rules: places, written }
}

fn server(typed: file::Server, listen: SocketAddr, domains: &[Located<HostName>]) -> Server {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    Server {
        listen,
        domains: domains.iter().map(|domain| domain.0.clone()).collect(),
        trusted_proxies: typed
            .trusted_proxies
            .map(|proxies| proxies.0.into_iter().flat_map(|networks| networks.value.0).collect())
            .unwrap_or_default(),
        threads: typed.threads.map_or_else(processors, |count| count.0),
        drain_timeout: typed.drain_timeout.map_or(Duration::from_secs(30), |period| period.0),
        access_log: typed.access_log.unwrap_or(AccessLog::Off),
        log_queries: typed.log_queries.unwrap_or(false),
        limits: limits(&typed.limits.unwrap_or_default()),
        timeouts: timeouts(&typed.timeouts.unwrap_or_default()),
    }
}

fn limits(typed: &file::Limits) -> Limits {
    let default = Limits::default();
    Limits {
        body: typed.body.map_or(default.body, |size| size.0),
        header_fields: typed.header_fields.map_or(default.header_fields, |count| count.0),
        header_bytes: typed
            .header_bytes
            .map_or(default.header_bytes, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        connections: typed.connections.map_or(default.connections, |count| count.0),
        held_per_app: typed.held_per_app.map_or(default.held_per_app, |count| count.0),
        held: typed.held.map_or(default.held, |count| count.0),
        event_streams: typed.event_streams.map_or(default.event_streams, |count| count.0),
    }
}

fn timeouts(typed: &file::Timeouts) -> ServerTimeouts {
    let default = ServerTimeouts::default();
    ServerTimeouts {
        header: typed.header.map_or(default.header, |period| period.0),
        keep_alive: typed.keep_alive.map_or(default.keep_alive, |period| period.0),
        client_read: typed.client_read.map_or(default.client_read, |period| period.0),
        client_write: typed.client_write.map_or(default.client_write, |period| period.0),
        connect: typed.connect.map_or(default.connect, |period| period.0),
        read: typed.read.map_or(default.read, |period| period.0),
        write: typed.write.map_or(default.write, |period| period.0),
        stream: typed.stream.map_or(default.stream, |period| period.0),
        upstream_keep_alive: typed.upstream_keep_alive.map_or(default.upstream_keep_alive, |period| period.0),
    }
}

/// The file wins; HOST and PORT are how platforms tell a process where it is expected.
fn listen(
    typed: Option<&Located<Listen>>,
    env: &Environment,
    problems: &mut Problems,
) -> Located<SocketAddr> {
    if let Some(typed) = typed {
        let Located { value, at, written, lost } = typed.clone();
        return Located { value: value.0, at, written, lost };
    }
    let variable = |name| env.get(name).map(str::trim).filter(|value| !value.is_empty());
    let address = match variable("HOST") {
        None => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Some("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(host) => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    };
    if address.is_none() {
        let message = "the variable `HOST` is not an IP address, and `server.listen` is not set";
        problems.push_with_help(
            At::default(),
            message,
            "set `HOST` to for example `0.0.0.0`, or write `server.listen`",
        );
    }
    let port = variable("PORT").map_or(Ok(8080), |port| Listen::parse(port).map(|listen| listen.0.port()));
    let plain = variable("PORT").is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if port.is_err() || !plain {
        let message = "the variable `PORT` is not a port, and `server.listen` is not set";
        problems.push_with_help(
            At::default(),
            message,
            "set `PORT` to for example `8080`, or write `server.listen`",
        );
    }
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Located::nowhere(SocketAddr::new(address, port.unwrap_or(8080)))
}

fn domains(
    typed: Option<&Located<super::yaml::OneOrMany<Located<HostName>>>>,
    problems: &mut Problems,
) -> Vec<Located<HostName>> {
    let Some(typed) = typed else {
        return vec![Located::nowhere(HostName("localhost".to_owned()))];
    };
    if typed.0.is_empty() && typed.lost.is_empty() {
        problems
            .push(typed.at, "`domain` is an empty list: name a domain, or leave the key out for `localhost`");
    }
    let mut domains: Vec<Located<HostName>> = Vec::new();
    for domain in &typed.value.0 {
        if domains.iter().any(|known| known.value == domain.value) {
            problems.push(domain.at, format!("the domain `{}` stands here twice", domain.written));
        } else {
            domains.push(domain.clone());
        }
    }
    domains
}

fn defaults(typed: file::Defaults, problems: &mut Problems) -> Timeouts {
    let timeouts = Timeouts {
        idle: typed.idle_timeout.as_ref().map_or(Duration::from_secs(15 * 60), |period| period.0),
        wake: typed.wake_timeout.as_ref().map_or(Duration::from_secs(60), |period| period.0),
        hold: typed.hold_timeout.as_ref().map_or(Duration::from_secs(25), |period| period.0),
        hold_before_page: typed
            .hold_before_page
            .as_ref()
            .map_or(Duration::from_millis(800), |period| period.0),
    };
    if timeouts.hold_before_page > timeouts.hold {
        let at =
            typed.hold_before_page.map(|period| period.at).or(typed.hold_timeout.map(|period| period.at));
        let message = "`hold_before_page` is longer than `hold_timeout`";
        let help = "a person would be sent away before the holding page is due: make it the shorter one";
        problems.push_with_help(at.unwrap_or_default(), message, help);
    }
    timeouts
}

fn manage(typed: file::Manage) -> Manage {
    let pattern = |typed: Located<Pattern>| {
        let text = show::as_written(&typed, &typed.text);
        typed.value.shown_as(text)
    };
    let patterns = |typed: OneOrMany<Located<Pattern>>| typed.0.into_iter().map(pattern).collect();
    let default = Manage::default();
    Manage {
        include: typed.include.map_or(default.include, patterns),
        exclude: typed.exclude.map_or(default.exclude, patterns),
    }
}

fn apps(
    typed: Vec<Located<file::SharedApp>>,
    providers: &[Located<String>],
    problems: &mut Problems,
) -> Vec<(serde_json::Value, SharedApp)> {
    let mut apps: Vec<(serde_json::Value, SharedApp)> = Vec::new();
    let mut names: Vec<Located<String>> = Vec::new();
    for app in typed {
        if app.lacks("name", &app.name) {
            problems.push(app.at, "`name` is missing: an app needs one");
        }
        if app.lacks("replicas", &app.replicas) {
            problems
                .push(app.at, "`replicas` is missing: say where the app is, as `[paris/shop, heroku/shop]`");
        }
        let (Some(name), Some(typed)) = (&app.name, &app.replicas) else { continue };
        if let Some(first) = names.iter().find(|known| known.value == name.0) {
            let message = format!("the app name `{}` is taken at line {}", name.written, first.at.line);
            problems.push(name.at, message);
            continue;
        }
        let (at, written) = (name.at, name.written.clone());
        names.push(Located { at, written, ..Located::nowhere(name.0.clone()) });
        let mut replicas: Vec<AppId> = Vec::new();
        for replica in &typed.value.0 {
            let shown = &replica.written;
            match replica.value.parse::<AppId>() {
                Err(_) => problems.push_with_help(
                    replica.at,
                    format!("`{shown}` does not say at which provider the app is"),
                    "write it as `provider/name`",
                ),
                Ok(id) if !providers.iter().any(|provider| *provider.value == *id.provider) => {
                    let known = providers.iter().map(|provider| provider.written.as_str());
                    let meant = suggest(&id.provider, known).map(|name| format!(", did you mean `{name}`?"));
                    let message =
                        format!("`{shown}`: there is no such provider{}", meant.unwrap_or_default());
                    problems.push(replica.at, message);
                }
                Ok(id) if replicas.contains(&id) => {
                    problems.push(replica.at, format!("`{shown}` stands here twice"));
                }
                Ok(id) => replicas.push(id),
            }
        }
        if typed.value.0.is_empty() && typed.lost.is_empty() {
            problems.push(typed.at, "`replicas` is an empty list: say where the app is");
        }
        let hosts: Vec<_> = app.hosts.iter().flat_map(|hosts| &hosts.0).collect();
        if !replicas.is_empty() {
            let written = |place: &Located<String>| show::as_written(place, place);
            let shown = serde_json::json!({
                "name": show::as_written(name, &name.0),
                "hosts": hosts.iter().map(|host| show::as_written(host, &host.0)).collect::<Vec<_>>(),
                "replicas": typed.value.0.iter().map(written).collect::<Vec<_>>(),
            });
            let hosts = hosts.iter().map(|host| host.0.clone()).collect();
            apps.push((shown, SharedApp { name: name.0.clone(), hosts, replicas }));
        }
    }
    apps
}

fn registry(node: Option<Node>, known: &[KnownType], problems: &mut Problems) -> RegistryEntry {
    let memory = || known.first().map_or_else(String::new, |(name, _)| (*name).to_owned());
    let Some(mut node) = node.filter(|node| !is_null(node)) else {
        return RegistryEntry { kind: memory(), options: Options::new(empty_map(At::default())) };
    };
    if !matches!(node.kind, Kind::Mapping { .. }) {
        problems.push(node.at, "expected a map like `type: memory`");
        node = empty_map(node.at);
        return RegistryEntry { kind: memory(), options: Options::new(node) };
    }
    let kind = kind(&mut node, "registry", known, problems).unwrap_or_else(memory);
    RegistryEntry { kind, options: Options::new(node) }
}

/// Entries whose type nobody knows are told and left out: nobody could read their options.
fn providers(
    node: Node,
    known: &[KnownType],
    problems: &mut Problems,
) -> Vec<(Located<String>, ProviderEntry)> {
    let items = match node.kind {
        Kind::Sequence { items, .. } => items,
        _ if is_null(&node) => Vec::new(),
        _ => {
            problems.push(node.at, "expected a list of providers, each beginning with `- name:`");
            Vec::new()
        }
    };
    let mut names: Vec<Located<String>> = Vec::new();
    let mut entries = Vec::new();
    for mut item in items {
        if !matches!(item.kind, Kind::Mapping { .. }) {
            problems.push(item.at, "expected a provider: a map with `name`, `type` and its options");
            continue;
        }
        let here = item.at;
        let name = match take(&mut item, "name", "a provider", problems) {
            Some(node) => decode::<Located<Label>>(node, problems),
            None => None,
        };
        let name =
            name.map(|Located { value, at, written, lost }| Located { value: value.0, at, written, lost });
        if let Some(name) = &name {
            match names.iter().find(|known| known.value == name.value) {
                Some(first) => {
                    let message =
                        format!("the provider name `{}` is taken at line {}", name.written, first.at.line);
                    problems.push(name.at, message);
                }
                None => names.push(name.clone()),
            }
        }
        if let Some(kind) = kind(&mut item, "provider", known, problems) {
            let name = name.unwrap_or_else(|| Located { at: here, ..Located::nowhere(String::new()) });
            let entry = ProviderEntry { name: name.value.clone(), kind, options: Options::new(item) };
            entries.push((name, entry));
        }
    }
    entries
}

/// Takes `type` out of an entry and looks it up.
fn kind(node: &mut Node, what: &str, known: &[KnownType], problems: &mut Problems) -> Option<String> {
    let typed = take(node, "type", &format!("a {what}"), problems)?;
    let typed: Located<String> = decode(typed, problems)?;
    if known.iter().any(|(name, _)| *name == typed.value) {
        return Some(typed.value);
    }
    let meant = suggest(&typed.written, known.iter().map(|(name, _)| *name));
    let meant = meant.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
    let list: Vec<_> = known.iter().map(|(name, summary)| format!("{name} ({summary})")).collect();
    let message = format!("unknown {what} type `{}`{meant}", typed.written);
    problems.push_with_help(typed.at, message, format!("known: {}", list.join(", ")));
    None
}

/// Takes a key out that must be there. A misspelt one is told as what it is.
fn take(node: &mut Node, key: &str, what: &str, problems: &mut Problems) -> Option<Node> {
    if let Some(entry) = node.take(key) {
        if is_null(&entry.value) {
            problems.push(entry.key_at, format!("`{key}` is empty"));
            return None;
        }
        return Some(entry.value);
    }
    let Kind::Mapping { entries, lost } = &node.kind else {
        return None;
    };
    if lost.iter().any(|lost| lost == key) {
        return None;
    }
    match entries.iter().find(|entry| suggest(&entry.key, [key]).is_some()) {
        Some(entry) => {
            let typed = entry.key.clone();
            problems.push(entry.key_at, format!("unknown key `{typed}`, did you mean `{key}`?"));
            node.take(&typed).map(|entry| entry.value)
        }
        None => {
            problems.push(node.at, format!("`{key}` is missing: {what} needs one"));
            None
        }
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(scalar) if scalar.is_null())
}

fn empty_map(at: At) -> Node {
    Node { at, kind: Kind::Mapping { entries: Vec::new(), lost: Vec::new() } }
}
