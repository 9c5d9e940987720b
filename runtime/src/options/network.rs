//! Reads `--add-host NAME:ADDRESS`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// Docker's word for the host's own address; it stands in the place of that until it is known.
pub(crate) const HOST_GATEWAY: &str = "host-gateway";

/// One line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: HostAddress,
}

/// What a name of `/etc/hosts` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// This address.
    Ip(IpAddr),
    /// `host-gateway`: the host, where the container's first network reaches it.
    Gateway,
}

/// Why text is no such line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExtraHostError {
    /// No name, or nothing behind it.
    #[error("bad format for add-host: \"{0}\"")]
    Format(String),
    /// What stands behind the name is no address.
    #[error("invalid IP address in add-host: \"{0}\"")]
    Address(String),
}

impl FromStr for ExtraHost {
    type Err = ExtraHostError;

    /// With a colon or an equals sign in between; an IPv6 address may stand in brackets.
    fn from_str(text: &str) -> Result<Self, ExtraHostError> {
        let wrong = || ExtraHostError::Format(text.to_owned());
        let (name, address) = text.split_once([':', '=']).ok_or_else(wrong)?;
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if name.is_empty() || !name.bytes().all(good) {
            return Err(wrong());
        }
        if address == HOST_GATEWAY {
            return Ok(Self { name: name.to_owned(), address: HostAddress::Gateway });
        }
        let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        let address = address.parse().map_err(|_| ExtraHostError::Address(address.to_owned()))?;
        Ok(Self { name: name.to_owned(), address: HostAddress::Ip(address) })
    }
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address } = self;
        write!(formatter, "{name}:{address}")
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Gateway => formatter.write_str(HOST_GATEWAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_taken_apart() {
        for (text, name, address) in [
            ("db:192.0.2.1", "db", "192.0.2.1"),
            ("db=192.0.2.1", "db", "192.0.2.1"),
            ("db:2001:db8::1", "db", "2001:db8::1"),
            ("db:[2001:db8::1]", "db", "2001:db8::1"),
            ("db=::1", "db", "::1"),
            ("host:host-gateway", "host", "host-gateway"),
        ] {
            let parsed: ExtraHost = text.parse().unwrap();
            assert_eq!(
                (parsed.name.as_str(), parsed.address.to_string().as_str()),
                (name, address)
            );
        }
    }

    #[test]
    fn what_is_no_line_is_said() {
        for (text, wanted) in [
            ("db", "bad format for add-host: \"db\""),
            (":192.0.2.1", "bad format for add-host: \":192.0.2.1\""),
            ("a b:192.0.2.1", "bad format for add-host: \"a b:192.0.2.1\""),
            ("db:", "invalid IP address in add-host: \"\""),
            ("db:192.0.2", "invalid IP address in add-host: \"192.0.2\""),
            ("db:192.0.2.1\n", "invalid IP address in add-host: \"192.0.2.1\n\""),
        ] {
            assert_eq!(text.parse::<ExtraHost>().unwrap_err().to_string(), wanted);
        }
    }
}
