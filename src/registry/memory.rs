//! `type: memory`: the records of a single gateway, written to `state_dir/registry.json` when that is set.
//!
//! The file is replaced as a whole: written beside, flushed to the disk, renamed, and the folder flushed too, so that
//! a crash at any moment leaves the old file or the new one. A file that cannot be understood is set aside under
//! another name and reported, never overwritten.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Change, Record, Registry, RegistryConfig, RegistryContext, RegistryError, Upkeep,
    dump::{Dump, Entry, Intent},
    folder::{self, explain},
    upkeep::{Ailment, Examination},
};
use crate::{
    app::AppId,
    clock::Clock,
    config::{Environment, RegistryEntry, problem::Problems},
};

const FORMAT: &str = "loir-registry";
const VERSION: u32 = 1;

/// In `state_dir`.
const FILE: &str = "registry.json";

#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: String,
    version: u32,
    apps: BTreeMap<AppId, Record>,
}

/// This block has no options beside `type`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MemoryRegistry")]
struct NoOptions {}

/// In records: there is nobody else.
const ME: &str = "this gateway";

pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<NoOptions>()
}

pub(super) fn configure(
    entry: &RegistryEntry,
    _: &Environment,
    problems: &mut Problems,
) -> Option<Arc<dyn RegistryConfig>> {
    entry.options.decode::<NoOptions>(problems).map(|_| Arc::new(MemoryConfig) as _)
}

struct MemoryConfig;

#[async_trait]
impl RegistryConfig for MemoryConfig {
    fn open(&self, context: RegistryContext) -> Result<Arc<dyn Registry>, RegistryError> {
        Memory::open(context.state_dir, context.clock)
            .map(|memory| Arc::new(memory) as Arc<dyn Registry>)
            .map_err(|error| RegistryError::Unavailable(error.to_string()))
    }

    async fn upkeep(&self, context: RegistryContext) -> Result<Box<dyn Upkeep>, RegistryError> {
        match context.state_dir {
            Some(folder) => Ok(Box::new(OnDisk { path: folder.join(FILE), clock: context.clock })),
            None => Err(RegistryError::Unavailable(
                "the registry is of type memory and there is no `state_dir`: records are only in the gateway's memory, and gone \
                 when it ends. Write `state_dir: ./state` at the top of the configuration to keep them"
                    .into(),
            )),
        }
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn show(&self) -> Value {
        json!({})
    }
}

/// The file alone, for people: also while a gateway runs, since it is only ever replaced as a whole.
struct OnDisk {
    path: PathBuf,
    clock: Clock,
}

/// The same as a [`Snapshot`], whose records may be anything.
#[derive(Deserialize)]
struct Raw {
    format: String,
    version: u32,
    apps: BTreeMap<String, Value>,
}

#[async_trait]
impl Upkeep for OnDisk {
    async fn dump(&self) -> Result<Dump, RegistryError> {
        let path = &self.path;
        let trouble = |problem: String| RegistryError::Unavailable(format!("{}: {problem}", path.display()));
        let text = fs::read(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                trouble("there is no such file: no gateway has kept anything there yet".into())
            }
            _ => trouble(format!("cannot be read: {error}")),
        })?;
        let raw: Raw = serde_json::from_slice(&text).map_err(|error| {
            trouble(format!("it is damaged ({error}); a gateway sets it aside when it starts"))
        })?;
        if (raw.format.as_str(), raw.version) != (FORMAT, VERSION) {
            return Err(trouble(format!(
                "it is {} version {}, which this Loir cannot read",
                raw.format, raw.version
            )));
        }
        let entry = |value: Value| match serde_json::from_value(value.clone()) {
            Ok(record) => Entry::Record(record),
            Err(error) => Entry::Strange { problem: error.to_string(), raw: value.to_string() },
        };
        let apps = raw.apps.into_iter().map(|(app, value)| (app, entry(value))).collect();
        let registry = json!({ "type": "memory", "file": path.display().to_string() });
        Ok(Dump::new(self.clock.unix_millis(), registry, Value::Null, apps))
    }

    fn mends(&self) -> Result<(), RegistryError> {
        Err(RegistryError::Unavailable(format!(
            "a registry of type memory belongs to its gateway, which would write over whatever is changed: stop the gateway, copy \
             {} away or an older copy into its place, and start the gateway. A file that it cannot read it sets aside itself",
            self.path.display()
        )))
    }

    async fn restore(&self, _: &AppId, _: &Record) -> Result<Intent, RegistryError> {
        self.mends().map(|()| Intent::Same)
    }

    async fn examine(&self) -> Result<Examination, RegistryError> {
        self.mends().map(|()| Examination::default())
    }

    async fn mend(&self, _: &Ailment) -> Result<bool, RegistryError> {
        self.mends().map(|()| false)
    }
}

/// See the module's page.
pub struct Memory {
    clock: Clock,
    records: Arc<Mutex<Records>>,
    disk: Option<Arc<Mutex<Disk>>>,
}

#[derive(Default)]
struct Records {
    apps: HashMap<AppId, Record>,
    /// Grows with each change; tells which changes a written file holds.
    version: u64,
}

struct Disk {
    folder: PathBuf,
    /// The version of the records that the file holds.
    written: u64,
    /// Held for as long as we live, so that two gateways never share a folder.
    _lock: File,
}

impl Memory {
    /// Opens the registry, reading what an earlier run left in `state_dir`.
    ///
    /// Fails if the folder cannot be made or read, or if another gateway uses it.
    pub fn open(state_dir: Option<PathBuf>, clock: Clock) -> io::Result<Self> {
        let mut records = Records::default();
        let disk = match state_dir {
            None => None,
            Some(folder) => {
                let lock = folder::claim(&folder)?;
                records.apps = read(&folder)?;
                Some(Arc::new(Mutex::new(Disk { folder, written: 0, _lock: lock })))
            }
        };
        Ok(Self { clock, records: Arc::new(Mutex::new(records)), disk })
    }

    /// Writes what `version` and everything before it changed, unless a write that began later already did.
    async fn persist(&self, version: u64) -> Result<(), RegistryError> {
        let Some(disk) = self.disk.clone() else {
            return Ok(());
        };
        let records = self.records.clone();
        let write = move || -> io::Result<()> {
            let mut disk = lock(&disk);
            if disk.written >= version {
                return Ok(());
            }
            let (snapshot, version) = {
                let records = lock(&records);
                let apps = records.apps.iter().map(|(id, record)| (id.clone(), record.clone())).collect();
                (Snapshot { format: FORMAT.into(), version: VERSION, apps }, records.version)
            };
            replace(&disk.folder, &snapshot)?;
            disk.written = version;
            Ok(())
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)
            .and_then(|result| result)
            .map_err(|error| RegistryError::Unavailable(format!("records could not be written: {error}")))
    }
}

#[async_trait]
impl Registry for Memory {
    async fn read(&self, app: &AppId) -> Result<Option<Record>, RegistryError> {
        Ok(lock(&self.records).apps.get(app).cloned())
    }

    async fn apply(&self, app: &AppId, change: Change, basis: Option<u64>) -> Result<Record, RegistryError> {
        let (before, next, version) = {
            let mut records = lock(&self.records);
            let now = self.clock.unix_millis();
            let before = records.apps.get(app).cloned().unwrap_or_else(|| Record::new(now));
            let misfit = || RegistryError::Misfit(Box::new(before.clone()));
            if basis.is_some_and(|epoch| epoch != before.epoch) {
                return Err(misfit());
            }
            let next = before.apply(&change, now).map_err(|_| misfit())?;
            records.apps.insert(app.clone(), next.clone());
            records.version += 1;
            (before, next, records.version)
        };
        let written = self.persist(version).await;
        if written.is_err() {
            // What was not kept did not happen, unless somebody has built on it meanwhile.
            let mut records = lock(&self.records);
            if records.apps.get(app).is_some_and(|record| record.epoch == next.epoch) {
                records.apps.insert(app.clone(), before);
            }
        }
        written.map(|()| next)
    }

    async fn rename(&self, from: &AppId, to: &AppId) -> Result<(), RegistryError> {
        let version = {
            let mut records = lock(&self.records);
            let Some(record) = records.apps.remove(from) else {
                return Ok(());
            };
            records.apps.insert(to.clone(), record);
            records.version += 1;
            records.version
        };
        self.persist(version).await
    }

    async fn forget(&self, app: &AppId) -> Result<(), RegistryError> {
        let version = {
            let mut records = lock(&self.records);
            records.apps.remove(app);
            records.version += 1;
            records.version
        };
        self.persist(version).await
    }

    fn me(&self) -> &str {
        ME
    }
}

/// A panic while a lock is held cannot leave half a record behind (records are replaced whole), so go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(folder: &Path) -> io::Result<HashMap<AppId, Record>> {
    let path = folder.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(explain(error, "cannot read", &path)),
    };
    let problem = match serde_json::from_slice::<Snapshot>(&text) {
        Ok(snapshot) if snapshot.format == FORMAT && snapshot.version == VERSION => {
            return Ok(snapshot.apps.into_iter().map(abandon).collect());
        }
        Ok(snapshot) => format!("it is {} version {}", snapshot.format, snapshot.version),
        Err(error) => error.to_string(),
    };
    let aside = folder.join(format!("registry.json.set-aside-{}", Clock::system().unix_millis()));
    fs::rename(&path, &aside).map_err(|e| explain(e, "cannot set aside", &path))?;
    log::warn!(
        "{} is not a registry this version can read ({problem}); set aside as {}, starting without records",
        path.display(),
        aside.display(),
    );
    Ok(HashMap::new())
}

/// Whoever woke or stopped an app has ended: nobody else uses the folder.
fn abandon((app, mut record): (AppId, Record)) -> (AppId, Record) {
    record.deadline = record.deadline.map(|_| 0);
    (app, record)
}

fn replace(folder: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(snapshot).map_err(io::Error::other)?;
    let beside = folder.join("registry.json.new");
    let mut file = File::create(&beside).map_err(|e| explain(e, "cannot write", &beside))?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(FILE))?;
    // Without this the rename itself may be lost with the power.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::app::{AppState, Formation};

    fn hello() -> AppId {
        AppId::new("local", "hello")
    }

    const LONG: Duration = Duration::from_secs(1_000);

    fn begin_wake() -> Change {
        Change::BeginWake { by: ME.into(), lease: LONG }
    }

    async fn put_to_sleep(memory: &Memory) -> Record {
        let save = Change::Save { formation: Formation::single("web") };
        for change in [
            begin_wake(),
            Change::WakeReady { boot: Duration::from_millis(3100) },
            Change::BeginStop { by: ME.into(), idle: Duration::ZERO, lease: LONG },
            save,
        ] {
            memory.apply(&hello(), change, None).await.unwrap();
        }
        memory.apply(&hello(), Change::Stopped, None).await.unwrap()
    }

    #[tokio::test]
    async fn records_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Memory::open(Some(folder.path().into()), Clock::system()).unwrap();
        let before = put_to_sleep(&open()).await;
        let after = open().read(&hello()).await.unwrap().unwrap();
        assert_eq!(after, before);
        assert_eq!((after.state, after.epoch, &*after.boots), (AppState::Asleep, 5, &[3100][..]));
        assert_eq!(after.formation, Some(Formation::single("web")));
    }

    #[tokio::test]
    async fn a_truncated_or_foreign_file_is_set_aside_and_kept() {
        for bad in
            [r#"{"format":"loir-reg"#, "", "\u{0}", r#"{"format":"other","version":1,"apps":{}}"#, "[]"]
        {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("registry.json");
            fs::write(&path, bad).unwrap();
            let memory = Memory::open(Some(folder.path().into()), Clock::system()).unwrap();
            assert_eq!(memory.read(&hello()).await.unwrap(), None, "{bad:?}");
            let kept = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.to_string_lossy().contains("set-aside"));
            assert_eq!(fs::read_to_string(kept.unwrap()).unwrap(), bad);
            put_to_sleep(&memory).await;
            assert!(path.exists(), "and life goes on");
        }
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_written_did_not_happen() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(Some(folder.path().into()), Clock::system()).unwrap();
        put_to_sleep(&memory).await;
        let blocked = folder.path().join("registry.json.new");
        fs::create_dir(&blocked).unwrap();
        let app = hello();
        let wake = || memory.apply(&app, begin_wake(), None);
        assert!(matches!(wake().await, Err(RegistryError::Unavailable(_))));
        fs::remove_dir(&blocked).unwrap();
        assert_eq!(wake().await.unwrap().epoch, 6, "the same change fits again once the disk is well");
    }

    #[tokio::test]
    async fn a_change_on_an_epoch_that_is_gone_is_refused() {
        let memory = Memory::open(None, Clock::system()).unwrap();
        let begun = memory.apply(&hello(), begin_wake(), None).await.unwrap();
        let ready = || Change::WakeReady { boot: LONG };
        let late = memory.apply(&hello(), ready(), Some(begun.epoch - 1)).await;
        assert!(matches!(late, Err(RegistryError::Misfit(record)) if *record == begun));
        assert!(memory.apply(&hello(), ready(), Some(begun.epoch)).await.is_ok());
    }

    #[tokio::test]
    async fn what_an_earlier_gateway_left_half_done_is_anybodys() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Memory::open(Some(folder.path().into()), Clock::system()).unwrap();
        open().apply(&hello(), begin_wake(), None).await.unwrap();
        let taken = open().apply(&hello(), begin_wake(), None).await.unwrap();
        assert_eq!((taken.state, taken.epoch), (AppState::Waking, 2));
    }

    #[test]
    fn two_gateways_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Memory::open(Some(folder.path().into()), Clock::system()).unwrap();
        let second = Memory::open(Some(folder.path().into()), Clock::system());
        assert!(second.err().unwrap().to_string().contains("another gateway uses state_dir"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_hundred_that_race_one_begins_the_wake() {
        let memory = Arc::new(Memory::open(None, Clock::system()).unwrap());
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let memory = memory.clone();
                tokio::spawn(async move { memory.apply(&hello(), begin_wake(), None).await })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            won += usize::from(task.await.unwrap().is_ok());
        }
        assert_eq!(won, 1);
    }
}
