//! Reads `--tmpfs FOLDER[:OPTIONS]`.

use std::str::FromStr;

use protocol::{MountFlags, Tmpfs};
use thiserror::Error;

use crate::limits::Size;

/// One memory file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsOption {
    /// What it means.
    pub tmpfs: Tmpfs,
    /// Its options as they were given.
    pub options: String,
}

/// Why text is no memory file system.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TmpfsError {
    /// The folder is not named from the root.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Path(String),
    /// No option that a tmpfs has here.
    #[error("invalid tmpfs option '{0}'")]
    Option(String),
}

impl FromStr for TmpfsOption {
    type Err = TmpfsError;

    /// Docker's defaults: nothing in it runs, and everybody may write.
    fn from_str(text: &str) -> Result<Self, TmpfsError> {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') || path.contains('\0') {
            return Err(TmpfsError::Path(path.to_owned()));
        }
        let mut tmpfs = Tmpfs {
            path: path.to_owned(),
            flags: MountFlags { read_only: false, no_exec: true, no_suid: true, no_dev: true },
            size_bytes: None,
            mode: 0o1777,
            owner: (0, 0),
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            set(&mut tmpfs, option).ok_or_else(|| TmpfsError::Option(option.to_owned()))?;
        }
        Ok(Self { tmpfs, options: options.to_owned() })
    }
}

fn set(tmpfs: &mut Tmpfs, option: &str) -> Option<()> {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    let id = || value.parse::<u32>().ok().filter(|id| *id <= i32::MAX.cast_unsigned());
    match (key, option.contains('=')) {
        ("ro", false) => tmpfs.flags.read_only = true,
        ("rw", false) => tmpfs.flags.read_only = false,
        ("exec", false) => tmpfs.flags.no_exec = false,
        ("noexec", false) => tmpfs.flags.no_exec = true,
        ("suid", false) => tmpfs.flags.no_suid = false,
        ("nosuid", false) => tmpfs.flags.no_suid = true,
        ("dev", false) => tmpfs.flags.no_dev = false,
        ("nodev", false) => tmpfs.flags.no_dev = true,
        ("size", true) => tmpfs.size_bytes = Some(value.parse::<Size>().ok()?.bytes),
        ("mode", true) => {
            let mode = u32::from_str_radix(value, 8).ok()?;
            tmpfs.mode = Some(mode).filter(|mode| *mode <= 0o7777)?;
        }
        ("uid", true) => tmpfs.owner.0 = id()?,
        ("gid", true) => tmpfs.owner.1 = id()?,
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Tmpfs {
        text.parse::<TmpfsOption>().unwrap().tmpfs
    }

    #[test]
    fn defaults_and_options_are_dockers() {
        let plain = parse("/run");
        assert_eq!((plain.path.as_str(), plain.mode, plain.size_bytes), ("/run", 0o1777, None));
        let flags = MountFlags { read_only: false, no_exec: true, no_suid: true, no_dev: true };
        assert_eq!(plain.flags, flags);
        let full = parse("/a b:rw,exec,suid,dev,size=64k,mode=700,uid=33,gid=34");
        assert_eq!((full.path.as_str(), full.mode), ("/a b", 0o700));
        assert_eq!((full.size_bytes, full.owner), (Some(65_536), (33, 34)));
        let flags = MountFlags { read_only: false, no_exec: false, no_suid: false, no_dev: false };
        assert_eq!(full.flags, flags);
        assert!(parse("/x:rw,ro").flags.read_only);
        assert_eq!(parse("/x:"), parse("/x"));
    }

    #[test]
    fn what_is_none_is_said() {
        for (text, wanted) in [
            ("run", "invalid mount path: 'run' mount path must be absolute"),
            ("", "invalid mount path: '' mount path must be absolute"),
            ("/run:fast", "invalid tmpfs option 'fast'"),
            ("/run:size=lots", "invalid tmpfs option 'size=lots'"),
            ("/run:size", "invalid tmpfs option 'size'"),
            ("/run:ro=1", "invalid tmpfs option 'ro=1'"),
            ("/run:mode=9", "invalid tmpfs option 'mode=9'"),
            ("/run:mode=17777", "invalid tmpfs option 'mode=17777'"),
            ("/run:uid=-1", "invalid tmpfs option 'uid=-1'"),
        ] {
            assert_eq!(text.parse::<TmpfsOption>().unwrap_err().to_string(), wanted);
        }
    }
}
