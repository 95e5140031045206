//! Every key of the file, with its type, its default and its documentation.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use varve_protocol::vocabulary::TopicId;

use super::value::{ByteSize, ConfigValue, DurationMs, Raw};
use super::voter::Voter;
use crate::peers::PeerNames;

/// One key as the reference and the error messages know it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyInfo {
    /// The dotted name: `listeners.kafka.bind`.
    pub name: String,
    /// The default, as it would stand in the file.
    pub default: String,
    /// What it means, one or more sentences.
    pub doc: String,
    /// What a value looks like.
    pub expected: &'static str,
}

/// Why a value was not taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SetError {
    /// No key has this name.
    Unknown,
    /// The name is that of a section.
    IsSection,
    /// The value has the wrong type or form.
    Expected(&'static str),
}

/// A table of the file.
pub(super) trait Section: Default {
    /// Appends every key below `prefix`.
    fn describe(prefix: &str, out: &mut Vec<KeyInfo>);
    /// Sets the key at `path`.
    fn set(&mut self, path: &[&str], raw: &Raw) -> Result<(), SetError>;
    /// Appends every key below `prefix` with its value as TOML.
    fn show(&self, prefix: &str, out: &mut Vec<(String, String)>);
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident {
            $( $(#[doc = $doc:literal])+ $key:ident : $kind:ty = $default:expr; )*
            $( sections { $( $(#[doc = $sub_doc:literal])+ $sub:ident: $sub_kind:ident; )* } )?
        }
    )+) => {$(
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $( $(#[doc = $doc])+ pub $key: $kind, )*
            $($( $(#[doc = $sub_doc])+ pub $sub: $sub_kind, )*)?
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $key: $default, )* $($( $sub: $sub_kind::default(), )*)? }
            }
        }

        impl Section for $section {
            fn describe(prefix: &str, out: &mut Vec<KeyInfo>) {
                let _ = (prefix, &out);
                $( out.push(KeyInfo {
                    name: format!("{prefix}{}", stringify!($key)),
                    default: { let value: $kind = $default; value.show() },
                    doc: [$($doc.trim()),+].join(" "),
                    expected: <$kind as ConfigValue>::EXPECTED,
                }); )*
                $($( $sub_kind::describe(&format!("{prefix}{}.", stringify!($sub)), out); )*)?
            }

            fn set(&mut self, path: &[&str], raw: &Raw) -> Result<(), SetError> {
                let (first, rest) = path.split_first().ok_or(SetError::IsSection)?;
                $( if *first == stringify!($key) && rest.is_empty() {
                    self.$key = <$kind as ConfigValue>::read(raw)
                        .ok_or(SetError::Expected(<$kind as ConfigValue>::EXPECTED))?;
                    return Ok(());
                } )*
                $($( if *first == stringify!($sub) { return self.$sub.set(rest, raw); } )*)?
                Err(SetError::Unknown)
            }

            fn show(&self, prefix: &str, out: &mut Vec<(String, String)>) {
                $( out.push((format!("{prefix}{}", stringify!($key)), self.$key.show())); )*
                $($( self.$sub.show(&format!("{prefix}{}.", stringify!($sub)), out); )*)?
            }
        }
    )+};
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

settings! {
    /// What one broker is told at start.
    BrokerConfig {
        /// The failure domain in which this broker stands, such as a rack or a zone.
        rack: Option<String> = None;
        /// Where the logs lie. One process at a time may open it.
        data_dir: PathBuf = PathBuf::from("varve-data");
        /// Log shards: threads that own partitions. 0 chooses by the number of processors.
        shards: u16 = 0;
        /// Threads of the network runtime. 0 chooses by the number of processors.
        workers: u16 = 0;
        /// Whether a client that asks for an unknown topic gets it created, as Kafka does.
        auto_create_topics: bool = true;
        /// Partitions of a topic that is created without saying how many.
        num_partitions: i32 = 1;
        sections {
        /// Who this node is.
        node: NodeConfig;
        /// The cluster that it belongs to.
        cluster: ClusterConfig;
        /// Where clients and other brokers connect.
        listeners: ListenersConfig;
        /// The port for health, metrics and administration.
        http: HttpConfig;
        /// What may be reached without authentication.
        security: SecurityConfig;
        /// How much memory may be taken, and for what.
        memory: MemoryConfig;
        /// Bounds of what a client may ask.
        limits: LimitsConfig;
        /// How the logs lie on the disk.
        storage: StorageConfig;
        /// Consumer groups.
        groups: GroupsConfig;
        /// What a topic is configured to where it does not say otherwise.
        topic_defaults: TopicDefaults;
        /// What the broker says about itself on standard error.
        log: LogOutputConfig;
        }
    }

    /// Who this node is.
    NodeConfig {
        /// The broker's number in its cluster; it must never change for one data directory.
        id: i32 = 1;
    }

    /// The cluster that this node belongs to.
    ClusterConfig {
        /// The id of the cluster: a new one gets it, and a node whose data or whose voters belong to
        /// another cluster does not start. Where it is unset, the first controller chooses one.
        id: Option<String> = None;
        /// The brokers that keep the metadata, each as "ID@HOST:PORT" with the address of its
        /// internal listener: one, three or five, the same list on every node, also on those that are not
        /// in it. Empty: a cluster of this broker alone.
        voters: Vec<Voter> = Vec::new();
        /// A replica that has not had all of its leader's records for so long is not in sync any more.
        replica_lag_max_ms: DurationMs = DurationMs::seconds(30);
    }

    /// Where clients and other brokers connect.
    ListenersConfig {
        sections {
            /// The listener that speaks Kafka's protocol.
            kafka: KafkaListenerConfig;
            /// The listener to which the other brokers of the cluster connect.
            internal: InternalListenerConfig;
        }
    }

    /// The listener to which the other brokers of the cluster connect. It is off while
    /// `cluster.voters` is empty.
    InternalListenerConfig {
        /// The address to listen on; off while `cluster.voters` is empty. Anything but loopback needs
        /// `tls`, or `security.allow_insecure`.
        bind: SocketAddr = loopback(9192);
        /// The `host:port` that other brokers are told to connect to; the bound address where it is
        /// unset.
        advertised: Option<String> = None;
        /// Brokers talk QUIC to each other, over the UDP port of the same number; a TCP connection with
        /// TLS beside it tells when a process dies. Needs `tls`. The same on all brokers.
        quic: bool = false;
        sections {
            /// TLS between brokers.
            tls: InternalTlsConfig;
        }
    }

    /// TLS between brokers; on once `cert`, `key` and `ca` are set, on all brokers or on none. Both
    /// sides show certificates. `varve security cert dev-ca` makes one for each broker.
    InternalTlsConfig {
        /// A PEM file with this broker's certificate, and after it those between it and the CA. It is
        /// for both sides of a connection (serverAuth and clientAuth) and has the name `peer_name`.
        cert: Option<PathBuf> = None;
        /// A PEM file with the certificate's private key.
        key: Option<PathBuf> = None;
        /// A PEM file with the CAs of the brokers. Whoever shows no certificate of theirs is refused.
        ca: Option<PathBuf> = None;
        /// The DNS name in each broker's certificate, {id} being the broker's number: nobody else is
        /// taken for that broker. The host by which it is reached does not matter.
        peer_name: String = "broker-{id}.varve.internal".to_owned();
    }

    /// The listener that speaks Kafka's protocol.
    KafkaListenerConfig {
        /// The address to listen on. Anything but loopback needs `tls.client_ca`, or
        /// `security.allow_insecure`.
        bind: SocketAddr = loopback(9092);
        /// The `host:port` that clients are told to connect to; the bound address where it is unset.
        advertised: Option<String> = None;
        /// Serves QUIC too, on the UDP port of the same number. Needs `tls.cert` and `tls.key`.
        quic: bool = false;
        /// Streams that one QUIC connection may have open; each is as a connection over TCP.
        quic_streams_max: u32 = 64;
        sections {
            /// TLS on the listener that speaks Kafka's protocol.
            tls: ListenerTlsConfig;
        }
    }

    /// TLS on the listener that speaks Kafka's protocol; on once `cert` and `key` are set.
    /// `varve security cert dev-ca` makes certificates to try it with.
    ListenerTlsConfig {
        /// A PEM file with the broker's certificate, and after it those between it and the CA.
        cert: Option<PathBuf> = None;
        /// A PEM file with the certificate's private key.
        key: Option<PathBuf> = None;
        /// A PEM file with the CAs of clients. Where it is set, a client that shows no certificate of
        /// theirs is refused, over TCP and over QUIC.
        client_ca: Option<PathBuf> = None;
        /// Serves clients without TLS on the same TCP port too; they are told apart by their first
        /// byte.
        plaintext: bool = false;
    }

    /// The port for health, metrics and administration.
    HttpConfig {
        /// The address to listen on, or "off".
        bind: Option<SocketAddr> = Some(loopback(9644));
    }

    /// What may be reached without authentication.
    SecurityConfig {
        /// Allows listening beyond loopback although nobody is authenticated there.
        allow_insecure: bool = false;
    }

    /// How much memory may be taken, and for what.
    MemoryConfig {
        /// All request frames that are being received or handled, together.
        request_bytes_max: ByteSize = ByteSize::mib(128);
        /// The request frames of one connection; at least one request is always let through.
        connection_bytes_max: ByteSize = ByteSize::mib(16);
        /// Records that wait to be written, a log shard.
        shard_queue_bytes_max: ByteSize = ByteSize::mib(64);
    }

    /// Bounds of what a client may ask.
    LimitsConfig {
        /// The largest request that is read; a larger one closes the connection.
        request_bytes_max: ByteSize = ByteSize::mib(100);
        /// The most record bytes that one fetch answers, whatever it asks for.
        fetch_bytes_max: ByteSize = ByteSize::mib(55);
        /// Connections at one time.
        connections_max: u32 = 10_000;
        /// Requests of one connection that are handled at one time.
        connection_requests_max: u32 = 64;
        /// A connection that asks nothing for so long is closed.
        connection_idle_ms: DurationMs = DurationMs::seconds(600);
        /// A request that has begun must have arrived after so long, and an answer be taken.
        request_transfer_ms: DurationMs = DurationMs::seconds(30);
        /// Partitions on this broker.
        partitions_max: u32 = 100_000;
        /// Incremental fetch sessions at one time.
        fetch_sessions_max: u32 = 1_000;
        /// How long an idempotent producer that is silent is remembered.
        producer_id_expiration_ms: DurationMs = DurationMs::days(1);
        /// How long a shutdown waits for requests under way.
        shutdown_ms: DurationMs = DurationMs::seconds(10);
    }

    /// How the logs lie on the disk.
    StorageConfig {
        /// The size of a shard's commit journal.
        journal_bytes: ByteSize = ByteSize::mib(64);
        /// An append of at most so many bytes is made durable through the journal, a larger one by
        /// syncing its segment.
        journal_append_bytes_max: ByteSize = ByteSize::kib(64);
        /// Below so much free space produce requests are refused with a retriable error.
        free_bytes_min: ByteSize = ByteSize::mib(64);
        /// How fast all logs are read and checked in the background, so that damage is found while
        /// other replicas can mend it; 0 turns that off.
        scrub_bytes_per_second: ByteSize = ByteSize::mib(16);
        /// How often that begins anew, besides at each start.
        scrub_interval_ms: DurationMs = DurationMs::days(7);
        /// How often retention and compaction are looked after.
        maintenance_ms: DurationMs = DurationMs::seconds(30);
    }

    /// Consumer groups.
    GroupsConfig {
        /// How long the first rebalance of an empty group waits for more members.
        initial_rebalance_delay_ms: DurationMs = DurationMs::seconds(3);
        /// The shortest session timeout that a member may ask for.
        session_timeout_min_ms: DurationMs = DurationMs::seconds(6);
        /// The longest session timeout that a member may ask for.
        session_timeout_max_ms: DurationMs = DurationMs::seconds(1_800);
        /// Members of one group.
        members_max: u32 = 10_000;
        /// Groups on this broker.
        groups_max: u32 = 100_000;
        /// How long committed offsets of a group without members are kept.
        offsets_retention_ms: DurationMs = DurationMs::days(7);
        /// Partitions of the internal topic that holds committed offsets; fixed at its creation.
        offsets_partitions: i32 = 50;
        /// The largest metadata text of a committed offset.
        offset_metadata_bytes_max: ByteSize = ByteSize::kib(4);
    }

    /// What a topic is configured to where it does not say otherwise. Names are Kafka's with `_`
    /// for `.`; a topic's own configuration is changed by `varve topic alter-config`.
    TopicDefaults {
        /// The least number of in-sync replicas that an `acks=all` record needs.
        min_insync_replicas: i32 = 1;
        /// How long records are kept.
        retention_ms: Option<DurationMs> = Some(DurationMs::days(7));
        /// How many bytes a partition keeps.
        retention_bytes: Option<ByteSize> = None;
        /// The size at which a segment is closed.
        segment_bytes: ByteSize = ByteSize::mib(1024);
        /// The age at which a segment is closed.
        segment_ms: DurationMs = DurationMs::days(7);
        /// The largest record batch.
        max_message_bytes: ByteSize = ByteSize(1_048_588);
        /// Acknowledges from the page cache, before records are on stable storage.
        write_caching: bool = false;
    }

    /// What the broker says about itself on standard error.
    LogOutputConfig {
        /// Which events are told, in the syntax of `RUST_LOG`.
        filter: String = "info".to_owned();
        /// "text", "json", or "auto": text on a terminal and JSON elsewhere.
        format: String = "auto".to_owned();
    }
}

impl BrokerConfig {
    /// Every key in the order of the reference.
    #[must_use]
    pub fn keys() -> Vec<KeyInfo> {
        let mut out = Vec::new();
        Self::describe("", &mut out);
        out
    }

    /// Every key with its value as TOML.
    #[must_use]
    pub fn values(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        self.show("", &mut out);
        out
    }

    /// What cannot be seen from one value alone: the keys concerned, and what is wrong with them.
    #[must_use]
    pub fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        let mut refuse = |key, wrong: bool, message: String| {
            if wrong {
                out.push((key, message));
            }
        };
        let internal = (!self.cluster.voters.is_empty()).then_some(&self.listeners.internal);
        for (key, bind) in [
            ("listeners.kafka.bind", Some(self.listeners.kafka.bind)),
            ("listeners.internal.bind", internal.map(|listener| listener.bind)),
            ("http.bind", self.http.bind),
        ] {
            let asks_identity = match key {
                "listeners.kafka.bind" => self.listeners.kafka.tls.client_ca.is_some(),
                "listeners.internal.bind" => self.listeners.internal.tls.ca.is_some(),
                _ => false,
            };
            let open = bind.is_some_and(|bind| !bind.ip().is_loopback()) && !asks_identity;
            refuse(
                key,
                open && !self.security.allow_insecure,
                "listens beyond this machine while nobody is authenticated; bind a loopback \
                 address, or say security.allow_insecure = true where the network is closed"
                    .to_owned(),
            );
        }
        refuse(
            "listeners.kafka.advertised",
            self.listeners.kafka.advertised.as_deref().is_some_and(|text| !is_host_port(text)),
            "is not of the form host:port".to_owned(),
        );
        refuse(
            "listeners.kafka.advertised",
            self.listeners.kafka.bind.ip().is_unspecified()
                && self.listeners.kafka.advertised.is_none(),
            "is needed, since clients cannot connect to the wildcard address of \
             listeners.kafka.bind: set it to the host:port by which they reach this broker"
                .to_owned(),
        );
        let kafka = &self.listeners.kafka;
        let is_tls = kafka.tls.cert.is_some();
        refuse(
            "listeners.kafka.tls.key",
            is_tls != kafka.tls.key.is_some(),
            "a certificate and its key are set together: listeners.kafka.tls.cert and \
             listeners.kafka.tls.key"
                .to_owned(),
        );
        refuse(
            "listeners.kafka.quic",
            kafka.quic && !is_tls,
            "needs a certificate: set listeners.kafka.tls.cert and listeners.kafka.tls.key; \
             `varve security cert dev-ca` makes them to try it with"
                .to_owned(),
        );
        refuse(
            "listeners.kafka.tls.client_ca",
            kafka.tls.client_ca.is_some() && !is_tls,
            "has no effect without listeners.kafka.tls.cert and listeners.kafka.tls.key".to_owned(),
        );
        refuse(
            "listeners.kafka.tls.plaintext",
            kafka.tls.client_ca.is_some() && kafka.tls.plaintext,
            "lets clients in that show no certificate, while listeners.kafka.tls.client_ca demands \
             one of everybody: set one of the two"
                .to_owned(),
        );
        refuse(
            "listeners.kafka.quic_streams_max",
            !(1..=10_000).contains(&kafka.quic_streams_max),
            "must be from 1 to 10000".to_owned(),
        );
        if let Some(listener) = internal {
            refuse(
                "listeners.internal.advertised",
                listener.advertised.as_deref().is_some_and(|text| !is_host_port(text)),
                "is not of the form host:port".to_owned(),
            );
            refuse(
                "listeners.internal.advertised",
                listener.bind.ip().is_unspecified() && listener.advertised.is_none(),
                "is needed, since other brokers cannot connect to the wildcard address of \
                 listeners.internal.bind: set it to the host:port by which they reach this broker"
                    .to_owned(),
            );
        }
        let tls = &self.listeners.internal.tls;
        let is_tls = tls.cert.is_some() && tls.key.is_some() && tls.ca.is_some();
        let is_begun = tls.cert.is_some() || tls.key.is_some() || tls.ca.is_some();
        for (key, is_set) in [
            ("listeners.internal.tls.cert", tls.cert.is_some()),
            ("listeners.internal.tls.key", tls.key.is_some()),
            ("listeners.internal.tls.ca", tls.ca.is_some()),
        ] {
            refuse(
                key,
                internal.is_some() && is_begun && !is_set,
                "is not set, but others of listeners.internal.tls are: brokers show each other \
                 certificates, so that cert, key and ca are set together"
                    .to_owned(),
            );
        }
        refuse(
            "listeners.internal.quic",
            internal.is_some_and(|listener| listener.quic) && !is_tls && !is_begun,
            "needs certificates: set cert, key and ca of listeners.internal.tls; `varve security \
             cert dev-ca` makes them to try it with"
                .to_owned(),
        );
        refuse(
            "listeners.internal.tls.peer_name",
            internal.is_some() && PeerNames::parse(&tls.peer_name).is_none(),
            "must be a DNS name with {id} in it once, such as \"broker-{id}.varve.internal\""
                .to_owned(),
        );
        let voters_problem = Voter::problem(&self.cluster.voters);
        refuse("cluster.voters", voters_problem.is_some(), voters_problem.unwrap_or_default());
        refuse(
            "cluster.id",
            self.cluster.id.as_deref().is_some_and(|id| TopicId::parse(id).is_none()),
            "is not the id of a cluster, which has 22 letters as `varve cluster info` prints them"
                .to_owned(),
        );
        refuse("node.id", self.node.id < 0, "must not be negative".to_owned());
        refuse("shards", self.shards > 256, "must be at most 256".to_owned());
        refuse("workers", self.workers > 1024, "must be at most 1024".to_owned());
        refuse(
            "num_partitions",
            !(1..=100_000).contains(&self.num_partitions),
            "must be from 1 to 100000".to_owned(),
        );
        refuse(
            "groups.offsets_partitions",
            !(1..=1_000).contains(&self.groups.offsets_partitions),
            "must be from 1 to 1000".to_owned(),
        );
        refuse(
            "topic_defaults.min_insync_replicas",
            self.topic_defaults.min_insync_replicas < 1,
            "must be at least 1".to_owned(),
        );
        refuse(
            "limits.request_bytes_max",
            !(1_024..=1 << 30).contains(&self.limits.request_bytes_max.0),
            "must be from 1KiB to 1GiB".to_owned(),
        );
        refuse(
            "memory.request_bytes_max",
            self.memory.request_bytes_max < self.limits.request_bytes_max,
            format!(
                "is less than one request of limits.request_bytes_max ({})",
                self.limits.request_bytes_max
            ),
        );
        refuse(
            "limits.connections_max",
            self.limits.connections_max == 0,
            "must be at least 1".to_owned(),
        );
        refuse(
            "limits.connection_requests_max",
            self.limits.connection_requests_max == 0,
            "must be at least 1".to_owned(),
        );
        refuse(
            "storage.journal_bytes",
            self.storage.journal_bytes.0 < 1 << 20,
            "must be at least 1MiB".to_owned(),
        );
        refuse(
            "storage.journal_append_bytes_max",
            self.storage.journal_append_bytes_max.0 > self.storage.journal_bytes.0 / 4,
            "must be at most a quarter of storage.journal_bytes".to_owned(),
        );
        refuse(
            "topic_defaults.segment_bytes",
            !(14..=i32::MAX as u64).contains(&self.topic_defaults.segment_bytes.0),
            "must be from 14 to 2147483647 bytes".to_owned(),
        );
        refuse(
            "groups.session_timeout_min_ms",
            self.groups.session_timeout_min_ms > self.groups.session_timeout_max_ms,
            "is more than groups.session_timeout_max_ms".to_owned(),
        );
        refuse(
            "log.format",
            !["auto", "text", "json"].contains(&self.log.format.as_str()),
            "must be \"auto\", \"text\" or \"json\"".to_owned(),
        );
        out
    }
}

pub(super) fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}
