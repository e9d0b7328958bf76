//! What SQLite and PostgreSQL share: one shape of tables, one way to ask.

use std::{collections::BTreeMap, sync::Arc};

use sqlx::{Database, Encode, QueryBuilder, Type};

use super::{
    Batch, Entry, EventId, Query, StoreError, Tally,
    pack::{Day, day_of, start_of, unpack},
    tally::HOUR,
};
use crate::{app::AppId, config::secret::without_userinfo};

/// How the tables came to be what they are, the first step first. A step that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_history.sql")];

/// The version of tables that this Loir knows.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Where the version stands.
pub(super) const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS loir_schema (version BIGINT NOT NULL)";

/// What a database calls things.
pub(super) struct Words {
    /// A number that is the row's identity.
    pub id: &'static str,
    /// The same, given by the database.
    pub serial: &'static str,
    pub bytes: &'static str,
    /// For a table that is kept in the order of its primary key.
    pub clustered: &'static str,
}

/// The statements that lead from one version to the latest.
pub(super) fn steps(version: i64, words: &Words) -> Result<Vec<String>, StoreError> {
    if version > VERSION {
        return Err(StoreError::Away(format!(
            "a newer version of Loir has made its tables (version {version}; this one knows {VERSION}): update this gateway"
        )));
    }
    let missing = MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0));
    let filled = missing.flat_map(|step| {
        let step = step.replace("{id}", words.id).replace("{serial}", words.serial);
        let step = step.replace("{bytes}", words.bytes).replace("{clustered}", words.clustered);
        step.split(";\n").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    });
    Ok(filled.collect())
}

/// An error in words that show no password, and whether trying again makes sense.
pub(super) fn error(error: &sqlx::Error) -> StoreError {
    let text = without_userinfo(&error.to_string());
    let data = |code: &str| code.starts_with("22") || code.starts_with("23");
    match error {
        sqlx::Error::Database(database)
            if database.code().is_some_and(|code| code.len() == 5 && data(&code)) =>
        {
            StoreError::Refused(text)
        }
        _ => StoreError::Away(text),
    }
}

/// Whether the tables are not there, though they were.
pub(super) fn lacks_tables(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else {
        return false;
    };
    database.code().is_some_and(|code| code == "42P01") || database.message().starts_with("no such table")
}

/// An event as it is in a row: id, at, provider, name, event, cause, run, took, gateway, text, operation.
pub(super) type Row =
    (i64, i64, String, String, String, String, Option<String>, Option<i64>, String, String, Option<String>);

/// Selects events of these apps, or of all.
pub(super) fn select<DB: Database>(query: &Query, apps: Option<&[i64]>) -> QueryBuilder<DB>
where
    for<'t> i64: Encode<'t, DB> + Type<DB>,
    for<'t> String: Encode<'t, DB> + Type<DB>,
{
    let (from, before) = query.range();
    let mut sql = QueryBuilder::new(
        "SELECT e.id, e.at, a.provider, a.name, e.event, e.cause, e.run, e.took, e.gateway, e.text, e.operation \
         FROM loir_events e JOIN loir_apps a ON a.id = e.app WHERE e.id >= ",
    );
    sql.push_bind(from.0).push(" AND e.id < ").push_bind(before.0);
    match apps {
        None => {}
        // The index of one app is in the right order.
        Some([app]) => drop(sql.push(" AND e.app = ").push_bind(*app)),
        Some(apps) => {
            sql.push(" AND e.app IN (");
            let mut list = sql.separated(", ");
            for app in apps {
                list.push(app);
            }
            sql.push(")");
        }
    }
    for (column, value) in [("event", &query.event), ("kind", &query.cause), ("run", &query.run)] {
        if let Some(value) = value {
            sql.push(" AND e.").push(column).push(" = ").push_bind(value.replace('\0', ""));
        }
    }
    sql.push(" ORDER BY e.id DESC LIMIT ").push_bind(i64::try_from(query.limit()).unwrap_or(i64::MAX));
    sql
}

/// An event out of its row. One that cannot be read is left out, and told in the log.
pub(super) fn read(row: Row) -> Option<Entry> {
    let (id, at, provider, name, event, cause, run, took, gateway, text, operation) = row;
    let cause = match serde_json::from_str(&cause) {
        Ok(cause) => cause,
        Err(error) => {
            log::warn!("history: the cause of event {} cannot be read: {error}", EventId(id));
            return None;
        }
    };
    Some(Entry {
        id: EventId(id),
        at: u64::try_from(at).ok()?,
        app: AppId::new(provider, name),
        event,
        text,
        cause,
        run: run.map(Arc::from),
        took: took.and_then(|took| u64::try_from(took).ok()),
        gateway: gateway.into(),
        operation: operation.map(Arc::from),
    })
}

/// The cause as it is in a row. JSON writes a zero byte as six harmless characters; nothing may be cut out of it, since a client can
/// write the same six into its `User-Agent`.
pub(super) fn cause(entry: &Entry) -> String {
    serde_json::to_string(&entry.cause).unwrap_or_default()
}

/// A moment or a length of time as it is in a row.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The apps of a batch, in an order that is the same everywhere, so that no two gateways wait for each other.
pub(super) fn apps(batch: &Batch) -> Vec<AppId> {
    let all = batch.entries.iter().map(|entry| &entry.app).chain(batch.tallies.iter().map(|(app, ..)| app));
    let mut apps: Vec<AppId> = all.cloned().collect();
    apps.sort();
    apps.dedup();
    apps
}

/// What a batch adds to which days, in the same order everywhere.
pub(super) fn days(batch: &Batch, id: impl Fn(&AppId) -> Option<i64>) -> BTreeMap<(i64, i64), Day> {
    let mut days: BTreeMap<(i64, i64), Day> = BTreeMap::new();
    for (app, hour, tally) in &batch.tallies {
        let Some(app) = id(app) else { continue };
        let day = days.entry((app, day_of(*hour))).or_default();
        if let Some(place) = day.get_mut(hour_of_day(*hour)) {
            place.get_or_insert_default().add(tally);
        }
    }
    days
}

/// `more` on top of what a row holds.
pub(super) fn add(packed: &[u8], more: &Day, (app, day): (i64, i64)) -> Day {
    let mut sum = unpack(packed).unwrap_or_else(|| {
        log::error!("history: day {day} of app {app} is damaged and begins anew");
        Day::default()
    });
    for (known, more) in sum.iter_mut().zip(more) {
        if let Some(more) = more {
            known.get_or_insert_default().add(more);
        }
    }
    sum
}

/// The hours of a day that begin between two moments.
pub(super) fn hours(app: &AppId, day: i64, packed: &[u8], from: u64, to: u64) -> Vec<(AppId, u64, Tally)> {
    let Some(hours) = unpack(packed) else {
        log::error!("history: day {day} of {app} is damaged");
        return Vec::new();
    };
    let start = start_of(day);
    let at = |hour: usize| start + hour as u64 * HOUR;
    let seen = hours.into_iter().enumerate().filter_map(|(hour, tally)| Some((at(hour), tally?)));
    seen.filter(|(at, _)| (from..to).contains(at)).map(|(at, tally)| (app.clone(), at, tally)).collect()
}

fn hour_of_day(at: u64) -> usize {
    usize::try_from(at / HOUR % 24).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Cause;

    #[test]
    fn whatever_a_client_calls_itself_its_cause_is_read_as_it_was() {
        for agent in ["curl/8", r"\u0000", r#"x\u0000","by":"person"#, r"\\u0000\", "a\0b", "\""] {
            let cause = Cause::Request { id: "r".into(), client: None, agent: agent.into() };
            let entry = Entry {
                id: EventId(1),
                at: 1,
                app: AppId::new("local", "shop"),
                event: "asked-for".into(),
                text: String::new(),
                cause,
                run: None,
                took: None,
                gateway: "one".into(),
                operation: None,
            };
            let written = super::cause(&entry);
            assert!(!written.contains('\0'), "PostgreSQL would not take it");
            let text = |text: &str| text.to_owned();
            let row = (
                1,
                1,
                text("local"),
                text("shop"),
                text("asked-for"),
                written,
                None,
                None,
                text("one"),
                text(""),
                None,
            );
            assert_eq!(read(row), Some(entry));
        }
    }
}
