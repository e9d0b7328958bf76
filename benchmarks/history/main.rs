//! How long the history takes to answer when much has happened, and what it keeps: real SQLite and real PostgreSQL, filled through
//! the same calls as a gateway's.
//!
//! `cargo run --release --example history -- [--events 10000000] [--apps 1000] [--queries 1000] [--stores sqlite,postgres]`

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use loir::{
    app::AppId,
    config::{HistoryConfig, Pattern, secret::Secret},
    history::{
        Batch, Entry, EventId, Query, Store, Tally,
        postgres::PostgresStore,
        sqlite::SqliteStore,
        tally::{HOUR, Spans},
    },
    lifecycle::Cause,
};
use sqlx::Connection;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const DAY: u64 = 24 * HOUR;

/// 2025-01-01, midnight in UTC.
const BEGIN: u64 = 1_735_689_600_000;

/// Thirteen months.
const DAYS: u64 = 396;

/// Events in a batch of the filling: more than a gateway's, to be done sooner.
const AT_ONCE: u64 = 5_000;

/// Bytes of each app's days in the store, and of each event.
const SQLITE_SIZES: [&str; 2] = [
    "SELECT CAST(sum(pgsize) AS INTEGER) FROM dbstat WHERE name = 'loir_days'",
    "SELECT CAST(sum(pgsize) AS INTEGER) FROM dbstat WHERE name LIKE '%loir_events%'",
];
const POSTGRES_SIZES: [&str; 2] =
    ["SELECT pg_total_relation_size('loir_days')", "SELECT pg_total_relation_size('loir_events')"];

struct Options {
    events: u64,
    apps: u64,
    queries: u64,
    stores: String,
}

fn options() -> Outcome<Options> {
    let mut options =
        Options { events: 10_000_000, apps: 1_000, queries: 1_000, stores: "sqlite,postgres".into() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--events" => options.events = value.parse()?,
            "--apps" => options.apps = value.parse()?,
            "--queries" => options.queries = value.parse()?,
            "--stores" => options.stores = value,
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    Ok(options)
}

fn app(number: u64) -> AppId {
    AppId::new("paris", format!("app-{number:05}"))
}

/// Nights and weekends asleep, and used in some of each hour's minutes by day.
fn tally(app: u64, day: u64, hour: u64) -> Tally {
    let by_day = (8..20).contains(&hour) && day % 7 < 5;
    if !by_day {
        return Tally { asleep: Spans::of(0, 3600), ..Tally::default() };
    }
    let minutes = fastrand::u64(..) & fastrand::u64(..) & ((1 << 60) - 1);
    let boots = vec![2_000 + fastrand::u32(0..4_000)];
    let asleep = Spans::of(600, 1_500);
    Tally {
        asleep,
        wakes: 1,
        failed_wakes: 0,
        boots,
        requests: 50 + app % 100 + fastrand::u64(0..500),
        minutes,
    }
}

fn entry(number: u64, options: &Options) -> Arc<Entry> {
    // Spread over the last thirty days, in order, over all apps.
    let at = BEGIN + (DAYS - 30) * DAY + number * (30 * DAY) / options.events;
    let (event, took) =
        [("asked-for", None), ("waking", None), ("ready", Some(3_100)), ("asleep", Some(900))]
            [(number / options.apps % 4) as usize];
    let cause = match event {
        "asleep" => Cause::Idle { rule: Some("rule 3, conf/loir.yaml:41".into()) },
        _ => Cause::Request {
            id: format!("{:016x}", fastrand::u64(..)).into(),
            client: Some([203, 0, 113, fastrand::u8(..)].into()),
            agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".into(),
        },
    };
    Arc::new(Entry {
        id: EventId(EventId::at(at).0 + (number % (1 << 21)) as i64),
        at,
        app: app(number % options.apps),
        event: event.into(),
        text: event.into(),
        cause,
        run: Some(
            format!("{:016x}", number / (2 * options.apps) * options.apps + number % options.apps).into(),
        ),
        took,
        gateway: "edge-1".into(),
        operation: None,
    })
}

async fn fill(store: &dyn Store, options: &Options) -> Outcome<()> {
    let mut number = 0;
    let mut record = async |entries, tallies| {
        number += 1;
        store.record(&Batch { writer: 1, number, entries, tallies }).await
    };
    for batch in 0..options.events.div_ceil(AT_ONCE) {
        let numbers = batch * AT_ONCE..options.events.min((batch + 1) * AT_ONCE);
        record(numbers.map(|number| entry(number, options)).collect(), vec![]).await?;
    }
    for day in 0..DAYS {
        for some in (0..options.apps).collect::<Vec<_>>().chunks(200) {
            let hours = some.iter().flat_map(|number| (0..24).map(move |hour| (*number, hour)));
            let tallies =
                hours.map(|(it, hour)| (app(it), BEGIN + day * DAY + hour * HOUR, tally(it, day, hour)));
            record(vec![], tallies.collect()).await?;
        }
    }
    Ok(())
}

/// The middle one, and the one that 99 of 100 do not exceed, in milliseconds.
fn percentiles(mut all: Vec<Duration>) -> (f64, f64) {
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1e3;
    (at(50), at(99))
}

async fn measure(name: &str, store: &dyn Store, options: &Options) -> Outcome<()> {
    let (mut months, mut pages, mut hours) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.queries {
        let which = Pattern::new(&app(fastrand::u64(0..options.apps)).to_string());
        let from = BEGIN + fastrand::u64(0..DAYS - 31) * DAY;
        let began = Instant::now();
        hours += store.hours(Some(&which), from, from + 31 * DAY).await?.len();
        months.push(began.elapsed());
        let query = Query { app: Some(which.text.clone()), ..Query::default() };
        let began = Instant::now();
        store.events(&query).await?;
        pages.push(began.elapsed());
    }
    for (what, all) in [("a month of hours of one app", months), ("the latest 100 events of one app", pages)]
    {
        let (p50, p99) = percentiles(all);
        println!("| {name} | {what} | {p50:.2} | {p99:.2} |");
    }
    assert_eq!(hours as u64, options.queries * 31 * 24, "every hour was found");
    Ok(())
}

fn note(name: &str, options: &Options, sizes: [i64; 2], filled: Duration) {
    println!(
        "\n{name}: {:.1} KB for the thirteen months of each app, {} bytes for each event with its indexes; filled in {:.0} s.\n",
        sizes[0] as f64 / options.apps as f64 / 1e3,
        sizes[1] / options.events.max(1) as i64,
        filled.as_secs_f64()
    );
}

async fn sqlite(options: &Options) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("history.sqlite");
    let store = SqliteStore::at(&path);
    let began = Instant::now();
    fill(&store, options).await?;
    let filled = began.elapsed();
    measure("SQLite", &store, options).await?;
    let mut connection =
        sqlx::SqliteConnection::connect_with(&sqlx::sqlite::SqliteConnectOptions::new().filename(&path))
            .await?;
    let mut sizes = [0; 2];
    for (size, sql) in sizes.iter_mut().zip(SQLITE_SIZES) {
        *size = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
    }
    note("SQLite", options, sizes, filled);
    Ok(())
}

async fn postgres(options: &Options) -> Outcome<()> {
    let server = Server::start().await?;
    let config =
        HistoryConfig { kind: "postgres", url: Some(Secret::new(&server.url())), ..HistoryConfig::default() };
    let store = PostgresStore::open(&config);
    let began = Instant::now();
    fill(&store, options).await?;
    let filled = began.elapsed();
    let mut connection = sqlx::PgConnection::connect(&server.url()).await?;
    // What a server that has run for a while has done by itself.
    sqlx::query("ANALYZE").execute(&mut connection).await?;
    measure("PostgreSQL", &store, options).await?;
    let mut sizes = [0; 2];
    for (size, sql) in sizes.iter_mut().zip(POSTGRES_SIZES) {
        *size = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
    }
    note("PostgreSQL", options, sizes, filled);
    Ok(())
}

/// A PostgreSQL as it is installed: nothing is set but where it is.
struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700))?;
        // It refuses to run as root.
        let other = match std::fs::metadata("/proc/self")?.uid() {
            0 => {
                let (user, group) = user()?;
                chown(&data, Some(user), Some(group))?;
                Some((user, group))
            }
            _ => None,
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let made = command("initdb", other)?
            .args([
                "--username",
                "loir",
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                "--pgdata",
            ])
            .arg(&data)
            .stdout(Stdio::null())
            .status()?;
        if !made.success() {
            return Err("initdb failed".into());
        }
        let child = command("postgres", other)?
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-k", "", "-D"])
            .arg(&data)
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, port, _folder: folder };
        for _ in 0..200 {
            if sqlx::PgConnection::connect(&server.url()).await.is_ok() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("PostgreSQL does not answer".into())
    }

    fn url(&self) -> String {
        format!("postgres://loir@127.0.0.1:{}/postgres", self.port)
    }
}

fn command(name: &str, other: Option<(u32, u32)>) -> Outcome<Command> {
    let program =
        program(name).ok_or("PostgreSQL is not installed (on Debian: apt-get install postgresql)")?;
    let mut command = match other {
        None => Command::new(program),
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command
                .args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"])
                .arg(program);
            command
        }
    };
    command.current_dir("/");
    Ok(command)
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders = std::env::split_paths(&path).chain(debian.map(|version| version.path().join("bin")));
    folders.find_map(|folder| Some(folder.join(name)).filter(|it| Path::is_file(it)))
}

fn user() -> Outcome<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| "there is no user but root".into())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = options()?;
    println!(
        "{} events of the last 30 days and 13 months of hours, of {} apps; {} queries of each kind, one after the other, each for an \
         app by chance; times in milliseconds.\n",
        options.events, options.apps, options.queries
    );
    if options.stores.contains("sqlite") {
        println!("| store | query | p50 | p99 |\n|---|---|--:|--:|");
        sqlite(&options).await?;
    }
    if options.stores.contains("postgres") {
        println!("| store | query | p50 | p99 |\n|---|---|--:|--:|");
        postgres(&options).await?;
    }
    Ok(())
}
