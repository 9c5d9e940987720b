//! Docker's config.json: who is logged in where. Read and written as Docker does; what is not known
//! here stays as it is.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::helper::Helper;
use super::{Credentials, Secret, decode};
use crate::error::Error;

/// The key of docker.io, from its first version on.
const HUB: &str = "https://index.docker.io/v1/";

/// The file and what is in it.
#[derive(Clone)]
pub(crate) struct DockerConfig {
    path: PathBuf,
    content: Map<String, Value>,
}

/// Where credentials went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A helper has them.
    Safely,
    /// They lie in this file for whoever can read it.
    InFile(PathBuf),
}

impl DockerConfig {
    /// Reads the file of the folder `DOCKER_CONFIG`, else of `~/.docker`.
    pub(crate) fn load() -> Result<DockerConfig, Error> {
        let folder =
            |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let folder = folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker")));
        DockerConfig::read(folder.unwrap_or_else(|| "/.docker".into()).join("config.json"))
    }

    pub(crate) fn read(path: PathBuf) -> Result<DockerConfig, Error> {
        let failed = |source| Error::Credentials { action: "read", path: path.clone(), source };
        let content = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(failed(error)),
        };
        Ok(DockerConfig { path, content })
    }

    /// What is known for a registry, by the name that images have for it.
    pub(crate) fn credentials(&self, registry: &str) -> Result<Option<Credentials>, Error> {
        let key = key(registry);
        if let Some(helper) = self.helper(registry)?
            && let Some(found) = helper.get(key)?
        {
            return Ok(Some(found));
        }
        Ok(self.in_file(registry))
    }

    /// The content of a file that is not there, for the fuzzer.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(bytes: &[u8]) -> io::Result<DockerConfig> {
        Ok(DockerConfig { path: PathBuf::new(), content: parse(bytes)? })
    }

    /// The registries that it has entries for, by whatever names they have there.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn keys(&self) -> Vec<String> {
        let tables = ["auths", "credHelpers"].map(|name| self.content.get(name));
        let tables = tables.into_iter().flatten().filter_map(Value::as_object);
        tables.flat_map(Map::keys).cloned().collect()
    }

    /// What the file itself has for a registry.
    pub(crate) fn in_file(&self, registry: &str) -> Option<Credentials> {
        self.entry(registry).and_then(from_entry)
    }

    /// Keeps credentials, with a helper if one is named.
    pub(crate) fn store(
        &mut self,
        registry: &str,
        credentials: &Credentials,
    ) -> Result<Kept, Error> {
        if let Some(helper) = self.helper(registry)? {
            helper.store(key(registry), credentials)?;
            return Ok(Kept::Safely);
        }
        self.enter(registry, credentials);
        self.write()?;
        Ok(Kept::InFile(self.path.clone()))
    }

    /// Puts credentials into the file's content.
    pub(crate) fn enter(&mut self, registry: &str, credentials: &Credentials) {
        let entry = match credentials {
            Credentials::Password { .. } => {
                serde_json::json!({ "auth": credentials.encoded().reveal() })
            }
            Credentials::Identity { token } => {
                serde_json::json!({ "identitytoken": token.reveal() })
            }
        };
        let auths = self.content.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key(registry).to_owned(), entry);
        }
    }

    /// Forgets the credentials of a registry; tells whether there were any.
    pub(crate) fn erase(&mut self, registry: &str) -> Result<bool, Error> {
        let mut erased = match self.helper(registry)? {
            Some(helper) => helper.erase(key(registry))?,
            None => false,
        };
        if self.strike(registry) {
            self.write()?;
            erased = true;
        }
        Ok(erased)
    }

    /// Takes the credentials of a registry out of the file's content; tells whether there were any.
    pub(crate) fn strike(&mut self, registry: &str) -> bool {
        let auths = self.content.get_mut("auths").and_then(Value::as_object_mut);
        let Some(auths) = auths else { return false };
        let before = auths.len();
        auths.retain(|name, _| name != key(registry) && !means(name, registry));
        auths.len() < before
    }

    /// The helper for a registry: its own, or the one for all.
    pub(crate) fn helper(&self, registry: &str) -> Result<Option<Helper>, Error> {
        let own = self.content.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|all| all.get(key(registry)).or_else(|| all.get(registry)));
        let name = own.or_else(|| self.content.get("credsStore")).and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).map(Helper::new).transpose()
    }

    fn entry(&self, registry: &str) -> Option<&Value> {
        let auths = self.content.get("auths")?.as_object()?;
        auths.get(key(registry)).or_else(|| {
            auths.iter().find(|(name, _)| means(name, registry)).map(|(_, entry)| entry)
        })
    }

    /// Docker follows a link that is the file, and so does this.
    fn write(&self) -> Result<(), Error> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |source| Error::Credentials { action: "write", path: path.clone(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut text = serde_json::to_vec_pretty(&self.content).map_err(|e| failed(e.into()))?;
        text.push(b'\n');
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.as_file().set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map(drop).map_err(|error| failed(error.error))
    }
}

/// Reads the file's text. An error tells only the place of a mistake, for the text around it may be a
/// secret.
fn parse(bytes: &[u8]) -> io::Result<Map<String, Value>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!("line {} is no JSON of the right shape", error.line());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// Only where it is: what is in it are secrets.
impl fmt::Debug for DockerConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DockerConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

fn key(registry: &str) -> &str {
    if registry == "docker.io" { HUB } else { registry }
}

/// Whether an entry's key is a registry's: old versions of Docker wrote whole addresses.
fn means(name: &str, registry: &str) -> bool {
    let host = name.split_once("://").map_or(name, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    let host =
        if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    host == registry
}

fn from_entry(entry: &Value) -> Option<Credentials> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(Credentials::Identity { token: Secret::new(token) });
    }
    if let Some(encoded) = text("auth") {
        return decode(encoded);
    }
    Some(Credentials::new(text("username")?.to_owned(), Secret::new(text("password")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, text: &str) -> DockerConfig {
        let path = folder.join("config.json");
        fs::write(&path, text).unwrap();
        DockerConfig::read(path).unwrap()
    }

    fn password(username: &str, password: &str) -> Credentials {
        Credentials::new(username.into(), Secret::new(password))
    }

    #[test]
    fn dockers_entries_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(
            folder.path(),
            r#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"aHViOnB3"},
                "https://old.example/v2/":{"auth":"b2xkOnB3"},
                "quay.io":{"identitytoken":"id"},
                "plain.example":{"username":"p","password":"w"},
                "empty.example":{},
                "localhost:5000":{"auth":"bG9jYWw6cHc="}}}"#,
        );
        let found = |registry: &str| config.credentials(registry).unwrap();
        assert_eq!(found("docker.io"), Some(password("hub", "pw")));
        assert_eq!(found("old.example"), Some(password("old", "pw")));
        assert_eq!(found("quay.io"), Some(Credentials::Identity { token: Secret::new("id") }));
        assert_eq!(found("plain.example"), Some(password("p", "w")));
        assert_eq!(found("localhost:5000"), Some(password("local", "pw")));
        for none in ["empty.example", "localhost", "localhost:5001", "io", "example"] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_not_known_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), r#"{"psFormat":"x","auths":{"a":{"auth":"YTpi"}}}"#);
        let kept = config.store("docker.io", &password("me", "pw")).unwrap();
        let path = folder.path().join("config.json");
        assert_eq!(kept, Kept::InFile(path.clone()));
        let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"psFormat":"x","auths":{"a":{"auth":"YTpi"},HUB:{"auth":"bWU6cHc="}}})
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(config.erase("docker.io").unwrap());
        assert!(!config.erase("docker.io").unwrap());
        let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, serde_json::json!({"psFormat":"x","auths":{"a":{"auth":"YTpi"}}}));
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "{\"auths\":{\"a\":{\"auth\":\"hunter2\"").unwrap();
        let error = DockerConfig::read(path).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
