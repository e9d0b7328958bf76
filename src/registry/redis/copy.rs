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

use crate::{
    app::AppId,
    registry::{Record, folder},
};

const FORMAT: &str = "loir-records";
const VERSION: u32 = 1;

/// The file is not written more often.
pub const WRITE_EVERY: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: String,
    version: u32,
    /// Of the registry that has these records too.
    #[serde(default)]
    word: String,
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
    /// The registry that has these records too, and held while the file is written.
    word: Mutex<String>,
    _lock: Option<File>,
}

impl Copy {
    /// What an earlier run left in `folder`, if anything.
    ///
    /// Fails if the folder cannot be used, or another gateway uses it.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let lock = folder.map(folder::claim).transpose()?;
        let path = folder.map(|folder| folder.join("records.json"));
        let (word, records) = path.as_deref().map(read).unwrap_or_default();
        Ok(Self {
            records: Mutex::new(records),
            version: AtomicU64::new(0),
            written: AtomicU64::new(0),
            path,
            word: Mutex::new(word),
            _lock: lock,
        })
    }

    /// The registry that was joined is known by this word. If it is the one that the file is a copy of, it knows better than an
    /// earlier run: what it does not have was taken out.
    pub fn joined(&self, word: &str) {
        let mut known = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == word {
            if self.version.load(Ordering::SeqCst) == 0 {
                self.records().clear();
            }
        } else {
            word.clone_into(&mut known);
        }
        self.version.fetch_add(1, Ordering::SeqCst);
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
        let word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version.load(Ordering::SeqCst);
        if self.written.load(Ordering::SeqCst) == version {
            return Ok(());
        }
        let apps = self.records().iter().map(|(app, record)| (app.clone(), record.clone())).collect();
        let snapshot = Snapshot { format: FORMAT.into(), version: VERSION, word: word.clone(), apps };
        let text = serde_json::to_vec(&snapshot).map_err(io::Error::other)?;
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

/// The word and the records. A file that cannot be understood is passed over: the registry has the records.
fn read(path: &Path) -> (String, HashMap<AppId, Record>) {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Default::default(),
        Err(error) => {
            log::warn!("{} cannot be read: {error}", path.display());
            return Default::default();
        }
    };
    match serde_json::from_slice::<Snapshot>(&text) {
        Ok(snapshot) if snapshot.format == FORMAT && snapshot.version == VERSION => {
            (snapshot.word, snapshot.apps.into_iter().collect())
        }
        _ => {
            let aside = path.with_extension("json.set-aside");
            let kept = fs::rename(path, &aside)
                .map_or_else(|error| error.to_string(), |()| aside.display().to_string());
            log::warn!(
                "{} is not what this version writes, and is not used (kept as {kept})",
                path.display()
            );
            Default::default()
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
        let open = || Copy::open(Some(folder.path())).unwrap();
        let copy = open();
        copy.keep(&app(), &record(2));
        copy.keep(&app(), &record(1));
        copy.write().unwrap();
        let error = Copy::open(Some(folder.path())).map(drop).unwrap_err().to_string();
        assert!(error.contains("another gateway uses state_dir"), "{error}");
        drop(copy);
        let copy = open();
        assert_eq!(copy.get(&app()), Some(record(2)));
        copy.forget(&app());
        copy.write().unwrap();
        drop(copy);
        assert_eq!(open().get(&app()), None);
    }

    #[test]
    fn a_registry_that_has_lost_nothing_knows_better_than_an_earlier_run() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Copy::open(Some(folder.path())).unwrap();
        let first = open();
        first.joined("one");
        first.keep(&app(), &record(2));
        first.write().unwrap();
        drop(first);
        let same = open();
        same.joined("one");
        assert_eq!(same.get(&app()), None, "it was taken out meanwhile, or it will be read again");
        drop(same);
        let emptied = open();
        emptied.joined("another");
        assert_eq!(emptied.get(&app()), Some(record(2)));
        emptied.joined("another");
        assert_eq!(emptied.get(&app()), Some(record(2)), "what this run has seen stays");
    }

    #[test]
    fn a_file_that_nobody_understands_is_passed_over() {
        for bad in ["", "{", r#"{"format":"loir-records","version":2,"apps":{}}"#, "[]"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("records.json"), bad).unwrap();
            assert_eq!(Copy::open(Some(folder.path())).unwrap().get(&app()), None, "{bad:?}");
            assert_eq!(fs::read_to_string(folder.path().join("records.json.set-aside")).unwrap(), bad);
        }
    }
}
