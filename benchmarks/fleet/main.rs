//! What a fleet costs Redis and its gateways: simulated gateways, each a real `registry: {type: redis}` with a connection of its own,
//! and a real `redis-server`. No app runs: what is measured is what gateways tell each other.
//!
//! `cargo run --release --example fleet -- [--gateways 1,10,100] [--apps 10000,100000,1000000] [--seconds 20]`; a list of `0` leaves
//! its part out.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use loir::{
    app::{AppId, Formation},
    clock::Clock,
    registry::{Change, News, Registry, RegistryContext},
    server::{Source, load},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Changes that are under way at once.
const AT_ONCE: usize = 64;

/// The share of apps that is in use: one in so many has a request within each flush interval.
const USED: usize = 20;

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
    fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server: {error} (on Debian: apt-get install redis-server)"))?;
        Ok(Self { child, port, _folder: folder })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A number out of INFO.
    async fn info(&self, name: &str) -> Outcome<f64> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.ok_or_else(|| format!("INFO has no {name}"))?.trim().parse()?)
    }

    /// Processor seconds of the server so far.
    async fn cpu(&self) -> Outcome<f64> {
        Ok(self.info("used_cpu_user").await? + self.info("used_cpu_sys").await?)
    }
}

struct Gateway {
    registry: Arc<dyn Registry>,
}

impl Gateway {
    async fn join(url: &str) -> Outcome<Self> {
        let text = format!("registry: {{type: redis, url: '{url}', response_timeout: 5s}}\nproviders: []\n");
        let source = Source { name: "fleet".into(), text };
        let plan = load(source, &Default::default()).map_err(|problems| problems.to_string())?;
        let registry = plan.registry.open(RegistryContext { state_dir: None, clock: Clock::system() })?;
        let gateway = Self { registry };
        gateway.fleet()?.tried().await;
        if gateway.fleet()?.sees() { Ok(gateway) } else { Err("a gateway cannot join".into()) }
    }

    fn fleet(&self) -> Outcome<&dyn loir::registry::Fleet> {
        self.registry.fleet().ok_or_else(|| "no fleet".into())
    }
}

fn app(number: usize) -> AppId {
    AppId::new("paris", format!("review-app-{number}"))
}

/// What becomes of every app in turn.
async fn change_all(
    registry: &Arc<dyn Registry>,
    apps: usize,
    changes: fn(&str) -> Vec<Change>,
) -> Outcome<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..AT_ONCE {
        let registry = registry.clone();
        tasks.spawn(async move {
            for number in (first..apps).step_by(AT_ONCE) {
                for change in changes(registry.me()) {
                    registry.apply(&app(number), change, None).await?;
                }
            }
            Ok::<_, loir::registry::RegistryError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn resident() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? * 1024.0)
}

/// One size of registry.
async fn apps(count: usize) -> Outcome<()> {
    let server = Server::start()?;
    let one = loop {
        match Gateway::join(&server.url()).await {
            Ok(gateway) => break gateway,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    // As a gateway does: news are taken as they come.
    let mut news = one.fleet()?.news().ok_or("the news are taken")?;
    let hears = tokio::spawn(async move { while news.recv().await.is_some() {} });
    let (empty, ours) = (server.info("used_memory").await?, resident()?);
    let began = Instant::now();
    // As most apps of a large fleet are: asleep, with a formation to come back to; one in twenty is awake.
    change_all(&one.registry, count, |me| {
        let lease = Duration::from_secs(600);
        vec![
            Change::BeginWake { by: me.into(), lease },
            Change::WakeReady { boot: Duration::from_millis(4321) },
            Change::BeginStop { by: me.into(), idle: Duration::ZERO, lease },
            Change::Save { formation: Formation::single("web") },
            Change::Stopped,
        ]
    })
    .await?;
    let change = began.elapsed().as_secs_f64() / (count * 5) as f64;
    let awake = count / USED;
    change_all(&one.registry, awake, |me| vec![Change::Found { running: true, by: me.into() }]).await?;
    let memory = (server.info("used_memory").await? - empty) / count as f64;
    let copies = (resident()? - ours) / count as f64;

    let ids: Vec<_> = (0..count).map(app).collect();
    let began = Instant::now();
    let other = Gateway::join(&server.url()).await?;
    let read = other.fleet()?.read_all(&ids).await?;
    let join = began.elapsed();
    if read.iter().any(Option::is_none) {
        return Err("a record is missing".into());
    }
    drop(read);

    let used: Vec<_> = (0..awake).map(|number| (app(number), Duration::from_secs(900))).collect();
    let began = Instant::now();
    one.fleet()?.used(&used).await?;
    let told = began.elapsed();
    let thousand: Vec<_> = (0..awake.min(1_000)).map(|number| (app(number), Duration::ZERO)).collect();
    one.fleet()?.used(&thousand).await?;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let began = Instant::now();
    let due = one.fleet()?.due().await?.len() + one.fleet()?.abandoned().await?.len();
    let sweep = began.elapsed();
    println!(
        "| {count} | {memory:.0} B | {copies:.0} B | {:.0} µs | {join:.2?} | {told:.1?} ({awake}) | {sweep:.1?} ({due}) |",
        change * 1e6
    );
    one.fleet()?.leave().await;
    other.fleet()?.leave().await;
    hears.abort();
    Ok(())
}

/// One number of gateways.
async fn gateways(count: usize, seconds: u64) -> Outcome<String> {
    let server = Server::start()?;
    let mut fleet = Vec::new();
    while fleet.len() < count {
        match Gateway::join(&server.url()).await {
            Ok(gateway) => fleet.push(gateway),
            Err(_) if fleet.is_empty() => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error),
        }
    }
    change_all(&fleet[0].registry, 1_000, |me| vec![Change::Found { running: true, by: me.into() }]).await?;

    let measure = async |what: &str, work: &mut dyn AsyncWork| -> Outcome<()> {
        let (commands, cpu, began) =
            (server.info("total_commands_processed").await?, server.cpu().await?, Instant::now());
        work.run(Duration::from_secs(seconds)).await?;
        let took = began.elapsed().as_secs_f64();
        // INFO itself, at each end.
        let commands = (server.info("total_commands_processed").await? - commands - 6.0).max(0.0) / took;
        let cpu = (server.cpu().await? - cpu) / took * 100.0;
        println!("| {count} | {what} | {commands:.1} | {:.2} | {cpu:.2} % |", commands / count as f64);
        Ok(())
    };
    measure("idle", &mut Idle).await?;
    measure("in use: each gateway tells of 50 apps each 5 s", &mut Used(&fleet)).await?;
    measure("10 wakes a second, heard by all", &mut Wakes(&fleet)).await?;
    let heard = heard_by_all(&fleet, count).await?;
    for gateway in &fleet {
        gateway.fleet()?.leave().await;
    }
    Ok(heard)
}

/// How long until every gateway has heard of a change.
async fn heard_by_all(fleet: &[Gateway], count: usize) -> Outcome<String> {
    let mut news = Vec::new();
    for gateway in fleet {
        news.push(gateway.fleet()?.news().ok_or("the news are taken")?);
    }
    let mut times = Vec::new();
    for number in 0..50 {
        let of = AppId::new("paris", format!("heard-{number}"));
        let began = Instant::now();
        fleet[0].registry.apply(&of, Change::Found { running: true, by: "me".into() }, None).await?;
        for heard in &mut news {
            while let Some(news) = heard.recv().await {
                if matches!(news, News::Changed(app, _) if app == of) {
                    break;
                }
            }
        }
        times.push(began.elapsed());
    }
    times.sort();
    Ok(format!(
        "{count} gateways: a change is heard by all after {:.1?} (median), {:.1?} (longest of 50)",
        times[25], times[49]
    ))
}

#[async_trait::async_trait]
trait AsyncWork {
    async fn run(&mut self, time: Duration) -> Outcome<()>;
}

struct Idle;

#[async_trait::async_trait]
impl AsyncWork for Idle {
    async fn run(&mut self, time: Duration) -> Outcome<()> {
        tokio::time::sleep(time).await;
        Ok(())
    }
}

struct Used<'a>(&'a [Gateway]);

#[async_trait::async_trait]
impl AsyncWork for Used<'_> {
    async fn run(&mut self, time: Duration) -> Outcome<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for gateway in self.0 {
                let used: Vec<_> =
                    (0..50).map(|_| (app(fastrand::usize(..1_000)), Duration::from_secs(900))).collect();
                gateway.fleet()?.used(&used).await?;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        Ok(())
    }
}

struct Wakes<'a>(&'a [Gateway]);

#[async_trait::async_trait]
impl AsyncWork for Wakes<'_> {
    async fn run(&mut self, time: Duration) -> Outcome<()> {
        let (until, mut number) = (Instant::now() + time, 0);
        while Instant::now() < until {
            let gateway = &self.0[number % self.0.len()];
            let (of, me) = (AppId::new("paris", format!("woken-{number}")), gateway.registry.me().to_owned());
            let begin = Change::BeginWake { by: me, lease: Duration::from_secs(15) };
            let begun = gateway.registry.apply(&of, begin, None).await?;
            let ready = Change::WakeReady { boot: Duration::from_secs(1) };
            gateway.registry.apply(&of, ready, Some(begun.epoch)).await?;
            number += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// Real traffic through a real gateway to a running app, and what Redis hears of it.
async fn traffic(seconds: u64) -> Outcome<()> {
    let server = Server::start()?;
    let folder = tempfile::tempdir()?;
    let examples = std::env::current_exe()?.parent().map(std::path::Path::to_owned).ok_or("no folder")?;
    let config = folder.path().join("loir.yaml");
    let quiet = |program: std::path::PathBuf| {
        let mut command = Command::new(program);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let simulate =
        quiet(examples.join("simulate")).args(["scalingo", "--apps", "1", "--config"]).arg(&config).spawn();
    let _simulate =
        Ended(simulate.map_err(|error| format!("simulate: {error}: build it with --example simulate"))?);
    let yaml = loop {
        match std::fs::read_to_string(&config) {
            Ok(yaml) if yaml.contains("api_url") => break yaml,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let yaml = yaml
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
        .replace("idle_timeout: 30s", "idle_timeout: 15m");
    std::fs::write(&config, format!("{yaml}registry:\n  type: redis\n  url: {}\n", server.url()))?;
    let loir = quiet(examples.join("../loir")).arg("run").arg("-c").arg(&config).spawn();
    let _loir = Ended(loir.map_err(|error| format!("loir: {error}: build it"))?);
    let url = format!("http://127.0.0.1:{port}/");
    let wrk = |seconds: u64| {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c16", &format!("-d{seconds}s"), "-H", "Host: app-1.localhost", &url]);
        wrk.output().map_err(|error| format!("wrk: {error} (on Debian: apt-get install wrk)"))
    };
    // Until the app is awake, and everything has been used once.
    tokio::time::sleep(Duration::from_secs(2)).await;
    wrk(8)?;
    let before = server.info("total_commands_processed").await?;
    let output = String::from_utf8(wrk(seconds)?.stdout)?;
    // INFO and the connection it came by.
    let commands = server.info("total_commands_processed").await? - before - 3.0;
    if output.contains("Non-2xx") {
        return Err(output.into());
    }
    let line = output.lines().find(|line| line.contains(" requests in ")).ok_or("no count from wrk")?;
    let requests: f64 = line.split_whitespace().next().ok_or("no count from wrk")?.parse()?;
    println!(
        "\none gateway, an app in steady use, {seconds} s: {requests:.0} requests, {commands:.0} Redis commands: {:.3} for each 1,000 requests\n",
        commands / requests * 1000.0
    );
    Ok(())
}

/// A child that ends with us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn numbers(name: &str, default: &str) -> Outcome<Vec<usize>> {
    let args: Vec<String> = std::env::args().collect();
    let given = args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let list = given.map_or(default, String::as_str);
    let list = if list == "0" { "" } else { list };
    list.split(',')
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().map_err(|_| format!("{name} {list}?").into()))
        .collect()
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let (fleets, sizes) = (numbers("--gateways", "1,10,100")?, numbers("--apps", "10000,100000,1000000")?);
    let seconds = numbers("--seconds", "20")?[0] as u64;
    if !fleets.is_empty() {
        traffic(seconds * 3).await?;
        println!(
            "| gateways | what they do | commands/s | for each gateway | Redis, of one core |\n|---|---|---|---|---|"
        );
    }
    let mut heard = Vec::new();
    for count in fleets {
        heard.push(gateways(count, seconds).await?);
    }
    println!("\n{}\n", heard.join("\n\n"));
    println!(
        "| apps | Redis, per app | gateway, per app | a change | a gateway joins (reads all) | what is used, told (apps) | a sweep (due) |\n|---|---|---|---|---|---|---|"
    );
    for count in sizes {
        apps(count).await?;
    }
    Ok(())
}
