//! A scenario's report: tables, and the machine they were measured on.

use std::{fs, path::Path, time::Duration};

use crate::{Outcome, process::said, subject::which};

/// What a scenario has to say, in Markdown.
pub struct Report {
    name: &'static str,
    text: String,
}

impl Report {
    /// Begins with what is asked, and the machine as it is before the measurement.
    pub async fn begin(name: &'static str, question: &str) -> Outcome<Self> {
        let machine = machine().await?;
        Ok(Self { name, text: format!("# {name}\n\n{question}\n\n{machine}\n") })
    }

    /// A paragraph.
    pub fn say(&mut self, text: &str) {
        self.text.push_str(&format!("\n{text}\n"));
    }

    /// A table.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        self.text.push('\n');
        self.text.push_str(&line(head.to_vec()));
        let rule = (0..head.len()).map(|at| if at == 0 { "---" } else { "---:" });
        self.text.push_str(&line(rule.collect()));
        for row in rows {
            self.text.push_str(&line(row.iter().map(String::as_str).collect()));
        }
    }

    /// Prints it, and writes it unless the run was a quick one.
    pub fn end(self, quick: bool) -> Outcome<()> {
        println!("\n{}", self.text);
        if !quick {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
            fs::create_dir_all(&dir)?;
            fs::write(dir.join(format!("{}.md", self.name)), self.text)?;
        }
        Ok(())
    }
}

/// Where and when, and whether anybody else was at work.
async fn machine() -> Outcome<String> {
    let first = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism()?;
    let kernel = first(fs::read_to_string("/proc/sys/kernel/osrelease")?);
    let date = first(said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).await?);
    let load = fs::read_to_string("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let idle = idle_share().await?;
    let loir = std::env::current_exe()?.with_file_name("loir");
    let mut versions = vec![first(said(&loir.display().to_string(), &["--version"]).await?), pingora()];
    for (program, flag) in [("wrk", "-v"), ("valgrind", "--version"), ("nginx", "-v"), ("haproxy", "-v")] {
        if let Some(path) = which(program) {
            let version = first(said(&path.display().to_string(), &[flag]).await?);
            versions.push(
                version.split(" [").next().unwrap_or_default().split(" 20").next().unwrap_or_default().into(),
            );
        }
    }
    Ok(format!(
        "{date}. {cores} cores ({model}), Linux {kernel}. Before the start: load average {load}, {:.0} % of the CPU idle.\n\
         {}.",
        idle * 100.0,
        versions.join("; "),
    ))
}

/// The share of all CPU time that nobody used, over a second.
async fn idle_share() -> Outcome<f64> {
    let look = || -> Outcome<(f64, f64)> {
        let text = fs::read_to_string("/proc/stat")?;
        let times: Vec<f64> =
            text.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
        Ok((times.get(3).ok_or("/proc/stat is short")? + times.get(4).unwrap_or(&0.0), times.iter().sum()))
    };
    let before = look()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = look()?;
    Ok((after.0 - before.0) / (after.1 - before.1))
}

/// The version that Cargo.lock names.
fn pingora() -> String {
    let lock = include_str!("../../Cargo.lock");
    let version =
        lock.split("name = \"pingora\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    format!("pingora {}", version.unwrap_or("unknown"))
}
