//! `Child`: one running app, a process group of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt,
    path::Path,
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{process::Command, sync::watch, time};

use super::{ProcessApp, census, keeper, output, port::Port};
use crate::provider::ProviderError;

/// What a child inherits of our environment. Not all of it: ours may hold the tokens of provider accounts.
pub(crate) const INHERITED: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"];

/// How often it is asked whether a group is gone: nobody tells.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// One running app. Cheap to share; says when and why it ended.
pub(super) struct Child {
    group: i32,
    port: Port,
    stopping: AtomicBool,
    exit: watch::Sender<Option<String>>,
}

impl Child {
    /// Starts `app`, to listen on `port`. Must be called in a tokio runtime.
    ///
    /// It has our limit of open files, which the gateway raised for itself: giving it the old one back would take
    /// `pre_exec` or `prlimit`, and neither can be had without unsafe code.
    pub fn spawn(
        name: &str,
        app: &ProcessApp,
        port: Port,
        marker: Option<&str>,
        log_file: Option<&Path>,
    ) -> Result<Arc<Self>, ProviderError> {
        let failed = |what: String| ProviderError::Failed(what);
        let number = port.number().to_string();
        let filled = |text: &str| text.replace("{port}", &number);
        let (program, arguments) =
            app.command.split_first().ok_or_else(|| ProviderError::Refused("it has no command".into()))?;
        let program = filled(program);
        let mut command = Command::new(&program);
        command.args(arguments.iter().map(|argument| filled(argument)));
        command.env_clear();
        command.envs(INHERITED.iter().filter_map(|&key| std::env::var_os(key).map(|value| (key, value))));
        command.env("PORT", &number).env("HOST", Ipv4Addr::LOCALHOST.to_string());
        command.envs(app.env.iter().map(|(key, value)| (key, filled(value))));
        command.envs(marker.map(|marker| (keeper::MARKER, marker)));
        if let Some(folder) = &app.cwd {
            command.current_dir(folder);
        }
        command.process_group(0).stdin(Stdio::null());
        match log_file {
            None => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
            // It outlives us, so it must not write into a pipe of ours.
            Some(path) => {
                let file =
                    append_to(path).map_err(|e| failed(format!("cannot write {}: {e}", path.display())))?;
                let copy =
                    file.try_clone().map_err(|e| failed(format!("cannot write {}: {e}", path.display())))?;
                command.stdout(file).stderr(copy)
            }
        };
        let mut process =
            command.spawn().map_err(|error| failed(format!("cannot run {program}: {error}")))?;
        let Some(group) = process.id().and_then(|id| i32::try_from(id).ok()) else {
            return Err(failed(format!("{program} ended at once")));
        };
        let tail = output::follow(name, process.stdout.take(), process.stderr.take());
        let child = Arc::new(Self::new(group, port));
        let watched = child.clone();
        tokio::spawn(async move {
            let reason = match process.wait().await {
                Ok(status) => describe(status),
                Err(error) => error.to_string(),
            };
            let last = tail.last_line().await;
            let reason = match last {
                Some(line) => format!("{reason}; it last said: {line}"),
                None => reason,
            };
            watched.exit.send_replace(Some(reason));
        });
        Ok(child)
    }

    /// A process group that an earlier gateway started. Its exit cannot be waited for, only asked about.
    pub fn adopted(group: i32, port: u16) -> Arc<Self> {
        let child = Arc::new(Self::new(group, Port::adopted(port)));
        let watched = child.clone();
        tokio::spawn(async move {
            while watched.group_exists() {
                time::sleep(ASK_EVERY * 5).await;
            }
            watched.exit.send_replace(Some("ended".into()));
        });
        child
    }

    fn new(group: i32, port: Port) -> Self {
        Self { group, port, stopping: AtomicBool::new(false), exit: watch::Sender::new(None) }
    }

    /// The id of the process group, which is that of its first process.
    pub fn group(&self) -> i32 {
        self.group
    }

    /// Where it was told to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number()))
    }

    /// Why it ended, if it has.
    pub fn exit(&self) -> Option<String> {
        self.exit.borrow().clone()
    }

    /// Whether its end is our own doing.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits until its first process has ended, and says why.
    pub async fn ended(&self) -> String {
        let mut exit = self.exit.subscribe();
        exit.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    /// SIGTERM to the group, up to `grace` for all of it to end, then SIGKILL. Returns when the group is gone.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.store(true, Ordering::SeqCst);
        self.signal(Signal::SIGTERM);
        let gone = async {
            self.ended().await;
            self.group_gone().await;
        };
        let mut gone = pin!(gone);
        if time::timeout(grace, &mut gone).await.is_err() {
            self.kill();
            // Nothing survives SIGKILL but what hangs in the kernel; that must not hang us.
            let _ = time::timeout(Duration::from_secs(5), gone).await;
        }
    }

    /// SIGKILL to whatever is left of the group.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    async fn group_gone(&self) {
        while self.group_exists() {
            time::sleep(ASK_EVERY).await;
        }
    }

    fn group_exists(&self) -> bool {
        census::group_runs(self.group)
    }

    fn signal(&self, signal: Signal) {
        // ESRCH: it has ended already. EPERM: it has become somebody else, and we have no say.
        let _ = killpg(Pid::from_raw(self.group), signal);
    }
}

fn append_to(path: &Path) -> std::io::Result<fs::File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::options().create(true).append(true).open(path)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("ended by {signal}"),
            Err(_) => format!("ended by signal {number}"),
        },
        (None, None) => "ended".into(),
    }
}
