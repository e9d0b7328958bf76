//! What is remembered of our own start of an app, and what became of its deployment.
//!
//! The state of an app (`WANTS_TO_BE_UP`) is the same while a start goes on and for ever after it has failed: only the
//! rows of its deployments tell which.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as Lock, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use super::wire::Deployment;

/// The state of an app may be so far behind our start.
const LAG: Duration = Duration::from_secs(60);

/// The states of apps that start are not read more often for their status.
pub const ASK_EVERY: Duration = Duration::from_secs(4);

/// Nor are the deployments of each of them, which only tell of failures.
const READ_EVERY: Duration = Duration::from_secs(8);

/// What is remembered of each app that was started or stopped here.
#[derive(Default)]
pub struct Tracks(Lock<HashMap<String, Arc<Track>>>);

/// One app's.
#[derive(Default)]
pub struct Track {
    /// Held while the app is started or stopped.
    pub one: Mutex<()>,
    start: Lock<Option<Start>>,
}

impl Tracks {
    /// What is remembered of this app.
    pub fn of(&self, id: &str) -> Arc<Track> {
        let mut tracks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tracks.entry(id.to_owned()).or_default().clone()
    }

    /// Of these apps only.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        let mut tracks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tracks.retain(|id, track| is_there(id) || Arc::strong_count(track) > 1);
    }
}

impl Track {
    /// Our latest start, until it is over.
    pub fn start(&self) -> Option<Start> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is our latest start.
    pub fn remember(&self, start: Option<Start>) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = start;
    }

    /// It was seen running by somebody who asked at `asked`: then our start is over.
    pub fn seen_up(&self, asked: Instant) {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        *start = start.take().filter(|start| start.at >= asked);
    }

    /// Whether the state may be from before our own start.
    pub fn lags(&self) -> bool {
        self.start().is_some_and(|start| start.at.elapsed() < LAG)
    }

    /// What the deployments tell of our start, if there was one.
    pub fn read(&self, rows: &[Deployment]) -> Option<Fate> {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        start.as_mut().map(|start| start.read(rows))
    }
}

/// Our latest start of an app, until it was seen running or has been stopped.
#[derive(Clone, Debug)]
pub struct Start {
    /// When it was asked for.
    pub at: Instant,
    /// The uuid of its deployment, once that is known.
    pub deployment: Option<String>,
    /// Whether the deployment was seen in the list: it comes there late, and when it is cancelled it goes away.
    listed: bool,
    /// When the deployments were last read, and what they told.
    read: Option<(Instant, Fate)>,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, or nothing speaks against it.
    UnderWay,
    /// The deployment ended well.
    Done,
    /// The deployment ended, and the app does not run.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
}

impl Start {
    /// Asked for now; the answer may have named its deployment.
    pub fn of(deployment: Option<String>) -> Self {
        let deployment = deployment.filter(|uuid| !uuid.is_empty());
        Self { at: Instant::now(), deployment, listed: false, read: None }
    }

    /// What the latest reading told, if that was a moment ago.
    pub fn fresh(&self) -> Option<Fate> {
        self.read.filter(|(when, _)| when.elapsed() < READ_EVERY).map(|(_, fate)| fate)
    }

    /// What the rows, newest first, tell of it.
    pub fn read(&mut self, rows: &[Deployment]) -> Fate {
        let fate = self.fate(rows);
        self.read = Some((Instant::now(), fate));
        fate
    }

    fn fate(&mut self, rows: &[Deployment]) -> Fate {
        if self.deployment.is_none() {
            self.deployment = under_way(rows).map(str::to_owned);
        }
        let ours = self.deployment.as_deref();
        if let Some(row) = rows.iter().find(|row| ours.is_some() && row.uuid.as_deref() == ours) {
            self.listed = true;
            return outcome(row);
        }
        // Not in the list yet, or cancelled: then its row is gone, and one of another uuid says so.
        match latest(rows).map(outcome) {
            Some(Fate::Cancelled) if self.listed || self.at.elapsed() > LAG => Fate::Cancelled,
            Some(Fate::Failed) if ours.is_none() && self.at.elapsed() > LAG => Fate::Failed,
            _ => Fate::UnderWay,
        }
    }
}

/// The latest row of a deployment, or of the end of one by hand.
pub fn latest(rows: &[Deployment]) -> Option<&Deployment> {
    rows.iter().find(|row| matches!(row.action.as_deref(), Some("DEPLOY" | "CANCEL")))
}

/// What a row tells.
pub fn outcome(row: &Deployment) -> Fate {
    match (row.action.as_deref(), row.state.as_deref()) {
        (Some("CANCEL"), _) | (_, Some("CANCELLED")) => Fate::Cancelled,
        (_, Some("FAIL")) => Fate::Failed,
        (_, Some("OK")) => Fate::Done,
        _ => Fate::UnderWay,
    }
}

/// The uuid of the deployment that is going on.
pub fn under_way(rows: &[Deployment]) -> Option<&str> {
    let row = latest(rows).filter(|row| is_under_way(row))?;
    row.uuid.as_deref()
}

/// Whether this is going on.
pub fn is_under_way(row: &Deployment) -> bool {
    matches!(row.state.as_deref(), Some("WIP" | "TASK_RUNNING"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, &str, &str)]) -> Vec<Deployment> {
        let row = |(uuid, action, state): &(&str, &str, &str)| Deployment {
            uuid: Some((*uuid).into()),
            date: None,
            state: Some((*state).into()),
            action: Some((*action).into()),
        };
        rows.iter().map(row).collect()
    }

    fn start(deployment: Option<&str>, listed: bool) -> Start {
        Start { listed, ..Start::of(deployment.map(str::to_owned)) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_fate_of_a_start_is_that_of_its_own_deployment() {
        let wip = ("new", "DEPLOY", "WIP");
        let (undeploy, ok) = (("stop", "UNDEPLOY", "OK"), ("old", "DEPLOY", "OK"));
        let (cancel, fail) = (("x", "CANCEL", "OK"), ("old", "DEPLOY", "FAIL"));
        for (what, ours, listed, seen, now, later) in [
            ("goes on", Some("new"), false, &[wip, undeploy, ok][..], Fate::UnderWay, Fate::UnderWay),
            ("is done", Some("old"), true, &[ok], Fate::Done, Fate::Done),
            ("failed", Some("old"), false, &[fail], Fate::Failed, Fate::Failed),
            (
                "the failure before it is not its own",
                Some("new"),
                false,
                &[fail],
                Fate::UnderWay,
                Fate::UnderWay,
            ),
            ("went away", Some("new"), true, &[cancel, ok], Fate::Cancelled, Fate::Cancelled),
            ("is not there yet", Some("new"), false, &[cancel, ok], Fate::UnderWay, Fate::Cancelled),
            ("without a name, failed", None, false, &[fail], Fate::UnderWay, Fate::Failed),
            ("without a name, goes on", None, false, &[wip, fail], Fate::UnderWay, Fate::UnderWay),
            ("nothing is known", None, false, &[], Fate::UnderWay, Fate::UnderWay),
        ] {
            let mut start = start(ours, listed);
            assert_eq!(start.read(&rows(seen)), now, "{what}");
            start.listed = listed;
            tokio::time::advance(LAG + Duration::from_secs(1)).await;
            assert_eq!(start.read(&rows(seen)), later, "{what}, later");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_without_a_name_gets_it_from_the_list() {
        let mut start = start(None, false);
        start.read(&rows(&[("new", "DEPLOY", "WIP"), ("old", "DEPLOY", "OK")]));
        assert_eq!(start.deployment.as_deref(), Some("new"));
        assert_eq!(start.read(&rows(&[("new", "DEPLOY", "FAIL")])), Fate::Failed);
        assert_eq!(start.fresh(), Some(Fate::Failed));
        tokio::time::advance(READ_EVERY).await;
        assert_eq!(start.fresh(), None);
    }
}
