//! What speaks to one host: its TLS, its proxy, and how long it may be silent.

use std::path::Path;
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::proxy;
use crate::config::Config;
use crate::error::Error;
use crate::url::Url;

const AGENT: &str = concat!("hyperrun/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A host that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// An agent for the host of `url`. It follows no redirects, since what it is given is for this host.
pub(super) fn build(config: &Config, url: &Url) -> Result<Agent, Error> {
    let proxy = match proxy::choose(url, |name| std::env::var(name).ok()) {
        // The address may have a password in it, and is not shown.
        Some(address) => Some(Proxy::new(&address).map_err(|_| Error::Request {
            problem: format!(
                "the proxy that the environment names for {} is no address",
                url.host()
            ),
            hint: "look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
        })?),
        None => None,
    };
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::Never)
        .user_agent(AGENT)
        .proxy(proxy)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE));
    if url.is_secure() {
        let roots = roots(config.authorities(url.authority()))?;
        builder = builder.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(builder.build().new_agent())
}

/// The authorities of this machine, and those of the file.
fn roots(own: Option<&Path>) -> Result<RootCerts, Error> {
    let native = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<Certificate<'static>> =
        native.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let Some(path) = own else {
        // A machine without any still knows Mozilla's.
        return Ok(if roots.is_empty() { RootCerts::WebPki } else { RootCerts::from(roots) });
    };
    let failed = |source| Error::Config { path: path.into(), source };
    let invalid = |text: &str| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
    let before = roots.len();
    for item in parse_pem(&std::fs::read(path).map_err(failed)?) {
        match item.map_err(|_| invalid("it is no PEM file"))? {
            PemItem::Certificate(certificate) => roots.push(certificate),
            _ => continue,
        }
    }
    if roots.len() == before {
        return Err(invalid("there is no certificate in it"));
    }
    Ok(RootCerts::from(roots))
}
