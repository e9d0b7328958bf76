//! Which processes run, on disk, so that the next gateway can take over what the last one left running.
//!
//! A process id alone proves nothing: the kernel gives it out again. So each is written with the time its process
//! started (field 22 of `/proc/PID/stat`, in clock ticks since boot), all of them with the id of this boot, and only a
//! match is believed.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::{errno::Errno, sys::signal::killpg, unistd::Pid};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

/// The file of one provider entry.
pub(super) struct Census {
    path: PathBuf,
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    /// `None` where there is no `/proc`.
    boot: Option<String>,
    processes: BTreeMap<String, Line>,
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

    /// Who is still there of those that were written down. What cannot be read is set aside, for a person to look at.
    pub fn survivors(&self) -> Vec<Survivor> {
        let read = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
            read => read.and_then(|text| Ok(serde_json::from_slice::<Written>(&text)?)),
        };
        let written = match read {
            Ok(written) => written,
            Err(problem) => {
                self.set_aside(&problem);
                return Vec::new();
            }
        };
        if written.boot != boot() {
            return Vec::new();
        }
        let lines = written.processes.into_iter();
        let still_there = lines.filter(|(_, line)| started(line.group) == Some(line.started));
        still_there.map(|(app, line)| Survivor { app, group: line.group, port: line.port }).collect()
    }

    fn set_aside(&self, problem: &std::io::Error) {
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".set-aside-{}", Clock::system().unix_millis()));
        let path = self.path.display();
        match fs::rename(&self.path, &aside) {
            Ok(()) => log::warn!(
                "{path} cannot be read ({problem}); set aside as {}. Apps that an earlier gateway left running are not found",
                Path::new(&aside).display()
            ),
            Err(error) => log::warn!("{path} cannot be read ({problem}), nor set aside ({error})"),
        }
    }

    /// Replaces what was written by what `running` (app, group, port) says now: asked under the lock, so that of two
    /// writers the last one knows what the first one knew. A failure is logged: the processes themselves are well.
    pub fn write(&self, running: impl FnOnce() -> Vec<(String, i32, u16)>) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let processes = running()
            .into_iter()
            .filter_map(|(app, group, port)| Some((app, Line { group, started: started(group)?, port })))
            .collect();
        let written = Written { boot: boot(), processes };
        let beside = self.path.with_extension("json.new");
        let written = serde_json::to_vec(&written)
            .map_err(std::io::Error::other)
            .and_then(|text| fs::create_dir_all(self.path.parent().unwrap_or(Path::new("."))).map(|()| text))
            .and_then(|text| fs::write(&beside, text))
            .and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = written {
            log::warn!("{} cannot be written: {error}", self.path.display());
        }
    }
}

/// The id of this boot: ticks since another one prove nothing.
fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
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
        let write = || census.write(|| vec![("hello".into(), me, 20_000), ("gone".into(), i32::MAX, 20_001)]);
        write();
        let found: Vec<_> = census.survivors().into_iter().map(|s| (s.app, s.group, s.port)).collect();
        assert_eq!(found, [("hello".to_owned(), me, 20_000)]);

        let text = fs::read_to_string(&census.path).unwrap();
        let other_start = text.replace(&started(me).unwrap().to_string(), "1");
        fs::write(&census.path, other_start).unwrap();
        assert!(census.survivors().is_empty(), "the same id, but another process");

        write();
        let text = fs::read_to_string(&census.path).unwrap();
        fs::write(&census.path, text.replace(&boot().unwrap(), "another boot")).unwrap();
        assert!(census.survivors().is_empty(), "the same id and ticks, but another boot");
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let census = Census::new(folder.path(), "local");
        assert!(census.survivors().is_empty(), "none at all is fine");
        fs::write(&census.path, "{").unwrap();
        assert!(census.survivors().is_empty());
        census.write(Vec::new);
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let aside: Vec<_> = files.filter(|path| path.to_string_lossy().contains("json.set-aside-")).collect();
        assert_eq!(aside.len(), 1);
        assert_eq!(fs::read_to_string(&aside[0]).unwrap(), "{");
    }
}
