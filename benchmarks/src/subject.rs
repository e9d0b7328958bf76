//! What is measured: each proxy with its configuration, in front of an app of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::process::Command;

use crate::{
    Outcome,
    client::Client,
    process::{Cpu, Process, free_port, listening},
};

/// One way to bring a request to an app.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The control as it is.
    Control,
    /// The control that tells the app the same of the client as Loir does.
    Headers,
    /// The same, and bounds the client's connection as Loir does: the fairest comparison.
    Limits,
    /// Loir without an access log.
    Loir,
    /// Loir with an access log in JSON, to a file.
    LoirJson,
    /// nginx that tells the app about the same.
    Nginx,
    /// HAProxy that tells the app about the same.
    Haproxy,
}

/// What all of them are started with.
pub struct Plan<'a> {
    /// Worker threads.
    pub threads: usize,
    /// Arguments of the app beside its port.
    pub app: &'a [String],
    /// Under `defaults:` of Loir.
    pub defaults: &'a str,
    /// A program to run the proxy under.
    pub under: &'a [String],
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { threads: 2, app: &[], defaults: "idle_timeout: 1h", under: &[] }
    }
}

/// A proxy that runs.
pub struct Running {
    /// The proxy.
    pub proxy: Process,
    /// Where it listens.
    pub port: u16,
    /// What it and its app said.
    pub log: PathBuf,
    app: Option<Process>,
    forks: bool,
}

impl Subject {
    /// As in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Headers => "control + headers",
            Self::Limits => "control + headers + client timeouts",
            Self::Loir => "loir",
            Self::LoirJson => "loir, JSON access log",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Whether the program is there.
    pub fn available(self) -> bool {
        match self {
            Self::Nginx => which("nginx").is_some(),
            Self::Haproxy => which("haproxy").is_some(),
            _ => true,
        }
    }

    /// Starts it in `dir`, with an app behind it. Loir starts its own app, for the first request.
    pub async fn start(self, dir: &Path, plan: &Plan<'_>) -> Outcome<Running> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = dir.join(COUNT.fetch_add(1, Relaxed).to_string());
        fs::create_dir_all(&dir)?;
        let log = dir.join("log");
        let port = free_port()?;
        let (app, app_port) = match self {
            Self::Loir | Self::LoirJson => (None, 0),
            _ => {
                let app_port = free_port()?;
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["serve", "app", "--port", &app_port.to_string()]).args(plan.app);
                (Some(Process::start(command, &log)?), app_port)
            }
        };
        let command = self.command(&dir, plan, port, app_port)?;
        let proxy = Process::start(command, &log)?;
        listening(port).await.map_err(|error| format!("{}: {error}, see {}", self.name(), log.display()))?;
        if app_port != 0 {
            listening(app_port).await?;
        }
        Ok(Running { proxy, port, log, app, forks: self == Self::Nginx })
    }

    fn command(self, dir: &Path, plan: &Plan<'_>, port: u16, app: u16) -> Outcome<Command> {
        let threads = plan.threads;
        let here = std::env::current_exe()?;
        let (program, args) = match self {
            Self::Control | Self::Headers | Self::Limits => {
                let mut args = format!("serve control --port {port} --app {app} --threads {threads}");
                if self != Self::Control {
                    args.push_str(" --headers");
                }
                if self == Self::Limits {
                    args.push_str(" --limits");
                }
                (here, args)
            }
            Self::Loir | Self::LoirJson => {
                let file = dir.join("loir.yaml");
                let log = if self == Self::LoirJson { "json" } else { "off" };
                fs::write(&file, loir(&here, plan, port, log))?;
                (here.with_file_name("loir"), format!("run -c {}", file.display()))
            }
            Self::Nginx => {
                let file = dir.join("nginx.conf");
                fs::write(&file, nginx(dir, threads, port, app))?;
                let args = format!("-p {0} -e {0}/error.log -c {1}", dir.display(), file.display());
                (which("nginx").ok_or("no nginx")?, args)
            }
            Self::Haproxy => {
                let file = dir.join("haproxy.cfg");
                fs::write(&file, haproxy(threads, port, app))?;
                (which("haproxy").ok_or("no haproxy")?, format!("-db -f {}", file.display()))
            }
        };
        let mut command = match plan.under {
            [] => Command::new(program),
            [under, options @ ..] => {
                let mut command = Command::new(under);
                command.args(options).arg(program);
                command
            }
        };
        command.args(args.split(' '));
        Ok(command)
    }
}

impl Running {
    /// CPU time of the proxy so far, without its app.
    pub fn cpu(&self) -> Outcome<Cpu> {
        let mut cpu = Cpu::of(self.proxy.id())?;
        if self.forks {
            for worker in self.proxy.children() {
                cpu = cpu + Cpu::of(worker)?;
            }
        }
        Ok(cpu)
    }

    /// One request through it, so that its app is awake.
    pub async fn wake(&self) -> Outcome<()> {
        let answer = Client::connect(self.port).await?.get("/").await?;
        if answer.is_the_apps() {
            Ok(())
        } else {
            Err(format!("not the app's answer: {}", answer.head).into())
        }
    }

    /// Ends the proxy and its app.
    pub async fn end(self) -> Outcome<()> {
        self.proxy.end().await?;
        match self.app {
            Some(app) => app.end().await,
            None => Ok(()),
        }
    }
}

fn loir(here: &Path, plan: &Plan<'_>, port: u16, access_log: &str) -> String {
    let mut words =
        vec![here.display().to_string(), "serve".into(), "app".into(), "--port".into(), "{port}".into()];
    words.extend_from_slice(plan.app);
    format!(
        "server:
  listen: 127.0.0.1:{port}
  domain: localhost
  threads: {threads}
  access_log: {access_log}
registry:
  type: memory
defaults:
  {defaults}
providers:
  - name: bench
    type: process
    apps:
      - name: app
        command: {words:?}
",
        threads = plan.threads,
        defaults = plan.defaults,
    )
}

fn nginx(dir: &Path, threads: usize, port: u16, app: u16) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {}/{name};\n", dir.display()))
        .collect();
    format!(
        "worker_processes {threads};
daemon off;
pid {dir}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
{temporary}  access_log off;
  upstream app {{ server 127.0.0.1:{app}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000000;
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header Forwarded \"for=$remote_addr;proto=http;host=\\\"$http_host\\\"\";
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-Proto http;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header traceparent \"00-$request_id-0123456789abcdef-01\";
      proxy_set_header Via \"1.1 nginx\";
    }}
  }}
}}
",
        dir = dir.display(),
    )
}

fn haproxy(threads: usize, port: u16, app: u16) -> String {
    format!(
        "global
  nbthread {threads}
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
  http-reuse always
frontend clients
  bind 127.0.0.1:{port}
  http-request set-var(txn.id) uuid()
  http-request set-header Forwarded for=%[src];proto=http;host=\\\"%[req.hdr(host)]\\\"
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Request-Id %[var(txn.id)]
  http-request set-header traceparent 00-%[var(txn.id)]-0123456789abcdef-01
  http-request set-header Via \"1.1 haproxy\"
  default_backend apps
backend apps
  server app 127.0.0.1:{app}
"
    )
}

/// Where a program stands. Debian keeps servers where only root's PATH looks.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}
