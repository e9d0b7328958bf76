//! What a request costs, counted instead of timed: instructions, allocations, atomic operations, system calls.

use super::Bench;
use crate::{
    Outcome,
    callgrind::{self, Profile},
    client::Crowd,
    report::Report,
    subject::{Plan, Running, Subject},
    syscalls,
};

const SUBJECTS: [Subject; 5] =
    [Subject::Control, Subject::Headers, Subject::Limits, Subject::Loir, Subject::LoirJson];

/// Few enough that every request of a round is under way at once, also under callgrind.
const CONNECTIONS: usize = 8;

pub async fn run(bench: &Bench) -> Outcome<()> {
    callgrind::check()?;
    syscalls::check().await?;
    let question = "What one request costs in the proxy, an app that is awake: counted, so that a busy machine does not matter. \
        One worker thread, 8 client connections that stay open.";
    let mut report = Report::begin("instructions", question).await?;
    let lengths = [bench.size(5_000, 400), bench.size(15_000, 1_200)];
    let mut rows = Vec::new();
    for subject in SUBJECTS {
        bench.note(&format!("callgrind: {}", subject.name()));
        let plan = Plan { threads: 1, under: &callgrind::under(&bench.dir), ..Plan::default() };
        let running = subject.start(&bench.dir, &plan).await?;
        let [short, long] = counted(bench, &running, lengths).await?;
        running.end().await?;
        let requests = (lengths[1] - lengths[0]) as f64;
        // To hundredths, and without the sign of a zero.
        let each = |of: &dyn Fn(&Profile) -> f64| {
            ((of(&long) - of(&short)) / requests * 100.0).round() / 100.0 + 0.0
        };
        let taken =
            |of: &Profile| of.calls(&["malloc", "calloc", "aligned_alloc", "posix_memalign", "memalign"]);
        let slow = |of: &Profile| of.calls(&["pthread_mutex_lock", "__lll_lock_wait"]) + contended(of);
        rows.push(vec![
            subject.name().into(),
            format!("{:.0}", each(&|of| of.instructions)),
            format!("{:.1}", each(&taken)),
            format!("{:.1}", each(&|of| of.calls(&["realloc"]))),
            format!("{:.1}", each(&|of| of.atomics)),
            format!("{:.2}", each(&slow)),
        ]);
    }
    report.table(
        &[
            "per request",
            "instructions",
            "allocations",
            "reallocations",
            "atomic operations",
            "waits for a lock",
        ],
        &rows,
    );
    report.say(&format!(
        "Callgrind, {} requests less {} requests in one process, divided by the difference: what happens at the start or by \
         the clock cancels out. User space only. An atomic operation is an atomic read-modify-write instruction. A wait for a lock \
         is a call of a slow path of std, parking_lot or pthread.",
        lengths[1], lengths[0],
    ));
    for threads in [1, 2] {
        let rows = calls(bench, threads).await?;
        let head: Vec<&str> =
            ["per request", "all"].into_iter().chain(syscalls::NAMED.iter().copied()).collect();
        report.say(&format!("System calls of the proxy, {threads} worker thread(s), 32 connections, by the kernel's trace points:"));
        report.table(&head, &rows);
    }
    report.end(bench.quick)
}

fn contended(of: &Profile) -> f64 {
    let std = "std::sys::sync::mutex::futex::Mutex::lock_contended";
    let parking_lot =
        ["parking_lot::raw_mutex::RawMutex::lock_slow", "parking_lot::raw_rwlock::RawRwLock::lock_"];
    of.calls(&[std, "<std::sys::sync::mutex::futex::Mutex>::lock_contended", parking_lot[0], parking_lot[1]])
}

/// What was counted for so many requests, in one process that has had its first ones before.
async fn counted(bench: &Bench, running: &Running, lengths: [usize; 2]) -> Outcome<[Profile; 2]> {
    let pid = running.proxy.id();
    running.wake().await?;
    let mut crowd = Crowd::connect(running.port, CONNECTIONS).await?;
    crowd.ask("/", bench.size(2_000, 200)).await?;
    callgrind::dump(pid, &bench.dir, 1).await?;
    crowd.ask("/", lengths[0]).await?;
    let short = callgrind::dump(pid, &bench.dir, 2).await?;
    crowd.ask("/", lengths[1]).await?;
    let long = callgrind::dump(pid, &bench.dir, 3).await?;
    Ok([short, long])
}

async fn calls(bench: &Bench, threads: usize) -> Outcome<Vec<Vec<String>>> {
    let requests = bench.size(100_000, 10_000);
    let mut rows = Vec::new();
    for subject in SUBJECTS {
        bench.note(&format!("system calls, {threads} thread(s): {}", subject.name()));
        let running = subject.start(&bench.dir, &Plan { threads, ..Plan::default() }).await?;
        running.wake().await?;
        let mut crowd = Crowd::connect(running.port, 32).await?;
        crowd.ask("/", requests / 10).await?;
        let counting = syscalls::begin(running.proxy.id(), &bench.dir).await?;
        crowd.ask("/", requests).await?;
        let counts = counting.end().await?;
        running.end().await?;
        let each = counts.iter().map(|count| format!("{:.3}", count / requests as f64));
        rows.push(std::iter::once(subject.name().to_owned()).chain(each).collect());
    }
    Ok(rows)
}
