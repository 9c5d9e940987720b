//! Files of configuration: where the machine's and the user's lie, and how one is read. Knows nothing
//! of what they say.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The machine's folder of configurations.
const MACHINE: &str = "/etc/hyperrun";
/// The user's own, below all of theirs.
const USER: &str = "hyperrun";
/// More bytes are no configuration.
const SIZE_LIMIT: u64 = 1 << 20;

/// The files called `name`: the machine's, then the user's, which counts more. They need not exist.
#[must_use]
pub fn files(name: &str) -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let user = user.map(|folder| folder.join(USER));
    [PathBuf::from(MACHINE)].into_iter().chain(user).map(|folder| folder.join(name)).collect()
}

/// The text of a file; none where there is no such file.
///
/// # Errors
/// When it cannot be read, is longer than a configuration, or no text.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let invalid = |problem| io::Error::new(io::ErrorKind::InvalidData, problem);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(invalid("it has more than 1 MiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| invalid("it is no UTF-8"))
}

/// The number of the line that holds the byte at `offset`.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert_eq!(read(&path).unwrap(), None);
        std::fs::write(&path, "a = 1\n").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("a = 1\n"));
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "it is no UTF-8");
        std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "it has more than 1 MiB");
        assert!(read(folder.path()).is_err());
    }

    #[test]
    fn lines_are_counted_from_one() {
        let text = "a\nbc\n\nd";
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (6, 4), (99, 4)] {
            assert_eq!(line_at(text, offset), line, "{offset}");
        }
    }
}
