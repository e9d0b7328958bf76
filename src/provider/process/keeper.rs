//! No orphan survives the gateway, even when the gateway is killed with SIGKILL and can do nothing about it.
//!
//! The keeper is a second, tiny process of the same program. It reads process group ids from a pipe whose other end
//! only the gateway holds. When the gateway is gone, for whatever reason, the kernel closes the pipe; the keeper then
//! ends every group it was told of, and every process that carries the marker in its environment (one that was born
//! while the gateway died, or that left its group).
//!
//! `PR_SET_PDEATHSIG` would not do: it reaches the direct child only, not what that child started, and it fires when
//! the *thread* that made the child ends.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::census;
use crate::provider::ProviderError;

/// The environment variable by which the keeper knows its own.
pub(crate) const MARKER: &str = "LOIR_KEEPER";

/// What orphans get to end by themselves. Nobody waits for their answers any more.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// How long a keeper that ended at once is not followed by the next.
const BETWEEN_KEEPERS: Duration = Duration::from_secs(1);

/// The gateway's end of the pipe.
pub(crate) struct Keeper {
    program: PathBuf,
    marker: String,
    link: Mutex<Link>,
}

struct Link {
    pipe: ChildStdin,
    watched: BTreeSet<i32>,
}

impl Keeper {
    /// Starts the keeper, and another one whenever somebody has killed it.
    pub fn start(program: PathBuf) -> Result<Arc<Self>, ProviderError> {
        let marker = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let failed = |error| ProviderError::Failed(format!("cannot start {}: {error}", program.display()));
        let (mut process, pipe) = spawn(&program, &marker).map_err(failed)?;
        let link = Mutex::new(Link { pipe, watched: BTreeSet::new() });
        let keeper = Arc::new(Self { program, marker, link });
        // Weak: without the gateway's end of the pipe the keeper does its work and ends, and so does this thread.
        let ours = Arc::downgrade(&keeper);
        let watch = move || {
            loop {
                let _ = process.wait();
                let Some(keeper) = ours.upgrade() else { return };
                match keeper.replace() {
                    Ok(next) => process = next,
                    Err(error) => {
                        log::error!("no keeper: apps would survive this gateway if it were killed: {error}");
                    }
                }
                drop(keeper);
                std::thread::park_timeout(BETWEEN_KEEPERS);
            }
        };
        std::thread::Builder::new().name("keeper".into()).spawn(watch).map_err(|error| {
            ProviderError::Failed(format!("cannot start the thread of the keeper: {error}"))
        })?;
        Ok(keeper)
    }

    /// The value of [`MARKER`] for children.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The group is to be ended when we are gone.
    pub fn watch(&self, group: i32) {
        self.tell('+', group);
    }

    /// The group has ended.
    pub fn forget(&self, group: i32) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: i32) {
        let mut link = self.link();
        match sign {
            '+' => link.watched.insert(group),
            _ => link.watched.remove(&group),
        };
        // A keeper that is gone is about to be replaced by one that is told of everybody.
        let _ = writeln!(link.pipe, "{sign}{group}");
    }

    fn replace(&self) -> io::Result<Child> {
        log::warn!("the keeper of child processes is gone; starting another");
        let mut link = self.link();
        let (process, pipe) = spawn(&self.program, &self.marker)?;
        link.pipe = pipe;
        for group in link.watched.clone() {
            writeln!(link.pipe, "+{group}")?;
        }
        Ok(process)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(program: &Path, marker: &str) -> io::Result<(Child, ChildStdin)> {
    let mut process = Command::new(program)
        .arg("keeper")
        .env_clear()
        .env(MARKER, marker)
        // A group of its own: Ctrl-C in the terminal must not end it before its work is done.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pipe = process.stdin.take().ok_or_else(|| io::Error::other("it has no standard input"))?;
    Ok((process, pipe))
}

/// The keeper itself: `loir keeper`, for the gateway only.
pub fn main() -> ExitCode {
    let marker = std::env::var(MARKER).unwrap_or_default();
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match (line.get(..1), line.get(1..).and_then(|id| id.parse::<i32>().ok())) {
            (Some("+"), Some(group)) if group > 1 => groups.insert(group),
            (Some("-"), Some(group)) => groups.remove(&group),
            _ => false,
        };
    }
    // The pipe is closed: the gateway is gone.
    end(&groups, &marker, Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline && any_left(&groups, &marker) {
        #[expect(clippy::disallowed_methods, reason = "this process has one thread and nothing else to do")]
        std::thread::sleep(Duration::from_millis(20));
    }
    end(&groups, &marker, Signal::SIGKILL);
    ExitCode::SUCCESS
}

fn end(groups: &BTreeSet<i32>, marker: &str, signal: Signal) {
    for &group in groups {
        let _ = killpg(Pid::from_raw(group), signal);
    }
    for process in marked(marker) {
        let _ = kill(process, signal);
    }
}

fn any_left(groups: &BTreeSet<i32>, marker: &str) -> bool {
    groups.iter().any(|&group| census::group_runs(group)) || marked(marker).next().is_some()
}

/// Every process but this one whose environment carries the marker. None where there is no `/proc`.
fn marked(marker: &str) -> impl Iterator<Item = Pid> {
    let wanted = format!("{MARKER}={marker}");
    let usable = !marker.is_empty();
    let me = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(move |&id| usable && id != me)
        .filter(move |id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes())
        })
        .filter_map(|id| i32::try_from(id).ok().map(Pid::from_raw))
}
