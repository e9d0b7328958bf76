//! When an app is kept awake or asleep, by the clock on the wall.
//!
//! | file | what is in it |
//! |---|---|
//! | `schedule` (here) | `Schedule`: what holds at a moment, and until when |
//! | `window` | one line of it: a part of the day, or what begins by cron |
//! | `wall` | moments and the clock on the wall, also where that clock is changed |

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;

mod wall;
mod window;

pub use wall::{Days, Time};
pub use window::{End, When, Window};

/// What a schedule says of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: the app sleeps when it is idle, and is woken when it is wanted.
    Free,
    /// It is kept warm: it is not stopped, however idle it is.
    Awake,
    /// It is kept asleep, and this becomes of whoever asks for it.
    Asleep(WhileAsleep),
}

/// What becomes of a request for an app that its schedule keeps asleep.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum WhileAsleep {
    /// It is told when the app will be awake again.
    Never,
    /// A person is asked whether it is to be woken all the same; programs are told when it will be awake again.
    Ask,
    /// It wakes the app as always.
    #[default]
    Allow,
}

/// Nobody asks what holds in more than a year.
const HORIZON: u64 = 366 * 24 * 3600 * 1000;

/// So many beginnings and ends of windows are looked at in the search for the next change: a window that begins each minute has
/// half a million in a year.
const STEPS: usize = 4_000;

/// When an app is kept awake or asleep: of the windows that hold at a moment, the one that stands first counts.
///
/// Moments are milliseconds since 1970.
#[derive(Default)]
pub struct Schedule {
    windows: Vec<Arc<Window>>,
    /// What was found out last: it is asked again and again for the same hours.
    spell: ArcSwapOption<Spell>,
}

/// So long something holds.
struct Spell {
    from: u64,
    to: u64,
    standing: Standing,
}

impl Schedule {
    /// These windows, the first of which counts most.
    pub fn new(windows: Vec<Window>) -> Self {
        Self { windows: windows.into_iter().map(Arc::new).collect(), spell: ArcSwapOption::empty() }
    }

    /// The same, with the windows of another one after its own.
    pub fn and(&self, other: &Self) -> Self {
        let windows = self.windows.iter().chain(&other.windows).cloned().collect();
        Self { windows, spell: ArcSwapOption::empty() }
    }

    /// What holds at `at`.
    pub fn standing(&self, at: u64) -> Standing {
        if self.windows.is_empty() {
            return Standing::Free;
        }
        let spell = self.spell.load();
        if let Some(spell) = spell.as_ref().filter(|spell| (spell.from..spell.to).contains(&at)) {
            return spell.standing.clone();
        }
        let standing = self.look(at);
        let to = match self.change_after(at, &standing) {
            Ok((to, _)) | Err(to) => to,
        };
        self.spell.store(Some(Arc::new(Spell { from: at, to, standing: standing.clone() })));
        standing
    }

    /// The first moment after `at` at which something else holds, and what; `None` if nothing ever will (or not within a year).
    pub fn next(&self, at: u64) -> Option<(u64, Standing)> {
        self.change_after(at, &self.look(at)).ok()
    }

    /// The window that makes it so at `at`, in words: `mon-fri 08:00-19:00 Europe/Paris`. `None` if none does.
    pub fn reason(&self, at: u64) -> Option<String> {
        self.window(at).map(ToString::to_string)
    }

    /// When an app that is kept asleep at `at` no longer is. `None` if it is not kept asleep, or not known to end within a year.
    pub fn opens(&self, at: u64) -> Option<u64> {
        let (mut when, mut standing) = (at, self.look(at));
        if !matches!(standing, Standing::Asleep(_)) {
            return None;
        }
        while let Standing::Asleep(_) = standing {
            (when, standing) = self.change_after(when, &standing).ok()?;
        }
        Some(when)
    }

    /// The time zone of the window that holds at `at`, by its name.
    pub fn zone(&self, at: u64) -> Option<&str> {
        self.window(at).map(Window::zone_name)
    }

    fn window(&self, at: u64) -> Option<&Window> {
        self.windows.iter().find(|window| window.around(at).is_some()).map(|window| &**window)
    }

    fn look(&self, at: u64) -> Standing {
        self.window(at).map_or(Standing::Free, |window| window.keeps.clone())
    }

    /// When something else than `standing` holds for the first time after `at`, and what; else until when it is known that
    /// nothing else does.
    fn change_after(&self, at: u64, standing: &Standing) -> Result<(u64, Standing), u64> {
        let (mut when, horizon) = (at, at.saturating_add(HORIZON));
        for _ in 0..STEPS {
            let edge = self.windows.iter().filter_map(|window| window.edge_after(when)).min();
            when = edge.filter(|edge| *edge < horizon).ok_or(horizon)?;
            let then = self.look(when);
            if then != *standing {
                return Ok((when, then));
            }
        }
        Err(when)
    }
}

impl Clone for Schedule {
    fn clone(&self) -> Self {
        Self { windows: self.windows.clone(), spell: ArcSwapOption::empty() }
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.windows == other.windows
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schedule").field(&self.windows).finish()
    }
}

/// All windows and what they are for.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.windows.is_empty() {
            return f.write_str("none");
        }
        for (number, window) in self.windows.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{} {window}", window.keeps.as_str())?;
        }
        Ok(())
    }
}

impl Standing {
    /// In a word or two.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Awake => "awake",
            Self::Asleep(WhileAsleep::Never) => "asleep (wake: never)",
            Self::Asleep(WhileAsleep::Ask) => "asleep (wake: ask)",
            Self::Asleep(WhileAsleep::Allow) => "asleep",
        }
    }
}

#[cfg(test)]
mod tests;
