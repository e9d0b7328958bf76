//! `loir`: see `loir --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    loir::cli::main()
}
