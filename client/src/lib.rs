//! A producer, consumer and admin client for varve and any broker that speaks Kafka's protocol.
#![forbid(unsafe_code)]
