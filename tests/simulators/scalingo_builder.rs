//! What an app on the simulated Scalingo is like before it is added.

use std::time::Duration;

use super::{
    scalingo::{REGIONS, Scalingo, index},
    scalingo_app::{App, Autoscaler, Type},
};

/// An app to add.
pub struct ScalingoApp {
    pub(super) platform: Scalingo,
    pub(super) app: App,
}

impl ScalingoApp {
    /// Its types and amounts, of size M.
    pub fn formation(mut self, formation: &[(&str, u32)]) -> Self {
        let one = |&(name, amount): &(&str, u32)| Type { name: name.into(), amount, size: "M".into() };
        self.app.types = formation.iter().map(one).collect();
        self
    }

    /// The size of one of its types.
    pub fn size(mut self, container_type: &str, size: &str) -> Self {
        let one = self.app.types.iter_mut().find(|one| one.name == container_type);
        one.expect("formation first").size = size.into();
        self
    }

    /// As after a stop: all amounts 0, no container.
    pub fn stopped(mut self) -> Self {
        self.app.types.iter_mut().for_each(|one| one.amount = 0);
        self.stopped_with_amounts()
    }

    /// `stopped` although its amounts are not 0: a scale to them is `no change`.
    pub fn stopped_with_amounts(mut self) -> Self {
        (self.app.status, self.app.up) = ("stopped", false);
        self
    }

    /// In another region.
    pub fn region(mut self, region: &str) -> Self {
        self.app.region = REGIONS[index(region)].into();
        self
    }

    /// From an accepted start to the first answer; 150 ms unless told.
    pub fn boot(mut self, boot: Duration) -> Self {
        self.app.timing.boot = boot;
        self
    }

    /// From an accepted stop to its end; 100 ms unless told.
    pub fn stop(mut self, stop: Duration) -> Self {
        self.app.timing.stop = stop;
        self
    }

    /// The API says running so many milliseconds after it is true; before, if negative.
    pub fn api_lag(mut self, late_ms: i64) -> Self {
        self.app.timing.late_ms = late_ms;
        self
    }

    /// With an autoscaler that is on.
    pub fn autoscaler(mut self, container_type: &str) -> Self {
        let id = format!("au-{:016x}", fastrand::u64(..));
        self.app.autoscalers.push(Autoscaler { id, container_type: container_type.into(), disabled: false });
        self
    }

    /// Created, nothing deployed.
    pub fn never_deployed(mut self) -> Self {
        (self.app.status, self.app.up, self.app.run) = ("new", false, 0);
        self.app.types.clear();
        self
    }

    /// A deployment of it is booting.
    pub fn deploying(mut self) -> Self {
        self.app.begin_deployment();
        self
    }

    /// A scale is answered 402.
    pub fn payment_missing(mut self) -> Self {
        self.app.payment = true;
        self
    }

    /// A scale is answered 403.
    pub fn suspended(mut self) -> Self {
        self.app.suspended = true;
        self
    }

    /// A one-off container of it runs.
    pub fn one_off(mut self) -> Self {
        self.app.one_off = true;
        self
    }

    /// The router answers plain HTTP with 301.
    pub fn force_https(mut self) -> Self {
        self.app.force_https = true;
        self
    }

    /// The router adds its cookie.
    pub fn sticky_session(mut self) -> Self {
        self.app.sticky = true;
        self
    }

    /// `url` is this instead of `base_url`: a canonical domain.
    pub fn url(mut self, url: &str) -> Self {
        self.app.url = Some(url.into());
        self
    }

    /// Without `base_url`.
    pub fn without_base_url(mut self) -> Self {
        self.app.without_base_url = true;
        self
    }

    /// Its platform has it from now on.
    pub fn add(mut self) {
        self.app.serves = self.app.up && self.app.amount("web") > 0;
        self.platform.0.world.lock().unwrap().apps.push(self.app);
    }
}
