//! To standard output and standard error.

use std::process::ExitCode;

/// Prints to standard output. A reader that went away (`| head`) is no failure of ours.
pub(super) fn say(text: &str) -> ExitCode {
    let _ = print(text);
    ExitCode::SUCCESS
}

pub(super) fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

pub(super) fn complain(text: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}
