//! The scenarios. Each prints what it has measured, and writes it to `benchmarks/results`.

use std::path::{Path, PathBuf};

use crate::Outcome;

mod churn;
mod herd;
mod instructions;
mod memory;
mod wake;
mod warm;

/// How a scenario is run.
pub struct Bench {
    /// A temporary directory.
    pub dir: PathBuf,
    /// Fewer and shorter rounds, nothing written.
    pub quick: bool,
}

impl Bench {
    /// `full`, or `quick` if the run is one.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// Says what goes on, to whoever watches.
    pub fn note(&self, text: &str) {
        eprintln!("  {text}");
    }
}

const ALL: [&str; 6] = ["warm", "instructions", "wake", "herd", "churn", "memory"];

/// Runs the named scenarios one after another.
pub fn run(names: &[&str]) -> Outcome<()> {
    let quick = names.contains(&"--quick");
    let mut wanted: Vec<&str> = names.iter().copied().filter(|name| *name != "--quick").collect();
    if wanted == ["all"] {
        wanted = ALL.to_vec();
    }
    if let Some(unknown) = wanted.iter().find(|name| !ALL.contains(name)) {
        return Err(format!("no scenario {unknown}; there are: {}, all", ALL.join(", ")).into());
    }
    if !std::env::current_exe()?.with_file_name("loir").exists() {
        return Err("no loir beside this program: cargo build --release -p loir -p loir-benchmarks".into());
    }
    let dir = std::env::temp_dir().join(format!("loir-benchmarks-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let bench = Bench { dir, quick };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        for name in wanted {
            bench.note(name);
            match name {
                "warm" => warm::run(&bench).await?,
                "instructions" => instructions::run(&bench).await?,
                "wake" => wake::run(&bench).await?,
                "herd" => herd::run(&bench).await?,
                "churn" => churn::run(&bench).await?,
                _ => memory::run(&bench).await?,
            }
        }
        Ok(())
    });
    // After a failure the logs in it say why.
    match &result {
        Ok(()) => clean(&bench.dir),
        Err(_) => bench.note(&format!("logs are in {}", bench.dir.display())),
    }
    result
}

fn clean(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        eprintln!("  {} is left over: {error}", dir.display());
    }
}
