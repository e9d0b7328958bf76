//! `Night`: a look at the records, and mending them, beside the gateways that use them.
//!
//! It joins no fleet: no gateway waits for it. Each app is read in one step with its places in the indexes, so that what looks
//! wrong is wrong, however busy the gateways are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Duration,
};

use async_trait::async_trait;
use redis::{Script, cmd, pipe};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{APPLY, GONE_AFTER, RedisConfig, TRIES, keys::Keys, link::Link, link::in_words, wire, write_of};
use crate::{
    app::{AppId, AppState},
    registry::{
        Record, RegistryError,
        dump::{Dump, Entry, Intent, moment},
        upkeep::{Ailment, Examination, Remedy, Upkeep},
    },
};

/// A gateway that has not been heard of for so many times what the others take for dead is worth a word.
const LONG_DEAD: u32 = 10;

/// So many leases after its deadline, a wake or a stop should have been ended by somebody.
const OVERDUE: u32 = 3;

/// Apps looked at in one step. Gateways wait meanwhile, so it is short.
const LOOK_AT_ONCE: usize = 100;

static INDEX: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("index.lua")));
static ASIDE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("aside.lua")));
static TAKE_OUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take_out.lua")));

/// See the module's page.
pub struct Night {
    config: RedisConfig,
    keys: Keys,
    link: Link,
}

/// What there is of an app.
struct Sight {
    app: String,
    /// The type of what stands in the record's place: `none` for nothing.
    kind: String,
    text: Vec<u8>,
    changed: Option<f64>,
    due: Option<f64>,
    deadline: Option<f64>,
}

/// What stands in the record's place.
enum Found {
    Nothing,
    Record(Record),
    /// Of a newer version.
    Newer(u32),
    Strange(String),
}

/// Who lives and leads.
struct FleetSight {
    now: u64,
    leader: Option<String>,
    /// Each with when it was last heard of, as written.
    gateways: BTreeMap<String, String>,
    /// A leader of whom nobody knows until when: no gateway can join.
    endless: Option<Vec<(String, String)>>,
}

impl Night {
    /// Connects.
    pub async fn open(config: RedisConfig) -> Result<Self, RegistryError> {
        let limit = config.response_timeout;
        let night = Self { keys: Keys::new(&config.prefix), link: Link::new(limit), config };
        let connect = async {
            let client = night.config.address.client(limit).await?;
            night.link.connect(&client).await
        };
        let problem = match timeout(limit * 2, connect).await {
            Ok(Ok(connection)) => {
                night.link.open(connection);
                // One that hangs accepts connections, too.
                let time: Result<(u64, u64), _> = night.link.command(&cmd("TIME")).await;
                match time {
                    Ok((seconds, micros)) => {
                        night.link.believe_time(seconds.saturating_mul(1000).saturating_add(micros / 1000));
                        return Ok(night);
                    }
                    Err(error) => error.to_string(),
                }
            }
            Ok(Err(error)) if error.is_timeout() => format!("no answer within {limit:?}"),
            Ok(Err(error)) => in_words(&error),
            Err(_) => format!("no answer within {limit:?}"),
        };
        Err(RegistryError::Unavailable(format!(
            "the registry at {} cannot be used ({problem})",
            night.config.address
        )))
    }

    /// The names of all apps that have anything: those in the indexes, and those with a record.
    async fn names(&self) -> Result<BTreeSet<String>, RegistryError> {
        let mut names = BTreeSet::new();
        for key in [self.keys.changed(), self.keys.due(), self.keys.deadlines()] {
            let mut cursor = 0_u64;
            loop {
                let mut scan = cmd("ZSCAN");
                scan.arg(&key).arg(cursor).arg("COUNT").arg(1000);
                let (next, some): (u64, Vec<(String, f64)>) = self.link.command(&scan).await.map_err(|error| {
                    RegistryError::Unavailable(format!(
                        "{key} cannot be read ({error}): if it is no sorted set, rename it, and repair makes it anew"
                    ))
                })?;
                names.extend(some.into_iter().map(|(name, _)| name));
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        let root = self.keys.records();
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{root}*")).arg("COUNT").arg(1000);
            let (next, some): (u64, Vec<Vec<u8>>) = self.link.command(&scan).await?;
            names.extend(
                some.iter().filter_map(|key| Some(str::from_utf8(key).ok()?.strip_prefix(&root)?.to_owned())),
            );
            cursor = next;
            if cursor == 0 {
                return Ok(names);
            }
        }
    }

    /// All apps, each as it is at one moment.
    async fn look(&self) -> Result<Vec<Sight>, RegistryError> {
        let names: Vec<String> = self.names().await?.into_iter().collect();
        let mut sights = Vec::with_capacity(names.len());
        for names in names.chunks(LOOK_AT_ONCE) {
            let mut look = pipe();
            let mut get = cmd("MGET");
            get.arg(names.iter().map(|name| self.keys.record_named(name)).collect::<Vec<_>>());
            look.atomic().add_command(get);
            for name in names {
                look.cmd("TYPE").arg(self.keys.record_named(name));
                for index in [self.keys.changed(), self.keys.due(), self.keys.deadlines()] {
                    look.zscore(index, name);
                }
            }
            let answers: Vec<redis::Value> = self.link.commands(&look).await?;
            let mut answers = answers.into_iter();
            let mut next = || answers.next().unwrap_or(redis::Value::Nil);
            let texts: Vec<Option<Vec<u8>>> = read(next())?;
            for (name, text) in names.iter().zip(texts) {
                sights.push(Sight {
                    app: name.clone(),
                    kind: read(next())?,
                    text: text.unwrap_or_default(),
                    changed: read(next())?,
                    due: read(next())?,
                    deadline: read(next())?,
                });
            }
        }
        Ok(sights)
    }

    async fn look_at_fleet(&self) -> Result<FleetSight, RegistryError> {
        let mut look = pipe();
        look.atomic().cmd("TIME").cmd("HGETALL").arg(self.keys.fleet());
        let ((seconds, micros), fields): ((u64, u64), BTreeMap<String, String>) =
            self.link.commands(&look).await.map_err(|error| {
                RegistryError::Unavailable(format!("{} cannot be read ({error})", self.keys.fleet()))
            })?;
        let now = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        self.link.believe_time(now);
        let until = fields.get("until");
        let (mut leader, mut endless) = (None, None);
        if let Some(name) = fields.get("leader") {
            match until.and_then(|until| until.parse::<f64>().ok()) {
                Some(until) if until > as_score(now) => leader = Some(name.clone()),
                Some(_) => {}
                None => {
                    let until = until.map(|until| ("until".to_owned(), until.clone()));
                    endless = Some(
                        [Some(("leader".to_owned(), name.clone())), until].into_iter().flatten().collect(),
                    );
                }
            }
        }
        let gateway = |(field, heard): (String, String)| Some((field.strip_prefix("at:")?.to_owned(), heard));
        Ok(FleetSight { now, leader, gateways: fields.into_iter().filter_map(gateway).collect(), endless })
    }

    /// One app as it is.
    async fn current(&self, app: &AppId) -> Result<(String, Option<Entry>), RegistryError> {
        let text: Option<Vec<u8>> = self.link.command(cmd("GET").arg(self.keys.record(app))).await?;
        let sight = Sight {
            app: app.to_string(),
            kind: if text.is_some() { "string" } else { "none" }.into(),
            text: text.unwrap_or_default(),
            changed: None,
            due: None,
            deadline: None,
        };
        Ok((String::from_utf8_lossy(&sight.text).into_owned(), sight.entry()))
    }

    fn ails(&self, sight: &Sight, fleet: &FleetSight) -> Vec<Ailment> {
        let ailment =
            |wrong: String, cure: String, remedy| Ailment { of: sight.app.clone(), wrong, cure, remedy };
        let index = || Some(Remedy::Index { text: sight.text.clone() });
        let mut ailments = Vec::new();
        let record = match sight.found() {
            Found::Strange(problem) => {
                let text = (sight.kind == "string").then(|| sight.text.clone());
                ailments.push(ailment(
                    format!("its record cannot be understood: {problem}"),
                    format!(
                        "it is moved aside, to {}TIME; gateways make a new one",
                        self.keys.aside(&sight.app)
                    ),
                    Some(Remedy::SetAside { kind: sight.kind.clone(), text }),
                ));
                return ailments;
            }
            Found::Nothing => {
                let places = [("changed", sight.changed), ("due", sight.due), ("deadlines", sight.deadline)];
                let places: Vec<_> =
                    places.iter().filter(|(_, score)| score.is_some()).map(|(name, _)| *name).collect();
                if !places.is_empty() {
                    let wrong = format!("listed in `{}`, and has no record", places.join("`, `"));
                    ailments.push(ailment(wrong, "it is taken out".into(), index()));
                }
                return ailments;
            }
            Found::Newer(_) => None,
            Found::Record(record) => Some(record),
        };
        let mut wrong = Vec::new();
        if sight.changed.is_none() {
            wrong.push("missing in `changed`".to_owned());
        }
        if let Some(record) = &record {
            match (record.state == AppState::Awake, sight.due) {
                (true, None) => wrong.push("awake, and missing in `due`: it would never be stopped".into()),
                (false, Some(_)) => wrong.push(format!("{}, and listed in `due`", record.state)),
                _ => {}
            }
            match (record.deadline, sight.deadline) {
                (Some(_), None) => {
                    wrong
                        .push(format!("{}, and missing in `deadlines`: nobody would end that", record.state));
                }
                (Some(deadline), Some(score)) if (as_score(deadline) - score).abs() >= 1.0 => {
                    wrong.push("listed in `deadlines` at another time than its record says".into());
                }
                (None, Some(_)) => wrong.push(format!("{}, and listed in `deadlines`", record.state)),
                _ => {}
            }
        }
        if !wrong.is_empty() {
            let cure = "the index is made to tell what the record tells".into();
            ailments.push(ailment(wrong.join("; "), cure, index()));
        }
        if let Some(Record { deadline: Some(deadline), state, since, .. }) = record {
            let late = fleet.now.saturating_sub(deadline);
            if late > millis(self.config.lease * OVERDUE) {
                let cure = match &fleet.leader {
                    Some(leader) => format!(
                        "nothing by hand: {leader} leads, and ends it as soon as the provider lets it"
                    ),
                    None => "nothing by hand: no gateway runs; the first one that does ends it".into(),
                };
                let wrong =
                    format!("{state} since {}, and abandoned for {} s", instant(&moment(since)), late / 1000);
                ailments.push(ailment(wrong, cure, None));
            }
        }
        ailments
    }

    fn fleet_ails(&self, fleet: &FleetSight) -> Vec<Ailment> {
        let gone = millis(self.config.lease * GONE_AFTER * LONG_DEAD);
        let mut ailments = Vec::new();
        for (gateway, heard) in &fleet.gateways {
            let wrong = match heard.parse::<f64>() {
                Ok(at) if at + as_score(gone) >= as_score(fleet.now) => continue,
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole milliseconds since 1970"
                )]
                Ok(at) => format!("not heard of since {}", instant(&moment(at.max(0.0) as u64))),
                Err(_) => "when it was last heard of is no number: no app can be stopped".into(),
            };
            ailments.push(Ailment {
                of: format!("gateway {gateway}"),
                wrong,
                cure: "it is taken out; should it live, it comes back by itself".into(),
                remedy: Some(Remedy::TakeOut(vec![(format!("at:{gateway}"), heard.clone())])),
            });
        }
        if let Some(fields) = &fleet.endless {
            ailments.push(Ailment {
                of: "the leader".into(),
                wrong: "until when it leads is no number: no gateway can join".into(),
                cure: "it is taken out; the next gateway that beats leads".into(),
                remedy: Some(Remedy::TakeOut(fields.clone())),
            });
        }
        ailments
    }
}

impl Sight {
    fn found(&self) -> Found {
        if self.kind == "none" {
            return Found::Nothing;
        }
        let Ok(app) = self.app.parse::<AppId>() else {
            return Found::Strange("no app has such a name (provider/name)".into());
        };
        if self.kind != "string" {
            return Found::Strange(format!("it is a {}, and no text", self.kind));
        }
        let Ok(text) = str::from_utf8(&self.text) else {
            return Found::Strange("it is not UTF-8".into());
        };
        match wire::read(&app, text) {
            Ok(Some(record)) => Found::Record(record),
            Ok(None) => Found::Strange("it is empty".into()),
            Err(RegistryError::Newer(version)) => Found::Newer(version),
            Err(_) => match serde_json::from_str::<Value>(text) {
                Ok(_) => Found::Strange("it is JSON, and no record".into()),
                Err(error) => Found::Strange(error.to_string()),
            },
        }
    }

    fn entry(&self) -> Option<Entry> {
        let strange =
            |problem| Entry::Strange { problem, raw: String::from_utf8_lossy(&self.text).into_owned() };
        match self.found() {
            Found::Nothing => None,
            Found::Record(record) => Some(Entry::Record(record)),
            Found::Newer(version) => {
                Some(strange(format!("a newer version of Loir wrote it (records of version {version})")))
            }
            Found::Strange(problem) => Some(strange(problem)),
        }
    }
}

/// Without the quotes.
fn instant(moment: &Value) -> String {
    moment.as_str().map_or_else(|| moment.to_string(), str::to_owned)
}

fn read<T: redis::FromRedisValue>(value: redis::Value) -> Result<T, RegistryError> {
    redis::from_redis_value(value).map_err(|error| RegistryError::Unavailable(error.to_string()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// As a sorted set keeps it.
#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn as_score(millis: u64) -> f64 {
    millis as f64
}

#[async_trait]
impl Upkeep for Night {
    async fn dump(&self) -> Result<Dump, RegistryError> {
        let fleet = self.look_at_fleet().await?;
        let sights = self.look().await?;
        let apps = sights.iter().filter_map(|sight| Some((sight.app.clone(), sight.entry()?))).collect();
        let heard = |heard: &String| heard.parse().map_or_else(|_| heard.as_str().into(), moment);
        let gateways: BTreeMap<_, _> = fleet.gateways.iter().map(|(name, at)| (name, heard(at))).collect();
        let registry = json!({
            "type": "redis",
            "address": self.config.address.to_string(),
            "prefix": self.config.prefix,
        });
        let fleet_told = json!({ "leader": fleet.leader, "last_heard_of": gateways });
        Ok(Dump::new(fleet.now, registry, fleet_told, apps))
    }

    fn mends(&self) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn restore(&self, app: &AppId, dumped: &Record) -> Result<Intent, RegistryError> {
        for _ in 0..TRIES {
            let (written, current) = self.current(app).await?;
            let now = self.link.now();
            let intent = Intent::of(dumped, current.as_ref(), now);
            let Some(change) = intent.change() else { return Ok(intent) };
            let base = match current {
                Some(Entry::Record(record)) => record,
                _ => Record::new(now),
            };
            let Ok(next) = base.apply(change, now) else { return Ok(Intent::Same) };
            let (keys, args) = write_of(&self.keys, &self.config, app, &written, &next)?;
            let (done, _, _): (u8, redis::Value, u64) = self.link.script(&APPLY, &keys, &args).await?;
            if done == 1 {
                return Ok(intent);
            }
        }
        Err(RegistryError::Unavailable(format!("the record of {app} changes faster than it can be read")))
    }

    async fn examine(&self) -> Result<Examination, RegistryError> {
        let fleet = self.look_at_fleet().await?;
        let sights = self.look().await?;
        let mut ailments: Vec<_> = sights.iter().flat_map(|sight| self.ails(sight, &fleet)).collect();
        ailments.extend(self.fleet_ails(&fleet));
        let records = sights.iter().filter(|sight| sight.kind != "none").count();
        Ok(Examination { records, leader: fleet.leader, ailments })
    }

    async fn mend(&self, ailment: &Ailment) -> Result<bool, RegistryError> {
        let (app, keys) = (&ailment.of, &self.keys);
        let record = keys.record_named(app);
        let done: u8 = match &ailment.remedy {
            None => return Ok(false),
            Some(Remedy::SetAside { kind, text }) => {
                let aside = format!("{}{}", keys.aside(app), instant(&moment(self.link.now())));
                let keys = [record, aside, keys.changed(), keys.due(), keys.deadlines()];
                let args =
                    [app.clone().into_bytes(), kind.clone().into_bytes(), text.clone().unwrap_or_default()];
                self.link.script(&ASIDE, &keys, &args).await?
            }
            Some(Remedy::Index { text }) => {
                let id = app.parse::<AppId>().ok().zip(str::from_utf8(text).ok());
                let known = id.and_then(|(app, text)| wire::read(&app, text).ok().flatten());
                let (due, deadline) =
                    known.as_ref().map(|next| super::places(&self.config, next)).unwrap_or_default();
                let newer = if known.is_none() { "1" } else { "" };
                let keys = [record, keys.fleet(), keys.changed(), keys.due(), keys.deadlines()];
                let args = [app.as_bytes(), text, newer.as_bytes(), due.as_bytes(), deadline.as_bytes()];
                self.link.script(&INDEX, &keys, &args).await?
            }
            Some(Remedy::TakeOut(fields)) => {
                let args: Vec<&str> =
                    fields.iter().flat_map(|(field, value)| [field.as_str(), value.as_str()]).collect();
                self.link.script(&TAKE_OUT, &[keys.fleet()], &args).await?
            }
        };
        Ok(done == 1)
    }
}
