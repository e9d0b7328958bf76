//! Which apps are woken together, and in which order: out of what the rules say of all apps.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::{fmt, sync::Arc};

use super::Ruling;
use crate::app::AppId;

/// Apps that belong together. Only apps that exist count.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    of: HashMap<AppId, Arc<[AppId]>>,
    cycles: Vec<Cycle>,
    /// Who waits for whom in vain: each has to wait for the other.
    endless: HashSet<(AppId, AppId)>,
}

/// Apps each of which is to be started after the next one, and the last one after the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle(pub Vec<AppId>);

/// `p/a -> p/b -> p/a`: each after the one behind the arrow.
impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for app in self.0.iter().chain(self.0.first()).enumerate() {
            match app {
                (0, app) => write!(f, "{app}")?,
                (_, app) => write!(f, " -> {app}")?,
            }
        }
        Ok(())
    }
}

impl Groups {
    /// The groups of these apps, each with what the rules say of it.
    pub fn new<'a>(apps: impl IntoIterator<Item = (&'a AppId, &'a Ruling)>) -> Self {
        // In order, so that the same apps give the same groups and the same words.
        let apps: BTreeMap<&AppId, &Ruling> = apps.into_iter().collect();
        let mut near: BTreeMap<&AppId, BTreeSet<&AppId>> = BTreeMap::new();
        let mut waits: BTreeMap<&AppId, Vec<&AppId>> = BTreeMap::new();
        for (app, ruling) in &apps {
            for other in ruling.wakes_with.iter().filter(|other| *other != *app) {
                let Some((other, _)) = apps.get_key_value(other) else { continue };
                near.entry(app).or_default().insert(other);
                near.entry(other).or_default().insert(app);
            }
            let after = ruling.after.iter().filter_map(|(other, _)| apps.get_key_value(other));
            let after: Vec<&AppId> = after.map(|(other, _)| *other).collect();
            if !after.is_empty() {
                waits.insert(app, after);
            }
        }
        let (cycles, endless) = endless(&waits);
        Self { of: connected(&near), cycles, endless }
    }

    /// All apps of the group of `app`, itself included, in order of their names; nobody, if it is in no group.
    pub fn of(&self, app: &AppId) -> &[AppId] {
        self.of.get(app).map_or(&[], |group| group)
    }

    /// Orders that cannot be kept, each named once by one way around.
    pub fn cycles(&self) -> &[Cycle] {
        &self.cycles
    }

    /// Whether `app` cannot wait for `other`, because `other` has to wait for it.
    pub fn is_endless(&self, app: &AppId, other: &AppId) -> bool {
        !self.endless.is_empty() && self.endless.contains(&(app.clone(), other.clone()))
    }
}

/// The connected parts, each app of a part with all of it.
fn connected(near: &BTreeMap<&AppId, BTreeSet<&AppId>>) -> HashMap<AppId, Arc<[AppId]>> {
    let mut of = HashMap::new();
    for start in near.keys() {
        if of.contains_key(*start) {
            continue;
        }
        let (mut group, mut open) = (BTreeSet::from([*start]), vec![*start]);
        while let Some(app) = open.pop() {
            open.extend(near.get(app).into_iter().flatten().copied().filter(|other| group.insert(other)));
        }
        let group: Arc<[AppId]> = group.into_iter().cloned().collect();
        of.extend(group.iter().map(|app| (app.clone(), group.clone())));
    }
    of
}

/// Who waits for somebody that waits for them, and a way around for each knot of those.
fn endless(waits: &BTreeMap<&AppId, Vec<&AppId>>) -> (Vec<Cycle>, HashSet<(AppId, AppId)>) {
    let (mut cycles, mut edges, mut told) = (Vec::new(), HashSet::new(), HashSet::new());
    for (app, after) in waits {
        for other in after {
            // The shortest way back from whoever is waited for.
            let Some(back) = way(waits, other, app) else { continue };
            edges.insert((AppId::clone(app), AppId::clone(other)));
            if back.iter().all(|member| !told.contains(member)) {
                // From `other` to `app`; the way around begins with the first by name.
                let mut around = back.clone();
                let first = around.iter().enumerate().min_by_key(|(_, app)| **app).map_or(0, |(at, _)| at);
                around.rotate_left(first);
                cycles.push(Cycle(around.into_iter().cloned().collect()));
            }
            told.extend(back);
        }
    }
    (cycles, edges)
}

/// The shortest way from one to another, both included.
fn way<'a>(
    waits: &BTreeMap<&'a AppId, Vec<&'a AppId>>,
    from: &'a AppId,
    to: &AppId,
) -> Option<Vec<&'a AppId>> {
    let mut came_from: HashMap<&AppId, Option<&AppId>> = HashMap::from([(from, None)]);
    let mut open = std::collections::VecDeque::from([from]);
    while let Some(app) = open.pop_front() {
        if app == to {
            let mut way = vec![app];
            while let Some(Some(before)) = way.last().and_then(|app| came_from.get(app)) {
                way.push(before);
            }
            way.reverse();
            return Some(way);
        }
        for next in waits.get(app).into_iter().flatten() {
            if !came_from.contains_key(next) {
                came_from.insert(next, Some(app));
                open.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
