//! Which proxy the environment names for a host, by the rules of curl and Go.

use crate::url::{Scheme, Url, is_loopback};

/// The proxy's address for `url`, where `variable` reads the environment.
pub(crate) fn choose(url: &Url, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let either = |upper: &str| {
        let found = variable(upper).or_else(|| variable(&upper.to_ascii_lowercase()));
        found.filter(|value| !value.is_empty())
    };
    if is_loopback(url.authority()) || excluded(url, &either("NO_PROXY").unwrap_or_default()) {
        return None;
    }
    let own = match url.scheme() {
        Scheme::Https => either("HTTPS_PROXY"),
        Scheme::Http => either("HTTP_PROXY"),
    };
    own.or_else(|| either("ALL_PROXY"))
}

fn excluded(url: &Url, list: &str) -> bool {
    list.split(',').map(str::trim).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let name = entry.trim_start_matches("*.").trim_start_matches('.');
        let host = url.host();
        let below = || host.strip_suffix(name).is_some_and(|above| above.ends_with('.'));
        entry == "*" || (!name.is_empty() && (host == name || url.authority() == name || below()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses() {
        let choose = |url: &str, env: &[(&str, &str)]| {
            let variable = |name: &str| {
                env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            choose(&Url::parse(url).unwrap(), variable)
        };
        let both = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "http://p:2")];
        assert_eq!(choose("https://a.b/", &both).as_deref(), Some("http://s:1"));
        assert_eq!(choose("http://a.b/", &both).as_deref(), Some("http://p:2"));
        assert_eq!(choose("http://localhost:5000/", &both), None);
        assert_eq!(choose("https://a.b/", &[("all_proxy", "x")]).as_deref(), Some("x"));
        assert_eq!(choose("https://a.b/", &[("HTTPS_PROXY", "")]), None);
        for none in ["*", "a.b", ".b", "b", "x, A.B", "*.b", "a.b:443"] {
            let env = [("HTTPS_PROXY", "x"), ("NO_PROXY", none)];
            assert_eq!(choose("https://a.b:443/", &env), None, "{none}");
        }
        for some in ["", "c.a.b", ".a.b.c", "a", "a.b:80"] {
            let env = [("HTTPS_PROXY", "x"), ("no_proxy", some)];
            assert_eq!(choose("https://a.b:443/", &env).as_deref(), Some("x"), "{some}");
        }
    }
}
