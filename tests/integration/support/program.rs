//! The `loir` program itself, as a process that can be signalled and killed.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Setup, client, journal_lines};

/// `loir run -c FILE`. Killed when dropped.
pub struct Program {
    child: Child,
    config: PathBuf,
    client: reqwest::Client,
    pub address: SocketAddr,
}

/// A port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Program {
    /// Starts it on a configuration that listens on `address`. Its log goes to `loir.log` beside the file.
    pub async fn run(config: &Path, address: SocketAddr) -> Self {
        Self::run_with(config, address, &[]).await
    }

    /// The same, with these variables.
    pub async fn run_with(config: &Path, address: SocketAddr, env: &[(&str, &str)]) -> Self {
        let log = File::create(config.with_file_name("loir.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_loir"))
            .args(["run", "-c"])
            .arg(config)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let program = Self { child, config: config.into(), client: client(), address };
        crate::eventually!(
            tokio::net::TcpStream::connect(address).await.is_ok(),
            "loir listens on {address}"
        );
        program
    }

    /// Starts it as `setup` says, on a free port, with everything it needs in `folder`.
    pub async fn start(setup: &Setup, folder: &Path) -> Self {
        let address = free_address();
        let config = folder.join("loir.yaml");
        fs::write(&config, setup.yaml(folder, address)).unwrap();
        Self::run(&config, address).await
    }

    /// Starts it where it must not come up; waits for its end.
    pub async fn refused(config: &Path) -> Output {
        let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_loir"))
            .args(["run", "-c"])
            .arg(config)
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(std::time::Duration::from_secs(20), run).await.expect("loir ends").unwrap()
    }

    /// The command line, to its end: what it printed.
    pub async fn command(args: &[&str]) -> Output {
        let run =
            tokio::process::Command::new(env!("CARGO_BIN_EXE_loir")).args(args).kill_on_drop(true).output();
        tokio::time::timeout(std::time::Duration::from_secs(60), run).await.expect("loir ends").unwrap()
    }

    /// Gives it another configuration.
    pub fn reload(&self, setup: &Setup) {
        fs::write(&self.config, setup.yaml(self.folder(), self.address)).unwrap();
        self.signal(Signal::SIGHUP);
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.config.parent().unwrap()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.config.with_file_name("loir.log")).unwrap()).into_owned()
    }

    /// Waits until it has said so.
    pub async fn says(&self, text: &str) {
        crate::eventually!(self.log().contains(text), "it says {text:?}, after\n{}", self.log());
    }

    /// A request for an app, as a program sends it.
    pub fn request(&self, method: &str, app: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.request(method.parse().unwrap(), url).header("host", format!("{app}.test"))
    }

    pub fn get(&self, app: &str, path: &str) -> reqwest::RequestBuilder {
        self.request("GET", app, path)
    }

    /// Wakes the app; its process.
    pub async fn wake(&self, app: &str) -> u32 {
        let answer = self.get(app, "/pid").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap().parse().unwrap()
    }

    /// The app's lines in its journal, without process ids.
    pub fn journal(&self, app: &str) -> Vec<String> {
        journal_lines(self.folder(), app).into_iter().map(|(_, line)| line).collect()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Kills it as no program can prevent.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended().await;
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
    stat(process).is_some()
}

/// Whether any process of the group still runs (zombies do not).
pub fn group_is_alive(group: u32) -> bool {
    let entries =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.into_iter().any(|process| stat(process).is_some_and(|fields| fields[2] == group.to_string()))
}

/// The process that runs `loir keeper` for this gateway.
pub fn keeper_of(gateway: u32) -> Option<u32> {
    let entries =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.into_iter().find(|&process| {
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        command.ends_with(b"\0keeper\0")
            && stat(process).is_some_and(|fields| fields[1] == gateway.to_string())
    })
}

/// Its state, parent, group and so on, if it runs (a zombie does not).
fn stat(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
    (fields.first()? != "Z").then_some(fields)
}
