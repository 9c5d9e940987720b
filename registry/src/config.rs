//! The configuration of registries: mirrors, plain HTTP, own certificate authorities, what is kept.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use images::configuration;
use serde::Deserialize;

use crate::error::Error;
use crate::url::{Scheme, Url, is_loopback};

/// The name of the files.
const NAME: &str = "registries.toml";

/// What the files say; where both say something, the user's counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Whether layers are kept as they came, beside what was unpacked from them.
    #[serde(default)]
    pub(crate) keep_blobs: Option<bool>,
    /// Registries that a name without one is looked for in, before docker.io.
    #[serde(default)]
    pub(crate) unqualified_search: Option<Vec<String>>,
    /// By `host` or `host:port`, as in an image's name.
    #[serde(default, rename = "registry")]
    registries: BTreeMap<String, Registry>,
}

/// What is said about one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Registry {
    /// Hosts, or addresses with a scheme, that are asked first, in this order.
    #[serde(default)]
    mirrors: Vec<String>,
    /// Whether to speak without TLS; unless it says, only with this machine itself.
    plain_http: Option<bool>,
    /// A PEM file with authorities that are trusted beside the usual ones.
    ca: Option<PathBuf>,
}

/// One host that has a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What its credentials go by, and errors call it.
    pub(crate) name: String,
    /// Scheme, host and port.
    pub(crate) base: Url,
}

impl Config {
    /// Reads the files of the machine and the user; those that are not there say nothing.
    pub(crate) fn load() -> Result<Config, Error> {
        let mut config = Config::default();
        for path in configuration::files(NAME) {
            config.over(Config::read(&path)?);
        }
        Ok(config)
    }

    fn read(path: &Path) -> Result<Config, Error> {
        let failed = |source: io::Error| Error::Config { path: path.into(), source };
        let Some(text) = configuration::read(path).map_err(failed)? else {
            return Ok(Config::default());
        };
        Config::parse(&text)
            .map_err(|problem| failed(io::Error::new(io::ErrorKind::InvalidData, problem)))
    }

    /// Reads one file's text; the error is for a person.
    pub(crate) fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| configuration::line_at(text, span.start));
            let place = line.map_or_else(String::new, |line| format!("line {line}: "));
            place + error.message()
        })?;
        for (host, registry) in &config.registries {
            if Url::parse(&format!("https://{host}")).is_none_or(|url| url.authority() != host) {
                return Err(format!("{host:?} is not a host with an optional port"));
            }
            if let Some(mirror) = registry.mirrors.iter().find(|mirror| endpoint(mirror).is_none())
            {
                return Err(format!("the mirror {mirror:?} of {host} is not a host or an address"));
            }
        }
        Ok(config)
    }

    /// Takes what `above` says.
    pub(crate) fn over(&mut self, above: Config) {
        self.keep_blobs = above.keep_blobs.or(self.keep_blobs);
        if above.unqualified_search.is_some() {
            self.unqualified_search = above.unqualified_search;
        }
        self.registries.extend(above.registries);
    }

    /// The hosts that something is said about.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &String> {
        self.registries.keys()
    }

    /// Where images of `registry` are looked for: its mirrors, then itself.
    pub(crate) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mirrors = self.registries.get(registry).map_or(&[][..], |found| &found.mirrors);
        let mirrors = mirrors.iter().filter_map(|mirror| {
            let (scheme, host) = endpoint(mirror)?;
            let scheme = scheme.unwrap_or_else(|| self.scheme(&host));
            Some(Endpoint { base: Url::new(scheme, &host, "/"), name: host })
        });
        mirrors.chain([self.endpoint(registry)]).collect()
    }

    /// The registry itself, where images are pushed to.
    pub(crate) fn endpoint(&self, registry: &str) -> Endpoint {
        // Docker's own registry answers under another name than its images have.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let scheme = self.scheme(registry);
        Endpoint { name: registry.to_owned(), base: Url::new(scheme, host, "/") }
    }

    fn scheme(&self, host: &str) -> Scheme {
        let registry = self.registries.get(host);
        let plain = registry.and_then(|found| found.plain_http).unwrap_or_else(|| {
            is_loopback(host) && registry.is_none_or(|found| found.ca.is_none())
        });
        if plain { Scheme::Http } else { Scheme::Https }
    }

    /// The file with further authorities for a host.
    pub(crate) fn authorities(&self, host: &str) -> Option<&Path> {
        let registry = self.registries.get(host).or_else(|| {
            (host == "registry-1.docker.io").then(|| self.registries.get("docker.io")).flatten()
        });
        registry?.ca.as_deref()
    }
}

/// Reads `host`, `host:port` or an address without a path.
fn endpoint(text: &str) -> Option<(Option<Scheme>, String)> {
    if text.contains("://") {
        let url = Url::parse(text)?;
        let is_bare = url.text() == format!("{}/", url.origin());
        return is_bare.then(|| (Some(url.scheme()), url.authority().to_owned()));
    }
    let url = Url::parse(&format!("https://{text}"))?;
    (url.authority() == text).then(|| (None, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(config: &Config, registry: &str) -> Vec<String> {
        config.endpoints(registry).iter().map(|endpoint| endpoint.base.origin()).collect()
    }

    #[test]
    fn nothing_said_means_tls_but_for_this_machine() {
        let config = Config::parse("").unwrap();
        assert_eq!(bases(&config, "docker.io"), ["https://registry-1.docker.io"]);
        assert_eq!(bases(&config, "ghcr.io"), ["https://ghcr.io"]);
        assert_eq!(bases(&config, "localhost:5000"), ["http://localhost:5000"]);
    }

    #[test]
    fn mirrors_come_first_each_with_its_own_scheme() {
        let config = Config::parse(
            r#"
            [registry."docker.io"]
            mirrors = ["localhost:5000", "https://localhost:5001", "mirror.example", "plain.example"]
            [registry."plain.example"]
            plain-http = true
            [registry."127.0.0.1:5003"]
            ca = "/etc/ca.pem"
            [registry."[::1]:5004"]
            plain-http = false
            "#,
        )
        .unwrap();
        let wanted = [
            "http://localhost:5000",
            "https://localhost:5001",
            "https://mirror.example",
            "http://plain.example",
            "https://registry-1.docker.io",
        ];
        assert_eq!(bases(&config, "docker.io"), wanted);
        assert_eq!(bases(&config, "127.0.0.1:5003"), ["https://127.0.0.1:5003"]);
        assert_eq!(bases(&config, "[::1]:5004"), ["https://[::1]:5004"]);
        assert_eq!(config.authorities("127.0.0.1:5003"), Some(Path::new("/etc/ca.pem")));
    }

    #[test]
    fn the_users_file_counts_more() {
        let mut config =
            Config::parse("keep-blobs = false\n[registry.a]\nplain-http = true").unwrap();
        config.over(Config::parse("[registry.b]\nplain-http = true").unwrap());
        assert_eq!(config.keep_blobs, Some(false));
        assert_eq!(bases(&config, "a"), ["http://a"]);
        config.over(Config::parse("keep-blobs = true\n[registry.a]").unwrap());
        assert_eq!(config.keep_blobs, Some(true));
        assert_eq!(bases(&config, "a"), ["https://a"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("keep-blob = true", "line 1: unknown field `keep-blob`"),
            ("keep-blobs = 1", "boolean"),
            ("[registry.\"a/b\"]", "a/b"),
            ("[registry.a]\nmirrors = [\"b/c\"]", "b/c"),
            ("[registry.a]\nmirrors = [\"http://b/c\"]", "http://b/c"),
            ("[registry.a]\ninsecure = true", "line 2: unknown field `insecure`"),
            ("[", ""),
        ] {
            let problem = Config::parse(text).unwrap_err();
            assert!(problem.contains(wanted), "{text}: {problem}");
        }
    }
}
