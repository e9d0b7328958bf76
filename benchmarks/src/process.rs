//! Child processes, and what the kernel knows of them.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::Outcome;

/// A child process. Killed when dropped; `end` is the polite way.
pub struct Process {
    child: Child,
    pid: u32,
}

/// CPU time that a process has used so far.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    /// In its own code.
    pub user: Duration,
    /// In the kernel, on its behalf.
    pub system: Duration,
}

impl Process {
    /// Starts it; what it says goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> Outcome<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        let pid = child.id().ok_or("it ended at once")?;
        Ok(Self { child, pid })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.pid)?), signal)?)
    }

    /// Waits for its own end.
    pub async fn ended(&mut self) -> Outcome<()> {
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM, and SIGKILL after a while. Pingora's own server waits five minutes for its clients.
    pub async fn end(mut self) -> Outcome<()> {
        self.signal(Signal::SIGTERM)?;
        if tokio::time::timeout(Duration::from_secs(3), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// The ids of its children.
    pub fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        fs::read_to_string(path)
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|id| id.parse().ok())
            .collect()
    }
}

impl Cpu {
    /// Of one process with all its threads.
    pub fn of(pid: u32) -> Outcome<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the name in brackets and may hold anything; the 14th and 15th are times, in ticks of 10 ms
        // that the kernel rounds from an exact sum.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let time = |at: usize| -> Outcome<Duration> {
            let ticks: u64 = fields.get(at).ok_or("/proc/PID/stat is short")?.parse()?;
            Ok(Duration::from_millis(ticks * 10))
        };
        Ok(Self { user: time(11)?, system: time(12)? })
    }
}

impl std::ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// A process's resident memory, in KiB.
pub fn resident(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections.
pub fn free_port() -> Outcome<u16> {
    let ports = std::iter::repeat_with(|| fastrand::u16(12_000..19_000)).take(1000);
    let mut free = ports.filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.next().ok_or_else(|| "no free port".into())
}

/// Returns once somebody accepts connections there.
pub async fn listening(port: u16) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        if Instant::now() > deadline {
            return Err(format!("nobody listens on port {port}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What a short-lived program says on its standard output and error.
pub async fn said(program: &str, args: &[&str]) -> Outcome<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().await;
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
