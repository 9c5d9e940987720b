//! Bearer tokens: asked of whoever the registry names, and good for one scope.
//! distribution's documentation, "Token Authentication Specification" and "OAuth2".

use serde::Deserialize;

use super::{Credentials, Secret};
use crate::url::{Url, encode};

/// Who is asking, for a token server's statistics.
const CLIENT: &str = "hyperrun";

/// What is sent to a token server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TokenRequest {
    pub(crate) url: Url,
    pub(crate) authorization: Option<Secret>,
    /// A form to be posted; without one the request is a GET.
    pub(crate) form: Option<Secret>,
}

/// The request for a token, with these credentials or none.
pub(crate) fn request(
    realm: &Url,
    service: Option<&str>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> TokenRequest {
    let mut query = Vec::new();
    query.extend(service.map(|service| ("service", service)));
    query.extend((!scope.is_empty()).then_some(("scope", scope)));
    if let Some(Credentials::Identity { token }) = credentials {
        query.extend([("client_id", CLIENT), ("grant_type", "refresh_token")]);
        query.push(("refresh_token", token.reveal()));
        let pairs = query.iter().map(|(key, value)| format!("{key}={}", encode(value)));
        let form = Secret::new(pairs.collect::<Vec<_>>().join("&"));
        return TokenRequest { url: realm.clone(), authorization: None, form: Some(form) };
    }
    if let Some(credentials) = credentials {
        query.extend([("account", credentials.username()), ("client_id", CLIENT)]);
    }
    TokenRequest {
        url: realm.with_query(&query),
        authorization: credentials.and_then(Credentials::basic),
        form: None,
    }
}

/// The token in a server's answer.
pub(crate) fn read(answer: &[u8]) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let token = answer.token.filter(|t| !t.is_empty()).or(answer.access_token)?;
    // What cannot stand in a header is no token.
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| Secret::new(format!("Bearer {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_what_is_known() {
        let realm = Url::parse("https://auth.example/token").unwrap();
        let scope = "repository:a/b:pull";
        let anonymous = request(&realm, Some("reg"), scope, None);
        assert_eq!(
            anonymous.url.text(),
            "https://auth.example/token?service=reg&scope=repository:a/b:pull"
        );
        assert_eq!((anonymous.authorization, anonymous.form), (None, None));
        let me = Credentials::new("me".into(), Secret::new("pw"));
        let known = request(&realm, None, "", Some(&me));
        assert_eq!(known.url.text(), "https://auth.example/token?account=me&client_id=hyperrun");
        assert_eq!(known.authorization, me.basic());
        let identity = Credentials::new("<token>".into(), Secret::new("t/+"));
        let posted = request(&realm, Some("reg"), scope, Some(&identity));
        assert_eq!(posted.url, realm);
        assert_eq!(
            posted.form.unwrap().reveal(),
            "service=reg&scope=repository:a/b:pull&client_id=hyperrun&grant_type=refresh_token\
             &refresh_token=t/%2B"
        );
    }

    #[test]
    fn tokens_are_read_from_either_field() {
        let token = |text: &str| read(text.as_bytes()).map(|token| token.reveal().to_owned());
        assert_eq!(token(r#"{"token":"a.b"}"#).as_deref(), Some("Bearer a.b"));
        assert_eq!(token(r#"{"access_token":"c"}"#).as_deref(), Some("Bearer c"));
        assert_eq!(token(r#"{"token":"","access_token":"c"}"#).as_deref(), Some("Bearer c"));
        for none in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\r\nb"}"#, "[]"] {
            assert_eq!(token(none), None, "{none}");
        }
    }
}
