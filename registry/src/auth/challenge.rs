//! What a registry wants to see before it answers: the `WWW-Authenticate` header of a 401.

use http_auth::parser::ChallengeParser;

/// A challenge that can be answered. RFC 7235; distribution's token specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token that somebody else gives out.
    Bearer {
        /// Who gives it: an address.
        realm: String,
        /// What for.
        service: Option<String>,
        /// To do what; a registry may leave it out.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads the header's values; the strongest challenge that is known counts.
    pub(crate) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
        let mut best = None;
        for header in headers {
            for challenge in ChallengeParser::new(header).map_while(Result::ok) {
                let parameter = |name: &str| {
                    let found =
                        challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    if let Some(realm) = parameter("realm") {
                        let (service, scope) = (parameter("service"), parameter("scope"));
                        return Some(Challenge::Bearer { realm, service, scope });
                    }
                } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                    best = Some(Challenge::Basic);
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: text(service),
                scope: text(scope),
            })
        };
        let cases: [(&[&str], Option<Challenge>); 8] = [
            (&[], None),
            (&["Basic realm=\"x\""], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (&["Negotiate", "Digest realm=\"x\""], None),
            (
                &[
                    "Bearer realm=\"https://a/token\",service=\"b\",scope=\"repository:c/d:pull,push\"",
                ],
                bearer("https://a/token", Some("b"), Some("repository:c/d:pull,push")),
            ),
            (
                &["Basic realm=\"x\"", "BEARER Realm=\"https://a\", service=\"say \\\"b\\\"\""],
                bearer("https://a", Some("say \"b\""), None),
            ),
            (&["Basic realm=\"x\", Bearer realm=\"https://a\""], bearer("https://a", None, None)),
            (&["Bearer service=\"no realm\""], None),
        ];
        for (headers, wanted) in cases {
            assert_eq!(Challenge::parse(headers.iter().copied()), wanted, "{headers:?}");
        }
    }
}
