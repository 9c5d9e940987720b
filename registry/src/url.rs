//! Addresses on the web: where they lead, and where a redirect leads from there.

use std::fmt;

use ureq::http::Uri;

/// An absolute `http` or `https` address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: Scheme,
    /// Host and optional port, in lower case.
    authority: String,
    /// Begins with a slash; with the query, without a fragment.
    path: String,
}

/// How an address is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn word(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl Url {
    pub(crate) fn new(scheme: Scheme, authority: &str, path: &str) -> Url {
        Url { scheme, authority: authority.to_ascii_lowercase(), path: path.to_owned() }
    }

    /// Reads an absolute address. Names and passwords in it are refused.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = match text.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            _ => return None,
        };
        let rest = rest.split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let url = Url::new(scheme, authority, &path);
        // The parser of the client's own has the last word on what is a host and what a path.
        let parsed: Uri = url.text().parse().ok()?;
        let host_is_all = parsed.authority().is_some_and(|found| found.as_str() == url.authority);
        (host_is_all && !authority.contains('@') && parsed.host().is_some_and(|h| !h.is_empty()))
            .then_some(url)
    }

    /// Where `location` leads from here: RFC 3986, section 5.2, without `..`.
    pub(crate) fn join(&self, location: &str) -> Option<Url> {
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Url::parse(location);
        }
        let whole = if let Some(rest) = location.strip_prefix("//") {
            format!("{}://{rest}", self.scheme.word())
        } else if location.starts_with('/') {
            format!("{}{location}", self.origin())
        } else {
            let folder = self.path.split('?').next()?.rsplit_once('/')?.0;
            format!("{}{folder}/{location}", self.origin())
        };
        Url::parse(&whole)
    }

    /// The address with further pairs in its query.
    pub(crate) fn with_query(&self, pairs: &[(&str, &str)]) -> Url {
        let mut url = self.clone();
        for (key, value) in pairs {
            let separator = if url.path.contains('?') { '&' } else { '?' };
            url.path.push_str(&format!("{separator}{}={}", encode(key), encode(value)));
        }
        url
    }

    pub(crate) fn with_path(&self, path: &str) -> Url {
        Url { path: path.to_owned(), ..self.clone() }
    }

    /// Scheme, host and port: what credentials belong to.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme.word(), self.authority)
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and optional port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The host without its port, and without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        host_of(&self.authority)
    }

    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }
}

/// Only the origin: paths and queries of content networks hold signatures that let others in.
impl fmt::Debug for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.origin())
    }
}

/// The host of `host:port`.
pub(crate) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// Whether a host is this machine, which Docker speaks to without TLS.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// RFC 3986, section 2.1: all but the unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        for (text, origin, whole) in [
            ("https://A.b/c?d=e#f", "https://a.b", "https://a.b/c?d=e"),
            ("HTTP://localhost:5000", "http://localhost:5000", "http://localhost:5000/"),
            ("http://[::1]:5000/v2/", "http://[::1]:5000", "http://[::1]:5000/v2/"),
            ("https://a?b", "https://a", "https://a/?b"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.origin(), url.text()), (origin.to_owned(), whole.to_owned()));
        }
        for text in
            ["", "a.b/c", "ftp://a/b", "https://", "https://u:p@a/b", "https://a b/", "file:///x"]
        {
            assert!(Url::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let here = Url::parse("https://a.b:1/v2/x/blobs/y?z=1").unwrap();
        for (location, wanted) in [
            ("/c", "https://a.b:1/c"),
            ("//d.e/f", "https://d.e/f"),
            ("http://g/h?i=://j", "http://g/h?i=://j"),
            ("k", "https://a.b:1/v2/x/blobs/k"),
            ("/l?m=http://n", "https://a.b:1/l?m=http://n"),
        ] {
            assert_eq!(here.join(location).unwrap().text(), wanted);
        }
        assert!(here.join("https://user:secret@a.b/").is_none());
        assert!(here.join("javascript://x").is_none());
    }

    #[test]
    fn queries_are_escaped() {
        let url = Url::parse("https://a/token?x=1").unwrap();
        let url =
            url.with_query(&[("service", "my registry"), ("scope", "repository:a/b:pull,push")]);
        assert_eq!(
            url.text(),
            "https://a/token?x=1&service=my%20registry&scope=repository:a/b:pull%2Cpush"
        );
    }

    #[test]
    fn loopback_is_told_by_the_host() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "docker.io", "127.0.0.1.example:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
