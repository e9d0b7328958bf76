//! `loir config show`: what is needed, written as YAML again. Loads to the same configuration, as far as it has no
//! secrets. A text that came from the environment is shown as it was written, `${NAME}`; an address, a duration, a
//! size, a number or a boolean is shown as what it became.

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap},
};
use serde_json::{Map, Value, json};

use super::{secret::without_userinfo, units, validate::Checked, yaml::Located};
use crate::app::Timeouts;

/// The configuration as YAML. `registry` is what the registry shows of its block, and `options` what each provider shows of
/// its own entry, in order.
///
/// # Errors
///
/// None that is known; those of the YAML writer.
pub fn show(
    checked: &Checked,
    registry: Value,
    options: Vec<Value>,
) -> Result<String, serde_yaml::ser_error::Error> {
    let config = &checked.config;
    let server = &config.server;
    let Timeouts { idle, wake, hold, hold_before_page } = config.defaults;
    let mut shown = json!({
        "server": {
            "listen": server.listen.to_string(),
            "domain": checked.domains.iter().map(|domain| as_written(domain, &domain.0)).collect::<Vec<_>>(),
            "trusted_proxies": server.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "threads": server.threads,
            "drain_timeout": units::duration(server.drain_timeout),
            "access_log": server.access_log,
            "log_queries": server.log_queries,
            "limits": server.limits,
            "timeouts": server.timeouts,
        },
        "registry": { "type": config.registry.kind },
        "defaults": {
            "idle_timeout": units::duration(idle),
            "wake_timeout": units::duration(wake),
            "hold_timeout": units::duration(hold),
            "hold_before_page": units::duration(hold_before_page),
        },
    });
    if let (Value::Object(shown), Value::Object(options)) = (&mut shown["registry"], registry) {
        shown.extend(options);
    }
    if let Some(state_dir) = &checked.state_dir {
        shown["state_dir"] = without_userinfo(state_dir).into();
    }
    let patterns =
        |patterns: &[super::Pattern]| patterns.iter().map(|one| one.text.clone()).collect::<Vec<_>>();
    shown["manage"] =
        json!({ "include": patterns(&config.manage.include), "exclude": patterns(&config.manage.exclude) });
    if !checked.shared.is_empty() {
        shown["apps"] = checked.shared.clone().into();
    }
    for (key, block) in &checked.written {
        shown[*key] = block.clone();
    }
    shown["history"] = config.history.show();
    shown["savings"] = config.savings.show();
    shown["admin"] = config.admin.show();
    let entries = config.providers.iter().zip(&checked.names).zip(options);
    let entries = entries.map(|((entry, name), options)| {
        let mut map = Map::from_iter([
            ("name".to_owned(), as_written(name, &name.value).into()),
            ("type".to_owned(), entry.kind.clone().into()),
        ]);
        if let Value::Object(options) = options {
            map.extend(options);
        }
        Value::Object(map)
    });
    shown["providers"] = entries.collect();
    serde_yaml::to_string(&InOrder(&shown))
}

/// The value, or the text in the file if that names variables.
pub fn as_written<T>(located: &Located<T>, value: &str) -> String {
    without_userinfo(if located.written.contains("${") { &located.written } else { value })
}

/// Keys that a reader looks for first; the others follow by the alphabet.
const FIRST: [&str; 7] = ["server", "registry", "state_dir", "defaults", "name", "type", "command"];

struct InOrder<'a>(&'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let mut keys: Vec<_> = map.keys().map(String::as_str).collect();
                keys.sort_by_key(|key| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
                let mut shown = serializer.serialize_map(Some(keys.len()))?;
                for key in keys {
                    let value = map.get(key).ok_or_else(|| S::Error::custom("a key without value"))?;
                    shown.serialize_entry(key, &InOrder(value))?;
                }
                shown.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            plain => plain.serialize(serializer),
        }
    }
}
