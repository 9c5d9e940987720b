//! Where things lie on the host.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The environment variable that moves everything to one folder.
pub const ROOT_VARIABLE: &str = "HYPERRUN_ROOT";

/// The folder everything lies under. It need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Images, containers, templates and blank disks: `/var/lib/hyperrun` for root.
    pub data: PathBuf,
}

/// What the choice of folders depends on.
#[derive(Clone, Debug, Default)]
struct Surroundings {
    root: Option<PathBuf>,
    is_superuser: bool,
    data_home: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Places {
    /// Where root's things lie.
    pub(crate) const SYSTEM: &str = "/var/lib/hyperrun";

    /// Takes `--root`, or `HYPERRUN_ROOT`, or the usual folders of this user.
    pub fn find(root: Option<&Path>) -> Result<Self, Error> {
        let folder = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = match root.map(Path::to_owned).or_else(|| folder(ROOT_VARIABLE)) {
            Some(root) => Some(std::path::absolute(&root).map_err(|source| Error::File {
                action: "find",
                path: root,
                source,
            })?),
            None => None,
        };
        let surroundings = Surroundings {
            root,
            is_superuser: is_superuser(),
            data_home: folder("XDG_DATA_HOME").filter(|path| path.is_absolute()),
            home: folder("HOME"),
        };
        choose(surroundings).ok_or(Error::NoHome)
    }

    /// The folder of the image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// The folder of blank and overlay disks.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.data.join("scratch")
    }

    /// The folder of templates.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    /// The folder with a folder for each snapshot.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.data.join("snapshots")
    }

    /// The folder with a folder for each container.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// The folder with a folder for each network.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.data.join("networks")
    }
}

/// Whether this process is root's, as which networks can be made.
#[must_use]
pub fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

fn choose(surroundings: Surroundings) -> Option<Places> {
    if let Some(data) = surroundings.root {
        return Some(Places { data });
    }
    if surroundings.is_superuser {
        return Some(Places { data: Places::SYSTEM.into() });
    }
    let data_home = surroundings
        .data_home
        .or_else(|| surroundings.home.map(|home| home.join(".local/share")))?;
    Some(Places { data: data_home.join("hyperrun") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_chosen_by_root_then_user() {
        let user = Surroundings { home: Some("/home/u".into()), ..Surroundings::default() };
        let superuser = Surroundings { is_superuser: true, ..user.clone() };
        let moved = Surroundings { root: Some("/r".into()), ..superuser.clone() };
        let xdg = Surroundings { data_home: Some("/d".into()), ..user.clone() };
        let cases = [
            (moved, "/r"),
            (superuser, "/var/lib/hyperrun"),
            (xdg, "/d/hyperrun"),
            (user, "/home/u/.local/share/hyperrun"),
        ];
        for (surroundings, data) in cases {
            assert_eq!(choose(surroundings), Some(Places { data: data.into() }));
        }
        assert_eq!(choose(Surroundings::default()), None);
    }
}
