//! Reads `--dns`, `--dns-search` and `--dns-option`, and makes a container's `resolv.conf` of them.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What was asked for about the resolution of names, kept with the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// `--dns`: who is asked instead of the host's servers.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`: the domains that a short name is looked for in, instead of the host's.
    pub search: Vec<SearchDomain>,
    /// `--dns-option`, instead of the host's.
    pub options: Vec<String>,
}

/// A domain that short names are looked for in; a dot is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SearchDomain(String);

/// Text that is no such domain; Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is not a valid domain")]
pub struct SearchDomainError(String);

impl SearchDomain {
    /// As it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SearchDomain {
    type Err = SearchDomainError;

    fn from_str(text: &str) -> Result<Self, SearchDomainError> {
        let text = text.trim();
        let good = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        if text == "." || (name.len() <= 253 && name.split('.').all(good)) {
            return Ok(Self(text.to_owned()));
        }
        Err(SearchDomainError(text.to_owned()))
    }
}

impl Dns {
    /// The container's `resolv.conf`, where the host's is this one. `resolvers` are those of its
    /// networks, which ask the servers themselves.
    #[must_use]
    pub fn resolv_conf(&self, host: &str, resolvers: &[IpAddr]) -> String {
        let lines = |word: &'static str| {
            host.lines().filter(move |line| line.split_ascii_whitespace().next() == Some(word))
        };
        let mut text = String::new();
        let mut add = |line: &str| text.extend([line, "\n"]);
        let servers = if resolvers.is_empty() { &self.servers[..] } else { resolvers };
        match servers {
            [] => lines("nameserver").for_each(&mut add),
            _ => servers.iter().for_each(|server| add(&format!("nameserver {server}"))),
        }
        let domains: Vec<_> = self.search.iter().map(SearchDomain::as_str).collect();
        match domains[..] {
            // Of several lines the last one counts (resolv.conf(5)).
            [] => {
                let last = |word| lines(word).next_back();
                last("search").or_else(|| last("domain")).into_iter().for_each(&mut add);
            }
            ["."] => {}
            _ => add(&format!("search {}", domains.join(" "))),
        }
        match self.options.is_empty() {
            true => lines("options").for_each(add),
            false => add(&format!("options {}", self.options.join(" "))),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# of the host\nnameserver 192.0.2.1\n;x\nnameserver 192.0.2.2\n\
                        domain old.example\nsearch a.example b.example\noptions edns0\n";

    fn dns(servers: &[&str], search: &[&str], options: &[&str]) -> Dns {
        Dns {
            servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
            search: search.iter().map(|text| text.parse().unwrap()).collect(),
            options: options.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_not_asked_for_is_the_hosts() {
        let search = "search a.example b.example\n";
        for (dns, resolver, wanted) in [
            (
                dns(&[], &[], &[]),
                None,
                format!("nameserver 192.0.2.1\nnameserver 192.0.2.2\n{search}options edns0\n"),
            ),
            (
                dns(&["2001:db8::1"], &[], &["ndots:2", "rotate"]),
                None,
                format!("nameserver 2001:db8::1\n{search}options ndots:2 rotate\n"),
            ),
            (
                dns(&["2001:db8::1"], &["c.example", "d.example."], &[]),
                Some("172.17.0.1"),
                "nameserver 172.17.0.1\nsearch c.example d.example.\noptions edns0\n".to_owned(),
            ),
            (
                dns(&[], &["."], &[]),
                Some("172.17.0.1"),
                "nameserver 172.17.0.1\noptions edns0\n".to_owned(),
            ),
        ] {
            let resolver: Option<IpAddr> = resolver.map(|text| text.parse().unwrap());
            assert_eq!(dns.resolv_conf(HOST, resolver.as_slice()), wanted);
        }
        assert_eq!(dns(&[], &[], &[]).resolv_conf("", &[]), "");
        assert_eq!(dns(&[], &[], &[]).resolv_conf("domain x\n", &[]), "domain x\n");
    }

    #[test]
    fn what_is_no_domain_is_said() {
        for text in ["", "a..b", "a b", "a\nnameserver", &"a.".repeat(200), "ä"] {
            let error = text.parse::<SearchDomain>().unwrap_err().to_string();
            assert_eq!(error, format!("{} is not a valid domain", text.trim()));
        }
    }
}
