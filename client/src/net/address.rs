//! Addresses as users write them.

use crate::config::Transport;
use crate::error::ConnectError;
use std::fmt;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `host:port`, `[v6]:port`, and either after a scheme (`tcp://`, `tls://`, `quic://`); the port may be
    /// left out and is then 9092.
    pub(crate) fn parse(text: &str) -> Result<(Option<Transport>, Self), ConnectError> {
        let wrong = |reason: &str| ConnectError::Address {
            address: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (transport, rest) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let known = Transport::of_scheme(scheme);
                (
                    Some(
                        known
                            .ok_or_else(|| wrong(&format!("the scheme `{scheme}` is not known")))?,
                    ),
                    rest,
                )
            }
            None => (None, text),
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
        Ok((transport, Address { host: host.to_owned(), port }))
    }

    /// Reads a list separated by commas, and the one transport that its schemes name, if they name one.
    pub(crate) fn parse_list<S: AsRef<str>>(
        texts: &[S],
    ) -> Result<(Option<Transport>, Vec<Self>), ConnectError> {
        let mut named: Option<Transport> = None;
        let mut addresses = Vec::new();
        for text in texts.iter().flat_map(|text| text.as_ref().split(',')).map(str::trim) {
            if text.is_empty() {
                continue;
            }
            let (transport, address) = Address::parse(text)?;
            if let (Some(first), Some(other)) = (named, transport)
                && first != other
            {
                return Err(ConnectError::Address {
                    address: text.to_owned(),
                    reason: format!(
                        "another broker of the list has {}://, and one client speaks one transport",
                        first.scheme()
                    ),
                });
            }
            named = named.or(transport);
            addresses.push(address);
        }
        Ok((named, addresses))
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
            Ok((Some(transport), address)) => format!("{}://{address}", transport.scheme()),
            Ok((None, address)) => address.to_string(),
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
        check("quic://a", "quic://a:9092");
        check("SSL://a:1", "tls://a:1");
        check("http://a:1", "the scheme `http` is not known");
        let (transport, addresses) = Address::parse_list(&["a:1, tls://b:2", "", "c"]).unwrap();
        assert_eq!((transport, addresses.len()), (Some(Transport::Tls), 3));
        assert!(Address::parse_list(&["tcp://a:1,quic://b:2"]).is_err());
    }
}
