//! What a container's program has written, kept in files: Docker's `json-file` format, a JSON object
//! in each line with the text, the stream and the time. The newest file has the plain name, older
//! ones have `.1`, `.2` and so on behind it.

mod bytes;
mod decode;
mod encode;
mod files;
mod follow;
mod read;
mod write;

use std::path::{Path, PathBuf};

pub use self::follow::{follow_log, read_log};
pub(crate) use self::follow::{forget, watch};
pub use self::read::{Entry, LogQuery, Reader, Tail};
pub(crate) use self::write::{LogWriter, Stream};

/// The newest file of the log of the container `id`, whose folder this is.
pub(crate) fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}-json.log"))
}

/// The file that was the newest, `age` rotations ago.
fn rotated(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}
