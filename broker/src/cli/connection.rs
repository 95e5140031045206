//! Which cluster a command talks to.

use std::path::PathBuf;

use varve_client::{Admin, Client, ClientConfig, ConfigError};

use super::exit::CliError;
use super::profile::Profile;

/// The port of a broker that was started without saying another.
const DEFAULT_BROKER: &str = "127.0.0.1:9092";

/// The options of every command that talks to a cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConnectionArgs {
    /// Brokers to ask first, as host:port, tls://host:port or quic://host:port, more of them after commas; else
    /// VARVE_BROKERS, the profile, 127.0.0.1:9092
    #[arg(long, global = true, value_name = "LIST", value_delimiter = ',')]
    pub(crate) brokers: Vec<String>,
    /// A property of the client by Kafka's name, such as request.timeout.ms=5000; brokers=LIST too
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,
    /// A PEM file with the CAs to trust, for TLS and QUIC; else VARVE_CA, the system's
    #[arg(long = "ca", global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A PEM file with the certificate to show to brokers that demand one; else VARVE_TLS_CERT
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// A PEM file with that certificate's private key; else VARVE_TLS_KEY
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Where the list of brokers came from, for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerList {
    pub(crate) brokers: Vec<String>,
    pub(crate) origin: &'static str,
}

impl ConnectionArgs {
    /// The brokers that are meant, by the first source that names some.
    pub(crate) fn broker_list(&self) -> Result<BrokerList, CliError> {
        let split = |list: &str| -> Vec<String> {
            list.split(',')
                .map(|broker| broker.trim().to_owned())
                .filter(|b| !b.is_empty())
                .collect()
        };
        let from_properties = self
            .properties()?
            .into_iter()
            .find(|(key, _)| is_broker_key(key))
            .map(|(_, value)| split(&value));
        let from_environment = std::env::var("VARVE_BROKERS").ok().map(|list| split(&list));
        let from_profile = || -> Result<Option<Vec<String>>, CliError> {
            let profile = Profile::load().map_err(|message| {
                CliError::usage(message).help("mend or remove the file, or say --brokers host:port")
            })?;
            Ok(profile.map(|profile| profile.brokers))
        };
        let list = |brokers, origin| Ok(BrokerList { brokers, origin });
        if !self.brokers.is_empty() {
            return list(split(&self.brokers.join(",")), "--brokers");
        }
        if let Some(brokers) = from_properties {
            return list(brokers, "-X brokers");
        }
        if let Some(brokers) = from_environment.filter(|brokers| !brokers.is_empty()) {
            return list(brokers, "VARVE_BROKERS");
        }
        if let Some(brokers) = from_profile()?.filter(|brokers| !brokers.is_empty()) {
            return list(brokers, "the profile");
        }
        list(vec![DEFAULT_BROKER.to_owned()], "the default")
    }

    /// Connects to the cluster that is meant.
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        let list = self.broker_list()?;
        // The names are checked before anything is tried; the values by whoever they belong to.
        let mut named = self.properties()?;
        named.retain(|(key, _)| !is_broker_key(key));
        for (key, value) in &named {
            let refusal = ClientConfig::from_properties([(key, value)]).err();
            if let Some(error) = refusal.filter(is_unknown) {
                return Err(CliError::usage(format!("-X {key}={value}: {error}")));
            }
        }
        let mut builder = Client::builder(&list.brokers.join(",")).client_id("varve-cli");
        let file = |option: &Option<PathBuf>, variable| {
            option.clone().or_else(|| std::env::var_os(variable).map(PathBuf::from))
        };
        if let Some(ca) = file(&self.ca, "VARVE_CA") {
            builder = builder.ca_file(ca);
        }
        if let (Some(certificate), Some(key)) =
            (file(&self.tls_cert, "VARVE_TLS_CERT"), file(&self.tls_key, "VARVE_TLS_KEY"))
        {
            builder = builder.client_certificate(certificate, key);
        }
        for (key, value) in named.iter().filter(|(key, _)| is_client_property(key)) {
            builder = builder.property(key, value);
        }
        builder.build().await.map_err(|error| {
            let message =
                format!("{error} (asked {}, from {})", list.brokers.join(","), list.origin);
            if error.is_retriable() || error.code().is_none() {
                CliError::unreachable(message)
                    .help("start a broker with varve dev, or name one with --brokers host:port")
            } else {
                CliError::failed(message)
            }
        })
    }

    /// Connects, for administrative calls.
    pub(crate) async fn admin(&self) -> Result<Admin, CliError> {
        Ok(self.connect().await?.admin())
    }

    /// The `-X` options that are no property of a client, and so a producer's or a consumer's.
    pub(crate) fn further_properties(&self) -> Result<Vec<(String, String)>, CliError> {
        let mut further = self.properties()?;
        further.retain(|(key, _)| !is_broker_key(key) && !is_client_property(key));
        Ok(further)
    }

    /// The `-X` options, in their order.
    pub(crate) fn properties(&self) -> Result<Vec<(String, String)>, CliError> {
        self.properties
            .iter()
            .map(|property| {
                let (key, value) = property.split_once('=').ok_or_else(|| {
                    CliError::usage(format!("-X {property}: this is not of the form KEY=VALUE"))
                })?;
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            })
            .collect()
    }
}

/// Whether a property only says which brokers to ask.
pub(crate) fn is_broker_key(key: &str) -> bool {
    matches!(key, "brokers" | "bootstrap.servers" | "metadata.broker.list")
}

/// Whether a property belongs to the client itself, rather than to its producer or consumer.
fn is_client_property(key: &str) -> bool {
    !ClientConfig::default().property(key, "").is_err_and(|error| is_unknown(&error))
}

fn is_unknown(error: &ConfigError) -> bool {
    error.to_string().starts_with("unknown property")
}
