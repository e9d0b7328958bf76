//! An app on the simulated Heroku: its formation, which is wanted, and its dynos, which are there.

use tokio::time::Instant;

use super::{
    api::uuid,
    due::{Due, Timing},
};

/// A process type with its desired quantity.
#[derive(Clone, Debug)]
pub struct Type {
    pub id: String,
    pub name: String,
    pub quantity: u32,
    pub size: String,
}

impl Type {
    pub fn new(name: &str, quantity: u32) -> Self {
        Self { id: uuid(), name: name.into(), quantity, size: "Standard-1X".into() }
    }
}

/// A dyno; `run` and `release` dynos too.
#[derive(Clone, Debug)]
pub struct Dyno {
    pub id: String,
    pub kind: String,
    pub index: u32,
    /// crashed, down, idle, starting, up.
    pub state: &'static str,
    /// Whether the API lists it: it does so a little after it was asked for.
    pub listed: bool,
}

/// One app.
#[derive(Debug)]
pub struct App {
    pub id: String,
    pub name: String,
    /// The end of its host name that nobody can guess.
    pub suffix: String,
    pub types: Vec<Type>,
    pub dynos: Vec<Dyno>,
    pub timing: Timing,
    pub state_word: Option<String>,
    pub serves: bool,
    pub run: usize,
    pub starts: usize,
    pub stops: usize,
    pub eco_wakes: usize,
    pub fail_boots: usize,
    pub version: u32,
    pub deploying: bool,
    /// When it was released last; two days ago and more unless a deployment has ended since.
    pub released: Option<jiff::Timestamp>,
    pub maintenance: bool,
    pub quota_exhausted: bool,
    pub without_web_url: bool,
    pub internal_routing: bool,
    pub generation: &'static str,
    pub stage: Option<String>,
    pub team: Option<String>,
    /// Only the team's list has it.
    pub team_list_only: bool,
    /// Status, id: what a change of the formation is refused with.
    pub blocked: Option<(u16, &'static str)>,
    pub due: Due<Event>,
}

/// What happens later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The API lists the dyno, as starting.
    Listed(String),
    /// The API says up.
    Up(String),
    /// The dyno could not boot.
    Crashed(String),
    /// The dyno has ended.
    Gone(String),
    /// The router finds a web dyno.
    Serves,
}

impl App {
    /// Takes all that is due.
    pub fn settle(&mut self, now: Instant) {
        while let Some((_, event)) = self.due.next(now) {
            match event {
                Event::Listed(id) => self.dyno(&id, |dyno| dyno.listed = true),
                Event::Up(id) => self.dyno(&id, |dyno| dyno.state = "up"),
                Event::Crashed(id) => self.dyno(&id, |dyno| dyno.state = "crashed"),
                Event::Gone(id) => self.dynos.retain(|dyno| dyno.id != id),
                Event::Serves => {
                    self.serves = true;
                    self.run += 1;
                }
            }
        }
    }

    fn dyno(&mut self, id: &str, change: impl FnOnce(&mut Dyno)) {
        if let Some(dyno) = self.dynos.iter_mut().find(|dyno| dyno.id == id) {
            change(dyno);
        }
    }

    /// The desired quantity of a type.
    pub fn quantity(&self, name: &str) -> u32 {
        self.types.iter().find(|one| one.name == name).map_or(0, |one| one.quantity)
    }

    fn total(&self) -> u32 {
        self.types.iter().map(|one| one.quantity).sum()
    }

    /// The dynos of a type that are meant to stay.
    fn lasting(&self, kind: &str) -> Vec<String> {
        let lasting = self.dynos.iter().filter(|dyno| dyno.kind == kind && dyno.state != "down");
        lasting.map(|dyno| dyno.id.clone()).collect()
    }

    /// Goes to other quantities; repeated with the same ones, it does nothing.
    pub fn scale(&mut self, target: Vec<Type>) {
        let before = self.total();
        self.types = target;
        let after = self.total();
        self.starts += usize::from(before == 0 && after > 0);
        self.stops += usize::from(before > 0 && after == 0);
        if !self.deploying {
            self.follow();
        }
    }

    /// Dynos begin and end until they are what the formation says.
    fn follow(&mut self) {
        for one in self.types.clone() {
            let there = self.lasting(&one.name);
            let wanted = one.quantity as usize;
            for index in there.len()..wanted {
                self.begin_dyno(&one.name, index as u32 + 1);
            }
            for id in there.iter().skip(wanted) {
                self.end_dyno(id);
            }
            if one.name == "web" {
                self.follow_web(there.is_empty() && wanted > 0);
            }
        }
    }

    fn follow_web(&mut self, begins: bool) {
        if self.quantity("web") == 0 {
            self.serves = false;
            self.due.keep(|event| *event != Event::Serves);
        } else if begins {
            self.await_boot();
        }
    }

    /// The router finds the web dynos after their boot, unless that fails.
    fn await_boot(&mut self) {
        self.due.keep(|event| *event != Event::Serves);
        if self.fail_boots == 0 {
            self.due.after(self.timing.boot, Event::Serves);
            return;
        }
        self.fail_boots -= 1;
        for id in self.lasting("web") {
            self.due.keep(|event| *event != Event::Up(id.clone()));
            self.due.after(self.timing.boot, Event::Crashed(id));
        }
    }

    fn begin_dyno(&mut self, kind: &str, index: u32) {
        let dyno = Dyno { id: uuid(), kind: kind.into(), index, state: "starting", listed: false };
        self.due.after(self.timing.reported() / 10, Event::Listed(dyno.id.clone()));
        self.due.after(self.timing.reported(), Event::Up(dyno.id.clone()));
        self.dynos.push(dyno);
    }

    fn end_dyno(&mut self, id: &str) {
        self.due.keep(|event| *event != Event::Up(id.into()) && *event != Event::Crashed(id.into()));
        self.dyno(id, |dyno| dyno.state = "down");
        self.due.after(self.timing.stop, Event::Gone(id.into()));
    }

    /// Its dynos as they are with this formation when nothing goes on.
    pub fn be_settled(&mut self, state: &'static str) {
        for one in &self.types {
            for index in 1..=one.quantity {
                let (id, kind) = (uuid(), one.name.clone());
                self.dynos.push(Dyno { id, kind, index, state, listed: true });
            }
        }
        self.serves = state == "up" && self.quantity("web") > 0;
        self.run = usize::from(self.serves);
    }

    /// Its dynos boot again: a restart, the daily cycle, an Eco dyno that is woken, the end of a deployment.
    pub fn reboot(&mut self) {
        self.due.clear();
        self.dynos.retain(|dyno| dyno.state != "down");
        self.serves = false;
        let reported = self.timing.reported();
        for dyno in self.dynos.iter_mut().filter(|dyno| dyno.kind != "run" && dyno.kind != "release") {
            (dyno.state, dyno.listed) = ("starting", true);
            self.due.after(reported, Event::Up(dyno.id.clone()));
        }
        if self.quantity("web") > 0 {
            self.await_boot();
        }
    }

    /// A release is pending: dynos that are asked for meanwhile wait for its end.
    pub fn begin_deployment(&mut self) {
        self.deploying = true;
        let id = uuid();
        self.dynos.push(Dyno {
            id,
            kind: "release".into(),
            index: self.version + 1,
            state: "up",
            listed: true,
        });
    }

    /// The release succeeded: dynos are replaced by those of the new one.
    pub fn end_deployment(&mut self) {
        self.deploying = false;
        self.released = Some(jiff::Timestamp::now());
        self.version += 1;
        self.dynos.retain(|dyno| dyno.kind != "release");
        if self.types.is_empty() {
            self.types.push(Type::new("web", 1));
        }
        let served = self.serves;
        self.follow();
        if served && self.quantity("web") > 0 {
            self.run += 1;
        }
    }

    /// All its dynos are dead.
    pub fn crash(&mut self) {
        self.due.clear();
        self.dynos.retain(|dyno| dyno.state != "down");
        for dyno in self.dynos.iter_mut().filter(|dyno| dyno.kind != "run" && dyno.kind != "release") {
            (dyno.state, dyno.listed) = ("crashed", true);
        }
        self.serves = false;
    }

    /// Whether its web dynos are all in this state.
    pub fn web_is(&self, state: &str) -> bool {
        let mut web = self.dynos.iter().filter(|dyno| dyno.kind == "web" && dyno.state != "down").peekable();
        web.peek().is_some() && web.all(|dyno| dyno.state == state)
    }

    /// What the API says of a dyno.
    pub fn shown_state<'a>(&'a self, dyno: &'a Dyno) -> &'a str {
        self.state_word.as_deref().unwrap_or(dyno.state)
    }
}
