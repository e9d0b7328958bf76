//! `Recollection`: what providers listed last, on disk, for a start at which one of them cannot be asked. Apps that ran then
//! are served all the same, and the others woken, as far as the provider lets us.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    app::AppStatus,
    provider::{AppInfo, Listing, Provider},
};

/// One file for each provider entry, in `state_dir`; nothing, without one. A file is the text of a listing, which says
/// itself what it is.
pub struct Recollection {
    folder: Option<PathBuf>,
    /// What each file holds.
    written: Mutex<HashMap<PathBuf, Listing>>,
}

impl Recollection {
    /// In `folder`, which need not be there yet.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, written: Mutex::default() }
    }

    /// Keeps what `entry` has listed. Nothing depends on it, so that it fails is only said.
    pub fn keep(&self, entry: &str, listing: &Listing) {
        let Some(path) = self.path(entry) else { return };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.get(&path) == Some(listing) {
            return;
        }
        match replace(&path, listing.text().as_bytes()) {
            Ok(()) => drop(written.insert(path, listing.clone())),
            Err(error) => log::warn!("{} cannot be written: {error}", path.display()),
        }
    }

    /// Lets `provider` learn what `entry` listed when it last could be asked: the apps there were.
    pub fn recall(&self, entry: &str, provider: &dyn Provider) -> Vec<AppInfo> {
        let Some(path) = self.path(entry) else { return Vec::new() };
        let learned = match fs::read_to_string(&path) {
            Ok(text) => provider.learn(&Listing::from(text)).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(error.to_string()),
        };
        match learned {
            Ok(apps) => apps.into_iter().map(as_it_was).collect(),
            Err(error) => {
                log::warn!("{} cannot be read, and is not used: {error}", path.display());
                Vec::new()
            }
        }
    }

    fn path(&self, entry: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("apps-{entry}.json")))
    }
}

/// What may have run is taken to run: whoever asks for it will find out.
fn as_it_was(app: AppInfo) -> AppInfo {
    let ran = matches!(app.status, AppStatus::Running | AppStatus::Starting | AppStatus::Unknown(_));
    let status = if ran { AppStatus::Running } else { AppStatus::Stopped };
    AppInfo { status, ..app }
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("json.new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
