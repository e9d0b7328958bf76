//! A command: a process group of its own, told of the event, bounded in time and in what it prints.

use std::{
    collections::BTreeMap,
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe::Receiver,
    process::{ChildStdin, Command},
    sync::oneshot,
    time,
};

use super::{Failed, Message, groups::Groups, output::Output};
use crate::provider::process::INHERITED;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// What a command has printed is read for so long after it has ended: something it has started may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs a command to its end. Whatever is left of its process group is killed then, and as well if nobody waits for this any
/// more.
///
/// # Errors
///
/// If it cannot be run, ends with another status than 0, or takes longer than `timeout`: with the last line it has printed.
pub(super) async fn run(
    command: &[String],
    env: &BTreeMap<String, String>,
    timeout: Duration,
    label: &str,
    message: &Message,
    groups: &Arc<Groups>,
) -> Result<(), Failed> {
    let refused = |what: String| Failed { reason: what, timed_out: false };
    if groups.is_closed() {
        return Err(refused("the gateway is shutting down".into()));
    }
    let (program, arguments) = command.split_first().ok_or_else(|| refused("it has no command".into()))?;
    let mut described = Command::new(program);
    described.args(arguments).env_clear();
    described.envs(INHERITED.iter().filter_map(|&key| std::env::var_os(key).map(|value| (key, value))));
    described.envs(env).envs(message.variables()).envs(groups.marker());
    // One pipe for both streams, so that the last line is the one that was printed last.
    let (reader, writer) = one_pipe().map_err(|error| refused(format!("no pipe for its output: {error}")))?;
    described.process_group(0).stdin(Stdio::piped()).stdout(writer.0).stderr(writer.1);
    let mut process = described.spawn().map_err(|error| refused(format!("cannot run {program}: {error}")))?;
    // Our own copies of the pipe's other end: with them it would never end.
    drop(described);
    let Some(id) = process.id().and_then(|id| i32::try_from(id).ok()) else {
        return Err(refused(format!("{program} ended at once")));
    };
    let group = groups.watch(id);
    let stdin = process.stdin.take();
    // A task of its own, so that there is no zombie whoever stops to wait.
    let (tell, mut exit) = oneshot::channel();
    tokio::spawn(async move {
        let _ = tell.send(process.wait().await);
    });

    let output = Output::default();
    let talk = async { tokio::join!(tell_event(stdin, message), output.read(label, reader)) };
    let mut talk = std::pin::pin!(talk);
    let mut all_read = false;
    let mut deadline = std::pin::pin!(time::sleep(timeout));
    let mut timed_out = false;
    let status = loop {
        tokio::select! {
            biased;
            status = &mut exit => break status,
            () = &mut deadline => {
                group.signal(if timed_out { Signal::SIGKILL } else { Signal::SIGTERM });
                // After SIGKILL, nothing is left but what hangs in the kernel, and that must not hang us.
                if timed_out && time::timeout(GRACE, &mut exit).await.is_err() {
                    return Err(Failed { reason: "it cannot be killed".into(), timed_out });
                }
                if timed_out {
                    return Err(Failed { reason: timeout_reason(timeout, &output), timed_out });
                }
                timed_out = true;
                deadline.set(time::sleep(GRACE));
            }
            _ = &mut talk, if !all_read => all_read = true,
        }
    };
    if !all_read {
        let _ = time::timeout(LAST_WORDS, &mut talk).await;
    }
    drop(group);
    if output.left_out() > 0 {
        log::warn!(target: super::output::TARGET, "{label}: {} more bytes of its output are left out", output.left_out());
    }
    if timed_out {
        return Err(Failed { reason: timeout_reason(timeout, &output), timed_out });
    }
    match status {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(refused(with_last_line(describe(status), &output))),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Err(_) => Err(refused("it ended unseen".into())),
    }
}

/// Its end for us, and two of its other end for a command.
fn one_pipe() -> io::Result<(Receiver, (Stdio, Stdio))> {
    let (reader, writer) = io::pipe()?;
    let reader = Receiver::from_owned_fd(OwnedFd::from(reader))?;
    Ok((reader, (writer.try_clone()?.into(), writer.into())))
}

async fn tell_event(stdin: Option<ChildStdin>, message: &Message) {
    if let Some(mut stdin) = stdin {
        // Whoever does not want to know has closed it.
        let _ = stdin.write_all(format!("{}\n", message.json()).as_bytes()).await;
    }
}

fn timeout_reason(timeout: Duration, output: &Output) -> String {
    with_last_line(format!("no end within its timeout of {timeout:?}"), output)
}

fn with_last_line(what: String, output: &Output) -> String {
    match output.last_line() {
        Some(line) => format!("{line} ({what})"),
        None => what,
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(Ok(signal))) => format!("ended by {signal}"),
        (None, _) => "ended by a signal".into(),
    }
}
