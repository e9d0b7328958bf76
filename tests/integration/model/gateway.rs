//! What a gateway does in one step, as `src/lifecycle` does it: each of its tasks goes from one call of the registry or the
//! provider to the next.

use std::{sync::Arc, time::Duration};

use loir::{
    app::{AppState, Formation},
    lifecycle::follow::{Follow, follow},
    registry::{Change, Record},
};

use super::{
    Rules,
    state::{Gateway, Known, Message, NAMES, Provider, State, Stop, Wake},
};

/// Time is abstract: everything happens at 0, and a deadline is at 1. Once it has passed, it is 1.
const LEASE: Duration = Duration::from_millis(1);

/// Why the registry did not do what it was asked.
pub enum Refused {
    Misfit(Arc<Record>),
    Away,
}

/// One gateway's step: the state that it leads to, and the rules it follows.
pub struct Step<'a> {
    pub next: State,
    pub rules: &'a Rules,
    pub me: usize,
}

impl Step<'_> {
    pub fn here(&mut self) -> &mut Gateway {
        &mut self.next.gateways[self.me]
    }

    fn by(&self) -> String {
        NAMES[self.me].into()
    }

    /// Whether a command would be answered.
    fn sees(&self) -> bool {
        self.next.up && self.next.gateways[self.me].sees
    }

    /// `Registry::apply`, as `registry/redis` does it.
    pub fn apply(&mut self, change: &Change, basis: Option<u64>) -> Result<Arc<Record>, Refused> {
        if !self.sees() {
            return Err(Refused::Away);
        }
        let now = u64::from(self.next.abandoned);
        let there = self.next.record.clone().unwrap_or_else(|| Arc::new(Record::new(0)));
        if self.rules.compares_epochs && basis.is_some_and(|epoch| epoch != there.epoch) {
            return Err(Refused::Misfit(there));
        }
        let restored = match (change, &self.here().heard) {
            (Change::Restore { .. }, _) => None,
            (_, Some(known)) if known.epoch > there.epoch => {
                let running = known.state == AppState::Awake;
                there.apply(&Change::Restore { known: Box::new(Record::clone(known)), running }, now).ok()
            }
            _ => None,
        };
        match restored.as_ref().unwrap_or(&there).apply(change, now) {
            Ok(next) => Ok(self.write(next)),
            Err(_) => Err(Refused::Misfit(there)),
        }
    }

    fn write(&mut self, mut next: Record) -> Arc<Record> {
        next.since = 0;
        next.boots.clear();
        next.deadline = next.deadline.map(|_| 1);
        next.failures = 0;
        next.last_failure = None;
        let next = Arc::new(next);
        self.next.abandoned = false;
        self.next.before = self.next.record.replace(next.clone()).filter(|_| self.next.left.failovers > 0);
        for gateway in &mut self.next.gateways {
            gateway.tell(Message::Changed(Known(next.clone())));
        }
        next
    }

    /// `ManagedApp::hear`.
    pub fn hear(&mut self, record: &Arc<Record>) {
        let tells_apart = self.rules.tells_records_apart;
        // What it knows itself is settled first.
        if !(tells_apart && self.is_unsettled() && self.here().knows_another(record)) {
            self.here().hear(record, tells_apart);
        }
    }

    /// It has joined again, and has not told yet what it has seen meanwhile.
    fn is_unsettled(&self) -> bool {
        let here = &self.next.gateways[self.me];
        here.sees && !here.settled && self.rules.settles_before_it_follows
    }

    /// `Lifecycle::record`.
    pub fn record(&mut self, change: &Change, basis: Option<u64>) -> Result<Arc<Record>, Refused> {
        let result = self.apply(change, basis);
        match &result {
            Ok(record) => self.here().remember(record),
            Err(Refused::Misfit(record)) => {
                let record = record.clone();
                self.hear(&record);
            }
            Err(Refused::Away) => self.here().untold = true,
        }
        result
    }

    /// `Lifecycle::catch_up`: only while no stop of its own holds the order.
    pub fn catch_up(&mut self) {
        let unsettled = self.is_unsettled();
        if self.here().stop.is_some() || unsettled {
            return;
        }
        while let Some(record) =
            self.here().heard.clone().filter(|record| record.epoch > self.here().followed)
        {
            self.here().followed = record.epoch;
            let in_flight = self.here().in_flight > 0 && self.rules.counts_whatever_its_cell;
            let (cell, wanted) = (self.here().cell, self.here().held > 0 || in_flight);
            match follow(cell, wanted, &record, NAMES[self.me]) {
                Follow::Stay => {}
                Follow::Awake => self.here().cell = AppState::Awake,
                Follow::Asleep => self.here().cell = AppState::Asleep,
                Follow::Failed => self.here().cell = AppState::Failed,
                Follow::Yield if self.here().in_flight == 0 || !self.rules.agrees_only_idle => {
                    self.here().cell = AppState::Stopping;
                    self.agree(record.epoch);
                }
                Follow::Yield => self.veto(record.epoch),
                Follow::Agree => self.agree(record.epoch),
                Follow::Veto => self.veto(record.epoch),
            }
        }
    }

    fn agree(&mut self, epoch: u64) {
        if self.sees() {
            self.next.agreed[self.me] = epoch;
        }
        self.here().wants_back = Some(epoch);
    }

    pub fn veto(&mut self, epoch: u64) {
        let here = self.here();
        let wants = here.held > 0 || here.in_flight > 0 || here.cell == AppState::Waking;
        match self.apply(&Change::Veto, Some(epoch)) {
            Ok(_) => self.next.harm.vetoed_for_nothing |= !wants,
            Err(Refused::Misfit(there)) if there.told && there.state == AppState::Stopping => self.want(),
            Err(_) => {}
        }
    }

    fn want(&mut self) {
        if self.sees() {
            self.next.gateways.iter_mut().for_each(|gateway| gateway.tell(Message::Wanted));
        }
    }

    /// A request is counted in.
    pub fn enter(&mut self) {
        match self.here().cell {
            AppState::Awake => {
                self.here().in_flight += 1;
                let excused = self.here().excused || self.next.window;
                self.next.harm.misled |= self.next.provider != Provider::Running && !excused;
            }
            AppState::Asleep | AppState::Failed => {
                self.here().held += 1;
                self.begin_wake();
            }
            AppState::Waking | AppState::Stopping => self.here().held += 1,
        }
    }

    pub fn begin_wake(&mut self) {
        let here = self.here();
        here.cell = AppState::Waking;
        let taken_over = here.heard.as_ref().is_some_and(|record| record.state == AppState::Waking);
        here.wakes.push(Wake::Claiming { taken_over });
    }

    /// One step of a wake; returns what the task does next, or nothing if it has ended.
    pub fn wake(&mut self, wake: Wake) -> Option<Option<Wake>> {
        Some(match wake {
            Wake::Claiming { taken_over } => Some(self.claim(taken_over)),
            Wake::Awake => {
                if self.here().stop.is_some() {
                    return None;
                }
                if !self.rules.looks_before_it_wakes {
                    self.here().cell = AppState::Awake;
                    return Some(None);
                }
                self.catch_up();
                let here = self.here();
                let awake = here.heard.as_ref().is_some_and(|record| record.state == AppState::Awake);
                match here.cell {
                    AppState::Waking if awake => here.cell = AppState::Awake,
                    AppState::Waking => return Some(Some(Wake::Claiming { taken_over: false })),
                    _ => {}
                }
                None
            }
            Wake::Waiting { epoch, taken_over } => {
                let there = self.next.record.as_ref().map(|record| record.epoch);
                let passed = self.here().heard_epoch() != epoch
                    || !self.sees()
                    || there != Some(epoch)
                    || self.next.abandoned;
                if !passed || self.here().stop.is_some() {
                    return None;
                }
                self.catch_up();
                (self.here().cell == AppState::Waking).then_some(Wake::Claiming { taken_over })
            }
            Wake::Starting { epoch, taken_over } => {
                let provider = &mut self.next.provider;
                if !taken_over || !matches!(provider, Provider::Running | Provider::Starting) {
                    self.next.starts[self.me] += 1;
                    if *provider != Provider::Running {
                        *provider = Provider::Starting;
                    }
                }
                Some(Wake::Probing { epoch })
            }
            Wake::Probing { .. } if self.next.gateways[self.me].stop.is_some() => return None,
            Wake::Probing { epoch } => match self.next.provider {
                Provider::Running => {
                    self.succeed(epoch);
                    None
                }
                Provider::Stopped => {
                    self.fail(epoch);
                    None
                }
                Provider::Starting | Provider::Stopping => return None,
            },
        })
    }

    fn claim(&mut self, mut taken_over: bool) -> Wake {
        let begun = self.next.record.as_ref().is_some_and(|record| record.deadline.is_some());
        taken_over |= begun && self.rules.knows_what_it_takes_over;
        let there = match self.record(&Change::BeginWake { by: self.by(), lease: LEASE }, None) {
            Ok(record) => {
                if self.rules.claims_its_cell && self.here().stop.is_none() {
                    self.here().cell = AppState::Waking;
                }
                return Wake::Starting { epoch: Some(record.epoch), taken_over };
            }
            Err(Refused::Away) => return Wake::Starting { epoch: None, taken_over: false },
            Err(Refused::Misfit(there)) => there,
        };
        let epoch = there.epoch;
        match there.state {
            AppState::Awake => Wake::Awake,
            AppState::Stopping if !there.told => {
                if self.rules.looks_before_it_wakes {
                    if let Ok(there) | Err(Refused::Misfit(there)) = self.apply(&Change::Veto, Some(epoch)) {
                        self.hear(&there);
                    }
                } else {
                    drop(self.record(&Change::Veto, Some(epoch)));
                }
                Wake::Claiming { taken_over }
            }
            AppState::Stopping => {
                self.want();
                Wake::Waiting { epoch, taken_over }
            }
            AppState::Waking => Wake::Waiting { epoch, taken_over: true },
            AppState::Asleep | AppState::Failed => Wake::Waiting { epoch, taken_over },
        }
    }

    fn succeed(&mut self, epoch: Option<u64>) {
        if self.here().cell == AppState::Waking {
            self.here().cell = AppState::Awake;
        }
        let mut told = self.record(&Change::WakeReady { boot: Duration::ZERO }, epoch);
        if let Err(Refused::Misfit(there)) = &told
            && there.state != AppState::Awake
        {
            let epoch = there.epoch;
            told = self.record(&Change::Found { running: true, by: self.by() }, Some(epoch));
        }
        if told.is_ok() && self.rules.claims_its_cell {
            self.here().cell = AppState::Awake;
        }
    }

    fn fail(&mut self, epoch: Option<u64>) {
        let change = Change::WakeFailed { reason: String::new(), reference: String::new() };
        let elsewhere = if !self.rules.fails_only_its_own {
            let basis = self.here().heard.as_ref().map(|record| record.epoch);
            drop(self.record(&change, basis));
            false
        } else if epoch.is_some() {
            matches!(self.record(&change, epoch), Err(Refused::Misfit(_)))
        } else {
            self.sees()
        };
        if self.here().cell == AppState::Waking {
            self.here().cell = if elsewhere { AppState::Asleep } else { AppState::Failed };
        }
        self.catch_up();
    }

    /// `Lifecycle::keep`: whether another has what this gateway wakes or stops; then it has heard so.
    pub fn is_taken(&mut self) -> bool {
        let Some(record) = self.next.record.clone().filter(|_| self.sees()) else { return false };
        let renew = Change::Renew { by: self.by(), lease: LEASE };
        let taken = record.apply(&renew, 0).is_err();
        if taken {
            self.hear(&record);
        }
        taken
    }

    /// One step of a stop. `None` if it can do nothing now.
    pub fn stop(&mut self, stop: &Stop) -> Option<()> {
        match *stop {
            Stop::Begun if self.rules.looks_before_it_stops && !self.here().may_stop => {
                self.stay(AppState::Awake);
            }
            Stop::Begun => {
                let begin = Change::BeginStop { by: self.by(), idle: Duration::ZERO, lease: LEASE };
                match self.record(&begin, None) {
                    Ok(record) if self.rules.waits_for_agreement => {
                        self.here().stop = Some(Stop::Agreeing(record.epoch));
                    }
                    Ok(record) => self.here().stop = Some(Stop::Agreed(record.epoch)),
                    Err(_) => self.stay(AppState::Awake),
                }
            }
            Stop::Agreeing(epoch) => {
                if !self.sees() {
                    self.end(false, epoch);
                } else if self.next.record.as_ref().is_none_or(|record| record.epoch != epoch) {
                    self.stay(self.rules.after_off());
                } else if self.missing(epoch).next().is_none() {
                    self.here().stop = Some(Stop::Agreed(epoch));
                } else {
                    return None;
                }
            }
            Stop::Agreed(epoch) if self.next.provider == Provider::Stopped => self.end(true, epoch),
            Stop::Agreed(epoch) => {
                match self.record(&Change::Save { formation: Formation::default() }, Some(epoch)) {
                    Ok(record) => self.here().stop = Some(Stop::Saved(record.epoch)),
                    Err(_) => self.end(false, epoch),
                }
            }
            Stop::Saved(epoch) if self.rules.tells_in_time && !self.is_in_time() => self.end(false, epoch),
            Stop::Saved(epoch) => {
                self.next.harm.stopped_in_use |= !self.next.window
                    && self.next.gateways.iter().any(|gateway| gateway.in_flight > 0 && !gateway.excused);
                if self.next.provider != Provider::Stopped {
                    self.next.provider = Provider::Stopping;
                }
                self.next.starts = [0; 3];
                self.here().stop = Some(Stop::Told(epoch));
            }
            Stop::Told(epoch) => match self.next.provider {
                Provider::Stopping => return None,
                Provider::Stopped => self.end(true, epoch),
                Provider::Starting if self.rules.sees_it_through => return None,
                // Somebody has started it again.
                Provider::Starting | Provider::Running => self.end(false, epoch),
            },
        }
        Some(())
    }

    /// Whether what the others have agreed to still counts.
    fn is_in_time(&self) -> bool {
        let here = &self.next.gateways[self.me];
        here.may_stop && !here.late
    }

    /// Which live gateways have not agreed.
    pub fn missing(&self, epoch: u64) -> impl Iterator<Item = usize> {
        let (live, agreed, me) = (self.next.live, self.next.agreed, self.me);
        (0..3).filter(move |other| *other != me && live[*other] && agreed[*other] != epoch)
    }

    /// The end of a stop is recorded, if nobody else has ended it.
    pub fn end(&mut self, stopped: bool, epoch: u64) {
        let change = if stopped { Change::Stopped } else { Change::AbortStop };
        drop(self.record(&change, Some(epoch)));
        self.stay(if stopped { AppState::Asleep } else { AppState::Awake });
    }

    /// The stop is over here.
    pub fn stay(&mut self, cell: AppState) {
        self.here().stop = None;
        self.here().cell = cell;
        self.catch_up();
    }

    /// `Lifecycle::settle`: the record and the cell are made to agree after the registry was away.
    pub fn settle(&mut self) {
        let here = self.here();
        let (running, untold, cell) = (here.cell == AppState::Awake, here.untold, here.cell);
        (here.untold, here.settled) = (false, true);
        let (known, there) = (here.heard.clone(), self.next.record.clone());
        let another = there.as_ref().is_some_and(|there| self.here().knows_another(there));
        let untold = untold || another && self.rules.tells_records_apart;
        let found = Change::Found { running, by: self.by() };
        let lost = known.filter(|known| there.as_ref().is_none_or(|there| there.epoch < known.epoch));
        let change = match (lost, &there) {
            (Some(known), _) => {
                Some((Change::Restore { known: Box::new(Record::clone(&known)), running }, None))
            }
            (None, None) => Some((found, Some(0))),
            (None, Some(there)) => {
                let settled = matches!(cell, AppState::Awake | AppState::Asleep | AppState::Failed);
                let differs = settled && running != (there.state == AppState::Awake);
                let runs = self.next.provider == Provider::Running;
                let ended = if self.rules.asks_before_it_tells { runs == running } else { running || !runs };
                (untold && differs && ended).then_some((found, Some(there.epoch)))
            }
        };
        if let Some((change, basis)) = change {
            match self.apply(&change, basis) {
                Ok(record) if self.rules.follows_what_it_restores => {
                    self.hear(&record);
                    return self.catch_up();
                }
                Ok(record) => return self.here().remember(&record),
                Err(Refused::Misfit(_)) => {}
                Err(Refused::Away) => {
                    (self.here().settled, self.here().untold) = (false, untold);
                    return;
                }
            }
        }
        if let Some(there) = there {
            self.hear(&there);
            self.catch_up();
        }
    }

    /// The app is seen not to run any more, by a request or in a list.
    pub fn ended(&mut self) {
        let becomes = match self.record(&Change::Found { running: false, by: self.by() }, None) {
            Ok(record) => record.state,
            Err(_) => AppState::Asleep,
        };
        self.here().cell = becomes;
        self.catch_up();
    }

    /// The leader's list says that the app runs.
    pub fn adopt(&mut self) {
        if !matches!(
            self.record(&Change::Found { running: true, by: self.by() }, None),
            Err(Refused::Misfit(_))
        ) {
            self.here().cell = AppState::Awake;
        }
    }

    /// The leader asks the provider what has become of an abandoned wake or stop.
    pub fn mend(&mut self) -> Option<()> {
        let running = match self.next.provider {
            Provider::Running => true,
            Provider::Stopped => false,
            Provider::Starting | Provider::Stopping => return None,
        };
        let epoch = self.next.record.as_ref()?.epoch;
        self.apply(&Change::Found { running, by: self.by() }, Some(epoch)).ok().map(drop)
    }
}
