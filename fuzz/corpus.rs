//! Gives a fuzz target's body its corpus, as an ordinary test: the crates with bodies share this.

use std::fs;
use std::path::{Path, PathBuf};

/// Calls `body` with every file of `fuzz/corpus/<target>`.
pub(crate) fn each(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).expect("every target has a corpus");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        // The last name shown is that of the file that failed.
        println!("{}", file.display());
        body(&fs::read(&file).expect("readable"));
    }
}
