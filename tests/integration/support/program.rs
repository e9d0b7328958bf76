//! The `loir` program itself, as a process that can be signalled and killed.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// `loir run -c FILE`. Killed when dropped.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
}

/// A port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Program {
    /// Starts it on a configuration that listens on `address`. Its log goes to `loir.log` beside the file.
    pub async fn run(config: &Path, address: SocketAddr) -> Self {
        let log = File::create(config.with_file_name("loir.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_loir"))
            .args(["run", "-c"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let program = Self { child, address };
        crate::eventually!(tokio::net::TcpStream::connect(address).await.is_ok(), "loir listens on {address}");
        program
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        crate::eventually!(self.child.try_wait().unwrap().is_some(), "loir ends");
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the process still runs (a zombie does not).
pub fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Whether any process of the group still runs.
pub fn group_is_alive(group: u32) -> bool {
    killpg(Pid::from_raw(group.cast_signed()), None).is_ok()
}
