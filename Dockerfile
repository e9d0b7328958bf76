# syntax=docker/dockerfile:1
# Three stages: dependencies in a layer of their own (rebuilt only when Cargo.toml or Cargo.lock change), the program,
# and a small image with nothing but the program, CA certificates and an init.

FROM rust:1.95-bookworm AS dependencies
# Pingora compiles zlib-ng with cmake.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY benchmarks/Cargo.toml benchmarks/
# Empty sources in place of ours: cargo compiles all dependencies and then this.
RUN mkdir -p src tests/app tests/simulate tests/integration benchmarks/src benchmarks/fleet benchmarks/history \
    && touch src/lib.rs tests/integration/main.rs \
    && for file in src/main.rs tests/app/main.rs tests/simulate/main.rs benchmarks/src/main.rs benchmarks/fleet/main.rs benchmarks/history/main.rs; do echo 'fn main() {}' > "$file"; done \
    && cargo build --release --locked --bin loir

FROM dependencies AS program
COPY src src
COPY conf conf
# Newer than the empty ones, so that cargo compiles them.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin loir

FROM debian:bookworm-slim
# tini reaps what apps leave behind when Loir is the container's first process.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/loir --create-home loir
COPY --from=program /build/target/release/loir /usr/local/bin/loir
# For a gateway that is an app of a platform: LOIR_CONFIG=/etc/loir/paas.yaml.
COPY conf/paas.yaml /etc/loir/paas.yaml
USER loir
WORKDIR /var/lib/loir
EXPOSE 8080
# Mount a configuration here. Without one, Loir says what it looked for.
ENV LOIR_CONFIG=/etc/loir/loir.yaml
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["loir", "healthcheck"]
ENTRYPOINT ["tini", "--", "loir"]
CMD ["run"]
