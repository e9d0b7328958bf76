//! The command line.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` (here) | what can be typed |
//! | `file` | which configuration is meant |
//! | `local` | what needs a configuration and no gateway that runs |
//! | `print` | to standard output and standard error |

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{demo, hooks, provider, server};

mod file;
mod local;
mod print;

use local::{check, healthcheck, hooks, registry, run, schema, show};

/// Loir is an edge gateway: it stops apps that nobody uses, and wakes them on the first request.
///
/// Without a command it does what `loir run` does.
#[derive(Parser)]
#[command(name = "loir", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    file: File,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  loir demo                          three sleepy apps, nothing to configure
  loir check -c conf/loir.yaml       every mistake at once, before it goes live
  loir run -c conf/loir.yaml         the gateway; SIGHUP reloads, SIGTERM drains
  loir config show -c conf/loir.yaml what is in effect, without secrets
  loir registry repair               what is wrong with what is remembered, and what would be done
  PORT=3000 loir                     ./loir.yaml on another port

Environment:
  LOIR_CONFIG   the configuration file, if there is no ./loir.yaml and no -c
  HOST, PORT    where to listen, if the file does not say (0.0.0.0:8080)
  others        wherever the file says ${NAME} or ${NAME:-default}";

#[derive(Args)]
struct File {
    /// The configuration file [default: ./loir.yaml, else $LOIR_CONFIG, else /etc/loir/loir.yaml]
    // Not `env = "LOIR_CONFIG"`: a file in the working directory comes before the variable.
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    ///
    /// SIGHUP reloads the configuration without dropping a connection; a file with problems changes nothing.
    /// SIGTERM lets requests in flight end, at most `server.drain_timeout`.
    #[command(after_help = "Example:\n  loir run -c /etc/loir/loir.yaml")]
    Run,
    /// Run three sleepy apps behind a gateway, with nothing to configure
    #[command(after_help = "Example:\n  loir demo --port 3000\n  curl http://hello.localhost:3000/")]
    Demo {
        /// Where the demo listens, on this machine only
        #[arg(long, env = "PORT", default_value_t = 8080)]
        port: u16,
    },
    /// Check a configuration and tell every problem at once
    ///
    /// Nothing is opened, asked or started. Exits with 0 if the configuration is fine, else with 1.
    #[command(after_help = "Examples:\n  loir check -c conf/loir.yaml && systemctl reload loir\n  \
                            loir check --online    what is in the accounts, and how it would be reached")]
    Check {
        /// Also sign in to every provider and list its apps: states, host names, collisions. Changes nothing there.
        #[arg(long)]
        online: bool,
    },
    /// Show the configuration in effect, or its JSON Schema
    Config {
        #[command(subcommand)]
        what: Config,
    },
    /// What is remembered of apps: take it away, put it back, mend it
    ///
    /// All of it works while gateways run, and changes nothing without --yes.
    Registry {
        #[command(subcommand)]
        what: Registry,
    },
    /// Try the configured hooks
    Hooks {
        #[command(subcommand)]
        what: hooks::trial::Command,
    },
    /// Ask a running gateway on this machine whether it is well
    ///
    /// For the health check of a container. Exits with 0 if it is, else with 1.
    Healthcheck {
        /// Where the gateway listens [default: 127.0.0.1 and $PORT, else 8080]
        #[arg(long, value_name = "HOST:PORT", env = "LOIR_HEALTHCHECK_ADDRESS")]
        address: Option<SocketAddr>,
    },
    /// Ends the apps of a gateway that was killed. Started by the gateway itself.
    #[command(hide = true)]
    Keeper,
    /// An app of the demo. Started by the demo itself.
    #[command(hide = true)]
    DemoApp {
        /// Which app, and where.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Registry {
    /// Print every record as one JSON document
    ///
    /// What is remembered of each app (state, epoch, what must come back), who lives and who leads. Changes nothing. The document
    /// goes to standard output, a summary to standard error.
    #[command(after_help = "Examples:\n  loir registry dump -c loir.yaml > dump.json\n  \
                            loir registry dump | jq '.apps[\"paris/shop\"]'")]
    Dump,
    /// Put back what the registry has lost, out of a dump
    ///
    /// Adds what is missing, and leads on what is older in the registry. What is newer there stays. An app that was being woken or
    /// stopped comes back asleep; gateways ask its provider. Without --yes it only says what it would do.
    #[command(after_help = "Examples:\n  loir registry restore dump.json          what would change\n  \
                            loir registry restore dump.json --yes    change it")]
    Restore {
        /// What `loir registry dump` has printed
        file: PathBuf,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Find what is wrong in the registry, and mend it
    ///
    /// A record that cannot be understood is moved aside, never deleted, and gateways make a new one; lists that do not agree with
    /// the records are corrected. Without --yes it only says what it would do, and exits with 1 if anything is wrong.
    #[command(
        after_help = "Examples:\n  loir registry repair          what is wrong; exits with 0 if nothing is\n  \
                            loir registry repair --yes    mend it"
    )]
    Repair {
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
enum Config {
    /// The configuration in effect, defaults filled in and secrets left out, as YAML that loads again
    Show,
    /// The JSON Schema of a configuration, for editors
    #[command(after_help = "Example:\n  loir config schema > schema.json")]
    Schema,
}

/// Does what the command line says. The code to exit with is 0, or 1 for a configuration with problems, or what the
/// command says; a command line that makes no sense ends the process with 2.
pub fn main() -> ExitCode {
    let Cli { file, command } = Cli::parse();
    let env = server::environment();
    match command {
        None | Some(Command::Run) => run(file.config, &env),
        Some(Command::Demo { port }) => demo::run(port),
        Some(Command::Check { online }) => check(file.config, online, &env),
        Some(Command::Config { what: Config::Show }) => show(file.config, &env),
        Some(Command::Config { what: Config::Schema }) => schema(),
        Some(Command::Registry { what }) => registry(file.config, &what, &env),
        Some(Command::Hooks { what }) => hooks(file.config, &what, &env),
        Some(Command::Healthcheck { address }) => healthcheck(address, &env),
        Some(Command::Keeper) => provider::process::keeper::main(),
        Some(Command::DemoApp { args }) => demo::app::main(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_can_be_named_before_and_after_the_command() {
        for line in [["loir", "-c", "x.yaml", "check"], ["loir", "check", "-c", "x.yaml"]] {
            let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(cli.file.config, Some("x.yaml".into()));
        }
    }
}
