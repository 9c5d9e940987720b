//! `registries.toml`: whatever it says, every image has an address that is one.

use crate::config::Config;
use crate::url::Url;

/// Parses `bytes`, if they are text, as the configuration of registries.
///
/// # Panics
/// When a host that is asked has no proper address, the registry itself is not the last, or reading
/// the same file twice says something else.
pub fn registries(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(config) = Config::parse(text) else { return };
    let mut twice = config.clone();
    twice.over(config.clone());
    assert_eq!(twice, config);
    let names = ["docker.io", "localhost:5000", "registry.example"].map(str::to_owned);
    for name in config.hosts().chain(&names) {
        let endpoints = config.endpoints(name);
        assert_eq!(endpoints.last(), Some(&config.endpoint(name)), "{name}");
        for endpoint in &endpoints {
            let base = endpoint.base.text();
            assert_eq!(Url::parse(&base).as_ref(), Some(&endpoint.base), "{base}");
            assert!(
                !base.contains('@') && base == format!("{}/", endpoint.base.origin()),
                "{base}"
            );
        }
    }
}
