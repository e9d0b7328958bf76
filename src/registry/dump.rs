//! `Dump`: every record of a registry as one document that people can read, keep, and give back.
//!
//! Times are RFC 3339, to the millisecond, so that nothing is lost. Whatever a dump holds is checked as a whole before any of
//! it is used: a file that was damaged or half edited changes nothing.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::Error as _,
};
use serde_json::{Value, json};

use super::{
    Change, Record,
    record::{self, BOOTS_KEPT},
};
use crate::app::{AppId, AppState, Formation};

/// What the document is called in itself.
const FORMAT: &str = "loir-registry-dump";
const VERSION: u64 = 1;

/// The fields of a record that are moments.
const MOMENTS: [&str; 3] = ["since", "deadline", "pinned_until"];

/// No app changes so often: what is larger is a slip of the hand, and would leave no room to grow.
const LARGEST_EPOCH: u64 = 1 << 53;

/// See the module's page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dump {
    format: &'static str,
    version: u64,
    /// When it was taken, by the registry's clock.
    pub taken: Value,
    /// Which registry, in words and without a password. For people.
    pub registry: Value,
    /// Who lives and who leads. For people.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub fleet: Value,
    /// What there is under each app. A key that names no app is kept all the same.
    pub apps: BTreeMap<String, Entry>,
}

/// What is remembered of one app.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Its record.
    Record(Record),
    /// What this version cannot understand.
    Strange {
        /// Why.
        problem: String,
        /// What is there, as it stands.
        raw: String,
    },
}

impl Dump {
    /// Of these apps, taken at `now`.
    pub fn new(now: u64, registry: Value, fleet: Value, apps: BTreeMap<String, Entry>) -> Self {
        Self { format: FORMAT, version: VERSION, taken: moment(now), registry, fleet, apps }
    }

    /// When it was taken, in milliseconds since 1970.
    pub fn taken_at(&self) -> u64 {
        millis(&self.taken).unwrap_or_default()
    }

    /// The apps whose records are understood.
    pub fn records(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.apps.iter().filter_map(|(app, entry)| match entry {
            Entry::Record(record) => Some((app.as_str(), record)),
            Entry::Strange { .. } => None,
        })
    }

    /// The apps whose records are not, and why.
    pub fn strangers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.apps.iter().filter_map(|(app, entry)| match entry {
            Entry::Strange { problem, .. } => Some((app.as_str(), problem.as_str())),
            Entry::Record(_) => None,
        })
    }

    /// Reads a document and checks all of it.
    ///
    /// # Errors
    ///
    /// What is wrong and where, by the app's name.
    pub fn read(text: &str) -> Result<Self, String> {
        let head: Head = serde_json::from_str(text)
            .map_err(|error| format!("it is no dump of a registry, or a damaged one: {error}"))?;
        match (head.format.as_str(), head.version) {
            (FORMAT, VERSION) => {}
            (FORMAT, version) => {
                return Err(format!(
                    "it is a dump of version {version}, and this Loir reads version {VERSION}: use the Loir that took it"
                ));
            }
            (other, _) => {
                return Err(format!(
                    "it is a `{other}`, and a `{FORMAT}` was expected: see `loir registry dump`"
                ));
            }
        }
        let typed: Typed = serde_json::from_str(text).map_err(|error| format!("it is damaged: {error}"))?;
        millis(&typed.taken).map_err(|problem| format!("`taken`: {problem}"))?;
        let mut apps = BTreeMap::new();
        for (app, value) in typed.apps.0 {
            let entry = entry(&app, value).map_err(|problem| format!("{app:?}: {problem}"))?;
            if apps.insert(app.clone(), entry).is_some() {
                return Err(format!("{app:?}: it stands there twice; keep one of the two"));
            }
        }
        let (registry, fleet) = (typed.registry, typed.fleet);
        Ok(Self { format: FORMAT, version: VERSION, taken: typed.taken, registry, fleet, apps })
    }
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u64,
    taken: Value,
    #[serde(default)]
    registry: Value,
    #[serde(default)]
    fleet: Value,
    apps: Pairs,
}

/// A map as it was typed, so that a name that stands there twice is seen.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from apps to records")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

fn entry(app: &str, value: Value) -> Result<Entry, String> {
    let Value::Object(mut fields) = value else { return Err("its record is no map".into()) };
    if fields.contains_key("raw") {
        let mut take = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(format!("`{name}` must be a text")),
        };
        let (problem, raw) = (take("problem")?, take("raw")?);
        return match fields.keys().next() {
            None => Ok(Entry::Strange { problem, raw }),
            Some(name) => Err(format!("`{name}` stands beside `raw`, and only one of them can be meant")),
        };
    }
    let id = app.parse::<AppId>().map_err(|error| error.to_string())?;
    if id.provider.is_empty() || id.name.is_empty() || app.chars().any(char::is_control) {
        return Err("an app is written provider/name".into());
    }
    for name in MOMENTS {
        if let Some(value) = fields.get_mut(name) {
            *value = millis(value).map_err(|problem| format!("`{name}`: {problem}"))?.into();
        }
    }
    if let Some(name) = fields.keys().find(|name| !record::FIELDS.contains(&name.as_str())) {
        return Err(format!("unknown field `{name}`; a record has {}", record::FIELDS.join(", ")));
    }
    let record: Record = serde_json::from_value(Value::Object(fields))
        .map_err(|error| format!("its record is damaged: {error}"))?;
    if record.epoch >= LARGEST_EPOCH {
        return Err(format!("`epoch`: {} is larger than any that was ever reached", record.epoch));
    }
    if record.boots.len() > BOOTS_KEPT {
        return Err(format!("`boots`: {} are too many, {BOOTS_KEPT} are kept", record.boots.len()));
    }
    Ok(Entry::Record(record))
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Strange { problem, raw } => json!({ "problem": problem, "raw": raw }).serialize(serializer),
            Self::Record(record) => {
                let mut value = serde_json::to_value(record).map_err(S::Error::custom)?;
                for name in MOMENTS {
                    if let Some(time) = value.get_mut(name)
                        && let Some(millis) = time.as_u64()
                    {
                        *time = moment(millis);
                    }
                }
                value.serialize(serializer)
            }
        }
    }
}

/// A moment as people read it; one that no calendar has stays a number.
pub fn moment(millis: u64) -> Value {
    let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| millis.into(), |time| time.to_string().into())
}

fn millis(value: &Value) -> Result<u64, String> {
    if let Some(millis) = value.as_u64() {
        return Ok(millis);
    }
    let text = value.as_str().ok_or("a time like 2026-02-03T04:05:06.789Z was expected")?;
    let time: Timestamp =
        text.parse().map_err(|_| format!("{text:?} is no time like 2026-02-03T04:05:06.789Z"))?;
    u64::try_from(time.as_millisecond()).map_err(|_| format!("{text:?} is before 1970"))
}

/// What a dump can do for an app.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// The registry has nothing: the record comes back.
    Bring(Change),
    /// The registry has an older epoch: what it has lost comes back.
    Advance(Change, u64),
    /// The registry has this epoch already.
    Same,
    /// The registry is further, by its epoch.
    Newer(u64),
    /// Somebody is waking or stopping the app right now.
    InHand(AppState),
    /// What the registry has cannot be understood, and is not replaced.
    Strange(String),
}

impl Intent {
    /// What becomes of an app of which `current` is remembered, at `now`, if `dumped` was in a dump.
    ///
    /// An app that was being woken or stopped comes back asleep: that is the safe guess, since a gateway never sends a request to
    /// an app that is asleep, but asks its provider to start it, and the provider knows whether it runs. Where the registry
    /// has a record, the later of the two tells whether the app runs and what must come back.
    pub fn of(dumped: &Record, current: Option<&Entry>, now: u64) -> Self {
        let awake = |record: &Record| record.state == AppState::Awake;
        let restore = |known: Record, running| Change::Restore { known: Box::new(known), running };
        match current {
            None => Self::Bring(restore(dumped.clone(), awake(dumped))),
            Some(Entry::Strange { problem, .. }) => Self::Strange(problem.clone()),
            Some(Entry::Record(current)) if current.epoch > dumped.epoch => Self::Newer(current.epoch),
            Some(Entry::Record(current)) if current.epoch == dumped.epoch => Self::Same,
            Some(Entry::Record(current)) if current.deadline.is_some() && !current.is_abandoned(now) => {
                Self::InHand(current.state)
            }
            Some(Entry::Record(current)) => {
                let (later, earlier) =
                    if current.since > dumped.since { (current, dumped) } else { (dumped, current) };
                let either: Option<Formation> = later.formation.clone().or_else(|| earlier.formation.clone());
                let known = Record { formation: either, ..dumped.clone() };
                Self::Advance(restore(known, awake(later)), current.epoch)
            }
        }
    }

    /// What is to be done with the record, if anything.
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Bring(change) | Self::Advance(change, _) => Some(change),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: AppState, epoch: u64, since: u64) -> Record {
        Record { state, epoch, formation: Some(Formation::single("web")), ..Record::new(since) }
    }

    fn dump() -> Dump {
        let stopping =
            Record { deadline: Some(u64::MAX), owner: Some("g".into()), ..record(AppState::Stopping, 4, 7) };
        let strange = Entry::Strange { problem: "a newer version".into(), raw: r#"{"v":9}"#.into() };
        let apps = BTreeMap::from([
            ("paris/blog".to_owned(), Entry::Record(stopping)),
            ("paris/news".to_owned(), strange),
            ("paris/shop".to_owned(), Entry::Record(record(AppState::Asleep, 7, 1_763_712_000_123))),
        ]);
        Dump::new(1_763_712_345_678, json!({ "type": "redis" }), json!({ "leader": "g" }), apps)
    }

    #[test]
    fn a_dump_comes_back_to_the_millisecond_and_is_readable() {
        let text = serde_json::to_string_pretty(&dump()).unwrap();
        for part in [r#""format": "loir-registry-dump""#, r#""taken": "2025-11-21T08:05:45.678Z""#] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains(r#""since": "2025-11-21T08:00:00.123Z""#), "{text}");
        assert_eq!(Dump::read(&text), Ok(dump()));
        let numbers = text.replace(r#""2025-11-21T08:00:00.123Z""#, "1763712000123");
        assert_eq!(Dump::read(&numbers), Ok(dump()), "milliseconds are understood as well");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_apps_name() {
        let text = serde_json::to_string_pretty(&dump()).unwrap();
        for (good, bad, said) in [
            ("\"asleep\"", "\"dreaming\"", "paris/shop"),
            ("\"epoch\": 7", "\"epoch\": -7", "paris/shop"),
            ("\"epoch\": 7", "\"epoch\": 9007199254740992", "paris/shop"),
            ("\"epoch\": 7", "\"epok\": 7", "unknown field `epok`"),
            ("2025-11-21T08:00:00.123Z", "yesterday", "\"paris/shop\": `since`: \"yesterday\""),
            ("\"paris/shop\"", "\"shop\"", "\"shop\": an app is written provider/name"),
            ("\"paris/shop\"", "\"paris/\"", "\"paris/\": an app is written provider/name"),
            ("\"paris/shop\"", "\"paris/blog\"", "\"paris/blog\": it stands there twice"),
            ("\"raw\": ", "\"raw\": 5, \"x\": ", "paris/news"),
            ("loir-registry-dump", "loir-records", "it is a `loir-records`"),
            ("\"version\": 1", "\"version\": 2", "a dump of version 2"),
            ("\"apps\"", "\"aps\"", "unknown field `aps`"),
        ] {
            assert!(text.contains(good), "{good}");
            let error = Dump::read(&text.replacen(good, bad, 1)).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
        for length in 0..text.len() {
            assert!(Dump::read(&text[..length]).is_err(), "cut after {length}");
        }
    }

    #[test]
    fn only_what_is_missing_or_older_changes_and_what_is_later_tells_the_state() {
        let there = |record: &Record| Some(Entry::Record(record.clone()));
        let of = |dumped: &Record, current: Option<Entry>| Intent::of(dumped, current.as_ref(), 100);
        let running = |intent: Intent| match intent.change() {
            Some(Change::Restore { running, .. }) => Some(*running),
            _ => None,
        };
        for (state, runs) in [
            (AppState::Asleep, false),
            (AppState::Waking, false),
            (AppState::Awake, true),
            (AppState::Stopping, false),
            (AppState::Failed, false),
        ] {
            assert_eq!(running(of(&record(state, 7, 50), None)), Some(runs), "{state}");
        }
        let dumped = record(AppState::Awake, 7, 50);
        assert_eq!(of(&dumped, there(&record(AppState::Asleep, 8, 60))), Intent::Newer(8));
        assert_eq!(of(&dumped, there(&record(AppState::Asleep, 7, 60))), Intent::Same);
        let bare = Record { formation: None, ..record(AppState::Asleep, 1, 60) };
        let advance = of(&dumped, there(&bare));
        let Some(change) = advance.change() else { panic!("{advance:?}") };
        let next = bare.apply(change, 100).unwrap();
        assert_eq!((next.state, next.epoch), (AppState::Asleep, 8), "found asleep since the dump");
        assert_eq!(next.formation, dumped.formation);
        assert_eq!(running(of(&dumped, there(&record(AppState::Asleep, 1, 40)))), Some(true));
        let waking =
            Record { deadline: Some(101), owner: Some("g".into()), ..record(AppState::Waking, 2, 60) };
        assert_eq!(of(&dumped, there(&waking)), Intent::InHand(AppState::Waking));
        let abandoned = Record { deadline: Some(99), ..waking };
        assert_eq!(running(of(&dumped, there(&abandoned))), Some(false));
    }
}
