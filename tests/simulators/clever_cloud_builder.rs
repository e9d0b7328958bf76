//! What an app on the simulated Clever Cloud is like before it is added.

use std::time::Duration;

use super::{
    clever_cloud::CleverCloud,
    clever_cloud_app::{App, Ending, SecondStart},
};

/// An app to add.
pub struct CleverCloudApp {
    pub(super) platform: CleverCloud,
    pub(super) app: App,
    pub(super) up: bool,
    pub(super) state: Option<&'static str>,
    pub(super) last: Ending,
}

impl CleverCloudApp {
    /// The number of its instances.
    pub fn instances(mut self, instances: u32) -> Self {
        self.app.instances_wanted = instances;
        self
    }

    /// The size of its instances.
    pub fn flavor(mut self, flavor: &str) -> Self {
        self.app.flavor = flavor.into();
        self
    }

    /// `SHOULD_BE_DOWN`, deployed once.
    pub fn stopped(mut self) -> Self {
        self.up = false;
        self
    }

    /// How its last deployment ended.
    pub fn last_deployment(mut self, ending: Ending) -> Self {
        self.last = ending;
        self
    }

    /// Of another owner: an `orga_...`, or [`USER`] for the personal space.
    pub fn owner(mut self, owner: &str) -> Self {
        self.app.owner = owner.into();
        self
    }

    /// In another zone than `par`.
    pub fn zone(mut self, zone: &str) -> Self {
        self.app.zone = zone.into();
        self
    }

    /// From an accepted start to the first answer; 150 ms unless told.
    pub fn boot(mut self, boot: Duration) -> Self {
        self.app.timing.boot = boot;
        self
    }

    /// From an accepted stop to the end of the instances; 100 ms unless told.
    pub fn stop(mut self, stop: Duration) -> Self {
        self.app.timing.stop = stop;
        self
    }

    /// The API says up so many milliseconds after it is true; before, if negative.
    pub fn api_lag(mut self, late_ms: i64) -> Self {
        self.app.timing.late_ms = late_ms;
        self
    }

    /// How long the API still says the old state after a start or stop; 20 ms unless told.
    pub fn state_lag(mut self, lag: Duration) -> Self {
        self.app.state_lag = lag;
        self
    }

    /// A start is answered with error 4014.
    pub fn never_deployed(mut self) -> Self {
        self.app.never_deployed = true;
        self.stopped()
    }

    /// A deployment of it is going on.
    pub fn deploying(self) -> Self {
        self.last_deployment(Ending::Never)
    }

    /// `MODERATED` or `DEFAULT_OF_PAYMENT`.
    pub fn blocked(mut self, state: &'static str) -> Self {
        self.state = Some(state);
        self.stopped()
    }

    /// `archived: true`.
    pub fn archived(mut self) -> Self {
        self.app.archived = true;
        self.stopped()
    }

    /// A start runs its task and ends.
    pub fn task(mut self) -> Self {
        self.app.lifetime = "TASK";
        self.stopped()
    }

    /// A redeployment stops the instances before.
    pub fn homogeneous(mut self) -> Self {
        self.app.homogeneous = true;
        self
    }

    /// The router answers plain HTTP with 301.
    pub fn force_https(mut self) -> Self {
        self.app.force_https = true;
        self
    }

    /// A further host, as the API says it: `shop.example.com/api/`.
    pub fn vhost(mut self, fqdn: &str) -> Self {
        self.app.vhosts.insert(0, fqdn.into());
        self
    }

    /// Without its default host.
    pub fn without_default_vhost(mut self) -> Self {
        self.app.vhosts.retain(|fqdn| !fqdn.contains(".cleverapps."));
        self
    }

    /// With a favourite host.
    pub fn favourite(mut self, fqdn: &str) -> Self {
        self.app.favourite = Some(fqdn.into());
        self
    }

    /// What a start does while a deployment is going on.
    pub fn second_start(mut self, second: SecondStart) -> Self {
        self.app.second_start = second;
        self
    }

    /// Its platform has it from now on.
    pub fn add(mut self) {
        if self.up {
            self.app.be_up();
        } else if !self.app.never_deployed {
            self.app.row("OK", "DEPLOY", "git push", Duration::ZERO);
            self.app.row("OK", "UNDEPLOY", "Console", Duration::ZERO);
        }
        match self.last {
            Ending::Ok => {}
            Ending::Never => self.app.begin_deployment(),
            Ending::Fail => drop(self.app.row("FAIL", "DEPLOY", "git push", Duration::ZERO)),
            Ending::Cancelled => drop(self.app.row("OK", "CANCEL", "Console", Duration::ZERO)),
        }
        self.app.state = self.state.unwrap_or(self.app.state);
        // All of that was long ago.
        for row in &mut self.app.deployments {
            row.date = super::clever_cloud_api::THEN + row.number * 1000;
        }
        self.platform.0.world.lock().unwrap().apps.push(self.app);
    }
}
