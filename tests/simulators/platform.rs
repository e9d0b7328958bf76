//! What a story that is told of every platform needs.

use std::{collections::BTreeMap, time::Duration};

use super::{
    api::{Api, Call, Outage},
    due::Timing,
    fault::Fault,
    router::{Front, Visit},
    traffic::Order,
};

/// A simulated platform. An app is meant by its name; where two of one name exist, by `<region or owner>/<name>`.
///
/// The methods about an app panic if there is none.
pub trait Platform: Send + Sync + 'static {
    /// The front of its control API.
    fn api(&self) -> &Api;

    /// Its routers.
    fn front(&self) -> &Front;

    /// A provider entry of Loir's configuration, as a list item of YAML, indented by two spaces.
    fn entry(&self, name: &str) -> String;

    /// Adds an app with these process types. One that is not running is as after a stop: amounts are 0.
    ///
    /// Clever Cloud knows no process types: the amount of `instances` (else the greatest one) is the number of instances,
    /// and it stays while the app is stopped.
    fn add(&self, name: &str, formation: &[(&str, u32)], running: bool);

    /// Adds an app that was never deployed.
    fn add_never_deployed(&self, name: &str);

    /// The provider's id of the app.
    fn id(&self, app: &str) -> String;

    /// How long the app takes, and how far the API's word is from the truth.
    fn timing(&self, app: &str) -> Timing;

    /// From the next start or stop on.
    fn set_timing(&self, app: &str, timing: Timing);

    /// How long later starts take until the app answers; 150 ms unless told.
    fn set_boot(&self, app: &str, boot: Duration) {
        self.set_timing(app, Timing { boot, ..self.timing(app) });
    }

    /// How long later stops take; 100 ms unless told.
    fn set_stop(&self, app: &str, stop: Duration) {
        self.set_timing(app, Timing { stop, ..self.timing(app) });
    }

    /// The API says running so many milliseconds after the app answers; before it, if negative.
    fn set_api_lag(&self, app: &str, late_ms: i64) {
        self.set_timing(app, Timing { late_ms, ..self.timing(app) });
    }

    /// So much time passes at once for the app. With timings of an hour, a test moves the app by hand.
    fn pass(&self, app: &str, time: Duration);

    /// The next starts of the app fail, after its boot time.
    fn fail_boots(&self, app: &str, times: usize);

    /// The owner of the app has not paid: a start is refused.
    fn block(&self, app: &str);

    /// The amounts that are wanted now. Clever Cloud: `instances`, the minimum of instances, running or not.
    fn formation(&self, app: &str) -> BTreeMap<String, u32>;

    /// What a person does in the dashboard: other amounts, at once accepted even while the app is busy. Types that are
    /// not named stay as they are.
    fn set_formation(&self, app: &str, formation: &[(&str, u32)]);

    /// What a person does in the dashboard: stops it.
    fn stop_by_hand(&self, app: &str) {
        let types: Vec<String> = self.formation(app).into_keys().collect();
        self.set_formation(app, &types.iter().map(|name| (name.as_str(), 0)).collect::<Vec<_>>());
    }

    /// How often the app went from stopped to starting.
    fn starts(&self, app: &str) -> usize;

    /// How often the app went from running to stopping.
    fn stops(&self, app: &str) -> usize;

    /// Whether the router passes requests to the app now.
    fn is_running(&self, app: &str) -> bool;

    /// What the API would say of the app's state now (Heroku: of its web dynos, `none` without one).
    fn state(&self, app: &str) -> String;

    /// The app is gone.
    fn delete(&self, app: &str);

    /// It has another name from now on, and where host names come from names, another host.
    fn rename(&self, app: &str, to: &str);

    /// Somebody deploys; until `end_deployment`, the app is busy.
    fn begin_deployment(&self, app: &str);

    /// The deployment succeeded.
    fn end_deployment(&self, app: &str);

    /// All its containers crash and stay so.
    fn crash(&self, app: &str);

    /// From now on the API says this word for its state, whatever happens; `None` ends it.
    fn set_state_word(&self, app: &str, word: Option<&str>);

    /// From now on the API says `frobnicating`.
    fn set_unknown_state(&self, app: &str) {
        self.set_state_word(app, Some("frobnicating"));
    }

    /// Where requests for the app go: `host:port`, and that is on loopback.
    fn host(&self, app: &str) -> String;

    /// So many calls in a minute; `None`: any number.
    fn set_limit(&self, per_minute: Option<u32>);

    /// How many calls the limit has refused.
    fn limited_calls(&self) -> usize;

    /// The credential that the API takes; entries made before keep the old one.
    fn set_token(&self, token: &str);

    /// The credential is no longer any good, nor what was got with it.
    fn revoke_token(&self);

    /// It is good again.
    fn restore_token(&self);

    /// Every call of the control API, oldest first.
    fn calls(&self) -> Vec<Call> {
        self.api().calls()
    }

    /// How many calls had this method (`*`: any) and a path that matches: see [`super::matches`].
    fn count(&self, method: &str, path: &str) -> usize {
        self.api().count(method, path)
    }

    /// Forgets the calls until now.
    fn clear_calls(&self) {
        self.api().clear_calls();
    }

    /// The next matching calls go wrong. Earlier faults strike first.
    fn fault(&self, fault: Fault) {
        self.api().fault(fault);
    }

    /// Nothing more goes wrong.
    fn clear_faults(&self) {
        self.api().clear_faults();
    }

    /// The control API is away, or back. Apps go on.
    fn down(&self, outage: Outage) {
        self.api().down(outage);
    }

    /// Every answered request at the routers, oldest first.
    fn visits(&self) -> Vec<Visit> {
        self.front().visits()
    }

    /// Every call that would start or stop an app, as it arrived, oldest first. Only Scalingo's are noted.
    fn orders(&self) -> Vec<Order> {
        self.front().traffic.orders()
    }

    /// Forgets the orders until now.
    fn clear_orders(&self) {
        self.front().traffic.clear_orders();
    }

    /// How many of the app's requests and WebSockets are not over.
    fn in_flight(&self, app: &str) -> usize {
        self.front().traffic.in_flight(&self.id(app))
    }

    /// How many requests an app has answered, in all of its runs.
    fn served(&self, app: &str) -> usize {
        let id = self.id(app);
        self.visits().iter().filter(|visit| visit.app.as_ref().is_some_and(|found| found.id == id)).count()
    }
}
