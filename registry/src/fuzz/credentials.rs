//! Docker's `config.json`: secrets go where they belong, and no helper is a path.

use images::Reference;

use crate::auth::{Credentials, DockerConfig, Secret};

/// Parses `bytes` as Docker's configuration, looks everybody up, and enters and strikes credentials.
///
/// # Panics
/// When an error quotes the file, a helper is no plain name, what was entered is not found, or what was
/// struck is.
pub fn credentials(bytes: &[u8]) {
    let mut config = match DockerConfig::of(bytes) {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            let line = text.strip_prefix("line ").and_then(|rest| rest.split_once(' '));
            let (number, rest) = line.expect("it tells the line");
            assert!(number.parse::<usize>().is_ok() && rest == "is no JSON of the right shape");
            return;
        }
    };
    let keys = config.keys().into_iter().filter(|key| is_registry(key));
    let names: Vec<String> = keys.chain(["docker.io".to_owned()]).collect();
    let entered = Credentials::new("me".to_owned(), Secret::new("hunter2"));
    for name in &names {
        if let Ok(Some(helper)) = config.helper(name) {
            let program = helper.program();
            assert!(
                program.starts_with("docker-credential-") && !program.contains('/'),
                "{program}"
            );
        }
        if let Some(basic) = config.in_file(name).as_ref().and_then(Credentials::basic) {
            let is_header = ureq::http::HeaderValue::from_str(basic.reveal()).is_ok();
            assert!(is_header, "what is sent is a header");
        }
        config.enter(name, &entered);
        assert_eq!(config.in_file(name).as_ref(), Some(&entered), "{name}");
        assert!(config.strike(name), "{name}");
        assert_eq!(config.in_file(name), None, "{name}");
        assert!(!config.strike(name), "{name}");
    }
    assert!(!format!("{config:?}").contains("hunter2"));
}

/// Whether an image's name can have this registry in it: nobody else is asked for.
fn is_registry(key: &str) -> bool {
    let named = format!("{key}/x").parse::<Reference>();
    named.is_ok_and(|reference| reference.registry() == key)
}
