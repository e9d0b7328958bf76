//! What connections and waiting requests cost in memory.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Bench;
use crate::{
    Outcome,
    client::{Client, Crowd},
    process::resident,
    report::Report,
    subject::{Plan, Running, Subject},
};

const MANY: usize = 1000;

const SUBJECTS: [Subject; 3] = [Subject::Control, Subject::Limits, Subject::Loir];

pub async fn run(bench: &Bench) -> Outcome<()> {
    let question = "Resident memory of the proxy (VmRSS), two worker threads: at rest, for each of 1,000 connections that stay open after one request, and for \
        each of 1,000 requests that wait. The control cannot hold a request for an app that sleeps; its requests wait for an app that is slow, and so do \
        Loir's in the column beside.";
    let mut report = Report::begin("memory", question).await?;
    let mut rows = Vec::new();
    for subject in SUBJECTS {
        bench.note(subject.name());
        // A process of its own for each figure: what was once taken is not given back.
        let (mut rest, mut idle, mut slow, mut held) = (0, 0, 0, None);
        for case in [Case::Idle, Case::Slow, Case::Held] {
            if case == Case::Held && subject != Subject::Loir {
                continue;
            }
            let boot = if case == Case::Held { "4000" } else { "0" };
            let app = ["--boot-min", boot].map(str::to_owned);
            let running = subject.start(&bench.dir, &Plan { app: &app, ..Plan::default() }).await?;
            if case != Case::Held {
                running.wake().await?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let before = resident(running.proxy.id())?;
            let more = case.measure(&running).await?.saturating_sub(before);
            match case {
                Case::Idle => (rest, idle) = (before, more),
                Case::Slow => slow = more,
                Case::Held => held = Some(more),
            }
            running.end().await?;
        }
        let each = |kib: u64| format!("{:.1} KiB", kib as f64 / MANY as f64);
        rows.push(vec![
            subject.name().into(),
            format!("{:.1} MiB", rest as f64 / 1024.0),
            each(idle),
            each(slow),
            held.map_or("–".into(), each),
        ]);
    }
    report.table(
        &["", "at rest", "idle connection", "request for a slow app", "request held for a wake"],
        &rows,
    );
    report.say("A request in flight has two connections, one to the client and one to the app; Pingora gives each a read buffer of 64 KiB, of which only what was touched is resident. A held request has one.");
    report.end(bench.quick)
}

#[derive(Clone, Copy, PartialEq)]
enum Case {
    Idle,
    Slow,
    Held,
}

impl Case {
    /// The proxy's memory at its height.
    async fn measure(self, running: &Running) -> Outcome<u64> {
        if self == Self::Idle {
            let mut crowd = Crowd::connect(running.port, MANY).await?;
            crowd.ask("/", MANY).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            return resident(running.proxy.id());
        }
        let path = if self == Self::Slow { "/slow/4000" } else { "/" };
        let mut tasks = JoinSet::new();
        for _ in 0..MANY {
            let mut client = Client::connect(running.port).await?;
            tasks.spawn(async move { client.get(path).await });
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let height = resident(running.proxy.id())?;
        while let Some(answer) = tasks.join_next().await {
            if !answer??.is_the_apps() {
                return Err("not the app's answer".into());
            }
        }
        Ok(height)
    }
}
