//! Which configuration is meant.

use std::path::{Path, PathBuf};

use crate::{
    config::Environment,
    server::{self, Plan, Source},
};

/// Where a configuration is looked for, in this order, when none is named.
const HERE: &str = "./loir.yaml";
const VARIABLE: &str = "LOIR_CONFIG";
const SYSTEM: &str = "/etc/loir/loir.yaml";

/// The file that was named, or the first one that there is. The error says what to do.
pub(super) fn look_up(named: Option<PathBuf>, env: &Environment) -> Result<PathBuf, String> {
    if let Some(path) = named {
        return Ok(path);
    }
    if Path::new(HERE).is_file() {
        return Ok(HERE.into());
    }
    if let Some(path) = env.get(VARIABLE).filter(|path| !path.is_empty()) {
        return match Path::new(path).is_file() {
            true => Ok(path.into()),
            false => Err(format!("${VARIABLE} names {path}, and there is no such file")),
        };
    }
    if Path::new(SYSTEM).is_file() {
        return Ok(SYSTEM.into());
    }
    Err(format!(
        "no configuration: there is no {HERE}, ${VARIABLE} is not set, and there is no {SYSTEM}\n\
         Name one with `loir run -c FILE`, or see it work without any: `loir demo`"
    ))
}

/// Reads the file and everything in it. The error is what to print.
pub(super) fn load(path: &Path, env: &Environment) -> Result<Plan, String> {
    server::load(Source::read(path)?, env).map_err(|problems| problems.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_names_no_file_is_an_error_of_its_own() {
        let env = Environment::from_iter([(VARIABLE, "/nowhere/at/all.yaml")]);
        let error = look_up(None, &env).unwrap_err();
        assert!(error.contains("/nowhere/at/all.yaml"), "{error}");
    }

    #[test]
    fn what_was_looked_for_is_said_and_the_demo_is_named() {
        let error = look_up(None, &Environment::default()).unwrap_err();
        for part in [HERE, VARIABLE, SYSTEM, "loir demo"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
