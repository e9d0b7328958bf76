//! The options of a `process` entry: what was typed, and what is needed.

use std::{any::Any, collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::{Value, json};

use crate::{
    config::{
        Environment, ProviderEntry,
        problem::{At, Problems},
        scalar::{HostName, Label, Port, Scalar},
        secret::Secret,
        show::as_written,
        units::{self, Period, PositivePeriod},
        yaml::{Located, OneOrMany},
    },
    provider::{
        AppSettings, DeclaredApp, Provider, ProviderConfig, ProviderContext, ProviderError,
        settings::{Ready, readiness, show_readiness},
    },
};

/// The validated options of a `process` entry.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessConfig {
    /// By name.
    pub apps: BTreeMap<String, ProcessApp>,
    /// Apps outlive the gateway, and the next one finds them again.
    pub leave_running: bool,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

/// An app that runs as a child process.
#[derive(Clone, PartialEq)]
pub struct ProcessApp {
    /// The program and its arguments, never empty. `{port}` stands for the port.
    pub command: Vec<String>,
    /// Where it runs; where the gateway runs, if not set.
    pub cwd: Option<PathBuf>,
    /// Beside PORT, HOST and the few variables that are inherited. `{port}` stands for the port.
    pub env: BTreeMap<String, String>,
    /// Where it listens; a free port is chosen at each start, if not set.
    pub port: Option<u16>,
    /// What is not particular to processes.
    pub settings: AppSettings,
}

impl ProcessApp {
    /// Whether a process of `other` would be started in the same way.
    pub(super) fn starts_like(&self, other: &Self) -> bool {
        (&self.command, &self.cwd, &self.env, self.port)
            == (&other.command, &other.cwd, &other.env, other.port)
    }
}

/// Values of `env` are left out: passwords of databases live there.
impl fmt::Debug for ProcessApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessApp")
            .field("command", &self.command)
            .field("cwd", &self.cwd)
            .field("env", &self.env.keys())
            .field("port", &self.port)
            .field("settings", &self.settings)
            .finish()
    }
}

/// Child processes of the gateway on this machine.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "the options of a process provider")]
#[schemars(rename = "ProcessProvider")]
struct Typed {
    /// Whether apps go on running when the gateway ends; needs `state_dir`. Default: `false`.
    leave_running: Option<Located<bool>>,
    /// How long an app may take to end after SIGTERM, before SIGKILL. Default: `10s`.
    stop_grace: Option<Period>,
    /// The apps.
    apps: Option<Vec<Located<TypedApp>>>,
}

/// An app that runs as a child process.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an app: a map with `name`, `command` and so on")]
#[schemars(rename = "ProcessApp")]
struct TypedApp {
    /// The app answers at NAME.DOMAIN. Unique in this entry.
    #[schemars(required)]
    name: Option<Located<Label>>,
    /// The program and its arguments; no shell is involved. `{port}` stands for the port.
    #[schemars(required)]
    command: Option<Located<Command>>,
    /// Where it runs. Relative to the gateway's working directory. Default: there.
    cwd: Option<Located<String>>,
    /// Variables. Beside these, PORT and HOST, only PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_ALL, LC_CTYPE, TZ and
    /// TMPDIR are inherited from the gateway. `{port}` stands for the port.
    env: Option<BTreeMap<Variable, Secret>>,
    /// Where it listens. Default: a free port, another one at each start.
    port: Option<Located<Port>>,
    /// Host names beside NAME.DOMAIN.
    hosts: Option<OneOrMany<Located<HostName>>>,
    /// Overrides `defaults.idle_timeout`.
    idle_timeout: Option<PositivePeriod>,
    /// Overrides `defaults.wake_timeout`.
    wake_timeout: Option<PositivePeriod>,
    /// Which answer shows that the app is ready.
    ready: Option<Ready>,
}

/// A program and its arguments.
struct Command(Vec<Located<String>>);

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a list of the program and its arguments, for example ["python3", "app.py"]"#)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Command, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                Ok(Command(words))
            }
        }
        deserializer.deserialize_seq(Words)
    }
}

impl JsonSchema for Command {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Command".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = json!({ "type": ["string", "number", "boolean"] });
        schemars::json_schema!({
            "type": "array", "items": word, "minItems": 1,
            "examples": [["python3", "-m", "http.server", "{port}"]]
        })
    }
}

/// The name of an environment variable.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Variable(String);

impl Scalar for Variable {
    const NAME: &'static str = "Variable";
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err("is not the name of a variable".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

crate::config::scalar::scalar!(Variable);

/// The JSON Schema of the options.
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Typed>()
}

/// Reads the options of an entry. What is wrong is told and left out, so that the rest can be checked further.
pub fn configure(
    entry: &ProviderEntry,
    _: &Environment,
    problems: &mut Problems,
) -> Option<Arc<dyn ProviderConfig>> {
    let typed: Typed = entry.options.decode(problems)?;
    let mut read = Entry {
        config: ProcessConfig {
            apps: BTreeMap::new(),
            leave_running: typed.leave_running.as_ref().is_some_and(|leave| leave.value),
            stop_grace: typed.stop_grace.map_or(Duration::from_secs(10), |period| period.0),
        },
        declared: Vec::new(),
        ports: Vec::new(),
        leave_running: typed.leave_running.filter(|leave| leave.value).map(|leave| leave.at),
        shown: Value::Null,
    };
    let mut as_typed = read.config.clone();
    for app in typed.apps.unwrap_or_default() {
        read.add(&app, &mut as_typed, problems);
    }
    read.shown = as_typed.show();
    Some(Arc::new(read))
}

/// An entry that was written down: its configuration, and how it looks in the file.
struct Entry {
    config: ProcessConfig,
    declared: Vec<DeclaredApp>,
    ports: Vec<(u16, At)>,
    /// Where it says `leave_running: true`, if it does.
    leave_running: Option<At>,
    shown: Value,
}

impl Entry {
    /// Checks one app and adds it, to `as_typed` with its texts as they stand in the file.
    fn add(&mut self, app: &Located<TypedApp>, as_typed: &mut ProcessConfig, problems: &mut Problems) {
        self.ports.extend(app.port.iter().map(|port| (port.0, port.at)));
        let Some(name) = &app.name else {
            if app.lacks("name", &app.name) {
                problems.push(app.at, "`name` is missing: an app needs one");
            }
            self.build(app, "", problems);
            return;
        };
        if let Some(first) = self.declared.iter().find(|first| first.name == name.0) {
            problems
                .push(name.at, format!("the app name `{}` is taken at line {}", name.written, first.at.line));
        }
        let hosts = app.hosts.iter().flat_map(|hosts| &hosts.0);
        let hosts = hosts.map(|host| (host.0.clone(), host.at)).collect();
        self.declared.push(DeclaredApp { name: name.0.clone(), at: name.at, hosts });
        if let Some((needed, shown)) = self.build(app, &name.written, problems) {
            as_typed.apps.insert(as_written(name, &name.0), shown);
            self.config.apps.insert(name.0.clone(), needed);
        }
    }

    /// The app as it is needed, and as it stands in the file.
    fn build(
        &self,
        app: &Located<TypedApp>,
        name: &str,
        problems: &mut Problems,
    ) -> Option<(ProcessApp, ProcessApp)> {
        let typed = &app.value;
        let at = typed.name.as_ref().map_or(app.at, |name| name.at);
        if app.lacks("command", &typed.command) {
            problems.push(at, format!("`command` is missing: the app `{name}` needs one"));
        }
        let words = typed.command.as_ref().map(|command| &command.value.0);
        if let (Some(command), Some(words)) = (&typed.command, words) {
            let first_is_empty = words.first().is_none_or(|word| word.trim().is_empty());
            if first_is_empty && command.lost.is_empty() {
                problems.push(command.at, "`command` is empty: write the program and its arguments");
            }
            for word in words.iter().filter(|word| word.contains('\0')) {
                problems.push(word.at, "a NUL byte cannot be given to a program");
            }
        }
        if let Some(cwd) = typed.cwd.as_ref().filter(|cwd| cwd.is_empty()) {
            problems.push(cwd.at, "`cwd` is empty: name a directory, or leave the key out");
        }
        let env: BTreeMap<String, String> = typed
            .env
            .iter()
            .flatten()
            .map(|(name, value)| (name.0.clone(), value.expose().to_owned()))
            .collect();
        if env.values().any(|value| value.contains('\0')) {
            problems.push(at, format!("a value in `env` of the app `{name}` has a NUL byte"));
        }
        let hosts: Vec<&Located<HostName>> = typed.hosts.iter().flat_map(|hosts| &hosts.0).collect();
        let needed = ProcessApp {
            command: words?.iter().map(|word| word.value.clone()).collect(),
            cwd: typed.cwd.as_ref().map(|cwd| PathBuf::from(&cwd.value)),
            env: env.clone(),
            port: typed.port.as_ref().map(|port| port.0),
            settings: AppSettings {
                place: Some(format!("{}:{}", problems.name(), at.line).into()),
                hosts: hosts.iter().map(|host| host.0.clone()).collect(),
                idle_timeout: typed.idle_timeout.map(|period| period.0),
                wake_timeout: typed.wake_timeout.map(|period| period.0),
                ready: readiness(typed.ready.as_ref(), problems),
                ..AppSettings::default()
            },
        };
        let mut shown = needed.clone();
        shown.command = words?.iter().map(|word| as_written(word, word)).collect();
        shown.cwd = typed.cwd.as_ref().map(|cwd| PathBuf::from(as_written(cwd, cwd)));
        shown.settings.hosts = hosts.iter().map(|host| as_written(host, &host.0)).collect();
        if let Some(path) = typed.ready.as_ref().and_then(|ready| ready.path.as_ref()) {
            shown.settings.ready.path = as_written(path, &path.0);
        }
        Some((needed, shown))
    }
}

impl ProviderConfig for Entry {
    fn is_of_this_machine(&self) -> bool {
        true
    }
    fn declared(&self) -> Vec<DeclaredApp> {
        self.declared.clone()
    }
    fn ports(&self) -> Vec<(u16, At)> {
        self.ports.clone()
    }
    fn needs_state_dir(&self) -> Option<(At, &'static str)> {
        let message = "`leave_running` needs `state_dir`, or the next start would not find the apps again";
        self.leave_running.map(|at| (at, message))
    }
    fn connect(&self, context: ProviderContext) -> Result<Arc<dyn Provider>, ProviderError> {
        self.config.connect(context)
    }
    fn show(&self) -> Value {
        self.shown.clone()
    }
    /// A [`ProcessConfig`], whichever way it was made.
    fn as_any(&self) -> &dyn Any {
        &self.config
    }
}

/// For options that were not read from a file: nothing has a place, and texts are shown as they are.
impl ProviderConfig for ProcessConfig {
    fn is_of_this_machine(&self) -> bool {
        true
    }
    fn declared(&self) -> Vec<DeclaredApp> {
        let place = |host: &String| (host.clone(), At::default());
        self.apps
            .iter()
            .map(|(name, app)| DeclaredApp {
                name: name.clone(),
                at: At::default(),
                hosts: app.settings.hosts.iter().map(place).collect(),
            })
            .collect()
    }

    fn connect(&self, context: ProviderContext) -> Result<Arc<dyn Provider>, ProviderError> {
        super::connect(self, context)
    }

    fn show(&self) -> Value {
        let apps: Vec<Value> = self.apps.iter().map(|(name, app)| show_app(name, app)).collect();
        json!({
            "leave_running": self.leave_running,
            "stop_grace": units::duration(self.stop_grace),
            "apps": apps,
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn show_app(name: &str, app: &ProcessApp) -> Value {
    let AppSettings { hosts, idle_timeout, wake_timeout, ready, .. } = &app.settings;
    let mut shown = json!({
        "name": name,
        "command": app.command,
        "ready": show_readiness(ready),
    });
    if let Some(cwd) = &app.cwd {
        shown["cwd"] = cwd.to_string_lossy().into();
    }
    if !app.env.is_empty() {
        shown["env"] =
            app.env.keys().map(|name| (name.clone(), "***".into())).collect::<serde_json::Map<_, _>>().into();
    }
    if let Some(port) = app.port {
        shown["port"] = port.into();
    }
    if !hosts.is_empty() {
        shown["hosts"] = json!(hosts);
    }
    if let Some(idle) = idle_timeout {
        shown["idle_timeout"] = units::duration(*idle).into();
    }
    if let Some(wake) = wake_timeout {
        shown["wake_timeout"] = units::duration(*wake).into();
    }
    shown
}
