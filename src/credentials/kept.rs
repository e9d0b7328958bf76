//! What is kept in `state_dir`, readable by nobody else: the key of signed links, and the hash of the first token.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    link::Key,
    token::{TokenHash, new_token},
};
use crate::registry::folder::explain;

const KEY: &str = "signing-key";
const TOKEN: &str = "admin-token";

/// The key of signed links, made if there is none.
pub fn signing_key(folder: &Path) -> io::Result<Key> {
    let path = folder.join(KEY);
    let text = match read(&path)? {
        Some(text) => text,
        None => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            let text = URL_SAFE_NO_PAD.encode(bytes);
            write(folder, &path, &text)?;
            text
        }
    };
    let text = text.trim();
    if text.len() < 32 {
        let error =
            io::Error::new(io::ErrorKind::InvalidData, "it is no key: delete it, and a new one is made");
        return Err(explain(error, "cannot use", &path));
    }
    Ok(Key::new(text.as_bytes()))
}

/// The hash of the token that was made at the first start; with `wanted`, one is made if there is none yet, and returned as well.
/// Where it is not wanted, it does not count.
pub fn first_token(folder: &Path, wanted: bool) -> io::Result<(Option<TokenHash>, Option<String>)> {
    if !wanted {
        return Ok((None, None));
    }
    let path = folder.join(TOKEN);
    if let Some(text) = read(&path)? {
        let hash = text.trim().parse().map_err(|wrong| {
            let text = format!("{wrong}; delete it, and a new token is made");
            explain(io::Error::new(io::ErrorKind::InvalidData, text), "cannot use", &path)
        })?;
        return Ok((Some(hash), None));
    }
    let token = new_token().map_err(io::Error::other)?;
    let hash = TokenHash::of(&token);
    write(folder, &path, &hash.to_string())?;
    Ok((Some(hash), Some(token)))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(error, "cannot read", path)),
    }
}

/// Whole or not at all, and readable by us only from its first moment.
fn write(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|error| explain(error, "cannot make the folder", folder))?;
    let new = path.with_extension("new");
    let written = (|| {
        // One that a crash has left, with whatever mode.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    written.map_err(|error| explain(error, "cannot write", path))
}
