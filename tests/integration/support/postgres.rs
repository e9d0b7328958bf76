//! A real PostgreSQL, which a test may hurt as it likes.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::leash::{Leash, lasting_port};

/// What is said where there is none.
const MISSING: &str = "PostgreSQL is not installed, and this test needs a real one. `make test` installs it where it can \
                       (scripts/setup test); by hand: apt-get install postgresql, dnf install postgresql-server, brew install \
                       postgresql";

/// Where Debian keeps the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A running PostgreSQL with an empty database. Killed when dropped.
pub struct Postgres {
    leash: Option<Leash>,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl Postgres {
    /// Starts one on a free port, with a folder of its own.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["data", "socket"] {
            let folder = folder.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
            if let Some((user, group, _)) = other_user() {
                chown(&folder, Some(user), Some(group)).unwrap();
            }
        }
        let data = folder.path().join("data");
        let options =
            ["--username", "loir", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"];
        let command =
            as_user(&program("initdb"), &[&["--pgdata", data.to_str().unwrap()], &options[..]].concat());
        let made = Command::new(&command[0]).args(&command[1..]).current_dir("/").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Self { leash: None, folder, port: lasting_port() };
        postgres.restart().await;
        postgres
    }

    /// `postgres://loir@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        format!("postgres://loir@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options: sqlx::postgres::PgConnectOptions = self.url().parse().unwrap();
        PgConnection::connect_with(&options.disable_statement_logging()).await
    }

    /// A number that a statement results in.
    pub async fn number(&self, statement: &'static str) -> i64 {
        let mut connection = self.connect().await.unwrap();
        sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap()
    }

    /// Killed, if it was not yet, and started again on the same port with what it wrote down.
    pub async fn restart(&mut self) {
        self.kill().await;
        let (data, socket, port) = (self.path("data"), self.path("socket"), self.port.to_string());
        let mut args = vec!["-D".to_owned(), data, "-p".to_owned(), port, "-k".to_owned(), socket];
        let settings = [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "max_connections=20",
            "shared_buffers=16MB",
            "autovacuum=off",
        ];
        args.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let command = as_user(&program("postgres"), &args);
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        self.leash =
            Some(Leash::hold(command[0], &command[1..], &[], &self.folder.path().join("postgres.log")));
        crate::eventually!(self.connect().await.is_ok(), "PostgreSQL answers\n{}", self.log());
    }

    /// Kills it; connections to it are refused from now on.
    pub async fn kill(&mut self) {
        if let Some(leash) = self.leash.take() {
            self.end(&leash);
            crate::eventually!(!leash.is_alive(), "a killed process ends");
        }
    }

    fn end(&self, leash: &Leash) {
        // First the one that would start others.
        let _ = kill(Pid::from_raw(leash.id().cast_signed()), Signal::SIGSTOP);
        for process in children(leash.id()) {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        let _ = kill(Pid::from_raw(leash.id().cast_signed()), Signal::SIGKILL);
    }

    /// It hangs: connections are accepted, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on where it was.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let leash = self.leash.as_ref().expect("a running PostgreSQL");
        leash.signal(signal);
        for process in children(leash.id()) {
            let _ = kill(Pid::from_raw(process), signal);
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("postgres.log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(leash) = self.leash.take() {
            self.end(&leash);
        }
    }
}

/// One process for each connection, and some more.
fn children(parent: u32) -> Vec<i32> {
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |process: &i32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1).is_some_and(|it| it == parent.to_string())
    };
    all.filter(is_child).collect()
}

/// PostgreSQL refuses to run as root: then it is another user who runs it. Its number, its group's, and its name.
fn other_user() -> Option<(u32, u32, String)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, name.to_owned()))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user who is not root"))
}

/// The command, run by a user who may.
fn as_user(program: &Path, args: &[&str]) -> Vec<String> {
    let mut command = match other_user() {
        Some((user, group, _)) => {
            vec![
                "setpriv".to_owned(),
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
            ]
        }
        None => Vec::new(),
    };
    command.push(program.to_str().unwrap().to_owned());
    command.extend(args.iter().map(|arg| (*arg).to_owned()));
    command
}

/// One of its programs: of PATH, or of the latest version that Debian has installed.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<_> =
        fs::read_dir(DEBIAN).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    versions.sort_by_key(|version| version.file_name().and_then(|it| it.to_str()?.parse::<u32>().ok()));
    let debian = versions.into_iter().rev().map(|version| version.join("bin"));
    let mut folders = std::env::split_paths(&path).chain(debian);
    folders.find_map(|folder| Some(folder.join(name)).filter(|it| it.is_file())).expect(MISSING)
}
