//! Addresses as users write them.

use crate::error::ConnectError;
use std::fmt;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `host:port`, `[v6]:port` or `tcp://host:port`; the port may be left out and is then 9092.
    pub(crate) fn parse(text: &str) -> Result<Self, ConnectError> {
        let wrong = |reason: &str| ConnectError::Address {
            address: text.to_owned(),
            reason: reason.to_owned(),
        };
        let rest = match text.split_once("://") {
            Some(("quic", _)) => {
                return Err(ConnectError::QuicUnsupported { address: text.to_owned() });
            }
            Some(("tcp" | "PLAINTEXT", rest)) => rest,
            Some((scheme, _)) => return Err(wrong(&format!("the scheme `{scheme}` is not known"))),
            None => text,
        };
        let (host, port) = if let Some(v6) = rest.strip_prefix('[') {
            let (host, after) =
                v6.split_once(']').ok_or_else(|| wrong("the closing bracket is missing"))?;
            (host, after.strip_prefix(':'))
        } else if rest.matches(':').count() > 1 {
            return Err(wrong("an IPv6 address needs brackets, as in [::1]:9092"));
        } else {
            match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let port = match port {
            None => 9092,
            Some(port) => {
                port.parse().map_err(|_| wrong("the port is not a number up to 65535"))?
            }
        };
        Ok(Address { host: host.to_owned(), port })
    }

    /// Reads a list separated by commas.
    pub(crate) fn parse_list<S: AsRef<str>>(texts: &[S]) -> Result<Vec<Self>, ConnectError> {
        texts
            .iter()
            .flat_map(|text| text.as_ref().split(','))
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(Address::parse)
            .collect()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match Address::parse(text) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{text}: {found}");
    }

    #[test]
    fn addresses_are_read() {
        check("localhost:9092", "localhost:9092");
        check("localhost", "localhost:9092");
        check("tcp://b:1", "b:1");
        check("[::1]:19092", "[::1]:19092");
        check("::1", "needs brackets");
        check("a:b", "the port is not a number");
        check(":9092", "the host is missing");
        check("quic://a:1", "QUIC is not there yet");
        check("http://a:1", "the scheme `http` is not known");
        assert_eq!(Address::parse_list(&["a:1, b:2", "", "c"]).unwrap().len(), 3);
    }
}
