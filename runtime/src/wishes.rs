//! What was asked for in words that say more than what was made of them: for whoever looks at a
//! container, and for nothing else.

use std::collections::BTreeMap;

use protocol::ResourceLimit;
use serde::{Deserialize, Serialize};

use crate::options::Options;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// `--cap-add`, each by its whole name, sorted, as Docker has them.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, likewise.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security: Vec<String>,
    /// `--add-host`, as `NAME:ADDRESS`.
    pub hosts: Vec<String>,
    /// `--tmpfs`: the options of each folder.
    pub tmpfs: BTreeMap<String, String>,
    /// `--ulimit`.
    pub ulimits: Vec<ResourceLimit>,
    /// `--cpu-shares`; 0 is the usual.
    pub cpu_shares: u64,
}

impl Wishes {
    /// Those among the options.
    pub(crate) fn of(options: &Options) -> Self {
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names.dedup();
            names
        };
        let texts = |capabilities: &[_]| sorted(capabilities.iter().map(texts_of).collect());
        let tmpfs = options.tmpfs.iter().map(|one| (one.tmpfs.path.clone(), one.options.clone()));
        Self {
            cap_add: texts(&options.cap_add),
            cap_drop: texts(&options.cap_drop),
            security: options.security.clone(),
            hosts: options.hosts.iter().map(texts_of).collect(),
            tmpfs: tmpfs.collect(),
            ulimits: options.ulimits.iter().map(|ulimit| ulimit.0).collect(),
            cpu_shares: options.cpu_shares.unwrap_or(0),
        }
    }
}

/// A function, since both kinds of what is told have the same way.
fn texts_of(one: &impl ToString) -> String {
    one.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_told_in_dockers_words() {
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let options = Options {
            cap_add: parsed(&["sys_admin", "ALL", "CAP_SYS_ADMIN", "chown"]),
            hosts: vec!["db=[2001:db8::1]".parse().unwrap()],
            tmpfs: vec!["/run:size=1m,exec".parse().unwrap(), "/tmp".parse().unwrap()],
            ulimits: vec!["nofile=5:-1".parse().unwrap()],
            ..Options::default()
        };
        let wishes = Wishes::of(&options);
        assert_eq!(wishes.cap_add, ["ALL", "CAP_CHOWN", "CAP_SYS_ADMIN"]);
        assert_eq!(wishes.hosts, ["db:2001:db8::1"]);
        let tmpfs: Vec<_> =
            wishes.tmpfs.iter().map(|(path, text)| format!("{path} {text}")).collect();
        assert_eq!(tmpfs, ["/run size=1m,exec", "/tmp "]);
        assert_eq!(wishes.ulimits, [ResourceLimit { resource: 7, soft: 5, hard: u64::MAX }]);
        let text = serde_json::to_vec(&wishes).unwrap();
        assert_eq!(serde_json::from_slice::<Wishes>(&text).unwrap(), wishes);
        assert_eq!(serde_json::from_str::<Wishes>("{}").unwrap(), Wishes::default());
    }
}
