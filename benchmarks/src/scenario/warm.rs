//! What a proxy costs while the app is awake: requests per second, latency, CPU time per request.

use super::Bench;
use crate::{
    Outcome,
    figures::{median, whole},
    report::Report,
    subject::{Plan, Running, Subject},
    wrk,
};

const SUBJECTS: [Subject; 7] = [
    Subject::Control,
    Subject::Headers,
    Subject::Limits,
    Subject::Loir,
    Subject::LoirJson,
    Subject::Nginx,
    Subject::Haproxy,
];

/// What the others are compared with: it does for a request all that Loir does, but for Loir's own work.
const REFERENCE: usize = 2;

const LOADS: [(&str, &str, usize); 3] =
    [("13 bytes", "/", 32), ("13 bytes", "/", 256), ("64 KiB", "/64k", 32)];

/// What one subject did in one round.
#[derive(Clone, Default)]
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
    user: f64,
    system: f64,
}

pub async fn run(bench: &Bench) -> Outcome<()> {
    wrk::check()?;
    let (rounds, seconds) = (bench.size(7, 2), bench.size(4, 1) as u64);
    let question = "What a proxy costs while the app is awake. The client (wrk, one thread), the proxy (two workers) and the app share the \
        machine, so requests per second say which of them is in the way of the others, and CPU time per request says what the \
        proxy itself costs.";
    let mut report = Report::begin("warm", question).await?;
    let mut running = Vec::new();
    for subject in SUBJECTS.into_iter().filter(|subject| subject.available()) {
        let started = subject.start(&bench.dir, &Plan::default()).await?;
        started.wake().await?;
        running.push((subject, started));
    }
    for (size, path, connections) in LOADS {
        let mut seen = vec![Vec::new(); running.len()];
        for round in 0..=rounds {
            bench.note(&format!("{size}, {connections} connections, round {round} of {rounds}"));
            // There and back again: nobody is always first, or always after the same one.
            let order: Vec<usize> = if round % 2 == 0 {
                (0..running.len()).collect()
            } else {
                (0..running.len()).rev().collect()
            };
            for at in order {
                let one = measure(&running[at].1, path, connections, seconds).await?;
                // The first round warms everything up.
                if round > 0 {
                    seen[at].push(one);
                }
            }
        }
        report.say(&format!("{size} in each answer, {connections} connections:"));
        let rows: Vec<_> =
            running.iter().zip(&seen).map(|((subject, _), of)| row(*subject, of, &seen[REFERENCE])).collect();
        report.table(
            &["", "req/s", "ratio", "p50 ms", "p99 ms", "CPU µs/req", "user", "system", "CPU ratio"],
            &rows,
        );
    }
    report.say(&format!(
        "Medians of {rounds} rounds of {seconds} s each, all subjects in turn within a round, every other round backwards. A ratio is the median of \
         the rounds' own ratios to \"{}\". CPU time is the proxy's own, from /proc, without the app.",
        SUBJECTS[REFERENCE].name(),
    ));
    for (_, started) in running {
        started.end().await?;
    }
    report.end(bench.quick)
}

async fn measure(running: &Running, path: &str, connections: usize, seconds: u64) -> Outcome<Round> {
    let before = running.cpu()?;
    let seen = wrk::run(running.port, path, connections, seconds).await?;
    let used = running.cpu()? - before;
    Ok(Round {
        rate: seen.rate,
        p50: seen.p50,
        p99: seen.p99,
        user: used.user.as_secs_f64() * 1e6 / seen.requests,
        system: used.system.as_secs_f64() * 1e6 / seen.requests,
    })
}

fn row(subject: Subject, rounds: &[Round], reference: &[Round]) -> Vec<String> {
    let middle = |of: fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    let ratio = |of: fn(&Round) -> f64| {
        median(&rounds.iter().zip(reference).map(|(one, other)| of(one) / of(other)).collect::<Vec<_>>())
    };
    vec![
        subject.name().into(),
        whole(middle(|round| round.rate)),
        format!("{:.3}", ratio(|round| round.rate)),
        format!("{:.2}", middle(|round| round.p50)),
        format!("{:.2}", middle(|round| round.p99)),
        format!("{:.1}", middle(|round| round.user + round.system)),
        format!("{:.1}", middle(|round| round.user)),
        format!("{:.1}", middle(|round| round.system)),
        format!("{:.3}", ratio(|round| round.user + round.system)),
    ]
}
