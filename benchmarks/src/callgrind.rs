//! Callgrind: every instruction of a process counted, by function.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{Outcome, process::said, subject::which};

/// Says what to do where valgrind is missing.
pub fn check() -> Outcome<()> {
    which("valgrind").map(|_| ()).ok_or_else(|| "valgrind is missing: apt-get install valgrind".into())
}

/// What to run a program under.
pub fn under(dir: &Path) -> Vec<String> {
    let out = format!("--callgrind-out-file={}/callgrind.%p", dir.display());
    // Ge: global bus events, which are atomic read-modify-write instructions. Fair scheduling of threads, so that none
    // starves while another spins.
    ["valgrind", "--tool=callgrind", "--collect-bus=yes", "--fair-sched=yes", &out]
        .map(str::to_owned)
        .to_vec()
}

/// What was counted between two dumps, in all threads together.
#[derive(Default)]
pub struct Profile {
    /// Instructions.
    pub instructions: f64,
    /// Atomic read-modify-write instructions.
    pub atomics: f64,
    /// Calls by callee.
    calls: HashMap<String, f64>,
}

/// Has the process write what it has counted since the last time, and reads it.
pub async fn dump(pid: u32, dir: &Path, number: u32) -> Outcome<Profile> {
    let text = said("callgrind_control", &["--dump", &pid.to_string()]).await?;
    let file: PathBuf = dir.join(format!("callgrind.{pid}.{number}"));
    let profile =
        fs::read_to_string(&file).map_err(|error| format!("{}: {error}; {text}", file.display()))?;
    read(&profile)
}

impl Profile {
    /// Calls of functions whose name begins with one of these.
    pub fn calls(&self, names: &[&str]) -> f64 {
        let named = |name: &str| names.iter().any(|wanted| name.starts_with(wanted));
        self.calls.iter().filter(|(name, _)| named(name)).map(|(_, count)| count).sum()
    }
}

/// The format is in valgrind's manual, "Callgrind Format Specification". Names are written once and numbered.
fn read(text: &str) -> Outcome<Profile> {
    let mut profile = Profile::default();
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut callee = "";
    let mut of_a_call = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (number, rest) = name.split_once(')').ok_or("a function without a number")?;
            if !rest.is_empty() {
                names.insert(number, rest.trim_start());
            }
            if line.starts_with('c') {
                callee = names.get(number).copied().unwrap_or("");
            }
        } else if let Some(counts) = line.strip_prefix("calls=") {
            let count: f64 = counts.split(' ').next().unwrap_or_default().parse()?;
            *profile.calls.entry(callee.to_owned()).or_default() += count;
            // The next line is what the call cost, which the callee's own lines say as well.
            of_a_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && !std::mem::take(&mut of_a_call)
        {
            let mut costs = line.split(' ').skip(1).map(|cost| cost.parse().unwrap_or(0.0));
            profile.instructions += costs.next().unwrap_or(0.0);
            profile.atomics += costs.next().unwrap_or(0.0);
        }
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_not_counted_twice() {
        let text = "events: Ir Ge\n\nfl=(1) a.rs\nfn=(1) main\n1 10 1\n+2 5\ncfn=(2) malloc\ncalls=3 0\n* 300 7\n\nfn=(2)\n0 300 7\n";
        let profile = read(text).unwrap();
        assert_eq!((profile.instructions, profile.atomics), (315.0, 8.0));
        assert_eq!((profile.calls(&["malloc"]), profile.calls(&["free"])), (3.0, 0.0));
    }
}
