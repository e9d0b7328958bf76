//! `loir token new`, `completions`, `manpage`: what needs neither a gateway nor a configuration.

use std::{io, path::Path, process::ExitCode};

use clap::CommandFactory;

use super::{
    Cli,
    print::{complain, print, say},
};
use crate::credentials::{Scope, TokenHash, new_token};

/// Prints a new token, once, and the lines for the configuration.
pub fn token(name: &str, scope: Scope) -> ExitCode {
    let token = match new_token() {
        Ok(token) => token,
        Err(error) => return complain(&format!("loir: {error}")),
    };
    let hash = TokenHash::of(&token);
    say(&format!(
        "{token}\n\n\
         # The line above is the token: it is shown only now. These are for the configuration:\n\
         admin:\n  tokens:\n    - name: {name}\n      hash: {hash}\n      scopes: [{}]",
        scope.as_str()
    ))
}

/// Prints completions for a shell.
pub fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "loir", &mut text);
    match print(String::from_utf8_lossy(&text).trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Writes a man page for each command into a folder.
pub fn manpage(folder: &Path) -> ExitCode {
    match write_pages(folder) {
        Ok(pages) => say(&format!("{pages} pages are in {}", folder.display())),
        Err(error) => complain(&format!("loir: cannot write to {}: {error}", folder.display())),
    }
}

fn write_pages(folder: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)?;
    let pages = std::fs::read_dir(folder)?.filter_map(Result::ok);
    Ok(pages.filter(|page| page.path().extension().is_some_and(|extension| extension == "1")).count())
}
