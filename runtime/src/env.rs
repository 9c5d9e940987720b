//! A process's environment while it is put together: later settings win, and keep their place.

use crate::spec::EnvChange;

/// Variables in order, each key once.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    variables: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Environment {
    /// Gives `key` a value, in the place it has already or at the end.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.variables.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.variables.push((key.to_vec(), value.to_vec())),
        }
    }

    /// Takes `KEY=VALUE` as an image has it; a key alone takes the variable away, and what has no
    /// key is left out.
    pub(crate) fn set_line(&mut self, line: &[u8]) {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else {
            return self.remove(line);
        };
        if at > 0 && !line.contains(&0) {
            self.set(&line[..at], &line[at + 1..]);
        }
    }

    /// Follows one `-e`.
    pub(crate) fn change(&mut self, change: &EnvChange, host: &[(Vec<u8>, Vec<u8>)]) {
        match change {
            EnvChange::Set { key, value } => self.set(key, value),
            EnvChange::FromHost(key) => match host.iter().find(|(known, _)| known == key) {
                Some((_, value)) => self.set(key, value),
                None => self.remove(key),
            },
        }
    }

    /// The variables as `execve` wants them.
    pub(crate) fn into_lines(self) -> Vec<Vec<u8>> {
        self.variables.into_iter().map(|(key, value)| [key, value].join(&b'=')).collect()
    }

    fn remove(&mut self, key: &[u8]) {
        self.variables.retain(|(known, _)| known != key);
    }
}
