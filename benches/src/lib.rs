//! Benchmarks, and the comparison against Apache Kafka.
#![forbid(unsafe_code)]
