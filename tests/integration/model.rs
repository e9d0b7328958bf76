//! The protocol of several gateways (`src/lifecycle`, `src/registry`) as a model, of which every state is checked.
//!
//! What becomes of a record is decided by the very functions that production uses (`Record::apply`, `follow`); what a gateway
//! does between two calls of the registry or the provider is one step here, in `model/gateway.rs`, named after its original.
//! Steps of all gateways, messages (late, in any order, lost), time and faults may come in any order (`model/action.rs`).
//!
//! - Time is abstract. A deadline passes only if its owner is dead, paused or blind; a heartbeat likewise, and not before.
//!   Whatever only costs time is left out: back-off, the idle time itself, how often something is read again.
//! - Every action uses something up, so no run is endless. That all is well in each state where nothing more can happen
//!   therefore means that every request is answered and every wake and stop ends, whatever the order.
//! - Excused is a gateway that was taken for dead, until it has caught up (`Gateway::excused`), and after a failover that lost
//!   a write everybody, until all agree with each other and with the provider (`State::window`).
//! - Not modelled: crashes of the app, starts and stops that the provider refuses, gateways that join later, an answer of the
//!   registry that is lost after the write was done, two servers that both take writes, reloads and renamed apps.
//!
//! Bounds are chosen for a minute at most on a busy machine. For deeper ones:
//!
//! ```text
//! LOIR_MODEL="gateways=3 requests=2 stops=1 pauses=1" cargo nextest run model::as_deep_as_asked --no-capture
//! ```
//!
//! with any of `requests stops crashes pauses lost cuts outages wipes failovers`, and `without=RULE` to break a rule.

use std::{collections::HashMap, time::Instant};

use loir::app::AppState;
use stateright::{Checker, HasDiscoveries, Model, Property};

mod action;
mod gateway;
mod state;

use action::Action;
use state::{Budget, Provider, State};

const BOTH: [AppState; 2] = [AppState::Awake, AppState::Asleep];

const NOT_STOPPED: &str = "an app in use is never told to stop";
const NOT_MISLED: &str = "no request is forwarded to an app that does not run";
const NOT_REFUSED: &str = "no request is refused";
const NOT_VETOED: &str = "no stop is vetoed by a gateway where nobody wants the app";
const STARTS: &str =
    "one start; one more if a lease was overslept; one for each gateway if the registry was away";
const ENDS: &str = "where nothing more can happen, everybody is answered, nothing is half done and all agree";

/// What gateways do beside what `Record::apply` and `follow` decide. With all of these rules the promises hold; the tests below
/// leave some of them out, and a promise is broken.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// The owner of a stop waits until every live gateway has agreed.
    waits_for_agreement: bool,
    /// Only who has nothing in flight agrees.
    agrees_only_idle: bool,
    /// A cell that is not awake may have requests in flight all the same: they count.
    counts_whatever_its_cell: bool,
    /// A write that was decided on another epoch is refused.
    compares_epochs: bool,
    /// The provider is told within a lease of the stop's begin, and only if the registry was seen all along.
    tells_in_time: bool,
    /// A stop begins only if the registry has been seen for a lease, at that moment.
    looks_before_it_stops: bool,
    /// Who has agreed to a stop and loses the registry goes on holding until that stop cannot be told any more.
    keeps_its_word_when_blind: bool,
    /// A gateway that claims a wake anew remembers that it has told the provider already.
    remembers_its_start: bool,
    /// That the app is awake is believed only until something newer was heard.
    looks_before_it_wakes: bool,
    /// Who gets a wake, or has it recorded as done, brings its cell there too, wherever that has gone meanwhile.
    claims_its_cell: bool,
    /// A stop that it agreed to is vetoed only for requests of its own.
    asks_for_its_own: bool,
    /// Another record of the same epoch is news: the registry has lost one of the two.
    tells_records_apart: bool,
    /// A stop ends when the provider is at rest.
    sees_it_through: bool,
    /// The cell follows what this gateway has restored.
    follows_what_it_restores: bool,
    /// A failed start is recorded only for this gateway's own wake, and else it is asked anew.
    fails_only_its_own: bool,
    /// Before the registry is told what it has missed, the provider is asked.
    asks_before_it_tells: bool,
    /// Who takes a wake over knows it from the record, and asks the provider whether the start is under way.
    knows_what_it_takes_over: bool,
    /// What happened while the registry was away is told before anything else is followed.
    settles_before_it_follows: bool,
    /// After a stop that another gateway has ended, the next request asks.
    rests_when_off: bool,
}

const SOUND: Rules = Rules {
    waits_for_agreement: true,
    agrees_only_idle: true,
    counts_whatever_its_cell: true,
    compares_epochs: true,
    tells_in_time: true,
    looks_before_it_stops: true,
    keeps_its_word_when_blind: true,
    remembers_its_start: true,
    looks_before_it_wakes: true,
    claims_its_cell: true,
    asks_for_its_own: true,
    tells_records_apart: true,
    sees_it_through: true,
    follows_what_it_restores: true,
    fails_only_its_own: true,
    asks_before_it_tells: true,
    knows_what_it_takes_over: true,
    settles_before_it_follows: true,
    rests_when_off: true,
};

impl Rules {
    fn after_off(&self) -> AppState {
        if self.rests_when_off { AppState::Asleep } else { AppState::Awake }
    }

    fn without(rule: &str) -> Self {
        let mut rules = SOUND;
        *match rule {
            "waits_for_agreement" => &mut rules.waits_for_agreement,
            "agrees_only_idle" => &mut rules.agrees_only_idle,
            "counts_whatever_its_cell" => &mut rules.counts_whatever_its_cell,
            "compares_epochs" => &mut rules.compares_epochs,
            "tells_in_time" => &mut rules.tells_in_time,
            "looks_before_it_stops" => &mut rules.looks_before_it_stops,
            "keeps_its_word_when_blind" => &mut rules.keeps_its_word_when_blind,
            "remembers_its_start" => &mut rules.remembers_its_start,
            "looks_before_it_wakes" => &mut rules.looks_before_it_wakes,
            "claims_its_cell" => &mut rules.claims_its_cell,
            "asks_for_its_own" => &mut rules.asks_for_its_own,
            "tells_records_apart" => &mut rules.tells_records_apart,
            "sees_it_through" => &mut rules.sees_it_through,
            "follows_what_it_restores" => &mut rules.follows_what_it_restores,
            "fails_only_its_own" => &mut rules.fails_only_its_own,
            "asks_before_it_tells" => &mut rules.asks_before_it_tells,
            "knows_what_it_takes_over" => &mut rules.knows_what_it_takes_over,
            "settles_before_it_follows" => &mut rules.settles_before_it_follows,
            "rests_when_off" => &mut rules.rests_when_off,
            _ => panic!("no rule is called {rule}"),
        } = false;
        rules
    }
}

/// What is checked.
#[derive(Clone, Debug)]
struct Protocol {
    gateways: usize,
    /// In which states the app may be at first.
    begins: Vec<AppState>,
    budget: Budget,
    rules: Rules,
}

fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always(NOT_STOPPED, |_, state: &State| !state.harm.stopped_in_use),
        Property::always(NOT_MISLED, |_, state: &State| !state.harm.misled),
        Property::always(NOT_REFUSED, |_, state: &State| !state.harm.refused),
        Property::always(NOT_VETOED, |_, state: &State| !state.harm.vetoed_for_nothing),
        Property::always(STARTS, |_, state: &State| {
            let starts = if state.blind {
                state.starts.into_iter().max().unwrap_or(0)
            } else {
                state.starts.into_iter().sum()
            };
            starts <= 1 + state.overslept
        }),
        Property::always(ENDS, |protocol, state: &State| state.is_at_rest() || !is_last(protocol, state)),
    ]
}

fn is_last(protocol: &Protocol, state: &State) -> bool {
    let mut actions = Vec::new();
    protocol.actions(state, &mut actions);
    actions.into_iter().all(|action| protocol.next_state(state, action).is_none())
}

/// Checks every state, prints how many there are, and returns the shortest counter-examples.
fn check(name: &str, protocol: Protocol) -> HashMap<&'static str, Vec<Action>> {
    let began = Instant::now();
    let gateways = protocol.gateways;
    let checker = protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{name}: {gateways} gateways, {} states, {} transitions, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    let mut found = HashMap::new();
    for (property, path) in checker.discoveries() {
        let state = path.last_state().clone();
        let actions = path.into_actions();
        println!("  not so: {property}, by {} steps:\n  {actions:?}\n  {state}", actions.len());
        found.insert(property, actions);
    }
    found
}

fn holds(name: &str, gateways: usize, begins: &[AppState], budget: Budget) {
    let found = check(name, Protocol { gateways, begins: begins.into(), budget, rules: SOUND });
    assert!(found.is_empty(), "{name}: the protocol does not keep its promises");
}

fn fails(rule: &str, budget: Budget, promise: &str) {
    let rules = Rules::without(rule);
    let found =
        check(&format!("without {rule}"), Protocol { gateways: 2, begins: BOTH.into(), budget, rules });
    assert!(found.contains_key(promise), "without {rule} nothing happens");
}

const CALM: Budget = Budget::calm(1, 1);

#[test]
fn two_gateways_in_calm_weather() {
    holds("calm", 2, &BOTH, Budget::calm(2, 1));
}

#[test]
fn three_gateways_in_calm_weather() {
    holds("calm", 3, &BOTH, CALM);
}

#[test]
fn a_gateway_crashes() {
    holds("crash", 2, &BOTH, Budget { crashes: 1, ..Budget::calm(2, 1) });
}

#[test]
fn one_of_three_gateways_crashes() {
    holds("crash", 3, &BOTH, Budget { crashes: 1, ..CALM });
}

#[test]
fn a_gateway_is_paused_past_its_lease() {
    holds("pause", 2, &BOTH, Budget { pauses: 1, ..CALM });
}

#[test]
fn a_message_is_lost() {
    holds("lost message", 2, &BOTH, Budget { lost_messages: 1, ..Budget::calm(2, 1) });
}

#[test]
fn a_gateway_loses_the_registry() {
    holds("cut", 2, &BOTH, Budget { cuts: 1, ..CALM });
}

#[test]
fn the_registry_is_away_and_comes_back() {
    holds("outage, awake", 2, &BOTH[..1], Budget { outages: 1, ..CALM });
}

#[test]
fn the_registry_is_away_while_an_app_sleeps() {
    holds("outage, asleep", 2, &BOTH[1..], Budget { outages: 1, ..Budget::calm(2, 0) });
}

#[test]
fn the_registry_comes_back_empty() {
    holds("empty, awake", 2, &BOTH[..1], Budget { outages: 1, wipes: 1, ..Budget::calm(0, 1) });
    holds("empty, asleep", 2, &BOTH[1..], Budget { outages: 1, wipes: 1, ..Budget::calm(1, 0) });
}

#[test]
fn a_failover_loses_the_latest_write() {
    holds("failover, awake", 2, &BOTH[..1], Budget { failovers: 1, ..Budget::calm(0, 1) });
    holds("failover, asleep", 2, &BOTH[1..], Budget { failovers: 1, ..Budget::calm(1, 0) });
}

#[test]
fn without_the_barrier_an_app_is_stopped_in_use() {
    fails("waits_for_agreement", CALM, NOT_STOPPED);
}

#[test]
fn a_gateway_that_agrees_with_something_in_flight_has_it_stopped() {
    fails("agrees_only_idle", CALM, NOT_STOPPED);
}

#[test]
fn an_owner_that_does_not_compare_epochs_does_harm() {
    let budget = Budget { pauses: 1, ..CALM };
    let protocol =
        Protocol { gateways: 2, begins: BOTH.into(), budget, rules: Rules::without("compares_epochs") };
    assert!(!check("without compares_epochs", protocol).is_empty());
}

#[test]
fn every_other_rule_is_needed_too() {
    let pause = Budget { pauses: 1, ..CALM };
    let cut = Budget { cuts: 1, ..CALM };
    fails("tells_in_time", pause, NOT_STOPPED);
    fails("keeps_its_word_when_blind", cut, NOT_STOPPED);
    fails("looks_before_it_wakes", Budget::calm(2, 2), NOT_MISLED);
    fails("claims_its_cell", Budget::calm(2, 2), ENDS);
    fails("knows_what_it_takes_over", Budget { crashes: 1, ..Budget::calm(2, 1) }, STARTS);
    fails("remembers_its_start", Budget { outages: 1, ..Budget::calm(1, 0) }, STARTS);
    fails("fails_only_its_own", pause, NOT_REFUSED);
    fails("asks_before_it_tells", cut, NOT_MISLED);
    fails("asks_for_its_own", Budget::calm(2, 2), NOT_VETOED);
}

/// The model does something: what the promises are about does happen in it.
#[test]
fn apps_are_stopped_and_stops_are_vetoed_and_wakes_are_taken_over() {
    type Condition = fn(&Protocol, &State) -> bool;
    let happens: [(&str, Condition); 4] = [
        ("an app is stopped", |_, state| {
            let asleep = state.record.as_ref().is_some_and(|record| record.state == AppState::Asleep);
            asleep && state.provider == Provider::Stopped && state.left.stops == 0
        }),
        ("a stop is vetoed", |_, state| {
            let vetoed = |record: &state::Known| record.0.state == AppState::Awake && record.0.epoch == 3;
            let stops = state.gateways.iter().any(|gateway| gateway.stop.is_some());
            stops && state.record.clone().map(state::Known).is_some_and(|record| vetoed(&record))
        }),
        ("a wake is taken over", |_, state| {
            let wakes = state.owner().is_some_and(|owner| !state.gateways[owner].wakes.is_empty());
            wakes && state.left.crashes == 0 && state.record.as_ref().is_some_and(|record| record.epoch == 3)
        }),
        ("a request is held over a stop and answered", |_, state| {
            let woken = state
                .record
                .as_ref()
                .is_some_and(|record| record.state == AppState::Awake && record.epoch == 6);
            let answered = state.gateways.iter().all(|gateway| gateway.held + gateway.in_flight == 0);
            woken && state.left.stops == 0 && state.left.requests == 0 && answered
        }),
    ];
    for (name, condition) in happens {
        let budget = Budget { crashes: 1, ..Budget::calm(2, 1) };
        let seen =
            Seen { protocol: Protocol { gateways: 2, begins: BOTH.into(), budget, rules: SOUND }, condition };
        let checker = seen.checker().spawn_bfs().join();
        let path = checker.discovery("seen").unwrap_or_else(|| panic!("never: {name}"));
        println!("{name}: {:?}", path.into_actions());
    }
}

/// The protocol, watched for one thing.
struct Seen {
    protocol: Protocol,
    condition: fn(&Protocol, &State) -> bool,
}

impl Model for Seen {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.protocol.init_states()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.protocol.actions(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.protocol.next_state(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::sometimes("seen", |seen: &Self, state| (seen.condition)(&seen.protocol, state))]
    }
}

#[test]
fn as_deep_as_asked() {
    let text = std::env::var("LOIR_MODEL").unwrap_or_default();
    let mut protocol = Protocol { gateways: 2, begins: BOTH.into(), budget: CALM, rules: SOUND };
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').expect("NAME=VALUE");
        if name == "without" {
            protocol.rules = Rules::without(value);
            continue;
        }
        let (value, budget): (u8, _) = (value.parse().expect("a number"), &mut protocol.budget);
        match name {
            "gateways" => protocol.gateways = value.into(),
            "requests" => budget.requests = value,
            "stops" => budget.stops = value,
            "crashes" => budget.crashes = value,
            "pauses" => budget.pauses = value,
            "lost" => budget.lost_messages = value,
            "cuts" => budget.cuts = value,
            "outages" => budget.outages = value,
            "wipes" => budget.wipes = value,
            "failovers" => budget.failovers = value,
            _ => panic!("nothing is called {name}"),
        }
    }
    assert!(check(&text, protocol).is_empty());
}
