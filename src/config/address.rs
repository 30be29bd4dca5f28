//! An address as written in the configuration: `127.0.0.1:6432`, `[::1]:6432`, `db.internal:5432`, `unix:/path/to/socket`.
//!
//! Invariant: port 0 (any free one) is for listening only, and a path is absolute, so an address means the same whoever looks at it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name or an IP address, without brackets.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl Address {
    pub fn parse(text: &str) -> Result<Address, String> {
        match Address::any(text)? {
            Address::Tcp { port: 0, .. } => Err(format!("`{text}`: nothing can be reached on port 0")),
            address => Ok(address),
        }
    }

    fn any(text: &str) -> Result<Address, String> {
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(Address::Unix(PathBuf::from(path))),
            Some(_) => Err(format!("`{text}`: the path of a unix socket must begin with /")),
            None => tcp(text),
        }
    }

    /// One that can be listened on: its host is an IP address, so that it is plain which interface is opened.
    pub fn parse_listen(text: &str) -> Result<Address, String> {
        match Address::any(text)? {
            Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Err(format!(
                "`{host}` is not an IP address: say 127.0.0.1 for this machine only, 0.0.0.0 or [::] for all interfaces"
            )),
            address => Ok(address),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn tcp(text: &str) -> Result<Address, String> {
    let wrong = || format!("`{text}` is not an address such as 127.0.0.1:5432, db.internal:5432 or unix:/path");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(bracketed) => {
            bracketed.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            bracketed
        }
        None => host,
    };
    let is_address = host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4() || text.starts_with('['));
    match is_address || is_name(host) {
        true => Ok(Address::Tcp { host: host.to_owned(), port }),
        false => Err(wrong()),
    }
}

fn is_name(host: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !host.is_empty() && host.len() <= 253 && host.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for text in ["127.0.0.1:6432", "[::1]:6432", "db.internal:5432", "unix:/run/postgresql/.s.PGSQL.5432"] {
            assert_eq!(Address::parse(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "5432", "host", "host:0", "host:99999", ":5432", "::1:5432", "[host]:5432", "a b:1", "unix:x"]
        {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        assert!(Address::parse_listen("db.internal:5432").is_err());
        assert!(Address::parse_listen("0.0.0.0:5432").is_ok());
    }
}
