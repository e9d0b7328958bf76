//! What may happen next: a step of a gateway, of the provider, of time, or a fault.

use std::sync::Arc;

use loir::{app::AppState, registry::Record};
use stateright::{Model, Property};

use super::{
    Protocol,
    gateway::Step,
    state::{Budget, Gateway, Harm, Health, Message, NAMES, Provider, State, Stop, Wake},
};

/// What happens; the number is the gateway that it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A request arrives.
    Arrive(usize),
    /// A request that was forwarded is answered.
    Answer(usize),
    /// A request that was held asks again.
    AskAgain(usize),
    /// A request that was forwarded gets the router's page for an app that does not run, and is held.
    Doubt(usize),
    /// The next step of one of its wakes.
    Wake(usize, usize),
    /// One of its wakes learns that another gateway has taken over.
    WakeTaken(usize, usize),
    /// It decides to stop the app.
    BeginStop(usize),
    /// The next step of its stop.
    Stop(usize),
    /// Its stop gives way: somebody wants the app.
    StopWanted(usize),
    /// Its stop is given up: somebody does not answer.
    StopUnanswered(usize),
    /// Its stop learns that another gateway has the app in hand.
    StopTaken(usize),
    /// It asks for an app back that it has agreed to stop.
    WantBack(usize),
    /// It hears one of the messages on their way to it.
    Deliver(usize, usize),
    /// One of them is lost.
    Lose(usize, usize),
    /// It reads what it may have missed.
    Reread(usize),
    /// Its heartbeat is heard again.
    Beat(usize),
    /// It renews the lease that had passed.
    Renew(usize),
    /// The registry was lost in the middle of another's stop: it does not wait for its end.
    LetGo(usize),
    /// It joins again.
    Join(usize),
    /// It makes its cell and the record agree after that.
    Settle(usize),
    /// It has seen the registry for a lease.
    GraceEnds(usize),
    /// As the leader: an abandoned record.
    Mend(usize),
    /// As the leader: what the provider lists.
    List(usize),
    Crash(usize),
    Pause(usize),
    Resume(usize),
    /// It alone loses the registry.
    Cut(usize),
    /// It has not been heard of for so long that it is taken for dead.
    HeartbeatEnds(usize),
    /// The deadline of the record passes.
    LeaseEnds,
    /// The time passes within which its stop may be told.
    StopIsLate(usize),
    /// The provider has started the app.
    Started,
    /// The provider has stopped the app.
    Stopped,
    Outage,
    Return,
    /// The registry comes back empty.
    ReturnEmpty,
    /// Another server takes over, which has not got the latest write.
    Failover,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.begins
            .iter()
            .map(|state| {
                let state = *state;
                let record = Arc::new(Record { state, epoch: 1, ..Record::new(0) });
                let awake = state == AppState::Awake;
                State {
                    record: Some(record.clone()),
                    before: None,
                    up: true,
                    abandoned: false,
                    live: [true, true, self.gateways > 2],
                    agreed: [0; 3],
                    provider: if awake { Provider::Running } else { Provider::Stopped },
                    starts: [0; 3],
                    gateways: vec![Gateway::new(state, Some(record)); self.gateways],
                    left: self.budget,
                    window: false,
                    overslept: 0,
                    blind: false,
                    harm: Harm::default(),
                }
            })
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        for (me, gateway) in state.gateways.iter().enumerate().filter(|(_, gateway)| !gateway.is_dead()) {
            actions.extend([HeartbeatEnds(me), StopIsLate(me)]);
            if gateway.health == Health::Paused {
                actions.push(Resume(me));
                continue;
            }
            actions.extend(
                (0..gateway.inbox.len()).flat_map(|message| [Deliver(me, message), Lose(me, message)]),
            );
            actions.extend((0..gateway.wakes.len()).flat_map(|wake| [Wake(me, wake), WakeTaken(me, wake)]));
            match gateway.stop {
                None => actions.push(BeginStop(me)),
                Some(_) => actions.extend([Stop(me), StopWanted(me), StopUnanswered(me), StopTaken(me)]),
            }
            actions.extend([
                Arrive(me),
                Answer(me),
                AskAgain(me),
                Doubt(me),
                WantBack(me),
                Reread(me),
                Beat(me),
            ]);
            actions.extend([Renew(me), LetGo(me), Join(me), Settle(me), GraceEnds(me), Mend(me), List(me)]);
            actions.extend([Crash(me), Pause(me), Cut(me)]);
        }
        actions.extend([LeaseEnds, Started, Stopped, Outage, Return, ReturnEmpty, Failover]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = self.happen(state, action)?;
        next.tidy();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties()
    }
}

impl Protocol {
    /// The state that `action` leads to, if it can happen.
    fn happen(&self, state: &State, action: Action) -> Option<State> {
        use Action as A;
        let at = |me: usize| &state.gateways[me];
        let possible = match action {
            A::Arrive(_) => state.left.requests > 0,
            A::Answer(me) => at(me).in_flight > 0 && state.provider == Provider::Running,
            A::AskAgain(me) => {
                at(me).held > 0 && !matches!(at(me).cell, AppState::Waking | AppState::Stopping)
            }
            A::Doubt(me) => {
                at(me).in_flight > 0 && state.provider != Provider::Running && at(me).stop.is_none()
            }
            A::WakeTaken(me, wake) => {
                matches!(at(me).wakes[wake], Wake::Starting { .. } | Wake::Probing { .. })
            }
            A::BeginStop(me) => {
                let here = at(me);
                let idle = here.cell == AppState::Awake && here.in_flight == 0 && here.held == 0;
                state.left.stops > 0 && idle && here.may_stop && state.up
            }
            A::StopWanted(me) => {
                at(me).is_wanted() && !matches!(at(me).stop, Some(Stop::Begun | Stop::Told(_)))
            }
            A::StopUnanswered(me) => matches!(at(me).stop, Some(Stop::Agreeing(_))),
            A::StopTaken(me) => !matches!(at(me).stop, Some(Stop::Begun)),
            A::WantBack(me) => {
                let wanted = if self.rules.asks_for_its_own { at(me).held > 0 } else { at(me).is_wanted() };
                at(me).wants_back.is_some() && wanted
            }
            A::Lose(..) => state.left.lost_messages > 0,
            A::Reread(me) => {
                let here = at(me);
                let free = here.stop.is_none() && here.settled;
                let behind = here.heard_epoch() > here.followed && free;
                let newer = state.record.as_ref().is_some_and(|record| {
                    record.epoch > here.heard_epoch()
                        || self.rules.tells_records_apart && here.settled && here.knows_another(record)
                });
                state.up && here.sees && (behind || newer)
            }
            A::Beat(me) => state.up && at(me).sees && !state.live[me],
            A::Renew(me) => state.up && at(me).sees && state.abandoned && state.keeps(me),
            A::LetGo(me) => {
                let over = !state.gateways.iter().any(Gateway::may_still_tell);
                at(me).lets_go && !at(me).sees && (over || !self.rules.keeps_its_word_when_blind)
            }
            A::Join(me) => state.up && !at(me).sees,
            A::Settle(me) => state.up && at(me).sees && !at(me).settled && at(me).stop.is_none(),
            A::GraceEnds(me) => {
                let here = |gateway: &Gateway| !gateway.is_well() || gateway.sees && gateway.settled;
                at(me).sees && at(me).settled && !at(me).may_stop && state.gateways.iter().all(here)
            }
            A::Mend(me) => state.leader() == Some(me) && state.abandoned && state.is_transient(),
            A::List(me) => {
                let here = at(me);
                let quiet = here.stop.is_none() && here.wakes.is_empty() && !state.is_transient();
                let differs = match state.provider {
                    Provider::Running => here.cell == AppState::Asleep,
                    Provider::Stopped => here.cell == AppState::Awake && here.in_flight == 0,
                    Provider::Starting | Provider::Stopping => false,
                };
                state.leader() == Some(me) && quiet && differs && here.settled
            }
            A::Crash(_) => state.left.crashes > 0,
            A::Pause(_) => state.left.pauses > 0,
            A::Cut(me) => state.left.cuts > 0 && at(me).sees && state.up,
            A::HeartbeatEnds(me) => {
                let out = !at(me).is_well() || !at(me).sees;
                state.up && state.live[me] && out && (state.owner() != Some(me) || state.abandoned)
            }
            A::LeaseEnds => {
                let kept = state.owner().is_some_and(|owner| {
                    at(owner).is_well() && at(owner).sees && state.up && state.keeps(owner)
                });
                state.is_transient() && !state.abandoned && !kept
            }
            A::StopIsLate(me) => {
                let waits = |gateway: &Gateway| gateway.lets_go && !gateway.sees;
                at(me).may_still_tell() && state.gateways.iter().any(waits)
            }
            A::Started => state.provider == Provider::Starting,
            A::Stopped => state.provider == Provider::Stopping,
            A::Outage => state.left.outages > 0 && state.up,
            A::Return => !state.up,
            A::ReturnEmpty => !state.up && state.left.wipes > 0,
            A::Failover => state.left.failovers > 0 && state.up && state.before.is_some(),
            _ => true,
        };
        if !possible {
            return None;
        }
        let me = action.gateway().unwrap_or(0);
        let mut step = Step { next: state.clone(), rules: &self.rules, me };
        match action {
            A::Arrive(_) => {
                step.next.left.requests -= 1;
                step.enter();
            }
            A::Answer(_) => step.here().in_flight -= 1,
            A::AskAgain(_) => match step.here().cell {
                AppState::Failed => {
                    step.here().held -= 1;
                    step.next.harm.refused |= !at(me).excused && !state.window;
                }
                _ => {
                    step.here().held -= 1;
                    step.enter();
                }
            },
            A::Doubt(_) => {
                if step.here().cell == AppState::Awake {
                    step.ended();
                }
                step.here().in_flight -= 1;
                step.enter();
            }
            A::Wake(_, wake) => {
                let wake = step.here().wakes.remove(wake);
                let then = step.wake(wake)?;
                step.here().wakes.extend(then);
            }
            A::WakeTaken(_, wake) => {
                let wake = step.here().wakes.remove(wake);
                if !step.is_taken() {
                    return None;
                }
                let heard = step.here().heard.as_ref().map(|record| record.state);
                let told = matches!(wake, Wake::Probing { .. }) && self.rules.remembers_its_start;
                let taken_over = told || heard == Some(AppState::Waking);
                step.here().wakes.push(Wake::Claiming { taken_over });
            }
            A::BeginStop(_) => {
                step.next.left.stops -= 1;
                let here = step.here();
                (here.cell, here.wanted, here.stop) = (AppState::Stopping, false, Some(Stop::Begun));
            }
            A::Stop(_) => {
                let stop = step.here().stop.clone()?;
                step.stop(&stop)?;
            }
            A::StopWanted(_) => {
                let epoch = step.here().stop.as_ref()?.basis()?;
                step.end(false, epoch);
            }
            A::StopUnanswered(_) => {
                let epoch = step.here().stop.as_ref()?.basis()?;
                let silent = |other: usize| {
                    let other = at(other);
                    !other.is_well() || !other.sees || other.followed >= epoch
                };
                if !step.missing(epoch).any(silent) {
                    return None;
                }
                step.end(false, epoch);
            }
            A::StopTaken(_) => {
                if !step.is_taken() {
                    return None;
                }
                step.stay(self.rules.after_off());
            }
            A::WantBack(_) => {
                let epoch = step.here().wants_back.take()?;
                step.veto(epoch);
            }
            A::Deliver(_, message) => match step.here().inbox.remove(message) {
                Message::Changed(record) => {
                    step.hear(&record.0);
                    step.catch_up();
                }
                Message::Wanted => step.here().wanted = true,
            },
            A::Lose(_, message) => {
                step.next.left.lost_messages -= 1;
                step.here().inbox.remove(message);
            }
            A::Reread(_) => {
                if let Some(record) = &state.record {
                    step.hear(record);
                }
                step.catch_up();
            }
            A::Beat(_) => step.next.live[me] = true,
            A::Renew(_) => step.next.abandoned = false,
            A::LetGo(_) => {
                step.here().lets_go = false;
                let runs = state.provider == Provider::Running || !self.rules.keeps_its_word_when_blind;
                step.here().cell = if runs { AppState::Awake } else { AppState::Asleep };
            }
            A::Join(_) => {
                step.here().sees = true;
                step.next.live[me] = true;
            }
            A::Settle(_) => step.settle(),
            A::GraceEnds(_) => step.here().may_stop = true,
            A::Mend(_) => step.mend()?,
            A::List(_) => match state.provider {
                Provider::Running => step.adopt(),
                _ => step.ended(),
            },
            A::Crash(_) => {
                step.next.left.crashes -= 1;
                step.here().health = Health::Dead;
            }
            A::Pause(_) => {
                step.next.left.pauses -= 1;
                step.here().health = Health::Paused;
            }
            A::Resume(_) => step.here().health = Health::Well,
            A::Cut(_) => {
                step.next.left.cuts -= 1;
                step.next.blind = true;
                step.here().lose();
            }
            A::HeartbeatEnds(_) => {
                step.next.live[me] = false;
                step.here().excused = true;
            }
            A::LeaseEnds => {
                step.next.abandoned = true;
                if let Some(owner) = state.owner().filter(|owner| at(*owner).stop.is_some()) {
                    step.next.gateways[owner].late = true;
                }
                let lives = state.owner().is_some_and(|owner| !at(owner).is_dead());
                step.next.overslept += u8::from(lives);
            }
            A::StopIsLate(_) => step.here().late = true,
            A::Started => step.next.provider = Provider::Running,
            A::Stopped => step.next.provider = Provider::Stopped,
            A::Outage => {
                step.next.left.outages -= 1;
                (step.next.up, step.next.blind) = (false, true);
                step.next.gateways.iter_mut().for_each(Gateway::lose);
            }
            A::Return => step.next.up = true,
            A::ReturnEmpty => {
                step.next.left.wipes -= 1;
                step.next.up = true;
                (step.next.record, step.next.before, step.next.abandoned) = (None, None, false);
                (step.next.live, step.next.agreed) = ([false; 3], [0; 3]);
            }
            A::Failover => {
                step.next.left.failovers -= 1;
                step.next.record = step.next.before.take();
                (step.next.window, step.next.blind, step.next.abandoned) = (true, true, false);
                step.next.gateways.iter_mut().for_each(Gateway::lose);
            }
        }
        Some(step.next)
    }
}

impl Action {
    fn gateway(self) -> Option<usize> {
        use Action::*;
        match self {
            Arrive(me)
            | Answer(me)
            | AskAgain(me)
            | Doubt(me)
            | Wake(me, _)
            | WakeTaken(me, _)
            | BeginStop(me)
            | Stop(me)
            | StopWanted(me)
            | StopUnanswered(me)
            | StopTaken(me)
            | WantBack(me)
            | Deliver(me, _)
            | Lose(me, _)
            | Reread(me)
            | Beat(me)
            | Renew(me)
            | LetGo(me)
            | Join(me)
            | Settle(me)
            | GraceEnds(me)
            | Mend(me)
            | List(me)
            | Crash(me)
            | Pause(me)
            | Resume(me)
            | Cut(me)
            | HeartbeatEnds(me)
            | StopIsLate(me) => Some(me),
            LeaseEnds | Started | Stopped | Outage | Return | ReturnEmpty | Failover => None,
        }
    }
}

impl Stop {
    fn basis(&self) -> Option<u64> {
        match self {
            Self::Begun => None,
            Self::Agreeing(epoch) | Self::Agreed(epoch) | Self::Saved(epoch) | Self::Told(epoch) => {
                Some(*epoch)
            }
        }
    }
}

impl State {
    pub fn is_transient(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.deadline.is_some())
    }

    /// Who has the app in hand.
    pub fn owner(&self) -> Option<usize> {
        let owner = self.record.as_ref()?.owner.as_deref()?;
        NAMES.iter().position(|name| *name == owner)
    }

    /// Whether a task of the gateway `me` renews the lease.
    fn keeps(&self, me: usize) -> bool {
        let gateway = &self.gateways[me];
        let wakes = |wake: &Wake| matches!(wake, Wake::Starting { .. } | Wake::Probing { .. });
        let stops = gateway.stop.as_ref().is_some_and(|stop| *stop != Stop::Begun);
        self.owner() == Some(me) && (stops || gateway.wakes.iter().any(wakes))
    }

    fn leader(&self) -> Option<usize> {
        self.gateways.iter().position(|gateway| gateway.is_well() && gateway.sees).filter(|_| self.up)
    }

    fn tidy(&mut self) {
        self.gateways.iter_mut().for_each(Gateway::tidy);
        let told = |gateway: &Gateway| {
            matches!(gateway.stop, Some(Stop::Agreed(_) | Stop::Saved(_) | Stop::Told(_)))
        };
        let told = self.gateways.iter().any(told);
        let record = self.record.clone();
        let agrees = |gateway: &Gateway| {
            gateway.sees
                && gateway.settled
                && record.as_ref().is_some_and(|record| record.epoch == gateway.followed)
        };
        for (gateway, live) in self.gateways.iter_mut().zip(self.live) {
            gateway.excused &= told || !live || !agrees(gateway);
        }
        let true_to_it = match self.provider {
            Provider::Running | Provider::Stopped => {
                let runs = self.provider == Provider::Running;
                self.record.as_ref().is_some_and(|record| (record.state == AppState::Awake) == runs)
            }
            Provider::Starting | Provider::Stopping => false,
        };
        self.window &=
            told || !true_to_it || !self.gateways.iter().all(|gateway| gateway.is_dead() || agrees(gateway));
        if !self.is_transient() {
            self.abandoned = false;
        }
        if self.left.failovers == 0 {
            self.before = None;
        }
        // An agreement to a stop that is over.
        let epoch = self.gateways.iter().filter_map(|gateway| gateway.stop.as_ref()?.basis()).min();
        let epoch = epoch.into_iter().chain(record.map(|record| record.epoch)).min().unwrap_or(0);
        self.agreed.iter_mut().filter(|agreed| **agreed < epoch).for_each(|agreed| *agreed = 0);
    }

    /// Nobody waits, nothing is half done, and all believe the same, which is true.
    pub fn is_at_rest(&self) -> bool {
        let Some(record) = &self.record else { return false };
        let runs = self.provider == Provider::Running;
        record.deadline.is_none()
            && (record.state == AppState::Awake) == runs
            && self.gateways.iter().filter(|gateway| !gateway.is_dead()).all(|gateway| {
                gateway.held == 0
                    && gateway.in_flight == 0
                    && gateway.cell == record.state
                    && gateway.stop.is_none()
                    && gateway.wakes.is_empty()
            })
    }
}

impl Budget {
    /// Nothing goes wrong.
    pub const fn calm(requests: u8, stops: u8) -> Self {
        Self {
            requests,
            stops,
            crashes: 0,
            pauses: 0,
            lost_messages: 0,
            outages: 0,
            cuts: 0,
            wipes: 0,
            failovers: 0,
        }
    }
}
