//! `loir registry dump | restore | repair`: what people do at night, in words.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use super::{Plan, absolute};
use crate::{
    app::AppId,
    clock::Clock,
    registry::{
        RegistryContext, Upkeep,
        dump::{Dump, Intent},
    },
};

/// What is done by hand.
pub enum Chore<'p> {
    /// Everything that is kept, as one document.
    Dump,
    /// What is missing or older comes back from a dump.
    Restore {
        /// The dump.
        file: &'p Path,
        /// Not only told, but done.
        yes: bool,
    },
    /// What is wrong is found and mended.
    Repair {
        /// Not only told, but done.
        yes: bool,
    },
}

/// What came of a chore.
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// For standard error.
    pub summary: String,
    /// Whether there is nothing left that somebody should look at.
    pub fine: bool,
}

/// Does a chore in the registry of `plan`. The error is what to print.
pub async fn tend(plan: &Plan, chore: Chore<'_>) -> Result<Outcome, String> {
    // A file that is of no use is told before anything is opened.
    let dump = match chore {
        Chore::Restore { file, .. } => Some(read(file)?),
        _ => None,
    };
    pingora_core::tls::install_default_crypto_provider();
    let state_dir = absolute(plan.config.state_dir.clone());
    let context = RegistryContext { state_dir, clock: Clock::system() };
    let opened = plan.registry.upkeep(context).await;
    let upkeep = opened.map_err(|error| format!("{error}\nNothing was changed."))?;
    let upkeep = upkeep.as_ref();
    match (chore, dump) {
        (Chore::Restore { yes, .. }, Some(dump)) => restore(upkeep, &dump, yes).await,
        (Chore::Repair { yes }, _) => repair(upkeep, yes).await,
        _ => tell(upkeep).await,
    }
}

fn read(file: &Path) -> Result<Dump, String> {
    let name = file.display();
    let text = std::fs::read(file).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let text = String::from_utf8(text).map_err(|_| format!("{name}: it is not UTF-8, and so no dump"))?;
    Dump::read(&text).map_err(|problem| format!("{name}: {problem}\nNothing was changed."))
}

fn unchanged(error: impl std::fmt::Display) -> String {
    format!("{error}\nNothing was changed.")
}

async fn tell(upkeep: &dyn Upkeep) -> Result<Outcome, String> {
    let dump = upkeep.dump().await.map_err(unchanged)?;
    let text = serde_json::to_string_pretty(&dump).map_err(|error| error.to_string())?;
    let strangers: Vec<_> = dump.strangers().map(|(app, _)| app).collect();
    let mut summary = format!("{} of {}", count(dump.apps.len(), "app"), place(&dump));
    if !strangers.is_empty() {
        let _ = write!(
            summary,
            "; {} not understood and as raw text in the dump: {}",
            strangers.len(),
            some(&strangers)
        );
    }
    Ok(Outcome { text, summary, fine: true })
}

async fn restore(upkeep: &dyn Upkeep, dump: &Dump, yes: bool) -> Result<Outcome, String> {
    upkeep.mends().map_err(unchanged)?;
    let there = upkeep.dump().await.map_err(unchanged)?;
    let now = there.taken_at();
    let mut text = String::new();
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, dumped) in dump.records() {
        let app: AppId = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        let mut intent = Intent::of(dumped, there.apps.get(name), now);
        if yes && intent.change().is_some() {
            // Decided anew on what is there by now.
            let done = upkeep.restore(&app, dumped).await;
            intent = done.map_err(|error| {
                format!(
                    "{}{name}: {error}\nStopped here. What stands above is done; run it again to go on: what is done is not done twice.",
                    text
                )
            })?;
        }
        let _ = match &intent {
            Intent::Bring(_) => writeln!(
                text,
                "{name}: {} at epoch {}: the registry has no record of it",
                if yes { "brought back" } else { "would come back" },
                dumped.epoch
            ),
            Intent::Advance(_, epoch) => writeln!(
                text,
                "{name}: {} epoch {}: the registry is at epoch {epoch}",
                if yes { "led on from" } else { "would be led on from" },
                dumped.epoch
            ),
            Intent::Newer(epoch) => writeln!(
                text,
                "{name}: kept: the registry is at epoch {epoch}, the dump at the older {}",
                dumped.epoch
            ),
            Intent::InHand(state) => {
                writeln!(text, "{name}: kept: it is {state} right now; run this again when that is over")
            }
            Intent::Strange(problem) => {
                writeln!(
                    text,
                    "{name}: kept: its record is not understood ({problem}): see `loir registry repair`"
                )
            }
            Intent::Same => Ok(()),
        };
        let kind = match intent {
            Intent::Bring(_) | Intent::Advance(..) => "changed",
            Intent::Same => "same",
            _ => "kept",
        };
        *tally.entry(kind).or_default() += 1;
    }
    for (name, problem) in dump.strangers() {
        let _ = writeln!(text, "{name}: left out: it was not understood when the dump was taken ({problem})");
        *tally.entry("left out").or_default() += 1;
    }
    let of = |kind: &str| tally.get(kind).copied().unwrap_or_default();
    let summary = format!(
        "{} {}, {} at the epoch of the dump already, {} kept, {} left out.{}",
        count(of("changed"), "app"),
        if yes { "restored" } else { "would be restored" },
        of("same"),
        of("kept"),
        of("left out"),
        if yes || of("changed") == 0 { "" } else { " Nothing was changed: add --yes to do it." }
    );
    Ok(Outcome { text, summary, fine: true })
}

async fn repair(upkeep: &dyn Upkeep, yes: bool) -> Result<Outcome, String> {
    upkeep.mends().map_err(unchanged)?;
    let found = upkeep.examine().await.map_err(unchanged)?;
    let mut text = String::new();
    let (mut mended, mut moved, mut by_itself) = (0, 0, 0);
    for ailment in &found.ailments {
        let what = format!("{}: {}", ailment.of, ailment.wrong);
        let fate = match (yes, &ailment.remedy) {
            (_, None) => {
                by_itself += 1;
                ailment.cure.clone()
            }
            (false, Some(_)) => format!("with --yes, {}", ailment.cure),
            (true, Some(_)) => {
                let done = upkeep.mend(ailment).await;
                let done = done.map_err(|error| {
                    format!("{text}{what}\n    {error}\nStopped here. What stands above is done; run it again to go on.")
                })?;
                if done {
                    mended += 1;
                    format!("mended: {}", ailment.cure)
                } else {
                    moved += 1;
                    "left as it is: it has changed meanwhile; run this again".into()
                }
            }
        };
        let _ = writeln!(text, "{what}\n    {fate}");
    }
    let records = count(found.records, "record");
    let leader = match &found.leader {
        Some(leader) => format!("{leader} leads"),
        None => "nobody leads: no gateway runs, or one has just ended".into(),
    };
    let summary = if found.ailments.is_empty() {
        format!("All is well: {records}, {leader}.")
    } else if yes {
        format!(
            "{mended} mended, {moved} changed meanwhile, {by_itself} left to the gateways; {records}, {leader}."
        )
    } else {
        let problems = count(found.ailments.len(), "problem");
        format!(
            "{problems} in {records}, {leader}. Nothing was changed: add --yes to mend what can be mended."
        )
    };
    Ok(Outcome { text, summary, fine: yes || found.ailments.is_empty() })
}

/// Which registry a dump is of, in a few words.
fn place(dump: &Dump) -> String {
    let word = |name: &str| dump.registry.get(name).and_then(serde_json::Value::as_str);
    match (word("address"), word("prefix"), word("file")) {
        (Some(address), Some(prefix), _) => format!("the fleet `{prefix}` at {address}"),
        (_, _, Some(file)) => file.to_owned(),
        _ => "the registry".to_owned(),
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A few names, and how many more.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
