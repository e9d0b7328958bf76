//! What the model remembers at a moment: the registry, the provider, each gateway with its tasks, and what may still go wrong.

use std::{fmt, sync::Arc};

use loir::{app::AppState, registry::Record};

/// The names of gateways in records.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// What the registry has of the app.
    pub record: Option<Arc<Record>>,
    /// What it had before the latest write: a failover may bring it back.
    pub before: Option<Arc<Record>>,
    /// Whether the registry can be reached.
    pub up: bool,
    /// The deadline of `record` has passed.
    pub abandoned: bool,
    /// Whose heartbeats count.
    pub live: [bool; 3],
    /// The epoch of the stop that each gateway has agreed to last.
    pub agreed: [u64; 3],
    pub provider: Provider,
    /// Starts that each gateway has told the provider of since the app was last told to stop.
    pub starts: [u8; 3],
    pub gateways: Vec<Gateway>,
    pub left: Budget,
    /// A failover has lost a write, and the gateways do not agree again yet: the documented window.
    pub window: bool,
    /// How often the lease of a gateway passed that was not dead.
    pub overslept: u8,
    /// A gateway has lost the registry.
    pub blind: bool,
    pub harm: Harm,
}

/// What must not happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Harm {
    /// The app was told to stop with a request in flight.
    pub stopped_in_use: bool,
    /// A request was forwarded to an app that does not run.
    pub misled: bool,
    /// A request was refused.
    pub refused: bool,
    /// A stop was vetoed by a gateway that nobody wants the app of.
    pub vetoed_for_nothing: bool,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub requests: u8,
    pub stops: u8,
    pub crashes: u8,
    pub pauses: u8,
    pub lost_messages: u8,
    /// The registry is away for all.
    pub outages: u8,
    /// One gateway loses the registry.
    pub cuts: u8,
    /// It comes back empty.
    pub wipes: u8,
    pub failovers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    Stopped,
    Starting,
    Running,
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    Well,
    Paused,
    Dead,
}

/// One gateway, as far as the app is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gateway {
    pub health: Health,
    /// It sees the registry.
    pub sees: bool,
    /// It has seen it for a lease.
    pub may_stop: bool,
    /// Nothing is to be settled since it joined.
    pub settled: bool,
    /// It was taken for dead, and has not caught up since.
    pub excused: bool,
    pub cell: AppState,
    pub in_flight: u8,
    pub held: u8,
    /// The latest record that it heard of.
    pub heard: Option<Arc<Record>>,
    /// The epoch that its cell agrees with.
    pub followed: u64,
    pub untold: bool,
    /// Another gateway asked for a stop to be given up.
    pub wanted: bool,
    /// It agreed to this stop, and asks for the app if somebody comes.
    pub wants_back: Option<u64>,
    /// It lost the registry in the middle of another's stop.
    pub lets_go: bool,
    pub inbox: Vec<Message>,
    pub wakes: Vec<Wake>,
    pub stop: Option<Stop>,
    /// That was begun too long ago to be told to the provider.
    pub late: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// The record with this epoch; which it is stands in the state.
    Changed(Known),
    Wanted,
}

/// A record on its way, ordered by its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Known(pub Arc<Record>);

impl PartialOrd for Known {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Known {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |known: &Self| (known.0.epoch, known.0.state as u8, known.0.told, known.0.owner.clone());
        key(self).cmp(&key(other))
    }
}

/// How far a wake has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wake {
    /// About to ask for it.
    Claiming { taken_over: bool },
    /// The registry has said that the app is awake.
    Awake,
    /// Another gateway has it in hand, by the record of this epoch.
    Waiting { epoch: u64, taken_over: bool },
    /// This gateway is to start it. Without an epoch: the registry is away.
    Starting { epoch: Option<u64>, taken_over: bool },
    /// The provider was told.
    Probing { epoch: Option<u64> },
}

/// How far a stop has come; with the epoch that its next write is decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Newcomers are held here.
    Begun,
    /// It is recorded, and the others are asked.
    Agreeing(u64),
    /// All have agreed.
    Agreed(u64),
    /// What must come back is kept.
    Saved(u64),
    /// The provider was told.
    Told(u64),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brief = |record: &Option<Arc<Record>>| {
            let record = record.as_ref()?;
            Some(format!("{} {} {:?} told {}", record.state, record.epoch, record.owner, record.told))
        };
        let (up, abandoned, live) = (self.up, self.abandoned, self.live);
        let (agreed, starts, harm) = (self.agreed, self.starts, &self.harm);
        writeln!(
            f,
            "record {:?}, provider {:?}, starts {starts:?}, {harm:?}",
            brief(&self.record),
            self.provider
        )?;
        writeln!(f, "up {up}, abandoned {abandoned}, live {live:?}, agreed {agreed:?}")?;
        self.gateways.iter().try_for_each(|gateway| {
            writeln!(f, "- {:?}", Gateway { heard: None, inbox: Vec::new(), ..gateway.clone() })?;
            writeln!(f, "  heard {:?}, {} messages", brief(&gateway.heard), gateway.inbox.len())
        })
    }
}

impl Gateway {
    pub fn is_well(&self) -> bool {
        self.health == Health::Well
    }

    pub fn is_dead(&self) -> bool {
        self.health == Health::Dead
    }

    /// It may still tell the provider to stop the app.
    pub fn may_still_tell(&self) -> bool {
        let open = matches!(self.stop, Some(Stop::Agreeing(_) | Stop::Agreed(_) | Stop::Saved(_)));
        open && !self.late
    }

    /// Somebody wants the app, here or elsewhere.
    pub fn is_wanted(&self) -> bool {
        self.held > 0 || self.wanted
    }

    pub fn heard_epoch(&self) -> u64 {
        self.heard.as_ref().map_or(0, |record| record.epoch)
    }

    /// Takes over a record that its cell knows of already.
    pub fn remember(&mut self, record: &Arc<Record>) {
        if self.heard.as_ref().is_none_or(|known| known.epoch <= record.epoch) {
            self.heard = Some(record.clone());
            self.followed = record.epoch;
        }
    }

    /// Takes over what another gateway has made of it.
    pub fn hear(&mut self, record: &Arc<Record>, tells_apart: bool) {
        if self.heard.as_ref().is_none_or(|known| known.epoch <= record.epoch) {
            if tells_apart && self.knows_another(record) {
                self.followed = self.followed.min(record.epoch.saturating_sub(1));
            }
            self.heard = Some(record.clone());
        }
    }

    /// It knows another record of the same epoch: the registry has lost one of the two.
    pub fn knows_another(&self, record: &Record) -> bool {
        self.heard.as_ref().is_some_and(|known| {
            let same = |known: &Record| {
                (known.state, known.told, &known.owner) == (record.state, record.told, &record.owner)
            };
            known.epoch == record.epoch && !same(known)
        })
    }

    pub fn tell(&mut self, message: Message) {
        if self.sees && !self.is_dead() && !self.inbox.contains(&message) {
            self.inbox.push(message);
            self.inbox.sort();
        }
    }

    /// The registry is lost.
    pub fn lose(&mut self) {
        if self.sees {
            (self.sees, self.may_stop, self.settled) = (false, false, false);
            self.lets_go = self.cell == AppState::Stopping && self.stop.is_none();
            self.inbox.clear();
        }
    }

    /// Forgets what makes no difference any more, so that equal situations are equal states.
    pub fn tidy(&mut self) {
        if self.is_dead() {
            *self = Self { health: Health::Dead, ..Self::new(AppState::Asleep, None) };
            self.sees = false;
            return;
        }
        let (heard, followed) = (self.heard_epoch(), self.followed);
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.retain(|message| match message {
            Message::Changed(Known(record)) => {
                record.epoch > heard
                    || record.epoch == heard && followed < heard
                    || self.knows_another(record)
            }
            Message::Wanted => true,
        });
        self.inbox = inbox;
        if self.wants_back.is_some_and(|epoch| epoch != heard) {
            self.wants_back = None;
        }
        if self.cell != AppState::Stopping {
            self.lets_go = false;
        }
        self.late &= self.stop.is_some();
        self.wakes.sort();
    }

    pub fn new(cell: AppState, heard: Option<Arc<Record>>) -> Self {
        Self {
            health: Health::Well,
            sees: true,
            may_stop: true,
            settled: true,
            excused: false,
            cell,
            in_flight: 0,
            held: 0,
            followed: heard.as_ref().map_or(0, |record| record.epoch),
            heard,
            untold: false,
            wanted: false,
            wants_back: None,
            lets_go: false,
            inbox: Vec::new(),
            wakes: Vec::new(),
            stop: None,
            late: false,
        }
    }
}
