//! Reads `-p [[IP:][HOST]:]CONTAINER[/PROTOCOL]`: which ports of a container the host answers for.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::port::{ContainerPort, PortRange, split_protocol};

/// A port of a container that the host answers for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The container's port.
    pub port: ContainerPort,
    /// The host's address; none is all that it has.
    pub address: Option<IpAddr>,
    /// The host's ports, of which the first that is free is taken; none is any.
    pub host: Option<PortRange>,
}

/// One `-p`, which may be about many ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish(pub Vec<Publication>);

/// Text that publishes nothing; Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// What should be an address of the host is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// No port of the container.
    #[error("no port specified: {0}<empty>")]
    NoPort(String),
    /// What should be one is none.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// The same of the host.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// Two rows of different lengths.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
    /// Neither TCP nor UDP.
    #[error("invalid proto: {0}")]
    Protocol(String),
    /// No pair of a name and a value where all are.
    #[error("invalid publish opts format (should be name=value but got '{0}')")]
    Pair(String),
    /// A pair of an unknown name.
    #[error("invalid publish opts: unknown key '{0}'")]
    Key(String),
}

impl FromStr for Publish {
    type Err = PublishError;

    /// In Docker's short form, or in its long one: `target=80,published=8080,protocol=tcp`.
    fn from_str(text: &str) -> Result<Self, PublishError> {
        if text.contains('=') { parse(&short_form(text)?) } else { parse(text) }
    }
}

/// The long form as a short one.
fn short_form(text: &str) -> Result<String, PublishError> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for pair in text.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(PublishError::Pair(pair.to_owned()));
        };
        match key {
            "target" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            "mode" => {}
            _ => return Err(PublishError::Key(key.to_owned())),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn parse(text: &str) -> Result<Publish, PublishError> {
    let (address, host, container) = split(text);
    let (container, protocol) = split_protocol(container);
    let address = address.map_or(Ok(None), |address| parse_address(address).map(Some))?;
    if container.is_empty() {
        return Err(PublishError::NoPort(text.to_owned()));
    }
    let wrong = |_| PublishError::ContainerPort(container.to_owned());
    let ports: PortRange = container.parse().map_err(wrong)?;
    let wrong = |_| PublishError::HostPort(host.to_owned());
    let hosts: Option<PortRange> =
        (!host.is_empty()).then(|| host.parse()).transpose().map_err(wrong)?;
    // One port may have any of several of the host.
    if hosts.is_some_and(|hosts| ports.count() > 1 && hosts.count() != ports.count()) {
        let (container, host) = (container.to_owned(), host.to_owned());
        return Err(PublishError::Ranges { container, host });
    }
    let protocol = protocol.map_err(|word| PublishError::Protocol(word.to_owned()))?;
    let published = ports.ports().zip(0..).map(|(number, at)| Publication {
        port: ContainerPort { number, protocol },
        address,
        host: hosts.map(|hosts| match ports.count() {
            1 => hosts,
            _ => PortRange { first: hosts.first + at, last: hosts.first + at },
        }),
    });
    Ok(Publish(published.collect()))
}

/// Address, host's ports, container's ports. What has more than two colons begins with an address of
/// IPv6, in brackets or without.
fn split(text: &str) -> (Option<&str>, &str, &str) {
    let Some((front, container)) = text.rsplit_once(':') else { return (None, "", text) };
    match front.rsplit_once(':') {
        None => (None, front, container),
        Some(("", host)) => (None, host, container),
        Some((address, host)) => (Some(address), host, container),
    }
}

fn parse_address(text: &str) -> Result<IpAddr, PublishError> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let wrong = |_| PublishError::Address(text.to_owned());
    match bare {
        Some(bare) => bare.parse().map(IpAddr::V6).map_err(wrong),
        None => text.parse().map_err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let published: Publish = text.parse().map_err(|error: PublishError| error.to_string())?;
        let shown = |Publication { port, address, host }: Publication| {
            let address = address.map_or("*".to_owned(), |address| address.to_string());
            let host = host.map_or("any".to_owned(), |host| host.to_string());
            format!("{address} {host} -> {port}")
        };
        Ok(published.0.into_iter().map(shown).collect())
    }

    #[test]
    fn ports_are_published_as_docker_does() {
        for (text, wanted) in [
            ("80", "* any -> 80/tcp"),
            (":80", "* any -> 80/tcp"),
            ("8080:80", "* 8080 -> 80/tcp"),
            ("8080:80/udp", "* 8080 -> 80/udp"),
            ("8080:80/TCP", "* 8080 -> 80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1 8080 -> 80/tcp"),
            ("127.0.0.1::80", "127.0.0.1 any -> 80/tcp"),
            ("[::1]:8080:80", "::1 8080 -> 80/tcp"),
            ("::1:8080:80", "::1 8080 -> 80/tcp"),
            ("[2001:db8::7]::53/udp", "2001:db8::7 any -> 53/udp"),
            ("8000-8010:80", "* 8000-8010 -> 80/tcp"),
            ("target=80,published=8080,protocol=udp", "* 8080 -> 80/udp"),
            ("target=80", "* any -> 80/tcp"),
        ] {
            assert_eq!(read(text), Ok(vec![wanted.to_owned()]), "{text}");
        }
    }

    #[test]
    fn rows_of_ports_go_together() {
        let wanted = ["* 8000 -> 80/tcp", "* 8001 -> 81/tcp", "* 8002 -> 82/tcp"];
        assert_eq!(read("8000-8002:80-82").unwrap(), wanted);
        assert_eq!(read("70-71/udp").unwrap(), ["* any -> 70/udp", "* any -> 71/udp"]);
        assert_eq!(read("1-65535:1-65535").unwrap().len(), 65535);
    }

    #[test]
    fn what_cannot_be_published_is_said() {
        for (text, wanted) in [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("/udp", "no port specified: /udp<empty>"),
            ("http", "invalid containerPort: http"),
            ("8080:http", "invalid containerPort: http"),
            ("80:70000", "invalid containerPort: 70000"),
            ("82-80", "invalid containerPort: 82-80"),
            ("http:80", "invalid hostPort: http"),
            ("-1:80", "invalid hostPort: -1"),
            ("host:8080:80", "invalid IP address: host"),
            ("127.0.0.256:8080:80", "invalid IP address: 127.0.0.256"),
            ("[127.0.0.1]:8080:80", "invalid IP address: [127.0.0.1]"),
            ("80:80/sctp", "invalid proto: sctp"),
            (
                "8000-8001:80-82",
                "invalid ranges specified for container and host Ports: 80-82 and 8000-8001",
            ),
            ("target=80,8080", "invalid publish opts format (should be name=value but got '8080')"),
            ("target=80,host=8080", "invalid publish opts: unknown key 'host'"),
        ] {
            assert_eq!(read(text), Err(wanted.to_owned()), "{text}");
        }
    }
}
