//! What Loir costs, measured beside the same Pingora proxy without Loir in it. `README.md` says what each scenario isolates.
//!
//! | file | what is in it |
//! |---|---|
//! | `app` | the app behind every proxy |
//! | `control` | the same Pingora proxy, without Loir |
//! | `subject` | what is measured: how each proxy is configured and started |
//! | `process` | child processes, and what the kernel knows of them |
//! | `client` | a small HTTP/1.1 client |
//! | `wrk`, `callgrind`, `syscalls` | the tools, and how to read what they say |
//! | `figures`, `report` | medians, tables, and the facts of the machine |
//! | `scenario` | one file for each scenario |

use std::process::ExitCode;

mod app;
mod callgrind;
mod client;
mod control;
mod figures;
mod process;
mod report;
mod scenario;
mod subject;
mod syscalls;
mod wrk;

/// Benchmarks end loudly: whatever goes wrong makes the figures worthless.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Error>;

const HELP: &str = "\
usage: loir-benchmarks SCENARIO... [--quick]

  warm          requests per second, latency and CPU time per request, an app that is awake
  instructions  instructions, allocations, atomic operations and system calls per request
  wake          from the app's port answering to the first held request being answered
  herd          1,000 first requests at once
  churn         10,000 requests while the app is stopped and woken again and again
  memory        per idle connection and per held request
  all           every one of them

--quick: fewer and shorter rounds, nothing written to benchmarks/results.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", "app", options @ ..] => app::serve(options),
        ["serve", "control", options @ ..] => control::serve(options),
        [] | ["help" | "--help"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        names => scenario::run(names),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loir-benchmarks: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The value after `name` among a program's arguments.
fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    options.iter().position(|&option| option == name).and_then(|at| options.get(at + 1)).copied()
}

/// The same as a number.
fn number(options: &[&str], name: &str, default: u64) -> Outcome<u64> {
    option(options, name)
        .map_or(Ok(default), |text| text.parse().map_err(|_| format!("{name} {text}?").into()))
}
