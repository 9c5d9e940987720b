//! Reads `--sysctl KEY=VALUE`.

use std::str::FromStr;

use protocol::Sysctl;
use thiserror::Error;

/// One setting of the guest's kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlOption(pub Sysctl);

/// Text that is no setting.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid sysctl '{0}'")]
pub struct SysctlError(String);

impl FromStr for SysctlOption {
    type Err = SysctlError;

    /// Which settings there are, only the guest's kernel knows. A key has dots between its parts or,
    /// where one holds a dot itself, slashes (sysctl(8)).
    fn from_str(text: &str) -> Result<Self, SysctlError> {
        let wrong = || SysctlError(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let (key, value) = (key.trim(), value.trim());
        let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte);
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
        if !path.contains('/') || !path.split('/').all(part) || value.contains('\0') {
            return Err(wrong());
        }
        Ok(Self(Sysctl { path, value: value.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_paths() {
        for (text, path, value) in [
            ("net.ipv4.ip_forward=1", "net/ipv4/ip_forward", "1"),
            ("kernel.shmmax = 68719476736", "kernel/shmmax", "68719476736"),
            ("net/ipv4/conf/eth0.1/forwarding=1", "net/ipv4/conf/eth0.1/forwarding", "1"),
            ("kernel.sem=250 32000 100 128", "kernel/sem", "250 32000 100 128"),
            ("kernel.domainname=a=b", "kernel/domainname", "a=b"),
        ] {
            let wanted = Sysctl { path: path.to_owned(), value: value.to_owned() };
            assert_eq!(text.parse(), Ok(SysctlOption(wanted)), "{text}");
        }
    }

    #[test]
    fn no_key_leaves_its_folder() {
        for text in [
            "",
            "net",
            "net.ipv4",
            "=1",
            "net=1",
            "../x=1",
            "net/../../x=1",
            "net//x=1",
            "/net/x=1",
            "net./x y=1",
            "net..x=1",
            "net.x=\0",
        ] {
            assert!(text.parse::<SysctlOption>().is_err(), "{text}");
        }
    }
}
