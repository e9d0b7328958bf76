//! `state_dir`, of one gateway at a time.

use std::{fs, fs::File, io, path::Path};

/// Makes the folder if it is not there, and takes it for as long as the file is held.
///
/// Fails if it cannot be made or written, or if another gateway uses it.
pub fn claim(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder).map_err(|error| explain(error, "cannot make the folder", folder))?;
    let path = folder.join("lock");
    let lock = File::create(&path).map_err(|error| explain(error, "cannot write", &path))?;
    let taken = |_| format!("another gateway uses state_dir {}: give each its own", folder.display());
    lock.try_lock().map_err(|error| io::Error::other(taken(error)))?;
    Ok(lock)
}

/// The error, with what was tried and where.
pub fn explain(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
