//! `Recollection`: what providers listed last, on disk, for a start at which one of them cannot be asked. Apps that ran then
//! are served all the same.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    app::{AppStatus, Endpoint, Origin},
    provider::{AppInfo, Provider},
};

const VERSION: u32 = 1;

/// One file for each provider entry, in `state_dir`; nothing, without one.
pub struct Recollection {
    folder: Option<PathBuf>,
    /// What each file holds.
    written: Mutex<HashMap<PathBuf, Vec<u8>>>,
}

#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    apps: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    runs: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_alone: Option<String>,
    tls: bool,
    host: String,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect: Option<String>,
}

impl Recollection {
    /// In `folder`, which need not be there yet.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, written: Mutex::default() }
    }

    /// Keeps what `entry` has listed. Nothing depends on it, so that it fails is only said.
    pub fn keep(&self, entry: &str, apps: &[AppInfo]) {
        let Some(path) = self.path(entry) else { return };
        let list = List { version: VERSION, apps: apps.iter().filter_map(kept).collect() };
        let Ok(text) = serde_json::to_vec_pretty(&list) else { return };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.get(&path) == Some(&text) {
            return;
        }
        match replace(&path, &text) {
            Ok(()) => drop(written.insert(path, text)),
            Err(error) => log::warn!("{} cannot be written: {error}", path.display()),
        }
    }

    /// What `entry` listed when it last could be asked.
    pub fn recall(&self, entry: &str, provider: &Arc<dyn Provider>) -> Vec<AppInfo> {
        let Some((path, router)) = self.path(entry).zip(provider.router()) else { return Vec::new() };
        let list = match fs::read(&path).map(|text| serde_json::from_slice::<List>(&text)) {
            Ok(Ok(list)) if list.version == VERSION => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            _ => {
                log::warn!("{} cannot be read, and is not used", path.display());
                return Vec::new();
            }
        };
        let info = |kept: Kept| {
            let Kept { tls, host, port, connect, .. } = kept;
            AppInfo {
                status: if kept.runs { AppStatus::Running } else { AppStatus::Stopped },
                endpoint: Some(Endpoint::Origin(Arc::new(Origin { tls, host, port, connect, router }))),
                settings: provider.settings(&kept.name),
                name: kept.name,
                key: kept.key,
                aliases: kept.aliases,
                left_alone: kept.left_alone,
            }
        };
        list.apps.into_iter().map(info).collect()
    }

    fn path(&self, entry: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("apps-{entry}.json")))
    }
}

/// Only apps at a provider's router: what else there is, the configuration knows.
fn kept(info: &AppInfo) -> Option<Kept> {
    let Some(Endpoint::Origin(origin)) = &info.endpoint else { return None };
    Some(Kept {
        name: info.name.clone(),
        key: info.key.clone(),
        aliases: info.aliases.clone(),
        runs: matches!(info.status, AppStatus::Running | AppStatus::Starting | AppStatus::Unknown(_)),
        left_alone: info.left_alone.clone(),
        tls: origin.tls,
        host: origin.host.clone(),
        port: origin.port,
        connect: origin.connect.clone(),
    })
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("json.new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
