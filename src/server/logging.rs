//! Log lines, through `log` and `env_logger`: what `LOIR_LOG` lets through, in the form `LOIR_LOG_FORMAT` asks for.

use std::io::Write;

use env_logger::{Builder, Env, Logger, WriteStyle, fmt::Formatter};
use log::{
    LevelFilter, Log, Metadata, Record,
    kv::{Key, Value, VisitSource},
};

use crate::{lifecycle::event, proxy::ACCESS_TARGET};

/// Who reads along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// An operator: text, or JSON if `LOIR_LOG_FORMAT=json`.
    Operator,
    /// Somebody at a terminal who tries the demo: only what happens to apps, one calm line each.
    Demo,
}

/// Whoever writes whole headers and bodies into the log below these levels, cookies and credentials included: they never
/// get there, whatever `LOIR_LOG` says.
const DISCREET: &[(&str, LevelFilter)] = &[
    ("pingora_core::protocols", LevelFilter::Info),
    ("pingora_proxy", LevelFilter::Info),
    ("hyper", LevelFilter::Debug),
    ("h2", LevelFilter::Debug),
];

/// Lets through what `LOIR_LOG` wants, but for what nobody should want.
struct Discreet(Logger);

impl Log for Discreet {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = DISCREET.iter().find(|(module, _)| metadata.target().starts_with(module));
        most.is_none_or(|(_, most)| metadata.level() <= *most) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Sets the process's logger, once.
///
/// `LOIR_LOG` takes the usual filters (`info`, `loir=debug,event=off`). Pingora's line for each failed handshake or
/// broken connection is left out unless asked for: the internet is full of port scans.
pub fn init(style: Style) {
    let filter = match style {
        Style::Operator => "info,pingora_core::services::listening=off,pingora_proxy=warn,pingora_core=warn",
        Style::Demo => "off,event=info,loir=warn",
    };
    let json = std::env::var("LOIR_LOG_FORMAT").is_ok_and(|format| format == "json");
    let mut builder = Builder::from_env(Env::new().filter_or("LOIR_LOG", filter));
    builder.write_style(WriteStyle::Never);
    match style {
        Style::Demo => builder.format(calm).target(env_logger::Target::Stdout),
        Style::Operator if json => builder.format(as_json),
        Style::Operator => builder.format(as_text),
    };
    let logger = builder.build();
    let most = logger.filter();
    // A second call (as in tests) leaves the first logger in place.
    if log::set_boxed_logger(Box::new(Discreet(logger))).is_ok() {
        log::set_max_level(most);
    }
}

fn as_text(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    if record.target() == ACCESS_TARGET {
        return writeln!(out, "{}", record.args());
    }
    let time = out.timestamp_millis();
    writeln!(out, "{time} {:5} {}", record.level(), record.args())
}

fn as_json(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    if record.target() == ACCESS_TARGET {
        return writeln!(out, "{}", record.args());
    }
    let mut line = serde_json::Map::new();
    line.insert("ts".into(), out.timestamp_millis().to_string().into());
    line.insert("level".into(), record.level().as_str().to_ascii_lowercase().into());
    line.insert("target".into(), record.target().into());
    line.insert("msg".into(), record.args().to_string().into());
    let _ = record.key_values().visit(&mut Fields(&mut line));
    writeln!(out, "{}", serde_json::Value::Object(line))
}

/// `12:03:11  hello  ready after 3.1 s`
fn calm(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let time = jiff::Zoned::now().strftime("%H:%M:%S");
    let text = record.args().to_string();
    match text.split_once(": ") {
        Some((app, what)) if record.target() == event::TARGET => {
            let app = app.rsplit('/').next().unwrap_or(app);
            writeln!(out, "  {time}  {app:<10} {what}")
        }
        _ => writeln!(out, "  {time}  {text}"),
    }
}

struct Fields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.insert(key.as_str().to_owned(), value.to_string().into());
        Ok(())
    }
}
