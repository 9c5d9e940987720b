//! Paths in layers: cut into components, made relative to the root, and refused if they climb.

use super::LayerError;

/// NAME_MAX of Linux, and EROFS_NAME_LEN.
pub(crate) const NAME_LIMIT: usize = 255;

/// The components of an entry's path. Empty ones and `.` vanish, so `/a`, `./a` and `a//` are the
/// same, as they are for Docker; `..` is an error wherever it stands.
pub(crate) fn split(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    let entry = || String::from_utf8_lossy(path).into_owned();
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(LayerError::DotDot { entry: entry() }),
            name if name.len() > NAME_LIMIT => return Err(LayerError::Name { entry: entry() }),
            name => components.push(name),
        }
    }
    Ok(components)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_root_and_never_climb() {
        let cases: [(&[u8], &[&[u8]]); 6] = [
            (b"a/b", &[b"a", b"b"]),
            (b"/a/b/", &[b"a", b"b"]),
            (b"./a//./b", &[b"a", b"b"]),
            (b".", &[]),
            (b"./", &[]),
            (b"..a/b..", &[b"..a", b"b.."]),
        ];
        for (path, expected) in cases {
            assert_eq!(split(path).unwrap(), expected);
        }
        let hostile: [&[u8]; 4] = [b"../etc/passwd", b"a/../b", b"/..", b"a/.."];
        for path in hostile {
            let error = split(path).unwrap_err().to_string();
            assert!(error.contains(&*String::from_utf8_lossy(path)), "{error}");
        }
        assert!(split(&[b'n'; 255]).is_ok());
        assert!(split(&[b'n'; 256]).is_err());
    }
}
