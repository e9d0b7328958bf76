#!/bin/sh
# benchmarks/run.sh [SCENARIO...] [--quick]: builds everything in release, checks for the tools, runs the scenarios.
# Without a scenario: all of them. benchmarks/README.md says what each one isolates.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- all

# What each scenario cannot do without, as "program:Debian package".
needed=''
case " $* " in *' warm '* | *' all '*) needed="$needed wrk:wrk" ;; esac
case " $* " in *' fleet '* | *' all '*) needed="$needed redis-server:redis-server wrk:wrk" ;; esac
case " $* " in *' history '* | *' all '*) needed="$needed postgres:postgresql" ;; esac
case " $* " in *' instructions '* | *' all '*) needed="$needed valgrind:valgrind perf:linux-perf" ;; esac

find_postgres() { command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -n 1; }
has() { command -v "$1" >/dev/null 2>&1 || { [ "$1" = postgres ] && [ -n "$(find_postgres)" ]; }; }

missing=''
for tool in $needed; do
    has "${tool%%:*}" || missing="$missing ${tool##*:}"
done
if [ -n "$missing" ] && has apt-get && [ "$(id -u)" = 0 ]; then
    # shellcheck disable=SC2086 # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing || true
fi
for tool in $needed; do
    has "${tool%%:*}" && continue
    echo "benchmarks: ${tool%%:*} is missing. On Debian: apt-get install ${tool##*:}" >&2
    exit 1
done
case " $* " in
    *' warm '* | *' all '*)
        PATH="$PATH:/usr/sbin"
        for tool in nginx haproxy; do
            has "$tool" || echo "benchmarks: no $tool here; it is left out (apt-get install $tool)" >&2
        done
        ;;
esac

# A thousand held requests are a thousand sockets on each side.
ulimit -n 8192 2>/dev/null || echo "benchmarks: ulimit -n is $(ulimit -n); herd and memory need 3000" >&2

# The fleet is measured by a program of its own: it is made of Loir's own gateways.
fleet() {
    cargo build --release -p loir --bin loir --example fleet --example simulate
    target="${CARGO_TARGET_DIR:-target}/release/examples"
    case " $* " in
        *' --quick '*) "$target/fleet" --gateways 1,10 --apps 10000 --seconds 5 ;;
        *)
            {
                printf '# fleet\n\nWhat gateways that share a Redis cost it and each other. Simulated gateways are real registries with a\n'
                printf 'connection each; the traffic of the first line is real, to a running app behind a simulated platform.\n\n'
                printf '%s. %s cores, Linux %s. Before the start: load average %s.\n%s.\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" \
                    "$(nproc)" "$(uname -r)" "$(cut -d' ' -f1-3 /proc/loadavg)" "$(redis-server --version | cut -d' ' -f1-3)"
                "$target/fleet"
            } | tee benchmarks/results/fleet.md.new
            mv benchmarks/results/fleet.md.new benchmarks/results/fleet.md
            ;;
    esac
}
case " $* " in *' fleet '* | *' all '*) fleet "$@" ;; esac

# So is the history, which is filled through its own calls. PostgreSQL keeps its programs out of PATH on Debian.
history() {
    cargo build --release -p loir --example history
    program="${CARGO_TARGET_DIR:-target}/release/examples/history"
    case " $* " in
        *' --quick '*) "$program" --events 100000 --apps 100 --queries 200 ;;
        *)
            {
                printf '# history\n\nHow long the history takes to answer when much has happened, and what it keeps. Filled through the same\n'
                printf 'calls as a gateway'"'"'s; PostgreSQL as it is installed, on loopback.\n\n'
                printf '%s. %s cores, Linux %s. Before the start: load average %s.\n%s.\n\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" \
                    "$(nproc)" "$(uname -r)" "$(cut -d' ' -f1-3 /proc/loadavg)" "$("$(find_postgres)" --version)"
                "$program"
            } | tee benchmarks/results/history.md.new
            mv benchmarks/results/history.md.new benchmarks/results/history.md
            ;;
    esac
}
case " $* " in *' history '* | *' all '*) history "$@" ;; esac
others=''
for name in "$@"; do
    [ "$name" = fleet ] || [ "$name" = history ] || others="$others $name"
done
case "$others" in '' | ' --quick') exit 0 ;; esac
# shellcheck disable=SC2086 # one word for each scenario
set -- $others

# Together, so that Loir and the control are linked with the very same Pingora and tokio.
cargo build --release -p loir -p loir-benchmarks
exec "${CARGO_TARGET_DIR:-target}/release/loir-benchmarks" "$@"
