//! Requests to registries: authorised, redirected without taking secrets along, repeated with
//! patience.

mod agent;
mod proxy;
mod retry;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::SystemTime;

use ureq::http::{HeaderMap, Method, Request, header};
use ureq::{Agent, SendBody};

use crate::auth::{Challenge, Credentials, DockerConfig, Secret, token};
use crate::config::{Config, Endpoint};
use crate::error::Error;
use crate::url::Url;
use crate::words;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use retry::retry_after;
pub(crate) use retry::{Patience, Setback};

/// Redirects that are followed for one request.
const REDIRECT_LIMIT: usize = 5;
/// Of an error's document, and of a token server's answer.
const SMALL_BODY: u64 = 64 << 10;

/// Everything that requests have in common. Shared by the threads that read layers.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: Config,
    pub(crate) docker: DockerConfig,
    pub(crate) patience: Patience,
    /// By origin. Locked by the threads that read layers.
    agents: Mutex<HashMap<String, Agent>>,
    /// `Authorization` by origin and scope. Locked by the threads that read layers.
    grants: Mutex<HashMap<(String, String), Secret>>,
}

/// A request that can be repeated.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// What errors call it.
    pub(crate) what: &'a str,
    /// What the token must be good for.
    pub(crate) scope: &'a str,
    pub(crate) accept: &'a str,
    /// The first byte that is wanted.
    pub(crate) from: u64,
    pub(crate) body: Body<'a>,
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    None,
    Bytes { media_type: &'a str, bytes: &'a [u8] },
    File { path: &'a Path, size: u64 },
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ureq::Body,
    /// Where it came from in the end.
    pub(crate) url: Url,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, url: Url, what: &'a str, scope: &'a str) -> Call<'a> {
        Call { method, url, what, scope, accept: "*/*", from: 0, body: Body::None }
    }
}

impl Client {
    pub(crate) fn new(config: Config, docker: DockerConfig) -> Client {
        Client {
            config,
            docker,
            patience: Patience::default(),
            agents: Mutex::default(),
            grants: Mutex::default(),
        }
    }

    /// Sends a request to a registry, with what it wants to see, until it is answered.
    pub(crate) fn send(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer, Error> {
        let mut failed = 0;
        loop {
            failed += 1;
            let (error, setback) = match self.send_once(endpoint, call) {
                Ok(answer) => {
                    let asked = answer.header("retry-after");
                    let asked =
                        asked.and_then(|value| retry::retry_after(value, SystemTime::now()));
                    let setback = Setback::Status(answer.status, asked);
                    match self.patience.wait(setback, failed) {
                        Some(wait) => sleep(wait),
                        None => return Ok(answer),
                    }
                    continue;
                }
                Err(error @ Error::Reach { .. }) => (error, Setback::Connection),
                Err(error) => return Err(error),
            };
            // A name that is not known now will not be in a second.
            let hopeless = matches!(&error, Error::Reach { source: ureq::Error::HostNotFound, .. });
            match self.patience.wait(setback, failed).filter(|_| !hopeless) {
                Some(wait) => sleep(wait),
                None => return Err(error),
            }
        }
    }

    fn send_once(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer, Error> {
        let home = endpoint.base.origin();
        // An upload may go on somewhere else, which gets to see nothing.
        if call.url.origin() != home {
            return self.exchange(call, None);
        }
        let key = (home, call.scope.to_owned());
        let grant = self.grants.lock().expect("no thread panics with it").get(&key).cloned();
        let answer = self.exchange(call, grant.as_ref())?;
        if answer.status != 401 || answer.url.origin() != key.0 {
            return Ok(answer);
        }
        let Some(challenge) = answer.challenge() else { return Ok(answer) };
        let credentials = self.docker.credentials(&endpoint.name)?;
        let Some(grant) = self.grant(endpoint, call, &challenge, credentials.as_ref())? else {
            return Ok(answer);
        };
        let answer = self.exchange(call, Some(&grant))?;
        if answer.status != 401 {
            self.grants.lock().expect("no thread panics with it").insert(key, grant);
        }
        Ok(answer)
    }

    /// What answers the challenge, if anything does.
    pub(crate) fn grant(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Secret>, Error> {
        let (realm, service, scope) = match challenge {
            Challenge::Basic => return Ok(credentials.and_then(Credentials::basic)),
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let bad = |problem: &str| Error::Answer {
            host: endpoint.name.clone(),
            what: call.what.to_owned(),
            problem: problem.to_owned(),
        };
        let realm = Url::parse(realm).ok_or_else(|| bad("a token server without an address"))?;
        if endpoint.base.is_secure() && !realm.is_secure() {
            return Err(bad("a token server that is spoken to without TLS"));
        }
        let scope = if call.scope.is_empty() { scope.as_deref().unwrap_or("") } else { call.scope };
        let asked = token::request(&realm, service.as_deref(), scope, credentials);
        let what = format!("a token for {}", call.what);
        let mut call = Call::new(Method::GET, asked.url, &what, "");
        if let Some(form) = &asked.form {
            let media_type = "application/x-www-form-urlencoded";
            call.method = Method::POST;
            call.body = Body::Bytes { media_type, bytes: form.reveal().as_bytes() };
        }
        let answer = self.exchange_patiently(&call, asked.authorization.as_ref())?;
        let host = answer.url.authority().to_owned();
        let bytes = answer.success(&what)?.bytes(SMALL_BODY, &what)?;
        let token = token::read(&bytes);
        token.map(Some).ok_or(Error::Answer { host, what, problem: "no token".to_owned() })
    }

    fn exchange_patiently(&self, call: &Call<'_>, grant: Option<&Secret>) -> Result<Answer, Error> {
        let mut failed = 0;
        loop {
            failed += 1;
            let answer = self.exchange(call, grant)?;
            let asked = answer.header("retry-after");
            let asked = asked.and_then(|value| retry::retry_after(value, SystemTime::now()));
            match self.patience.wait(Setback::Status(answer.status, asked), failed) {
                Some(wait) => sleep(wait),
                None => return Ok(answer),
            }
        }
    }

    /// One request, and where its answer leads. What authorises it goes to its own origin only.
    pub(crate) fn exchange(
        &self,
        call: &Call<'_>,
        grant: Option<&Secret>,
    ) -> Result<Answer, Error> {
        let mut url = call.url.clone();
        let mut method = call.method.clone();
        let mut grant = grant;
        for _ in 0..=REDIRECT_LIMIT {
            let answer = self.request(call, &method, &url, grant)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let bad = |problem: &str| answer.bad(call.what, problem);
            let next = answer.header("location").and_then(|location| url.join(location));
            let next = next.ok_or_else(|| bad("a redirect to nowhere"))?;
            if url.is_secure() && !next.is_secure() {
                return Err(bad("a redirect from TLS to none"));
            }
            if next.origin() != url.origin() {
                // For good: a way back to the first host may be of the second one's making.
                grant = None;
            }
            if answer.status == 303 {
                method = Method::GET;
            }
            url = next;
        }
        Err(Error::Answer {
            host: url.authority().to_owned(),
            what: call.what.to_owned(),
            problem: format!("more than {REDIRECT_LIMIT} redirects"),
        })
    }

    fn request(
        &self,
        call: &Call<'_>,
        method: &Method,
        url: &Url,
        grant: Option<&Secret>,
    ) -> Result<Answer, Error> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(url.text())
            .header(header::ACCEPT, call.accept)
            // A layer is hashed as it is kept, so nobody shall compress it on the way.
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(grant) = grant {
            request = request.header(header::AUTHORIZATION, grant.reveal());
        }
        if call.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", call.from));
        }
        let body = match call.body {
            Body::Bytes { media_type, bytes } if method != Method::GET => {
                request = request
                    .header(header::CONTENT_TYPE, media_type)
                    .header(header::CONTENT_LENGTH, bytes.len());
                SendBody::from_owned_reader(std::io::Cursor::new(bytes.to_vec()))
            }
            Body::File { path, size } if method != Method::GET => {
                let file = File::open(path).map_err(|source| Error::Stdio {
                    action: "open a layer of the store",
                    source,
                })?;
                request = request
                    .header(header::CONTENT_TYPE, "application/octet-stream")
                    .header(header::CONTENT_LENGTH, size);
                SendBody::from_owned_reader(file.take(size))
            }
            _ => SendBody::none(),
        };
        let failed = |source| failure(url, source);
        let request = request.body(body).map_err(|error| failed(ureq::Error::Http(error)))?;
        let response = self.agent(url)?.run(request).map_err(failed)?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, url: url.clone() })
    }

    fn agent(&self, url: &Url) -> Result<Agent, Error> {
        let mut agents = self.agents.lock().expect("no thread panics with it");
        if let Some(agent) = agents.get(&url.origin()) {
            return Ok(agent.clone());
        }
        let agent = agent::build(&self.config, url)?;
        agents.insert(url.origin(), agent.clone());
        Ok(agent)
    }
}

/// Whether a connection was refused or only not trusted: the remedies differ.
pub(crate) fn failure(url: &Url, source: ureq::Error) -> Error {
    let host = url.authority().to_owned();
    let distrust = match &source {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => true,
        // What rustls finds wrong during a handshake comes as this.
        ureq::Error::Io(error) => {
            url.is_secure() && error.kind() == std::io::ErrorKind::InvalidData
        }
        _ => false,
    };
    if distrust { Error::Tls { host, source } } else { Error::Reach { host, source } }
}

impl Answer {
    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn challenge(&self) -> Option<Challenge> {
        let values = self.headers.get_all(header::WWW_AUTHENTICATE);
        Challenge::parse(values.iter().filter_map(|value| value.to_str().ok()))
    }

    /// The answer, if it is what was asked for.
    pub(crate) fn success(self, what: &str) -> Result<Answer, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let (host, what, status) = (self.url.authority().to_owned(), what.to_owned(), self.status);
        let asked = self.header("retry-after").map(words::clean);
        // A body that breaks off still tells the status.
        let body = self.bytes(SMALL_BODY, &what).unwrap_or_default();
        let message = words::registry_message(&body);
        Err(match status {
            401 => Error::Unauthorized { host, what, message },
            403 => Error::Forbidden { host, what, message },
            404 => Error::NotFound { host, what, message },
            429 => {
                let message = match asked {
                    Some(asked) if message.is_empty() => format!("its Retry-After is {asked}"),
                    _ => message,
                };
                Error::TooManyRequests { host, message }
            }
            _ => Error::Status { host, what, status, message },
        })
    }

    /// The whole body, which must not be longer than `limit`.
    pub(crate) fn bytes(self, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
        let too_long = |url: &Url| Error::Answer {
            host: url.authority().to_owned(),
            what: what.to_owned(),
            problem: format!("more than {limit} bytes"),
        };
        if self.body.content_length().is_some_and(|length| length > limit) {
            return Err(too_long(&self.url));
        }
        let mut bytes = Vec::new();
        let reader = self.body.into_with_config().limit(u64::MAX).reader();
        reader
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failure(&self.url, error.into()))?;
        if bytes.len() as u64 > limit { Err(too_long(&self.url)) } else { Ok(bytes) }
    }

    pub(crate) fn bad(&self, what: &str, problem: &str) -> Error {
        Error::Answer {
            host: self.url.authority().to_owned(),
            what: what.to_owned(),
            problem: problem.to_owned(),
        }
    }
}
