//! `varve security`: certificates to try TLS and QUIC with.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use varve_broker::config::BrokerConfig;
use varve_broker::peers::ID_PLACE;

use super::clock;
use super::exit::CliError;
use super::output::print_text;

/// Certificates of brokers that are made at once.
const NODES_MAX: i64 = 1_000;
/// Seconds of a mean Gregorian year.
const YEAR_SECONDS: i64 = 31_556_952;

/// The commands about security.
#[derive(Debug, Subcommand)]
pub(crate) enum SecurityCommand {
    /// Make certificates
    #[command(subcommand)]
    Cert(CertCommand),
}

/// The commands about certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make a CA, and certificates of brokers and of a client by it: for development, not for production
    DevCa(DevCaArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DevCaArgs {
    /// The directory to write to
    #[arg(value_name = "DIR", default_value = "varve-certs")]
    directory: PathBuf,
    /// A name or IP address of the brokers, beside localhost, 127.0.0.1 and ::1; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Brokers 1 to N get a certificate each, with which they talk to each other
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    nodes: u16,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(command: &SecurityCommand) -> Result<(), CliError> {
    match command {
        SecurityCommand::Cert(CertCommand::DevCa(arguments)) => dev_ca(arguments),
    }
}

fn dev_ca(arguments: &DevCaArgs) -> Result<(), CliError> {
    let directory = &arguments.directory;
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    hosts.extend(arguments.hosts.iter().cloned());
    let made = DevCertificates::make(&hosts, arguments.nodes).map_err(|error| {
        CliError::usage(format!("no certificate can be made for {}: {error}", hosts.join(", ")))
    })?;
    made.write(directory, arguments.force).map_err(|(path, error)| {
        let failed = CliError::failed(format!("cannot write {}: {error}", path.display()));
        if error.kind() == ErrorKind::AlreadyExists {
            failed.help("name another directory, or say --force to write over it")
        } else {
            failed
        }
    })?;
    let directory = fs::canonicalize(directory)?;
    let at = |name: &str| directory.join(name).display().to_string();
    let (ca, brokers) = (at(CA), arguments.nodes);
    print_text(&format!(
        "A CA and certificates by it for development are in {}.\n\
         The brokers' certificates are for {}. Keep the keys (*-key.pem) to yourself.\n\n\
         For a broker's TOML, towards clients:\n\n\
         [listeners.kafka]\n\
         quic = true\n\n\
         [listeners.kafka.tls]\n\
         cert = \"{}\"\n\
         key = \"{}\"\n\
         # Demand a certificate of every client:\n\
         # client_ca = \"{ca}\"\n\n\
         and towards the other brokers (here broker 1 of {brokers}, each has its own):\n\n\
         [listeners.internal]\n\
         quic = true    # or false: TLS over TCP\n\n\
         [listeners.internal.tls]\n\
         cert = \"{}\"\n\
         key = \"{}\"\n\
         ca = \"{ca}\"\n\n\
         For clients:\n\n  \
         varve --ca {ca} --brokers quic://localhost:9092 cluster info\n  \
         varve --ca {ca} --brokers tls://localhost:9092 cluster info\n  \
         kcat -b localhost:9092 -X security.protocol=SSL -X ssl.ca.location={ca} -L\n\n\
         and where the broker demands certificates, --tls-cert {} --tls-key {} too.\n",
        directory.display(),
        hosts.join(", "),
        at(BROKER),
        at(BROKER_KEY),
        at(&broker_file(1)),
        at(&broker_key_file(1)),
        at(CLIENT),
        at(CLIENT_KEY),
    ))
}

/// The CA's certificate.
pub(crate) const CA: &str = "ca.pem";
/// The CA's key.
pub(crate) const CA_KEY: &str = "ca-key.pem";
/// The certificate of any broker towards clients.
pub(crate) const BROKER: &str = "broker.pem";
/// Its key.
pub(crate) const BROKER_KEY: &str = "broker-key.pem";
/// The client's certificate.
pub(crate) const CLIENT: &str = "client.pem";
/// The client's key.
pub(crate) const CLIENT_KEY: &str = "client-key.pem";

/// The file of the certificate of broker `id`.
pub(crate) fn broker_file(id: u16) -> String {
    format!("broker-{id}.pem")
}

/// The file of its key.
pub(crate) fn broker_key_file(id: u16) -> String {
    format!("broker-{id}-key.pem")
}

/// Certificates and keys as PEM, with the names of their files.
pub(crate) struct DevCertificates {
    files: Vec<(String, String)>,
}

/// A certificate that is no CA's.
struct Leaf {
    file: String,
    key_file: String,
    name: String,
    hosts: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

impl DevCertificates {
    /// Makes a CA, certificates for `hosts` of any broker and of brokers 1 to `brokers`, and a client's.
    pub(crate) fn make(hosts: &[String], brokers: u16) -> Result<DevCertificates, rcgen::Error> {
        let mut params = params(Vec::new(), "varve development CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?;
        let mut files = vec![(CA.to_owned(), ca.pem()), (CA_KEY.to_owned(), key.serialize_pem())];
        let issuer = Issuer::new(params, key);
        for leaf in leaves(hosts, brokers) {
            let mut params = self::params(leaf.hosts, &leaf.name)?;
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = leaf.usages;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?;
            files.push((leaf.file, certificate.pem()));
            files.push((leaf.key_file, key.serialize_pem()));
        }
        Ok(DevCertificates { files })
    }

    /// Writes all files; keys for their owner alone. Unless `force`, none is written over.
    pub(crate) fn write(
        &self,
        directory: &Path,
        force: bool,
    ) -> Result<(), (PathBuf, std::io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
        let found = self.files.iter().map(|(name, _)| directory.join(name)).find(|p| p.exists());
        if let Some(path) = found.filter(|_| !force) {
            return Err((path, ErrorKind::AlreadyExists.into()));
        }
        for (name, text) in &self.files {
            let path = directory.join(name);
            let fresh = directory.join(format!("{name}.new"));
            let mode = if name.ends_with("-key.pem") { 0o600 } else { 0o644 };
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(true).mode(mode);
            let mut file = options.open(&fresh).map_err(at(&fresh))?;
            file.write_all(text.as_bytes()).map_err(at(&fresh))?;
            fs::rename(&fresh, &path).map_err(at(&path))?;
        }
        Ok(())
    }
}

fn leaves(hosts: &[String], brokers: u16) -> Vec<Leaf> {
    let (server, client) =
        (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    let mut leaves = vec![
        Leaf {
            file: BROKER.to_owned(),
            key_file: BROKER_KEY.to_owned(),
            name: "varve broker".to_owned(),
            hosts: hosts.to_vec(),
            usages: vec![server.clone()],
        },
        Leaf {
            file: CLIENT.to_owned(),
            key_file: CLIENT_KEY.to_owned(),
            name: "varve client".to_owned(),
            hosts: Vec::new(),
            usages: vec![client.clone()],
        },
    ];
    let peer_name = BrokerConfig::default().listeners.internal.tls.peer_name;
    for id in 1..=brokers {
        let mut hosts = hosts.to_vec();
        hosts.push(peer_name.replace(ID_PLACE, &id.to_string()));
        leaves.push(Leaf {
            file: broker_file(id),
            key_file: broker_key_file(id),
            name: format!("varve broker {id}"),
            hosts,
            // Brokers connect to each other too.
            usages: vec![server.clone(), client.clone()],
        });
    }
    leaves
}

/// Valid from the beginning of this year to the end of the next.
fn params(hosts: Vec<String>, name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    let year = 1970 + i32::try_from(clock::unix_ms() / 1_000 / YEAR_SECONDS).unwrap_or(0);
    params.not_before = rcgen::date_time_ymd(year, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + 2, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
