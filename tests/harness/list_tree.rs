//! Prints the listing of a file tree: `list-tree FOLDER`. Built for a guest, it shows what the guest
//! sees in the same words.

use std::io::Write as _;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    std::io::stdout().write_all(hyperrun_tests::tree::listing(&folder)?.as_bytes())
}
