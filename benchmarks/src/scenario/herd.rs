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

/// How many connections the app's kernel queue takes before the app accepts them, who has so many, and for how many rounds.
const BACKLOGS: [(&str, u32, usize); 3] =
    [("4096", 4096, 20), ("128 (Rust's std)", 128, 10), ("5 (Python's http.server)", 5, 5)];

pub async fn run(bench: &Bench) -> Outcome<()> {
    let question = "1,000 requests at once, each over a connection of its own, for one app that sleeps and boots in 2 s: \
        how often the app is started, how many get the app's own answer, and how long after the app began to listen. \
        The control cannot wake an app: its app is awake, and the time runs from the moment the requests are sent.";
    let mut report = Report::begin("herd", question).await?;
    let (mut counts, mut times) = (Vec::new(), Vec::new());
    for (name, backlog, rounds) in BACKLOGS {
        for subject in [Subject::Limits, Subject::Loir] {
            let herds = herds(bench, subject, backlog, bench.size(rounds, 2)).await?;
            let who = if subject == Subject::Loir { subject.name() } else { "control, app awake" };
            counts.push(count(who, name, &herds));
            times.push(timing(who, name, &herds));
        }
    }
    let answers = ["the app's own answer", "anything else"];
    let head =
        ["", "the app's backlog", "rounds", "requests", answers[0], answers[1], "starts", "nothing lost"];
    report.table(&head, &counts);
    report.say("Milliseconds from the moment the app listens (control: the requests are sent) to:");
    let head = ["", "the app's backlog", "first, p50", "any, p50", "p90", "p99", "last, p50", "longest"];
    report.table(&head, &times);
    report.say(
        "The app has one thread, and the client shares the machine with it: the time between the first and the last answer is what 1,000 new \
         connections take. The backlog is the app's own: how many connections its kernel queue takes before the app accepts them. A connection \
         that finds it full is tried again by the kernel after 1 s, 3 s, 7 s. An answer that takes longer than 60 s counts as something else.",
    );
    report.end(bench.quick)
}

async fn herds(bench: &Bench, subject: Subject, backlog: u32, rounds: usize) -> Outcome<Vec<Herd>> {
    let journal = bench.dir.join(format!("herd-{backlog}-{}.journal", subject == Subject::Loir));
    let app = format!("--boot-min 2000 --backlog {backlog} --journal {}", journal.display());
    let app: Vec<String> = app.split(' ').map(str::to_owned).collect();
    let plan = Plan { app: &app, defaults: "idle_timeout: 200ms", ..Plan::default() };
    let mut running = subject.start(&bench.dir, &plan).await?;
    let mut herds = Vec::new();
    for round in 1..=rounds {
        let before = starts(&journal);
        if subject == Subject::Loir {
            asleep(&running).await?;
        } else if round > 1 {
            // Without the connections that its pool has kept.
            running.end().await?;
            running = subject.start(&bench.dir, &plan).await?;
        }
        let herd = stampede(&running).await?;
        let herd = Herd { starts: starts(&journal) - before, ..herd };
        let (name, answers) = (subject.name(), herd.times.len());
        bench.note(&format!("{name}, backlog {backlog}, round {round} of {rounds}: {answers} answers"));
        herds.push(herd);
    }
    running.end().await?;
    Ok(herds)
}

fn count(who: &str, name: &str, herds: &[Herd]) -> Vec<String> {
    let sum = |of: fn(&Herd) -> usize| herds.iter().map(of).sum::<usize>().to_string();
    // Of Loir also: one start in every round.
    let exact =
        herds.iter().all(|herd| (herd.starts.max(1), herd.times.len(), herd.processes) == (1, CROWD, 1));
    vec![
        who.into(),
        name.into(),
        herds.len().to_string(),
        (herds.len() * CROWD).to_string(),
        sum(|herd| herd.times.len()),
        sum(|herd| herd.lost),
        if who.starts_with("control") { "–".into() } else { sum(|herd| herd.starts) },
        if exact { "yes".into() } else { "**no**".into() },
    ]
}

fn timing(who: &str, name: &str, herds: &[Herd]) -> Vec<String> {
    let all: Vec<f64> = herds.iter().flat_map(|herd| herd.times.iter().copied()).collect();
    let firsts: Vec<f64> = herds.iter().map(|herd| percentile(&herd.times, 0.0)).collect();
    let lasts: Vec<f64> = herds.iter().map(|herd| largest(&herd.times)).collect();
    let figures = [
        median(&firsts),
        median(&all),
        percentile(&all, 0.9),
        percentile(&all, 0.99),
        median(&lasts),
        largest(&all),
    ];
    let figures = figures.iter().map(|value| format!("{value:.1}"));
    [who.to_owned(), name.to_owned()].into_iter().chain(figures).collect()
}

/// What became of one crowd.
#[derive(Default)]
struct Herd {
    /// Of the app's own answers, in milliseconds after it began to listen and the request was sent.
    times: Vec<f64>,
    /// Whatever else came back.
    lost: usize,
    /// How many different processes answered.
    processes: usize,
    starts: usize,
}

async fn stampede(loir: &Running) -> Outcome<Herd> {
    let start = Arc::new(Barrier::new(CROWD));
    let mut tasks = JoinSet::new();
    for _ in 0..CROWD {
        let (mut client, start) = (Client::connect(loir.port).await?, start.clone());
        tasks.spawn(async move {
            start.wait().await;
            let sent = monotonic();
            let answer = client.get("/").await;
            (answer, sent, monotonic())
        });
    }
    let mut herd = Herd::default();
    let mut processes = HashSet::new();
    while let Some(done) = tasks.join_next().await {
        let (answer, sent, now) = done?;
        match answer {
            Ok(answer) if answer.is_the_apps() && answer.body == b"Hello, world!" => {
                processes.insert(answer.field("x-app")?.to_owned());
                let listening: u64 = answer.field("x-listening")?.parse()?;
                herd.times.push(now?.saturating_sub(listening.max(sent?)) as f64 / 1e6);
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
