//! An app on the simulated Scalingo: its status, its formation, its operations.

use std::time::Duration;

use tokio::time::Instant;

use super::due::{Due, Timing};

/// A process type with its desired amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    pub name: String,
    pub amount: u32,
    pub size: String,
}

/// An autoscaler of a type.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    pub id: String,
    pub container_type: String,
    pub disabled: bool,
}

/// What `Location` leads to.
#[derive(Clone, Debug)]
pub struct Operation {
    pub id: String,
    pub kind: &'static str,
    /// pending, running, done, error.
    pub status: &'static str,
    pub error: Option<String>,
    pub finished: bool,
}

/// Why a scale is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    NoChange,
    /// What it is doing, as `is booting`.
    Busy(&'static str),
    UnknownType(String),
    TooMany(String),
    Payment,
    Suspended,
}

/// One app.
#[derive(Debug)]
pub struct App {
    pub id: String,
    pub name: String,
    pub region: String,
    pub types: Vec<Type>,
    pub autoscalers: Vec<Autoscaler>,
    pub operations: Vec<Operation>,
    pub timing: Timing,
    /// new, running, stopped, scaling, restarting, booting, crashed.
    pub status: &'static str,
    pub status_word: Option<String>,
    pub deploying: bool,
    /// Whether containers of any type run.
    pub up: bool,
    /// Whether the router finds a web container.
    pub serves: bool,
    /// Types with containers on their way, for `/ps`.
    pub booting: bool,
    pub run: usize,
    pub starts: usize,
    pub stops: usize,
    pub fail_boots: usize,
    pub hang_operations: usize,
    /// When it was deployed last; two days ago and more unless a deployment has ended since.
    pub deployed: Option<jiff::Timestamp>,
    pub payment: bool,
    pub suspended: bool,
    pub one_off: bool,
    pub force_https: bool,
    pub sticky: bool,
    pub url: Option<String>,
    pub without_base_url: bool,
    pub due: Due<Event>,
}

/// What happens later.
#[derive(Clone, Debug)]
pub enum Event {
    /// The operation leaves `pending`.
    Begins(String),
    /// The router finds the web container.
    Serves,
    /// The operation ends well.
    Done(String),
    /// The operation ends with containers that do not boot.
    Fails(String),
}

impl App {
    /// Takes all that is due.
    pub fn settle(&mut self, now: Instant) {
        while let Some((_, event)) = self.due.next(now) {
            match event {
                Event::Begins(id) => self.operation(&id).status = "running",
                Event::Serves => {
                    self.serves = true;
                    self.run += 1;
                }
                Event::Done(id) => {
                    self.end(&id, "done", None);
                    self.booting = false;
                    self.status = self.settled();
                }
                Event::Fails(id) => {
                    self.end(&id, "error", Some("container web-1 failed to restart".into()));
                    (self.up, self.serves, self.booting) = (false, false, false);
                    self.status = "crashed";
                }
            }
        }
    }

    fn operation(&mut self, id: &str) -> &mut Operation {
        self.operations.iter_mut().find(|operation| operation.id == id).expect("an operation that began")
    }

    fn end(&mut self, id: &str, status: &'static str, error: Option<String>) {
        let operation = self.operation(id);
        (operation.status, operation.error, operation.finished) = (status, error, true);
    }

    /// What goes on ends now.
    fn end_all(&mut self, status: &'static str, error: Option<&str>) {
        self.due.clear();
        for operation in self.operations.iter_mut().filter(|one| !one.finished) {
            (operation.status, operation.error, operation.finished) =
                (status, error.map(str::to_owned), true);
        }
    }

    /// The status when nothing goes on.
    fn settled(&self) -> &'static str {
        match (self.deploying, self.up) {
            (true, _) => "booting",
            (_, true) => "running",
            _ => "stopped",
        }
    }

    /// The desired amount of a type.
    pub fn amount(&self, name: &str) -> u32 {
        self.types.iter().find(|one| one.name == name).map_or(0, |one| one.amount)
    }

    /// What it is doing that allows no other operation.
    fn busy(&self) -> Option<&'static str> {
        match self.status {
            "scaling" => Some("is scaling"),
            "restarting" => Some("is restarting"),
            "booting" => Some("is booting"),
            _ => None,
        }
    }

    /// The request of the API: these types to these amounts and sizes. `Ok(None)`: stored only, never deployed.
    pub fn scale(&mut self, wanted: &[(String, u32, Option<String>)]) -> Result<Option<String>, Refused> {
        if self.payment {
            return Err(Refused::Payment);
        }
        if self.suspended {
            return Err(Refused::Suspended);
        }
        if self.status == "new" {
            for (name, amount, size) in wanted {
                self.types.retain(|one| one.name != *name);
                let size = size.clone().unwrap_or_else(|| "M".into());
                self.types.push(Type { name: name.clone(), amount: *amount, size });
            }
            return Ok(None);
        }
        if let Some(doing) = self.busy() {
            return Err(Refused::Busy(doing));
        }
        let mut target = self.types.clone();
        for (name, amount, size) in wanted {
            let Some(one) = target.iter_mut().find(|one| one.name == *name) else {
                return Err(Refused::UnknownType(name.clone()));
            };
            if *amount > 10 {
                return Err(Refused::TooMany(name.clone()));
            }
            one.amount = *amount;
            if let Some(size) = size.as_ref().filter(|size| !size.is_empty()) {
                one.size = size.clone();
            }
        }
        if target == self.types {
            return Err(Refused::NoChange);
        }
        // Whoever scales a type by hand takes it away from its autoscaler.
        for autoscaler in &mut self.autoscalers {
            autoscaler.disabled |= wanted.iter().any(|(name, ..)| *name == autoscaler.container_type);
        }
        Ok(Some(self.become_formation(target)))
    }

    /// Goes to another formation, whatever it is doing; returns the operation.
    pub fn become_formation(&mut self, target: Vec<Type>) -> String {
        self.types = target;
        let starting = !self.up && self.types.iter().any(|one| one.amount > 0);
        let stopping = self.up && self.types.iter().all(|one| one.amount == 0);
        self.starts += usize::from(starting);
        self.stops += usize::from(stopping);
        self.up = (self.up || starting) && !stopping;
        self.end_all("done", None);
        let grows = self.up && (starting || (self.amount("web") > 0 && !self.serves));
        if self.amount("web") == 0 {
            self.serves = false;
        }
        self.begin("scale", "scaling", if stopping || !self.up { None } else { Some(grows) })
    }

    /// A restart: of crashed containers a start, of running ones a change without a gap.
    pub fn restart(&mut self) -> Result<String, Refused> {
        if let Some(doing) = self.busy() {
            return Err(Refused::Busy(doing));
        }
        if self.status == "crashed" {
            self.starts += 1;
            self.up = true;
        }
        let dead = self.up && !self.serves;
        Ok(self.begin("restart", "restarting", Some(dead)))
    }

    /// Begins an operation. `boots`: `None` if containers only end, else whether a web container is awaited.
    fn begin(&mut self, kind: &'static str, status: &'static str, boots: Option<bool>) -> String {
        let id = format!("67{:022x}", fastrand::u64(..));
        self.operations.push(Operation {
            id: id.clone(),
            kind,
            status: "pending",
            error: None,
            finished: false,
        });
        self.status = status;
        self.booting = boots == Some(true);
        let web = self.amount("web") > 0;
        let length = if boots.is_none() { self.timing.stop } else { self.timing.reported() };
        self.due.after(length / 10, Event::Begins(id.clone()));
        let fails = self.booting && self.fail_boots > 0;
        let hangs = self.hang_operations > 0;
        self.fail_boots -= usize::from(fails);
        self.hang_operations -= usize::from(hangs);
        if self.booting && web && !fails && !hangs {
            self.due.after(self.timing.boot, Event::Serves);
        }
        match (hangs, fails) {
            (true, _) => {}
            (_, true) => self.due.after(self.timing.boot, Event::Fails(id.clone())),
            _ => self.due.after(length, Event::Done(id.clone())),
        }
        id
    }

    /// The operation that hangs goes on.
    pub fn let_go(&mut self) {
        let Some(id) = self.operations.iter().find(|one| !one.finished).map(|one| one.id.clone()) else {
            return;
        };
        if self.booting && self.amount("web") > 0 {
            self.due.after(Duration::ZERO, Event::Serves);
        }
        self.due.after(Duration::ZERO, Event::Done(id));
    }

    /// A deployment begins: an operation that was going on ends well at once.
    pub fn begin_deployment(&mut self) {
        self.end_all("done", None);
        self.deploying = true;
        self.status = "booting";
    }

    /// The deployment succeeded: containers of the new version run where amounts say so.
    pub fn end_deployment(&mut self) {
        self.deploying = false;
        self.deployed = Some(jiff::Timestamp::now());
        if self.types.is_empty() {
            self.types.push(Type { name: "web".into(), amount: 1, size: "M".into() });
        }
        self.up = self.types.iter().any(|one| one.amount > 0);
        self.serves = self.up && self.amount("web") > 0;
        self.run += usize::from(self.serves);
        self.status = self.settled();
    }

    /// Its containers are dead and the platform gave up. An operation that was going on ends with an error.
    pub fn crash(&mut self) {
        self.end_all("error", Some("container web-1 failed to restart"));
        (self.up, self.serves, self.booting) = (false, false, false);
        self.status = "crashed";
    }

    /// What the API says.
    pub fn shown_status(&self) -> &str {
        self.status_word.as_deref().unwrap_or(self.status)
    }
}
