//! Which processes run, on disk, so that the next gateway can take over what the last one left running.
//!
//! A process id alone proves nothing: the kernel gives it out again. So each is written with the time its process
//! started (field 22 of `/proc/PID/stat`, in clock ticks since boot), and only a match is believed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::{errno::Errno, sys::signal::killpg, unistd::Pid};
use serde::{Deserialize, Serialize};

/// The file of one provider entry.
pub(super) struct Census {
    path: PathBuf,
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    group: i32,
    started: u64,
    port: u16,
}

/// A process that an earlier gateway started and that still runs.
pub(super) struct Survivor {
    pub app: String,
    pub group: i32,
    pub port: u16,
}

impl Census {
    pub fn new(state_dir: &Path, provider: &str) -> Self {
        Self { path: state_dir.join(format!("processes-{provider}.json")), writing: Mutex::default() }
    }

    /// Who is still there of those that were written down.
    pub fn survivors(&self) -> Vec<Survivor> {
        let Ok(text) = fs::read(&self.path) else {
            return Vec::new();
        };
        let lines: BTreeMap<String, Line> = match serde_json::from_slice(&text) {
            Ok(lines) => lines,
            Err(error) => {
                log::warn!("{} cannot be read ({error}): starting without it", self.path.display());
                return Vec::new();
            }
        };
        let still_there = lines.into_iter().filter(|(_, line)| started(line.group) == Some(line.started));
        still_there.map(|(app, line)| Survivor { app, group: line.group, port: line.port }).collect()
    }

    /// Replaces what was written. A failure is logged: the processes themselves are well.
    pub fn write<'a>(&self, running: impl Iterator<Item = (&'a str, i32, u16)>) {
        let lines: BTreeMap<_, _> = running
            .filter_map(|(app, group, port)| Some((app, Line { group, started: started(group)?, port })))
            .collect();
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let beside = self.path.with_extension("json.new");
        let written = serde_json::to_vec(&lines)
            .map_err(std::io::Error::other)
            .and_then(|text| fs::create_dir_all(self.path.parent().unwrap_or(Path::new("."))).map(|()| text))
            .and_then(|text| fs::write(&beside, text))
            .and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = written {
            log::warn!("{} cannot be written: {error}", self.path.display());
        }
    }
}

/// When the process `id` started, in clock ticks since boot. `None` if it does not run, or there is no `/proc`.
fn started(id: i32) -> Option<u64> {
    running(id)?.get(19)?.parse().ok()
}

/// Whether any process of the group runs. `kill(2)` alone would count zombies: those of children whose parent ended
/// first stay for as long as process 1 likes, in a container perhaps for ever.
pub(super) fn group_runs(group: i32) -> bool {
    if killpg(Pid::from_raw(group), None) == Err(Errno::ESRCH) {
        return false;
    }
    if running(group).is_some() {
        return true;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let group = group.to_string();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .any(|id| running(id).is_some_and(|fields| fields.get(2) == Some(&group)))
}

/// The fields of `/proc/ID/stat` from the third on (state, parent, group ...), unless it is a zombie or there is none.
fn running(id: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<_> = after_name.split_ascii_whitespace().map(str::to_owned).collect();
    (fields.first()? != "Z").then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_process_that_was_written_down_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let census = Census::new(folder.path(), "local");
        let me = i32::try_from(std::process::id()).unwrap();
        census.write([("hello", me, 20_000), ("gone", i32::MAX, 20_001)].into_iter());
        let found: Vec<_> = census.survivors().into_iter().map(|s| (s.app, s.group, s.port)).collect();
        assert_eq!(found, [("hello".to_owned(), me, 20_000)]);

        let text = fs::read_to_string(&census.path).unwrap();
        let other_start = text.replace(&started(me).unwrap().to_string(), "1");
        fs::write(&census.path, other_start).unwrap();
        assert!(census.survivors().is_empty(), "the same id, but another process");

        fs::write(&census.path, "{").unwrap();
        assert!(census.survivors().is_empty());
    }
}
