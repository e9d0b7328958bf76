//! What an app on the simulated Heroku is like before it is added.

use std::time::Duration;

use super::{
    api::uuid,
    heroku::Heroku,
    heroku_app::{App, Dyno, Type},
};

/// An app to add.
pub struct HerokuApp {
    pub(super) platform: Heroku,
    pub(super) app: App,
    pub(super) state: &'static str,
    pub(super) extra: Vec<Dyno>,
    pub(super) deploying: bool,
}

impl HerokuApp {
    /// Its types and quantities, of size Standard-1X.
    pub fn formation(mut self, formation: &[(&str, u32)]) -> Self {
        self.app.types = formation.iter().map(|(name, quantity)| Type::new(name, *quantity)).collect();
        self
    }

    /// The size of one of its types, as `Eco`.
    pub fn size(mut self, name: &str, size: &str) -> Self {
        let one = self.app.types.iter_mut().find(|one| one.name == name);
        one.expect("formation first").size = size.into();
        self
    }

    /// As after a stop: all quantities 0, no dyno.
    pub fn stopped(mut self) -> Self {
        self.app.types.iter_mut().for_each(|one| one.quantity = 0);
        self
    }

    /// All its types have Eco dynos, which are idle: a request wakes them.
    pub fn idle(mut self) -> Self {
        self.app.types.iter_mut().for_each(|one| one.size = "Eco".into());
        self.state = "idle";
        self
    }

    /// From an accepted start to the first answer; 150 ms unless told.
    pub fn boot(mut self, boot: Duration) -> Self {
        self.app.timing.boot = boot;
        self
    }

    /// From an accepted stop to the end of the dynos; 100 ms unless told.
    pub fn stop(mut self, stop: Duration) -> Self {
        self.app.timing.stop = stop;
        self
    }

    /// The API says up so many milliseconds after it is true; before, if negative.
    pub fn api_lag(mut self, late_ms: i64) -> Self {
        self.app.timing.late_ms = late_ms;
        self
    }

    /// No slug, no process types.
    pub fn never_deployed(mut self) -> Self {
        self.app.types.clear();
        self.app.version = 1;
        self
    }

    /// A release of it is pending.
    pub fn deploying(mut self) -> Self {
        self.deploying = true;
        self
    }

    /// In maintenance; its dynos run all the same.
    pub fn maintenance(mut self) -> Self {
        self.app.maintenance = true;
        self
    }

    /// Changes of its formation are answered so: 402 `delinquent`, 403 `suspended`, 422 `verification_needed`.
    pub fn blocked(mut self, status: u16, id: &'static str) -> Self {
        self.app.blocked = Some((status, id));
        self
    }

    /// The Eco hours of the month are used up: idle dynos stay idle.
    pub fn quota_exhausted(mut self) -> Self {
        self.app.quota_exhausted = true;
        self
    }

    /// `web_url` is null.
    pub fn without_web_url(mut self) -> Self {
        self.app.without_web_url = true;
        self
    }

    /// Only reachable inside its space.
    pub fn internal_routing(mut self) -> Self {
        self.app.internal_routing = true;
        self
    }

    /// Generation `fir` instead of `cedar`.
    pub fn fir(mut self) -> Self {
        self.app.generation = "fir";
        self
    }

    /// A dyno of kind `run` or `release` is there too.
    pub fn one_off(mut self, kind: &str) -> Self {
        let (id, kind) = (uuid(), kind.to_owned());
        self.extra.push(Dyno { id, kind, index: 4321, state: "up", listed: true });
        self
    }

    /// In a stage of a pipeline, as `production`.
    pub fn stage(mut self, stage: &str) -> Self {
        self.app.stage = Some(stage.into());
        self
    }

    /// Of a team.
    pub fn team(mut self, team: &str) -> Self {
        self.app.team = Some(team.into());
        self
    }

    /// Of a team, and only in the list of the team.
    pub fn team_list_only(mut self, team: &str) -> Self {
        self.app.team_list_only = true;
        self.team(team)
    }

    /// Its platform has it from now on.
    pub fn add(mut self) {
        self.app.be_settled(self.state);
        self.app.dynos.extend(self.extra);
        if self.deploying {
            self.app.begin_deployment();
        }
        self.platform.0.world.lock().unwrap().apps.push(self.app);
    }
}
