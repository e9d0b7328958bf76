//! A gateway in front of simulated platforms.

use std::{fmt::Write as _, net::TcpListener, sync::Arc};

use loir::{
    app::AppId,
    clock::Clock,
    config::Environment,
    lifecycle::{ManagedApp, Slept},
    provider::{AppInfo, Provider, ProviderError},
    server::{Gear, Running, Source, load},
};

use super::{Gateway, client};

/// Asks a provider for its apps and learns them, as a gateway does.
pub async fn apps_of(provider: &Arc<dyn Provider>) -> Result<Vec<AppInfo>, ProviderError> {
    provider.learn(&provider.list().await?)
}

/// How a gateway in front of platforms is to be.
pub struct Setup {
    entries: Vec<String>,
    top: String,
    server: String,
    defaults: String,
    clock: Clock,
}

/// A gateway with these provider entries (YAML list items), idle for an hour before apps sleep, unless told otherwise.
pub fn gateway_for(entries: impl IntoIterator<Item = String>) -> Setup {
    Setup {
        entries: entries.into_iter().collect(),
        top: String::new(),
        server: String::new(),
        defaults: String::new(),
        clock: Clock::system(),
    }
}

impl Setup {
    /// Further lines at the top level.
    pub fn top(mut self, lines: &str) -> Self {
        writeln!(self.top, "{lines}").unwrap();
        self
    }

    /// A further line under `server`.
    pub fn server(mut self, line: &str) -> Self {
        writeln!(self.server, "  {line}").unwrap();
        self
    }

    /// A further line under `defaults`.
    pub fn defaults(mut self, line: &str) -> Self {
        writeln!(self.defaults, "  {line}").unwrap();
        self
    }

    /// A further line in the last entry.
    pub fn option(mut self, line: &str) -> Self {
        let entry = self.entries.last_mut().unwrap();
        let end = entry.trim_end().len();
        entry.truncate(end);
        write!(entry, "\n    {}\n", line.replace('\n', "\n    ")).unwrap();
        self
    }

    /// With a clock that the test moves.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// The whole configuration.
    pub fn yaml(&self, folder: &std::path::Path, listen: std::net::SocketAddr) -> String {
        let idle = if self.defaults.contains("idle_timeout") { "" } else { "  idle_timeout: 1h\n" };
        let entries: String = self.entries.iter().map(|entry| format!("{}\n", entry.trim_end())).collect();
        format!(
            "server:\n  listen: {listen}\n  domain: test\n{}state_dir: {:?}\ndefaults:\n{idle}{}{}providers:\n{entries}",
            self.server,
            folder.join("state"),
            self.defaults,
            self.top
        )
    }

    /// Starts it in this process, on a free port.
    pub async fn start(&self) -> Gateway {
        self.start_in(Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// Starts it with what an earlier one left in `folder`.
    pub async fn start_in(&self, folder: Arc<tempfile::TempDir>) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gear = Gear {
            clock: self.clock.clone(),
            edge: tokio::runtime::Handle::current(),
            program: Some(env!("CARGO_BIN_EXE_loir").into()),
        };
        let text = self.yaml(folder.path(), address);
        let source = Source { name: "test.yaml".into(), text: text.clone() };
        let plan =
            load(source, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let running = Running::start(listener, plan, gear).await.unwrap();
        Gateway { address, running, folder, client: client() }
    }
}

impl Gateway {
    /// What the gateway itself knows of an app at a provider entry.
    pub fn app_at(&self, provider: &str, name: &str) -> Arc<ManagedApp> {
        self.find(provider, name).unwrap_or_else(|| panic!("{provider}/{name} is not known"))
    }

    /// The same, if it knows it.
    pub fn find(&self, provider: &str, name: &str) -> Option<Arc<ManagedApp>> {
        self.running.lifecycle().apps().get(&AppId::new(provider, name)).cloned()
    }

    /// Stops the app now. A request counts a moment longer than its answer takes to arrive.
    pub async fn stop_at(&self, provider: &str, name: &str) -> Slept {
        let app = self.app_at(provider, name);
        let settled = async {
            while app.in_flight() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), settled).await;
        self.running.lifecycle().sleep(&app, std::time::Duration::ZERO).await
    }

    /// Asks every provider for its apps, as a reload does.
    pub async fn list_again(&mut self, setup: &Setup) {
        let text = setup.yaml(self.folder.path(), self.address);
        let source = Source { name: "test.yaml".into(), text };
        self.running.reload(load(source, &Environment::default()).unwrap()).await;
    }
}
