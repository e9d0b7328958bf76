//! `type: sqlite`: a file of this gateway's own.
//!
//! One connection writes, some read, and neither waits for the other (WAL). A transaction survives the end of the gateway; the
//! last ones may be lost with the machine's power (`synchronous=NORMAL`), but never damage the file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Batch, Entry, HistoryContext, Query, Store, StoreError, Tally,
    pack::{day_of, pack},
    sql::{self, Words},
};
use crate::{
    app::AppId,
    config::{HistoryConfig, Pattern, history::FILE},
};

const WORDS: Words = Words {
    id: "INTEGER PRIMARY KEY",
    serial: "INTEGER PRIMARY KEY",
    bytes: "BLOB",
    clustered: "WITHOUT ROWID",
};

const READERS: u32 = 3;

/// How long a lock of somebody else's is waited for: a backup, or a person with `sqlite3`.
const BUSY: Duration = Duration::from_secs(5);

/// Rows that are forgotten in one transaction: the writer has its turn in between.
const AT_ONCE: i64 = 5_000;

/// See the module's page.
pub struct SqliteStore {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    ready: AtomicBool,
    opening: tokio::sync::Mutex<()>,
}

impl SqliteStore {
    /// The one that the configuration names.
    pub fn open(config: &HistoryConfig, context: &HistoryContext) -> Self {
        let usual = || context.state_dir.clone().unwrap_or_default().join(FILE);
        Self::at(&config.path.clone().unwrap_or_else(usual))
    }

    /// The one in this file, which need not be there yet.
    pub fn at(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(BUSY);
        Self {
            path: path.to_owned(),
            writer: pool(1).connect_lazy_with(options.clone().create_if_missing(true)),
            readers: pool(READERS).connect_lazy_with(options),
            ready: AtomicBool::new(false),
            opening: tokio::sync::Mutex::new(()),
        }
    }

    /// Makes the file and its tables, if they are not there.
    async fn ready(&self) -> Result<(), StoreError> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _opening = self.opening.lock().await;
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            let made = tokio::fs::create_dir_all(folder).await;
            made.map_err(|error| StoreError::Away(format!("{} cannot be made: {error}", folder.display())))?;
        }
        // Who visited whom is in it: nobody else reads it. SQLite gives the files beside it the same mode.
        let new =
            tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path).await;
        if let Err(error) = new
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(StoreError::Away(format!("{} cannot be made: {error}", self.path.display())));
        }
        self.migrate().await?;
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let run = |statement: String| sqlx::query(AssertSqlSafe(statement));
        run(sql::VERSIONS.to_owned()).execute(&mut *transaction).await.map_err(|error| self.error(&error))?;
        let version: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM loir_schema")
            .fetch_one(&mut *transaction)
            .await
            .map_err(|error| self.error(&error))?;
        let steps = sql::steps(version.unwrap_or(0), &WORDS)?;
        if steps.is_empty() {
            return Ok(());
        }
        for step in steps {
            run(step).execute(&mut *transaction).await.map_err(|error| self.error(&error))?;
        }
        let done = sqlx::query("INSERT INTO loir_schema (version) VALUES (?)").bind(sql::VERSION);
        done.execute(&mut *transaction).await.map_err(|error| self.error(&error))?;
        transaction.commit().await.map_err(|error| self.error(&error))
    }

    /// A transaction that may write: it never finds out half-way that somebody else does.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &sqlx::Error) -> StoreError {
        if sql::lacks_tables(error) {
            self.ready.store(false, Ordering::Release);
        }
        match sql::error(error) {
            StoreError::Away(text) => StoreError::Away(format!("{}: {text}", self.path.display())),
            refused => refused,
        }
    }

    async fn apps(&self, pattern: &Pattern) -> Result<HashMap<i64, AppId>, sqlx::Error> {
        let rows: Vec<(i64, String, String)> = match pattern.exact() {
            Some(app) => {
                let one = sqlx::query_as(
                    "SELECT id, provider, name FROM loir_apps WHERE provider = ? AND name = ?",
                );
                one.bind(app.provider.to_string()).bind(app.name.to_string()).fetch_all(&self.readers).await?
            }
            None => {
                sqlx::query_as("SELECT id, provider, name FROM loir_apps").fetch_all(&self.readers).await?
            }
        };
        let apps = rows.into_iter().map(|(id, provider, name)| (id, AppId::new(provider, name)));
        Ok(apps.filter(|(_, app)| pattern.fits(app)).collect())
    }

    async fn write(&self, batch: &Batch, on: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut ids = HashMap::new();
        for app in sql::apps(batch) {
            let (provider, name) = (app.provider.to_string(), app.name.to_string());
            let known = sqlx::query_scalar("SELECT id FROM loir_apps WHERE provider = ? AND name = ?");
            let known: Option<i64> = known.bind(&provider).bind(&name).fetch_optional(&mut *on).await?;
            let id = match known {
                Some(id) => id,
                None => {
                    let new = sqlx::query_scalar(
                        "INSERT INTO loir_apps (provider, name) VALUES (?, ?) RETURNING id",
                    );
                    new.bind(&provider).bind(&name).fetch_one(&mut *on).await?
                }
            };
            ids.insert(app, id);
        }
        for entry in &batch.entries {
            let insert = sqlx::query(
                "INSERT INTO loir_events (id, at, app, event, kind, cause, run, took, gateway, text, operation) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            );
            let insert = insert.bind(entry.id.0).bind(sql::number(entry.at)).bind(ids.get(&entry.app));
            let insert = insert.bind(&entry.event).bind(entry.cause.kind()).bind(sql::cause(entry));
            let insert = insert.bind(entry.run.as_deref()).bind(entry.took.map(sql::number));
            let insert = insert.bind(&*entry.gateway).bind(&entry.text).bind(entry.operation.as_deref());
            insert.execute(&mut *on).await?;
        }
        for ((app, day), more) in sql::days(batch, |app| ids.get(app).copied()) {
            let known = sqlx::query_scalar("SELECT hours FROM loir_days WHERE app = ? AND day = ?");
            let known: Option<Vec<u8>> = known.bind(app).bind(day).fetch_optional(&mut *on).await?;
            let sum = sql::add(&known.unwrap_or_default(), &more, (app, day));
            let keep = sqlx::query("INSERT OR REPLACE INTO loir_days (app, day, hours) VALUES (?, ?, ?)");
            keep.bind(app).bind(day).bind(pack(&sum)).execute(&mut *on).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn record(&self, batch: &Batch) -> Result<(), StoreError> {
        self.ready().await?;
        let mut transaction = self.begin().await?;
        let turn = sqlx::query(
            "INSERT INTO loir_writers (id, batch, at) VALUES (?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = excluded.at WHERE batch < excluded.batch",
        );
        let turn = turn.bind(batch.writer).bind(batch.number).bind(sql::number(batch.at()));
        let new = turn.execute(&mut *transaction).await.map_err(|error| self.error(&error))?;
        if new.rows_affected() == 0 {
            return Ok(());
        }
        self.write(batch, &mut transaction).await.map_err(|error| self.error(&error))?;
        transaction.commit().await.map_err(|error| self.error(&error))
    }

    async fn events(&self, query: &Query) -> Result<Vec<Entry>, StoreError> {
        self.ready().await?;
        let apps = match query.apps() {
            Some(pattern) => Some(self.apps(&pattern).await.map_err(|error| self.error(&error))?),
            None => None,
        };
        if apps.as_ref().is_some_and(HashMap::is_empty) {
            return Ok(Vec::new());
        }
        let ids = apps.map(|apps| apps.into_keys().collect::<Vec<_>>());
        let mut select = sql::select::<Sqlite>(query, ids.as_deref());
        let rows =
            select.build_query_as().fetch_all(&self.readers).await.map_err(|error| self.error(&error))?;
        Ok(rows.into_iter().filter_map(sql::read).collect())
    }

    async fn hours(
        &self,
        apps: Option<&Pattern>,
        from: u64,
        to: u64,
    ) -> Result<Vec<(AppId, u64, Tally)>, StoreError> {
        self.ready().await?;
        let everything = Pattern::new("*");
        let apps = self.apps(apps.unwrap_or(&everything)).await.map_err(|error| self.error(&error))?;
        let (first, last) = (day_of(from), day_of(to));
        let rows: Result<Vec<(i64, i64, Vec<u8>)>, _> = match apps.keys().collect::<Vec<_>>()[..] {
            [] => return Ok(Vec::new()),
            [app] => {
                let one = sqlx::query_as(
                    "SELECT app, day, hours FROM loir_days WHERE app = ? AND day BETWEEN ? AND ?",
                );
                one.bind(app).bind(first).bind(last).fetch_all(&self.readers).await
            }
            _ => {
                let all = sqlx::query_as("SELECT app, day, hours FROM loir_days WHERE day BETWEEN ? AND ?");
                all.bind(first).bind(last).fetch_all(&self.readers).await
            }
        };
        let rows = rows.map_err(|error| self.error(&error))?.into_iter();
        let found =
            rows.filter_map(|(app, day, packed)| Some(sql::hours(apps.get(&app)?, day, &packed, from, to)));
        let mut found: Vec<_> = found.flatten().collect();
        found.sort_by(|(one, hour, _), (other, later, _)| (one, hour).cmp(&(other, later)));
        Ok(found)
    }

    async fn prune(&self, events: u64, hours: u64) -> Result<(), StoreError> {
        self.ready().await?;
        loop {
            let some = "DELETE FROM loir_events WHERE id IN (SELECT id FROM loir_events WHERE id < ? ORDER BY id LIMIT ?)";
            let gone = sqlx::query(some)
                .bind(super::EventId::at(events).0)
                .bind(AT_ONCE)
                .execute(&self.writer)
                .await;
            if gone.map_err(|error| self.error(&error))?.rows_affected() == 0 {
                break;
            }
        }
        for (delete, before) in [
            ("DELETE FROM loir_days WHERE day < ?", day_of(hours)),
            ("DELETE FROM loir_writers WHERE at < ?", sql::number(events)),
        ] {
            let gone = sqlx::query(delete).bind(before).execute(&self.writer).await;
            gone.map_err(|error| self.error(&error))?;
        }
        Ok(())
    }
}
