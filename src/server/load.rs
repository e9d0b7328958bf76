//! From a text to a plan: the configuration, with every provider's options read and everything checked that no room
//! can check alone. Offline: nothing is opened, asked or started.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use crate::{
    app::AppId,
    config::{
        self, Config, Environment, ProviderEntry,
        problem::{At, Problems},
        scalar::HostName,
        schema, show,
        validate::{self, Checked, KnownType},
        yaml::Located,
    },
    provider::{PROVIDERS, ProviderConfig},
    registry::{REGISTRIES, RegistryConfig},
    routing::{Groups, Ruling},
};

/// A configuration's text. No `Debug`: it may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is called in problems: its path.
    pub name: String,
    /// The YAML.
    pub text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// In words, if it cannot be read or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("{name}:{line}: this line is not UTF-8")
        })?;
        Ok(Self { name, text })
    }
}

/// A configuration that is ready to run.
pub struct Plan {
    /// All of it, beside what providers read themselves.
    pub config: Config,
    /// The registry's options.
    pub registry: Arc<dyn RegistryConfig>,
    /// The provider entries with their options, in the order of the file.
    pub providers: Vec<(ProviderEntry, Arc<dyn ProviderConfig>)>,
    checked: Checked,
}

impl Plan {
    /// The effective configuration as YAML, without secrets.
    ///
    /// # Errors
    ///
    /// None that is known; those of the YAML writer.
    pub fn show(&self) -> Result<String, String> {
        let options = self.providers.iter().map(|(_, options)| options.show()).collect();
        show::show(&self.checked, self.registry.show(), options).map_err(|error| error.to_string())
    }

    /// In a few words: `3 apps at 1 provider, listens on 127.0.0.1:8080`.
    pub fn summary(&self) -> String {
        let count =
            |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let apps = self.providers.iter().map(|(_, options)| options.declared().len()).sum();
        let providers = count(self.providers.len(), "provider");
        format!("{} at {providers}, listens on {}", count(apps, "app"), self.config.server.listen)
    }
}

/// The words after `type:` under `providers`.
fn provider_types() -> Vec<KnownType> {
    PROVIDERS.iter().map(|kind| (kind.name, kind.summary)).collect()
}

/// The words after `type:` under `registry`.
fn registry_types() -> Vec<KnownType> {
    REGISTRIES.iter().map(|kind| (kind.name, kind.summary)).collect()
}

/// The JSON Schema of a configuration.
pub fn schema() -> serde_json::Value {
    let providers: Vec<_> = PROVIDERS.iter().map(|kind| (kind.name, kind.summary, kind.schema)).collect();
    let registries: Vec<_> = REGISTRIES.iter().map(|kind| (kind.name, kind.summary, kind.schema)).collect();
    schema::schema(&providers, &registries)
}

/// Reads and checks a configuration. `env` is where `${NAME}`, HOST and PORT come from.
///
/// # Errors
///
/// Every problem of every room at once.
pub fn load(source: Source, env: &Environment) -> Result<Plan, Problems> {
    let mut problems = Problems::new(source.name, source.text);
    let Some(tree) = config::read(env, &mut problems) else {
        return Err(problems);
    };
    let checked = validate::validate(tree, env, &provider_types(), &registry_types(), &mut problems);
    let config = checked.config.clone();
    let registry = REGISTRIES.iter().find(|kind| kind.name == config.registry.kind);
    let registry = registry.and_then(|kind| (kind.configure)(&config.registry, env, &mut problems));
    let mut providers = Vec::new();
    for entry in &config.providers {
        let kind = PROVIDERS.iter().find(|kind| kind.name == entry.kind);
        if let Some(options) = kind.and_then(|kind| (kind.configure)(entry, env, &mut problems)) {
            providers.push((entry.clone(), options));
        }
    }
    check_hosts(&checked.domains, &providers, &config, &mut problems);
    check_ports(&checked.listen, &providers, &mut problems);
    check_state_dir(&config, &providers, &mut problems);
    check_shared(registry.as_deref(), &providers, &mut problems);
    check_order(&checked, &providers, &mut problems);
    match registry {
        Some(registry) if problems.is_empty() => Ok(Plan { config, registry, providers, checked }),
        _ => Err(problems),
    }
}

/// What lives and dies with one gateway cannot be started by one and stopped by another.
fn check_shared(
    registry: Option<&dyn RegistryConfig>,
    providers: &[(ProviderEntry, Arc<dyn ProviderConfig>)],
    problems: &mut Problems,
) {
    if !registry.is_some_and(RegistryConfig::is_shared) {
        return;
    }
    for (entry, _) in providers.iter().filter(|(_, options)| options.is_of_this_machine()) {
        let text = format!(
            "what `{}` runs belongs to one gateway, and the registry is shared by several",
            entry.name
        );
        let help = "give these apps a gateway of their own, with `registry: {type: memory}`";
        problems.push_with_help(entry.options.at(), text, help);
    }
}

/// Every host name leads to one app: those that are written down, and `NAME.DOMAIN` for every app and domain.
fn check_hosts(
    domains: &[Located<HostName>],
    providers: &[(ProviderEntry, Arc<dyn ProviderConfig>)],
    config: &Config,
    problems: &mut Problems,
) {
    for app in &config.apps {
        let implied = domains.iter().map(|domain| format!("{}.{}", app.name, domain.0));
        if let Some(host) =
            implied.chain(app.hosts.iter().cloned()).find(|host| Some(host) == config.admin.host.as_ref())
        {
            let host = problems.written(config.admin.host_at, &host);
            problems.push(
                config.admin.host_at,
                format!("the host `{host}` is already claimed by an app of `apps`"),
            );
        }
    }
    /// Who claims a host name: the app's entry and index in it, where that stands, and whether it is written down.
    #[derive(Clone, Copy)]
    struct Claim {
        app: (usize, usize),
        at: At,
        written: bool,
    }
    let mut claims: HashMap<String, Claim> = HashMap::new();
    for (index, (_, options)) in providers.iter().enumerate() {
        let mut names = HashSet::new();
        for (number, app) in options.declared().into_iter().enumerate() {
            let app_name = problems.written(app.at, &app.name);
            // Each host with the form to show, since a part of it may come from the environment.
            let mut hosts = Vec::new();
            // A second app of one name in one entry has been told; its `NAME.DOMAIN` would tell it again.
            if names.insert(app.name.clone()) {
                hosts.extend(domains.iter().map(|domain| {
                    let shown = format!("{app_name}.{}", show::as_written(domain, &domain.0));
                    (format!("{}.{}", app.name, domain.0), shown, app.at, false)
                }));
            }
            hosts.extend(app.hosts.into_iter().map(|(host, at)| {
                let shown = problems.written(at, &host);
                (host, shown, at, true)
            }));
            for (host, shown, at, written) in hosts {
                let claim = Claim { app: (index, number), at, written };
                if Some(&host) == config.admin.host.as_ref() {
                    let line = config.admin.host_at.line;
                    problems.push(at, format!("the host `{shown}` is the admin side's, at line {line}"));
                }
                match claims.get(&host).copied() {
                    None => drop(claims.insert(host, claim)),
                    // Writing down what is implied anyway does no harm.
                    Some(first) if first.app == claim.app && first.written != written => {}
                    Some(first) => {
                        let who = if first.app == claim.app { "this app" } else { "another app" };
                        let line = first.at.line;
                        problems.push(
                            at,
                            format!("the host `{shown}` is already claimed by {who}, at line {line}"),
                        );
                    }
                }
            }
        }
    }
}

/// Fixed ports: one app each, and none on the gateway's own.
fn check_ports(
    listen: &Located<SocketAddr>,
    providers: &[(ProviderEntry, Arc<dyn ProviderConfig>)],
    problems: &mut Problems,
) {
    let mut claims: HashMap<u16, At> = HashMap::new();
    for (_, options) in providers {
        for (port, at) in options.ports() {
            if port == listen.port() {
                problems.push(at, "this port is the gateway's own: see `server.listen`");
            } else if let Some(first) = claims.get(&port) {
                problems
                    .push(at, format!("this port is already given to another app at line {}", first.line));
            } else {
                claims.insert(port, at);
            }
        }
    }
}

/// Of apps that wait for each other, none would ever start. Of apps that only the provider knows, that is found out later.
fn check_order(
    checked: &Checked,
    providers: &[(ProviderEntry, Arc<dyn ProviderConfig>)],
    problems: &mut Problems,
) {
    let rules = &checked.config.rules;
    let declared = providers.iter().flat_map(|(entry, options)| {
        options.declared().into_iter().map(|app| AppId::new(entry.name.as_str(), app.name))
    });
    let apps: Vec<(AppId, Ruling)> = declared.map(|id| (id.clone(), rules.of(&id))).collect();
    for cycle in Groups::new(apps.iter().map(|(id, ruling)| (id, ruling))).cycles() {
        let rule = cycle.0.first().and_then(|app| rules.index_of(app, "after"));
        let at = rule.and_then(|rule| checked.rules.get(rule).copied()).unwrap_or_default();
        let message = format!("each of these apps waits for the next one: {cycle}");
        problems.push_with_help(at, message, "take one of them out of `after`");
    }
}

/// What an entry asks for may need a place to keep files.
fn check_state_dir(
    config: &Config,
    providers: &[(ProviderEntry, Arc<dyn ProviderConfig>)],
    problems: &mut Problems,
) {
    if config.state_dir.is_some() {
        return;
    }
    for (_, options) in providers {
        if let Some((at, message)) = options.needs_state_dir() {
            problems.push_with_help(at, message, "write `state_dir: ./state` at the top, or leave this out");
        }
    }
}
