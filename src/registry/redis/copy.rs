//! `Copy`: the latest record of every app that this gateway has seen, in memory and in `state_dir/records.json`. If the
//! registry loses its data, what must come back is still known.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{app::AppId, registry::Record};

const FORMAT: &str = "loir-records";
const VERSION: u32 = 1;

/// The file is not written more often.
pub const WRITE_EVERY: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: String,
    version: u32,
    apps: BTreeMap<AppId, Record>,
}

/// See the module's page.
pub struct Copy {
    records: Mutex<HashMap<AppId, Record>>,
    /// Grows with each change.
    version: AtomicU64,
    /// The version that the file holds.
    written: AtomicU64,
    path: Option<PathBuf>,
}

impl Copy {
    /// What an earlier run left in `folder`, if anything.
    pub fn open(folder: Option<&Path>) -> Self {
        let path = folder.map(|folder| folder.join("records.json"));
        let records = path.as_deref().map(read).unwrap_or_default();
        Self { records: Mutex::new(records), version: AtomicU64::new(0), written: AtomicU64::new(0), path }
    }

    /// The latest record of `app`.
    pub fn get(&self, app: &AppId) -> Option<Record> {
        self.records().get(app).cloned()
    }

    /// Takes over `record`, unless a later one is known.
    pub fn keep(&self, app: &AppId, record: &Record) {
        let mut records = self.records();
        match records.get_mut(app) {
            Some(known) if known.epoch > record.epoch || known == record => return,
            Some(known) => *known = record.clone(),
            None => drop(records.insert(app.clone(), record.clone())),
        }
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets `app`.
    pub fn forget(&self, app: &AppId) {
        if self.records().remove(app).is_some() {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Writes the file if something has changed. Blocks.
    pub fn write(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let version = self.version.load(Ordering::SeqCst);
        if self.written.load(Ordering::SeqCst) == version {
            return Ok(());
        }
        let apps = self.records().iter().map(|(app, record)| (app.clone(), record.clone())).collect();
        let text = serde_json::to_vec(&Snapshot { format: FORMAT.into(), version: VERSION, apps })
            .map_err(io::Error::other)?;
        let beside = path.with_extension("json.new");
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        self.written.store(version, Ordering::SeqCst);
        Ok(())
    }

    fn records(&self) -> MutexGuard<'_, HashMap<AppId, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that cannot be read is passed over: the registry has the records.
fn read(path: &Path) -> HashMap<AppId, Record> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return HashMap::new(),
        Err(error) => {
            log::warn!("{} cannot be read: {error}", path.display());
            return HashMap::new();
        }
    };
    match serde_json::from_slice::<Snapshot>(&text) {
        Ok(snapshot) if snapshot.format == FORMAT && snapshot.version == VERSION => {
            snapshot.apps.into_iter().collect()
        }
        _ => {
            log::warn!("{} is not what this version writes, and is not used", path.display());
            HashMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Formation;

    fn app() -> AppId {
        AppId::new("paris", "shop")
    }

    fn record(epoch: u64) -> Record {
        Record { epoch, formation: Some(Formation::single("web")), ..Record::new(0) }
    }

    #[test]
    fn the_latest_record_is_known_in_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let copy = Copy::open(Some(folder.path()));
        copy.keep(&app(), &record(2));
        copy.keep(&app(), &record(1));
        copy.write().unwrap();
        assert_eq!(Copy::open(Some(folder.path())).get(&app()), Some(record(2)));
        copy.forget(&app());
        copy.write().unwrap();
        assert_eq!(Copy::open(Some(folder.path())).get(&app()), None);
    }

    #[test]
    fn a_file_that_nobody_understands_is_passed_over() {
        for bad in ["", "{", r#"{"format":"loir-records","version":2,"apps":{}}"#, "[]"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("records.json"), bad).unwrap();
            assert_eq!(Copy::open(Some(folder.path())).get(&app()), None, "{bad:?}");
        }
    }
}
