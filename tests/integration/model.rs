//! The protocol of several gateways, as a model that is checked state by state.

use std::{collections::HashMap, time::Instant};

use loir::app::AppState;
use stateright::{Checker, HasDiscoveries, Model, Property};

mod action;
mod gateway;
mod state;

use action::Action;
use state::{Budget, State};

/// What gateways do. A rule that is left out makes a broken protocol.
#[derive(Clone, Copy, Debug)]
struct Rules {
    waits_for_agreement: bool,
    agrees_only_idle: bool,
    compares_epochs: bool,
    tells_in_time: bool,
    keeps_its_word_when_blind: bool,
    remembers_its_start: bool,
    looks_before_it_wakes: bool,
    asks_for_its_own: bool,
    claims_its_cell: bool,
    looks_before_it_stops: bool,
    tells_records_apart: bool,
    sees_it_through: bool,
    follows_what_it_restores: bool,
    fails_only_its_own: bool,
    counts_whatever_its_cell: bool,
    asks_before_it_tells: bool,
    rests_when_off: bool,
}

impl Rules {
    fn after_off(&self) -> AppState {
        if self.rests_when_off { AppState::Asleep } else { AppState::Awake }
    }
}

const SOUND: Rules = Rules {
    waits_for_agreement: true,
    agrees_only_idle: true,
    compares_epochs: true,
    tells_in_time: true,
    keeps_its_word_when_blind: true,
    remembers_its_start: true,
    looks_before_it_wakes: true,
    asks_for_its_own: true,
    claims_its_cell: true,
    looks_before_it_stops: true,
    tells_records_apart: true,
    sees_it_through: true,
    follows_what_it_restores: true,
    fails_only_its_own: true,
    counts_whatever_its_cell: true,
    asks_before_it_tells: true,
    rests_when_off: true,
};

#[derive(Clone, Debug)]
struct Protocol {
    gateways: usize,
    budget: Budget,
    rules: Rules,
}

const ENDS: &str = "where nothing more can happen, everybody is answered and all agree";

fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always("an app in use is not told to stop", |_, state: &State| !state.harm.stopped_in_use),
        Property::always("no request is forwarded to an app that does not run", |_, state: &State| !state.harm.misled),
        Property::always("no request is refused", |_, state: &State| !state.harm.refused),
        Property::always("no stop is vetoed for nothing", |_, state: &State| !state.harm.vetoed_for_nothing),
        Property::always("one start, or one more for each lease overslept", |protocol: &Protocol, state: &State| {
            let starts = if state.blind { protocol.gateways } else { 1 };
            usize::from(state.starts) <= starts + usize::from(state.overslept)
        }),
        Property::always(ENDS, |protocol, state: &State| state.is_at_rest() || !is_last(protocol, state)),
    ]
}

fn is_last(protocol: &Protocol, state: &State) -> bool {
    let mut actions = Vec::new();
    protocol.actions(state, &mut actions);
    actions.into_iter().all(|action| protocol.next_state(state, action).is_none())
}

/// Checks, prints, and returns the shortest counter-examples.
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
        println!("  {property}: {} steps\n{actions:?}", actions.len());
        println!("  {state}");
        found.insert(property, actions);
    }
    found
}

#[test]
fn explore() {
    let text = std::env::var("LOIR_MODEL").unwrap_or_default();
    let mut budget = Budget::calm(1, 1);
    let mut gateways = 2;
    let mut rules = SOUND;
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        let value: u8 = value.parse().unwrap();
        match name {
            "gateways" => gateways = value.into(),
            "requests" => budget.requests = value,
            "stops" => budget.stops = value,
            "crashes" => budget.crashes = value,
            "pauses" => budget.pauses = value,
            "lost" => budget.lost_messages = value,
            "outages" => budget.outages = value,
            "cuts" => budget.cuts = value,
            "wipes" => budget.wipes = value,
            "failovers" => budget.failovers = value,
            "barrier" => rules.waits_for_agreement = value == 1,
            "idle" => rules.agrees_only_idle = value == 1,
            "epochs" => rules.compares_epochs = value == 1,
            "intime" => rules.tells_in_time = value == 1,
            "word" => rules.keeps_its_word_when_blind = value == 1,
            "start" => rules.remembers_its_start = value == 1,
            "look" => rules.looks_before_it_wakes = value == 1,
            "own" => rules.asks_for_its_own = value == 1,
            "cell" => rules.claims_its_cell = value == 1,
            "sight" => rules.looks_before_it_stops = value == 1,
            "apart" => rules.tells_records_apart = value == 1,
            "through" => rules.sees_it_through = value == 1,
            "restores" => rules.follows_what_it_restores = value == 1,
            "fails" => rules.fails_only_its_own = value == 1,
            "counts" => rules.counts_whatever_its_cell = value == 1,
            "asks" => rules.asks_before_it_tells = value == 1,
            "off" => rules.rests_when_off = value == 1,
            _ => panic!("{name}"),
        }
    }
    let found = check(&text, Protocol { gateways, budget, rules });
    assert!(found.is_empty());
}
