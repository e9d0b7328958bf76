//! A child process that ends with its test, whatever becomes of the test: even if that is killed, and even if the child is frozen.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::program::is_alive;

/// The shell holds the other end of a pipe of ours. It closes when we end, however we end, and then the child is killed. Until
/// then the shell does not reap the child, so nobody else can have its process id.
const HOLD: &str = r#""$@" </dev/null >>"$LEASH_LOG" 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null"#;

/// A child process. Killed when dropped.
pub struct Leash {
    shell: Child,
    process: u32,
}

impl Leash {
    /// Starts a program whose output is added to the file `log`.
    pub fn hold(program: &str, args: &[&str], env: &[(&str, &str)], log: &Path) -> Self {
        OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", HOLD, "leash", program])
            .args(args)
            .env("LEASH_LOG", log)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = line.trim().parse().expect("the shell says which process it has started");
        Self { shell, process }
    }

    pub fn id(&self) -> u32 {
        self.process
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.cast_signed()), signal).unwrap();
    }

    /// Whether it runs, be it frozen.
    pub fn is_alive(&self) -> bool {
        is_alive(self.process)
    }

    /// Kills it as no program can prevent, and waits for its end.
    pub async fn kill(&self) {
        self.signal(Signal::SIGKILL);
        crate::eventually!(!self.is_alive(), "a killed process ends");
    }

    /// Nothing of it runs until [`Leash::thaw`]. Connections to it are made by the kernel all the same.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A port below those that the system gives to outgoing connections, so that a server which is stopped and started again finds it
/// free. Every test process begins at another one, and asks for none twice.
pub fn lasting_port() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(24) + ASKED.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
