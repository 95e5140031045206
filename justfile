# The commands of this repository. `just` lists them; each is one line that can be typed without just.

default:
    @just --list

# A broker, records produced through the client crate, SIGKILL, restart, resumption: told as it happens
demo:
    cargo run --release -- demo

# Every test that needs nothing but Rust
test:
    cargo test --workspace

# Formatting, lints, documentation
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Everything that must hold before a change is taken
ci:
    .ci/run

# The configuration reference, written anew from its schema
reference:
    BLESS=1 cargo test -p varve-broker --lib config

# Criterion benches: encode, decode, append, read, group commit, the simulator
bench *filter:
    cargo bench -p varve-benches {{filter}}

# varve beside Apache Kafka on this machine: one table (needs Java 17, Maven and a C compiler)
compare *options:
    cargo build --release -p varve-broker
    cargo run --release -p varve-benches --features compare --bin compare -- {{options}}

# Other people's suites and clients, whole; each prints every test that passes and each that does not
suites: suite-kafka-tools suite-librdkafka suite-kafka-python suite-rdkafka suite-kafkajs

# Apache Kafka's own command-line tools and Java clients (needs Java 17 and Maven)
suite-kafka-tools:
    tests/suites/kafka-tools

# librdkafka through the confluent-kafka wheel
suite-librdkafka:
    tests/suites/librdkafka

# kafka-python's own integration tests, from its sdist
suite-kafka-python:
    tests/suites/kafka-python

# The rdkafka crate's own tests
suite-rdkafka:
    tests/suites/rdkafka

# kafkajs (needs Node)
suite-kafkajs:
    tests/suites/kafkajs

# Fuzzes one decoder for some seconds (needs a nightly toolchain and a C++ compiler)
fuzz target seconds="600":
    .ci/fuzz {{seconds}} {{target}}

# Fuzzes every decoder for some seconds each
fuzz-all seconds="30":
    .ci/fuzz {{seconds}}

# The lock-free end of a segment, in every interleaving that the memory model allows
loom:
    CARGO_INCREMENTAL=0 RUSTFLAGS="--cfg loom" cargo test -p varve-storage --lib --target-dir target/loom published

# Tests under the thread or the address sanitizer (needs a nightly toolchain); storage's where no others are named
sanitize sanitizer *arguments:
    .ci/sanitize {{sanitizer}} {{arguments}}

# Licences and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny check

# Another project's tests against a broker: kafka-python, kafkajs, librdkafka, rdkafka, kafka-tools
suite name *options:
    tests/suites/{{name}} {{options}}

# Simulated clusters of three to seven brokers, one a seed; a seed that fails prints the command that replays it
# (--long: minutes of calm clients and rare faults; --threads 1; --report SECONDS; 0 seeds: without end)
simulate seeds="3000" *options:
    cargo run --release -p varve-tests --features sabotage --bin simulate -- --seeds {{seeds}} {{options}}

# Deliberate bugs, each of which the simulator must find within a stated number of seeds (--rounds 5: how soon on average)
sabotages *options:
    cargo run --release -p varve-tests --features sabotage --bin simulate -- --sabotages {{options}}

# 200 rounds of produce and consume while the broker is killed with SIGKILL
crash-rounds *options:
    cargo run --release -p varve-tests --bin crash-rounds -- {{options}}

# Real brokers in network namespaces, a fault of another kind in each round, histories judged after it (--list, --short;
# needs root, and installs faketime and nftables from the distribution where it can)
fault-bed *options:
    tests/suites/fault-bed {{options}}

# Judges histories that clients wrote, as Jepsen's Kafka workload does (--format json)
judge *options:
    cargo run --quiet --release -p varve-tests --bin judge -- {{options}}

# All kinds of clients on three brokers whose leaders are struck (what cannot be had here is named)
mixed *options:
    tests/suites/mixed {{options}}

# Three brokers and 10,000 partitions: creation, a leader's death, restart, memory; idle cost of 1,000
many-partitions *options:
    cargo run --release -p varve-tests --bin many-partitions -- {{options}}

# Three brokers, the leader struck 30 times (--strike kill|pause|terminate|kill-all, --client
# crate|crate-quic|librdkafka|java|franz-go): silences, losses, all replicas compared byte for byte
failover-rounds *options:
    cargo run --release -p varve-tests --bin failover-rounds -- {{options}}

# Restart after SIGKILL with 2,000 partitions and 5 GB stored (needs 6 GB of disk)
restart-time *options:
    cargo run --release -p varve-tests --bin restart-time -- {{options}}

# TCP, TLS and QUIC on loopback, QUIC also with lost datagrams: rates, processor time, latencies
transports *options:
    cargo run --release -p varve-tests --bin transports -- {{options}}
