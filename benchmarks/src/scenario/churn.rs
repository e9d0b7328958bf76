//! A steady stream of requests, while the app is stopped and woken again and again.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{Bench, herd::starts};
use crate::{
    Outcome,
    app::sum,
    client::Client,
    figures::{largest, median, millis, percentile},
    report::Report,
    subject::{Plan, Subject},
};

/// A second.
const RATE: usize = 400;

/// Every fourth request is a POST with a body.
const BODY: usize = 8 * 1024;

pub async fn run(bench: &Bench) -> Outcome<()> {
    let requests = bench.size(10_000, 1_000);
    let question = "Requests at a steady rate, sent when they are due whatever became of the earlier ones, while the app's idle time (1 ms) is shorter than \
        the time between two requests: it is stopped and woken all the time. Every request must get the app's answer, and every body must arrive once and whole.";
    let mut report = Report::begin("churn", question).await?;
    let journal = bench.dir.join("churn.journal");
    let app = ["--boot-min", "10", "--boot-max", "30", "--journal", &journal.display().to_string()]
        .map(str::to_owned);
    let plan = Plan { app: &app, defaults: "idle_timeout: 1ms", ..Plan::default() };
    let loir = Subject::Loir.start(&bench.dir, &plan).await?;
    let idle: Arc<Mutex<Vec<Client>>> = Arc::default();
    let mut tasks = JoinSet::new();
    let first = Instant::now() + Duration::from_millis(100);
    for number in 0..requests {
        let due = first + Duration::from_secs(1) * u32::try_from(number)? / u32::try_from(RATE)?;
        let (idle, port) = (idle.clone(), loir.port);
        sleep_until(due).await;
        tasks.spawn(async move { (one(number, port, &idle).await, due.elapsed()) });
        if number % 2000 == 0 {
            bench.note(&format!("request {number} of {requests}, {} starts", starts(&journal)));
        }
    }
    let (mut all, mut waited, mut processes, mut errors) =
        (Vec::new(), Vec::new(), HashSet::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (answer, took) = done?;
        match answer {
            Ok((process, held)) => {
                all.push(millis(took));
                if held {
                    waited.push(millis(took));
                }
                processes.insert(process);
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    let log = std::fs::read_to_string(&loir.log)?;
    let stops = log.lines().filter(|line| line.ends_with(": asleep")).count();
    loir.end().await?;
    for error in errors.iter().take(10) {
        bench.note(error);
    }
    report.table(
        &[
            "requests",
            "the app's answer, whole",
            "anything else",
            "held for a wake",
            "starts",
            "stops",
            "processes that answered",
        ],
        &[[requests, all.len(), errors.len(), waited.len(), starts(&journal), stops, processes.len()]
            .map(|n| n.to_string())
            .to_vec()],
    );
    let row = |name: &str, values: &[f64]| {
        let share = |share| format!("{:.1}", percentile(values, share));
        vec![
            name.to_owned(),
            format!("{:.1}", median(values)),
            share(0.9),
            share(0.99),
            format!("{:.1}", largest(values)),
        ]
    };
    report.table(
        &["ms from when it was due", "p50", "p90", "p99", "longest"],
        &[row("all requests", &all), row("those that were held", &waited)],
    );
    report.say(&format!("{RATE} requests a second; every fourth is a POST of 8 KiB, whose length and sum the app sends back. The app boots for a random 10 to 30 ms. A stop takes as long as the process takes to end."));
    report.end(bench.quick)
}

/// The process that answered, and whether the request was held.
async fn one(number: usize, port: u16, idle: &Mutex<Vec<Client>>) -> Outcome<(String, bool)> {
    let free = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut client = match free {
        Some(client) => client,
        None => Client::connect(port).await?,
    };
    let answer = if number.is_multiple_of(4) {
        let body: Vec<u8> = (0..BODY).map(|_| fastrand::u8(..)).collect();
        let answer = client.post("/", &body).await?;
        let expected = format!("{BODY} {}", sum(&body));
        if answer.body != expected.as_bytes() {
            return Err(format!("request {number}: another body: {}", answer.head).into());
        }
        answer
    } else {
        client.get("/").await?
    };
    if !answer.is_the_apps() {
        return Err(format!("request {number}: {}", answer.head.lines().next().unwrap_or_default()).into());
    }
    let process = answer.field("x-app")?.to_owned();
    let held = answer.field("x-loir-cold-start").is_ok();
    idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
    Ok((process, held))
}
