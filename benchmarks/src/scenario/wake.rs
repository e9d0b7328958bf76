//! From the app's port answering to the first held request being answered.

use std::time::{Duration, Instant};

use super::Bench;
use crate::{
    Outcome,
    app::monotonic,
    client::Client,
    figures::{largest, median, percentile},
    process::{Process, free_port},
    report::Report,
    subject::{Plan, Running, Subject},
};

/// Random, so that no rhythm of a probe can fit it by chance.
const BOOT: [&str; 4] = ["--boot-min", "50", "--boot-max", "400"];

pub async fn run(bench: &Bench) -> Outcome<()> {
    let wakes = bench.size(200, 20);
    let question = "From the app's port answering to the first held request being answered, in milliseconds: what Loir adds to an app's own boot. The app \
        writes down when it began to listen (a clock that all processes share), and the client notes when its answer arrived. \
        The control is a client that asks the same app directly, again and again without a pause, and so hears of it as early as anybody can.";
    let mut report = Report::begin("wake", question).await?;
    let app = BOOT.map(str::to_owned);
    let plan = Plan { app: &app, defaults: "idle_timeout: 20ms", ..Plan::default() };
    let loir = Subject::Loir.start(&bench.dir, &plan).await?;
    let (mut held, mut direct) = (Vec::new(), Vec::new());
    for wake in 0..wakes {
        if wake % 20 == 0 {
            bench.note(&format!("wake {wake} of {wakes}"));
        }
        held.push(through_loir(&loir).await?);
        direct.push(directly(bench).await?);
    }
    loir.end().await?;
    let rows =
        [("a client that polls the app itself", &direct), ("held by loir", &held)].map(|(name, values)| {
            let share = |share| format!("{:.2}", percentile(values, share));
            vec![
                name.to_owned(),
                values.len().to_string(),
                format!("{:.2}", median(values)),
                share(0.9),
                share(0.99),
                format!("{:.2}", largest(values)),
            ]
        });
    report.table(&["ms after the app listens", "wakes", "p50", "p90", "p99", "longest"], &rows);
    report.say("The app boots for a random 50 to 400 ms. Loir and the control take turns. Loir's figure includes its readiness probe, the release of the held request, a new connection to the app, and the answer's way back.");
    report.end(bench.quick)
}

/// Milliseconds from the app's `listen` to the answer of a request that was held.
async fn through_loir(loir: &Running) -> Outcome<f64> {
    asleep(loir).await?;
    let mut client = Client::connect(loir.port).await?;
    let answer = client.get("/").await?;
    let now = monotonic()?;
    if !answer.is_the_apps() {
        return Err(format!("not the app's answer: {}", answer.head).into());
    }
    // Only a request that waited has this field.
    answer.field("x-loir-cold-start")?;
    since(&answer, now)
}

async fn directly(bench: &Bench) -> Outcome<f64> {
    let port = free_port()?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args(["serve", "app", "--port", &port.to_string()]).args(BOOT);
    let app = Process::start(command, &bench.dir.join("direct.log"))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let answer = loop {
        // On loopback a refusal takes some 20 µs: as often as one can ask.
        if let Ok(mut client) = Client::connect(port).await {
            break client.get("/").await?;
        }
        if Instant::now() > deadline {
            return Err("the app does not start".into());
        }
    };
    let now = monotonic()?;
    app.end().await?;
    since(&answer, now)
}

fn since(answer: &crate::client::Answer, now: u64) -> Outcome<f64> {
    let listening: u64 = answer.field("x-listening")?.parse()?;
    Ok(now.saturating_sub(listening) as f64 / 1e6)
}

/// Returns once Loir says that the app is asleep. Asking does not wake it.
pub async fn asleep(loir: &Running) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut client = Client::connect(loir.port).await?;
    while Instant::now() < deadline {
        let answer = client.get("/.loir/status").await?;
        if String::from_utf8_lossy(&answer.body).contains("\"state\":\"asleep\"") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the app does not go to sleep".into())
}
