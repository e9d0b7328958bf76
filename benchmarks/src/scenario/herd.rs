//! A thousand first requests at once for one app that sleeps.

use std::{collections::HashSet, fs, sync::Arc};

use tokio::{sync::Barrier, task::JoinSet};

use super::{Bench, wake::asleep};
use crate::{
    Outcome,
    app::monotonic,
    client::Client,
    figures::{largest, median, percentile},
    report::Report,
    subject::{Plan, Running, Subject},
};

const CROWD: usize = 1000;

pub async fn run(bench: &Bench) -> Outcome<()> {
    let rounds = bench.size(20, 2);
    let question = "1,000 requests at once, each over a connection of its own, for one app that sleeps and boots in 2 s: \
        how often the app is started, how many get the app's own answer, and how long after the app began to listen.";
    let mut report = Report::begin("herd", question).await?;
    let journal = bench.dir.join("herd.journal");
    let app = ["--boot-min", "2000", "--journal", &journal.display().to_string()].map(str::to_owned);
    let plan = Plan { app: &app, defaults: "idle_timeout: 200ms", ..Plan::default() };
    let loir = Subject::Loir.start(&bench.dir, &plan).await?;
    let (mut all, mut firsts, mut lasts, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        asleep(&loir).await?;
        let before = starts(&journal);
        let herd = stampede(&loir).await?;
        let started = starts(&journal) - before;
        bench.note(&format!("round {round} of {rounds}: {started} start, {} answers", herd.times.len()));
        firsts.push(percentile(&herd.times, 0.0));
        lasts.push(largest(&herd.times));
        rows.push((started, herd.times.len(), herd.lost, herd.processes));
        all.extend(herd.times);
    }
    loir.end().await?;
    let sum = |of: fn(&(usize, usize, usize, usize)) -> usize| rows.iter().map(of).sum::<usize>();
    let exact = rows.iter().all(|row| *row == (1, CROWD, 0, 1));
    report.table(
        &["rounds", "requests", "the app's own answer", "anything else", "starts", "exactly so in every round"],
        &[vec![
            rounds.to_string(),
            (rounds * CROWD).to_string(),
            sum(|row| row.1).to_string(),
            sum(|row| row.2).to_string(),
            sum(|row| row.0).to_string(),
            if exact { "yes".into() } else { "**no**".into() },
        ]],
    );
    let row = |name: &str, values: &[f64]| {
        let share = |share| format!("{:.1}", percentile(values, share));
        vec![name.to_owned(), format!("{:.1}", median(values)), share(0.99), format!("{:.1}", largest(values))]
    };
    report.table(
        &["ms after the app listens", "p50", "p99", "longest"],
        &[
            row("the first answer of a round", &firsts),
            row("all answers", &all),
            row("the last answer of a round", &lasts),
        ],
    );
    report.say("The app has one thread, and the client shares the machine with it: the time between the first and the last answer is what 1,000 new connections take.");
    report.end(bench.quick)
}

struct Herd {
    times: Vec<f64>,
    lost: usize,
    processes: usize,
}

async fn stampede(loir: &Running) -> Outcome<Herd> {
    let start = Arc::new(Barrier::new(CROWD));
    let mut tasks = JoinSet::new();
    for _ in 0..CROWD {
        let (mut client, start) = (Client::connect(loir.port).await?, start.clone());
        tasks.spawn(async move {
            start.wait().await;
            let answer = client.get("/").await;
            (answer, monotonic())
        });
    }
    let mut herd = Herd { times: Vec::new(), lost: 0, processes: 0 };
    let mut processes = HashSet::new();
    while let Some(done) = tasks.join_next().await {
        let (answer, now) = done?;
        match answer {
            Ok(answer) if answer.is_the_apps() && answer.body == b"Hello, world!" => {
                processes.insert(answer.field("x-app")?.to_owned());
                let listening: u64 = answer.field("x-listening")?.parse()?;
                #[expect(clippy::cast_precision_loss)]
                herd.times.push(now?.saturating_sub(listening) as f64 / 1e6);
            }
            Ok(other) => {
                eprintln!("  {}", other.head.lines().next().unwrap_or_default());
                herd.lost += 1;
            }
            Err(error) => {
                eprintln!("  {error}");
                herd.lost += 1;
            }
        }
    }
    herd.processes = processes.len();
    Ok(herd)
}

/// How often the app was started.
pub fn starts(journal: &std::path::Path) -> usize {
    fs::read_to_string(journal).unwrap_or_default().lines().count()
}
