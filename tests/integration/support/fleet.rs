//! Several gateways, each a process of its own, in front of one simulated platform.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::RequestBuilder;
use serde_json::Value;

use super::{
    client,
    leash::{Leash, lasting_port},
    paas::{Setup, gateway_for},
    redis::Redis,
};
use crate::simulators::{Order, Platform, Scalingo, Visit};

/// The provider entry of a fleet.
pub const ENTRY: &str = "cloud";

/// How a fleet is to be.
pub struct Plan {
    size: usize,
    setup: Option<Setup>,
    registry: String,
    platform: Scalingo,
    env: Vec<Vec<(String, String)>>,
    first_leads: bool,
}

/// So many gateways in front of one Scalingo, whose quota is no matter; each idle for an hour before apps sleep, unless told
/// otherwise. Without a registry every one is on its own.
pub async fn fleet(size: usize) -> Plan {
    let platform = Scalingo::start().await;
    let setup = gateway_for([platform.entry(ENTRY)]).option("budget: { requests_per_minute: 60000 }");
    Plan {
        size,
        setup: Some(setup),
        registry: String::new(),
        platform,
        env: vec![Vec::new(); size],
        first_leads: false,
    }
}

impl Plan {
    fn change(mut self, change: impl FnOnce(Setup) -> Setup) -> Self {
        self.setup = self.setup.take().map(change);
        self
    }

    /// Apps of these names, stopped, each with one web container when it runs.
    pub fn apps<'n>(self, names: impl IntoIterator<Item = &'n str>) -> Self {
        names.into_iter().for_each(|name| self.platform.add(name, &[("web", 1)], false));
        self
    }

    /// Apps of these names, running.
    pub fn running<'n>(self, names: impl IntoIterator<Item = &'n str>) -> Self {
        names.into_iter().for_each(|name| self.platform.add(name, &[("web", 1)], true));
        self
    }

    /// An app with this formation, running.
    pub fn app(self, name: &str, formation: &[(&str, u32)]) -> Self {
        self.platform.add(name, formation, true);
        self
    }

    /// A further line under `defaults`.
    pub fn defaults(self, line: &str) -> Self {
        self.change(|setup| setup.defaults(line))
    }

    /// A further line under `server`.
    pub fn server(self, line: &str) -> Self {
        self.change(|setup| setup.server(line))
    }

    /// A further line in the provider's entry.
    pub fn option(self, line: &str) -> Self {
        self.change(|setup| setup.option(line))
    }

    /// They share this Redis, under the prefix `loir`.
    pub fn sharing(self, redis: &Redis) -> Self {
        self.sharing_at(&redis.url())
    }

    /// Under another prefix than `loir`.
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.registry = self.registry.replace("prefix: loir", &format!("prefix: {prefix}"));
        self
    }

    /// They share the Redis at this address, be it there or not.
    pub fn sharing_at(mut self, url: &str) -> Self {
        writeln!(self.registry, "registry:\n  type: redis\n  url: {url:?}\n  prefix: loir").unwrap();
        self
    }

    /// A further line under `registry`, after `sharing`.
    pub fn registry(mut self, line: &str) -> Self {
        writeln!(self.registry, "  {line}").unwrap();
        self
    }

    /// The others begin when the first one leads.
    pub fn first_leads(mut self) -> Self {
        self.first_leads = true;
        self
    }

    /// A variable for one of them.
    pub fn env(mut self, of: usize, name: &str, value: &str) -> Self {
        self.env[of].push((name.into(), value.into()));
        self
    }

    /// The simulated platform, to set it up.
    pub fn platform(&self) -> &Scalingo {
        &self.platform
    }

    /// Starts them all, and waits until each of them listens.
    pub async fn start(mut self) -> Fleet {
        let registry = std::mem::take(&mut self.registry);
        let setup = self.setup.take().unwrap();
        let setup = if registry.is_empty() { setup } else { setup.top(registry.trim_end()) };
        let folder = tempfile::tempdir().unwrap();
        let mut fleet = Fleet { members: Vec::new(), platform: self.platform, folder };
        for number in 0..self.size {
            let home = fleet.folder.path().join(number.to_string());
            std::fs::create_dir(&home).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], lasting_port()));
            std::fs::write(home.join("loir.yaml"), setup.yaml(&home, address)).unwrap();
            let env = self.env[number].clone();
            let mut member = Member { env, home, address, leash: None, client: client() };
            member.begin();
            fleet.members.push(member);
            if self.first_leads && number == 0 {
                fleet.says(0, "leads the fleet").await;
            }
        }
        for number in 0..fleet.size() {
            fleet.listens(number).await;
        }
        fleet
    }
}

/// One gateway.
struct Member {
    env: Vec<(String, String)>,
    home: PathBuf,
    address: SocketAddr,
    leash: Option<Leash>,
    client: reqwest::Client,
}

impl Member {
    fn begin(&mut self) {
        let config = self.home.join("loir.yaml");
        let args = ["run", "-c", config.to_str().unwrap()];
        let env: Vec<_> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.leash = Some(Leash::hold(env!("CARGO_BIN_EXE_loir"), &args, &env, &self.home.join("loir.log")));
    }

    fn leash(&self) -> &Leash {
        self.leash.as_ref().expect("a gateway that runs")
    }
}

/// Running gateways. Killed when dropped.
pub struct Fleet {
    members: Vec<Member>,
    pub platform: Scalingo,
    folder: tempfile::TempDir,
}

impl Fleet {
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Where one of them listens.
    pub fn address(&self, of: usize) -> SocketAddr {
        self.members[of].address
    }

    /// A request to one of them, as a program sends it.
    pub fn request(&self, of: usize, method: &str, app: &str, path: &str) -> RequestBuilder {
        let member = &self.members[of];
        let url = format!("http://{}{path}", member.address);
        member.client.request(method.parse().unwrap(), url).header("host", format!("{app}.test"))
    }

    pub fn get(&self, of: usize, app: &str, path: &str) -> RequestBuilder {
        self.request(of, "GET", app, path)
    }

    /// The status of the answer to a GET, 0 if there was none.
    pub async fn status(&self, of: usize, app: &str, path: &str) -> u16 {
        status(self.get(of, app, path)).await
    }

    /// What one of them says of an app at `/.loir/status`.
    pub async fn tells(&self, of: usize, app: &str) -> Value {
        let answer = self.get(of, app, "/.loir/status").header("accept", "application/json").send().await;
        match answer {
            Ok(answer) => serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// Whether all that run say of an app that it is in this state.
    pub async fn agrees(&self, app: &str, state: &str) -> bool {
        for number in 0..self.size() {
            if self.runs(number) && self.tells(number, app).await["state"] != state {
                return false;
            }
        }
        true
    }

    /// Whether it was neither ended nor killed.
    pub fn runs(&self, of: usize) -> bool {
        self.members[of].leash.is_some()
    }

    /// Kills one as no program can prevent.
    pub async fn kill(&mut self, of: usize) {
        if let Some(leash) = self.members[of].leash.take() {
            leash.kill().await;
        }
    }

    /// Waits until one has died by itself.
    pub async fn dies(&mut self, of: usize) {
        let leash = self.members[of].leash.take().expect("a gateway that runs");
        crate::eventually!(!leash.is_alive(), "gateway {of} dies, after\n{}", self.logs());
    }

    /// Tells one to end and waits until it has.
    pub async fn end(&mut self, of: usize) {
        if let Some(leash) = self.members[of].leash.take() {
            leash.signal(nix::sys::signal::Signal::SIGTERM);
            crate::eventually!(!leash.is_alive(), "it ends, after\n{}", self.log(of));
        }
    }

    /// One stands still until it is thawed.
    pub fn freeze(&self, of: usize) {
        self.members[of].leash().freeze();
    }

    pub fn thaw(&self, of: usize) {
        self.members[of].leash().thaw();
    }

    /// Starts one again, with its files and where it listened.
    pub async fn restart(&mut self, of: usize) {
        self.kill(of).await;
        self.members[of].begin();
        self.listens(of).await;
    }

    /// Waits until it accepts connections.
    pub async fn listens(&self, of: usize) {
        crate::eventually!(
            {
                assert!(
                    self.members[of].leash().is_alive(),
                    "gateway {of} has ended, after\n{}",
                    self.log(of)
                );
                tokio::net::TcpStream::connect(self.address(of)).await.is_ok()
            },
            "gateway {of} listens, after\n{}",
            self.log(of)
        );
    }

    /// The files of one of them.
    pub fn home(&self, of: usize) -> &Path {
        &self.members[of].home
    }

    /// What one of them has said so far.
    pub fn log(&self, of: usize) -> String {
        std::fs::read_to_string(self.home(of).join("loir.log")).unwrap_or_default()
    }

    /// What all of them have said so far, for the text of a failure.
    pub fn logs(&self) -> String {
        let one = |of| format!("--- gateway {of}\n{}", self.log(of));
        (0..self.size()).map(one).collect()
    }

    /// Waits until one of them has said so.
    pub async fn says(&self, of: usize, text: &str) {
        crate::eventually!(self.log(of).contains(text), "{of} says {text:?}, after\n{}", self.log(of));
    }

    /// The calls that would start the app, whatever was answered.
    pub fn starts_asked(&self, app: &str) -> Vec<Order> {
        self.orders(|order| order.start && order.app == app)
    }

    /// Calls that would start the app and came while an earlier start had not ended.
    pub fn starts_in_flight(&self, app: &str) -> usize {
        self.starts_asked(app).iter().filter(|order| order.booting).count()
    }

    /// The calls that would stop an app.
    pub fn stops_asked(&self) -> Vec<Order> {
        self.orders(|order| !order.start)
    }

    /// The calls that would stop an app which had something in flight.
    pub fn busy_stops(&self) -> Vec<Order> {
        self.orders(|order| !order.start && order.in_flight > 0)
    }

    fn orders(&self, which: impl Fn(&Order) -> bool) -> Vec<Order> {
        self.platform.orders().into_iter().filter(which).collect()
    }

    /// Requests to a path that begins so which met the router's own page, since their app did not run.
    pub fn turned_away(&self, path: &str) -> Vec<Visit> {
        let visits = self.platform.visits().into_iter();
        visits.filter(|visit| visit.app.is_none() && visit.path.starts_with(path)).collect()
    }
}

/// The status of an answer whose body came whole, 0 if it did not.
pub async fn status(request: RequestBuilder) -> u16 {
    let Ok(answer) = request.send().await else { return 0 };
    let status = answer.status().as_u16();
    if answer.bytes().await.is_ok() { status } else { 0 }
}

/// A number that an environment variable may change: how long or how often a story is told.
pub fn knob(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The same as a span of seconds.
pub fn seconds(name: &str, usual: u64) -> Duration {
    Duration::from_secs(knob(name, usual))
}
