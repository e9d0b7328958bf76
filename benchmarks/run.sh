#!/bin/sh
# benchmarks/run.sh [SCENARIO...] [--quick]: builds everything in release, checks for the tools, runs the scenarios.
# Without a scenario: all of them. benchmarks/README.md says what each one isolates.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- all

# What each scenario cannot do without, as "program:Debian package".
needed=''
case " $* " in *' warm '* | *' all '*) needed="$needed wrk:wrk" ;; esac
case " $* " in *' instructions '* | *' all '*) needed="$needed valgrind:valgrind perf:linux-perf" ;; esac

has() { command -v "$1" >/dev/null 2>&1; }

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

# Together, so that Loir and the control are linked with the very same Pingora and tokio.
cargo build --release -p loir -p loir-benchmarks
exec "${CARGO_TARGET_DIR:-target}/release/loir-benchmarks" "$@"
