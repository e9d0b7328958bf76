//! An app on the simulated Clever Cloud: its state, which is wanted, its deployments and its instances.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    api::uuid,
    due::{Due, Timing, earlier},
};

/// How a deployment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `OK`.
    Ok,
    /// `FAIL`: the app stays `WANTS_TO_BE_UP`, or up as before.
    Fail,
    /// Its row goes away, and one with action `CANCEL` and another uuid comes.
    Cancelled,
    /// `WIP` for ever.
    Never,
}

/// What a start does while a deployment is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondStart {
    /// Cancels it and begins another.
    Redeploys,
    /// Is answered 409.
    Conflicts,
}

/// A row of the list of deployments.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub number: u64,
    pub uuid: String,
    /// WIP, OK, FAIL, CANCELLED.
    pub state: &'static str,
    /// DEPLOY, UNDEPLOY, CANCEL.
    pub action: &'static str,
    pub cause: &'static str,
    /// Milliseconds since 1970.
    pub date: u64,
    /// Not in the list before, and by its id only a little later.
    pub listed_at: Instant,
}

/// An instance that is not deleted.
#[derive(Clone, Debug)]
pub struct Instance {
    pub id: String,
    pub number: u32,
    pub deployment: String,
    /// BOOTING, STARTING, DEPLOYING, READY, UP, STOPPING.
    pub state: &'static str,
}

/// Why a start is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    NeverDeployed,
    Blocked,
    Conflict,
}

/// One app.
#[derive(Debug)]
pub struct App {
    pub id: String,
    pub name: String,
    /// `orga_...` or `user_...`.
    pub owner: String,
    pub zone: String,
    pub instances_wanted: u32,
    pub flavor: String,
    pub lifetime: &'static str,
    pub archived: bool,
    pub homogeneous: bool,
    pub force_https: bool,
    pub never_deployed: bool,
    /// As the API says them; a host without port is a custom domain.
    pub vhosts: Vec<String>,
    pub favourite: Option<String>,
    pub state: &'static str,
    pub state_word: Option<String>,
    pub deployments: Vec<Deployment>,
    pub instances: Vec<Instance>,
    pub timing: Timing,
    /// How long the API still says the old state after a start or stop.
    pub state_lag: Duration,
    pub serves: bool,
    pub run: usize,
    pub starts: usize,
    pub stops: usize,
    pub second_starts: usize,
    pub endings: VecDeque<Ending>,
    pub second_start: SecondStart,
    pub due: Due<Event>,
}

/// What happens later.
#[derive(Clone, Debug)]
pub enum Event {
    State(&'static str),
    /// The instances of a deployment are in this state.
    Instances(String, &'static str),
    /// The router finds the instances of a deployment.
    Serves,
    Ends(String, Ending),
    /// Instances that were stopping are gone.
    Gone,
}

impl App {
    /// Takes all that is due.
    pub fn settle(&mut self, now: Instant) {
        while let Some((_, event)) = self.due.next(now) {
            match event {
                Event::State(state) => self.state = state,
                Event::Instances(deployment, "BOOTING") => self.boot_instances(&deployment, "BOOTING"),
                Event::Instances(deployment, state) => {
                    let own = self.instances.iter_mut().filter(|one| one.deployment == deployment);
                    own.for_each(|one| one.state = state);
                }
                Event::Serves => {
                    self.serves = true;
                    self.run += 1;
                }
                Event::Ends(deployment, ending) => self.end(&deployment, ending),
                Event::Gone => self.instances.retain(|one| one.state != "STOPPING"),
            }
        }
    }

    /// Instances of a deployment, as many as the app has.
    pub fn boot_instances(&mut self, deployment: &str, state: &'static str) {
        let deployment = deployment.to_owned();
        let one = |number| Instance { id: uuid(), number, deployment: deployment.clone(), state };
        self.instances.extend((0..self.instances_wanted).map(one));
    }

    /// So much time passes at once.
    pub fn pass(&mut self, time: Duration) {
        self.due.pass(time);
        for row in &mut self.deployments {
            row.listed_at = earlier(row.listed_at, time);
        }
    }

    fn end(&mut self, deployment: &str, ending: Ending) {
        let Some(row) = self.deployments.iter_mut().find(|row| row.uuid == deployment) else { return };
        match ending {
            Ending::Ok => {
                row.state = "OK";
                self.state = "SHOULD_BE_UP";
                // The instances of the version before make room.
                self.instances.retain(|one| one.deployment == deployment);
            }
            Ending::Fail => {
                row.state = "FAIL";
                self.instances.retain(|one| one.deployment != deployment);
            }
            Ending::Cancelled => {
                self.deployments.retain(|row| row.uuid != deployment);
                self.instances.retain(|one| one.deployment != deployment);
                self.row("OK", "CANCEL", "Console", Duration::ZERO);
            }
            Ending::Never => {}
        }
    }

    /// A new row, which the list shows after a while.
    pub fn row(
        &mut self,
        state: &'static str,
        action: &'static str,
        cause: &'static str,
        lag: Duration,
    ) -> String {
        let number = self.deployments.iter().map(|row| row.number).max().unwrap_or(0) + 1;
        let uuid = format!("deployment_{}", uuid());
        let listed_at = Instant::now() + lag;
        let date = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
        self.deployments.push(Deployment {
            number,
            uuid: uuid.clone(),
            state,
            action,
            cause,
            date,
            listed_at,
        });
        uuid
    }

    fn wip(&mut self) -> Option<&mut Deployment> {
        self.deployments.iter_mut().find(|row| row.state == "WIP")
    }

    pub fn is_blocked(&self) -> bool {
        ["MODERATED", "DEFAULT_OF_PAYMENT"].contains(&self.state)
    }

    /// The request of the API; also a redeployment. Returns the deployment.
    pub fn start(&mut self) -> Result<String, Refused> {
        if self.never_deployed {
            return Err(Refused::NeverDeployed);
        }
        if self.is_blocked() {
            return Err(Refused::Blocked);
        }
        let second = self.wip().is_some();
        if second && self.second_start == SecondStart::Conflicts {
            self.second_starts += 1;
            return Err(Refused::Conflict);
        }
        let starting = !second && !self.is_up();
        self.second_starts += usize::from(!starting);
        self.starts += usize::from(starting);
        self.abandon();
        let deployment = self.row("WIP", "DEPLOY", "Console", self.state_lag);
        self.serves &= !self.homogeneous;
        if self.state != "SHOULD_BE_UP" {
            self.due.after(self.state_lag, Event::State("WANTS_TO_BE_UP"));
        }
        self.boot(&deployment);
        Ok(deployment)
    }

    /// Whether instances serve, or would if they had not crashed.
    fn is_up(&self) -> bool {
        self.serves || self.instances.iter().any(|one| one.state == "UP")
    }

    /// What was going on is cut short.
    fn abandon(&mut self) {
        self.due.clear();
        if let Some(row) = self.wip() {
            row.state = "CANCELLED";
            let uuid = row.uuid.clone();
            self.instances.retain(|one| one.deployment != uuid);
        }
        self.instances.retain(|one| one.state != "STOPPING");
    }

    fn boot(&mut self, deployment: &str) {
        let ending = self.endings.pop_front().unwrap_or(Ending::Ok);
        let reported = self.timing.reported();
        let first = self.state_lag.min(reported / 6);
        for (part, state) in ["BOOTING", "STARTING", "DEPLOYING", "READY"].into_iter().enumerate() {
            let at = first + (reported.saturating_sub(first) * part as u32) / 4;
            self.due.after(at, Event::Instances(deployment.into(), state));
        }
        if ending == Ending::Ok && self.lifetime == "TASK" {
            self.due.after(reported, Event::Instances(deployment.into(), "STOPPING"));
            self.due.after(reported + self.timing.stop, Event::Gone);
            self.due.after(reported + self.timing.stop, Event::State("SHOULD_BE_DOWN"));
        } else if ending == Ending::Ok {
            self.due.after(reported, Event::Instances(deployment.into(), "UP"));
            self.due.after(self.timing.boot, Event::Serves);
        }
        self.due.after(reported, Event::Ends(deployment.into(), ending));
    }

    /// The request of the API. On a stopped app it only adds a row.
    pub fn stop(&mut self) {
        self.stops += usize::from(self.is_up() || self.wip().is_some());
        self.abandon();
        self.serves = false;
        self.instances.iter_mut().for_each(|one| one.state = "STOPPING");
        self.row("OK", "UNDEPLOY", "Console", Duration::ZERO);
        if !self.is_blocked() {
            self.due.after(self.state_lag, Event::State("SHOULD_BE_DOWN"));
        }
        self.due.after(self.timing.stop, Event::Gone);
    }

    /// Somebody cancels a deployment; whether there was one to cancel.
    pub fn cancel(&mut self, deployment: &str) -> bool {
        let found = self
            .deployments
            .iter()
            .find(|row| row.uuid == deployment || row.number.to_string() == deployment);
        let Some(uuid) = found.filter(|row| row.state == "WIP").map(|row| row.uuid.clone()) else {
            return false;
        };
        self.due.clear();
        self.end(&uuid, Ending::Cancelled);
        true
    }

    /// Somebody pushes; instances of before go on.
    pub fn begin_deployment(&mut self) {
        self.abandon();
        self.never_deployed = false;
        let deployment = self.row("WIP", "DEPLOY", "git push", Duration::ZERO);
        self.boot_instances(&deployment, "DEPLOYING");
        if self.state != "SHOULD_BE_UP" {
            self.state = "WANTS_TO_BE_UP";
        }
    }

    /// The deployment succeeded; a stopped app runs then.
    pub fn end_deployment(&mut self) {
        let Some(uuid) = self.wip().map(|row| row.uuid.clone()) else { return };
        self.due.clear();
        self.instances.iter_mut().filter(|one| one.deployment == uuid).for_each(|one| one.state = "UP");
        self.end(&uuid, Ending::Ok);
        (self.serves, self.run) = (true, self.run + 1);
    }

    /// As it is when it has been up for long.
    pub fn be_up(&mut self) {
        let deployment = self.row("OK", "DEPLOY", "git push", Duration::ZERO);
        self.boot_instances(&deployment, "UP");
        (self.state, self.serves, self.run) = ("SHOULD_BE_UP", true, 1);
    }

    /// Its instances are gone, though it should be up.
    pub fn crash(&mut self) {
        self.abandon();
        self.instances.clear();
        self.serves = false;
    }

    /// What the API says.
    pub fn shown_state(&self) -> &str {
        self.state_word.as_deref().unwrap_or(self.state)
    }
}
