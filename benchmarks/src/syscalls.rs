//! System calls of a running process, counted by the kernel's own trace points through `perf stat`: no stop at each call,
//! as `strace` makes, so that threads meet each other as they do in earnest.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::{
    Outcome,
    process::{Process, said},
    subject::which,
};

/// Those that stand in the table, beside all of them together.
pub const NAMED: &[&str] = &["futex", "epoll_wait", "recvfrom", "sendto", "writev", "write"];

const ALL: &str = "raw_syscalls:sys_enter";

/// A count in progress.
pub struct Counting {
    perf: Process,
    out: std::path::PathBuf,
}

/// Whether the kernel lets us count, else what to do.
pub async fn check() -> Outcome<()> {
    if which("perf").is_none() {
        return Err("perf is missing: apt-get install linux-perf".into());
    }
    let said = said("perf", &["stat", "-x", ",", "-e", ALL, "true"]).await?;
    if said.contains(ALL) && !said.contains("not supported") {
        return Ok(());
    }
    Err(format!(
        "perf cannot count system calls here (root and a mounted /sys/kernel/tracing are needed): {said}"
    )
    .into())
}

/// Begins to count.
pub async fn begin(pid: u32, dir: &Path) -> Outcome<Counting> {
    let out = dir.join(format!("perf.{}", fastrand::u32(..)));
    let events: Vec<String> = NAMED.iter().map(|name| format!("syscalls:sys_enter_{name}")).collect();
    let mut command = Command::new("perf");
    command
        .args(["stat", "-x", ",", "-e", ALL, "-e", &events.join(","), "-p", &pid.to_string(), "-o"])
        .arg(&out);
    let perf = Process::start(command, &dir.join("perf.log"))?;
    // It says nothing when it is ready.
    tokio::time::sleep(Duration::from_millis(700)).await;
    Ok(Counting { perf, out })
}

impl Counting {
    /// Ends the count: all calls, then the named ones.
    pub async fn end(mut self) -> Outcome<Vec<f64>> {
        self.perf.signal(Signal::SIGINT)?;
        self.perf.ended().await?;
        let text = std::fs::read_to_string(&self.out)?;
        let count = |event: &str| {
            let line = text.lines().find(|line| line.split(',').nth(2) == Some(event));
            line.and_then(|line| line.split(',').next()?.parse().ok())
                .ok_or_else(|| format!("perf: no {event} in {text}"))
        };
        let mut counts = vec![count(ALL)?];
        for name in NAMED {
            counts.push(count(&format!("syscalls:sys_enter_{name}"))?);
        }
        Ok(counts)
    }
}
