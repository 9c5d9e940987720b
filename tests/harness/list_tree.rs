//! Prints the listing of a file tree: `list-tree FOLDER`. Built for a guest, it shows what the guest
//! sees in the same words. `list-tree --make FOLDER` writes the image for that: an OCI layout, with
//! this program on top of the layers of the test of fidelity.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use hyperrun_tests::archive::{Layer, gzip, header, oci_layout};
use hyperrun_tests::fidelity::{base, top, upper};
use hyperrun_tests::tree::listing_without;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_else(|| "/".into());
    if first == "--make" {
        let folder = arguments.next().ok_or_else(|| std::io::Error::other("--make FOLDER"))?;
        return make(Path::new(&folder));
    }
    let folder = PathBuf::from(first);
    let listing = listing_without(&folder, &mounted_below(&folder)?)?;
    std::io::stdout().write_all(listing.as_bytes())
}

/// Where something else is mounted, relative to `folder`. The fifth field is the place
/// (proc_pid_mountinfo(5)); those of a guest have no character that would be escaped.
fn mounted_below(folder: &Path) -> std::io::Result<BTreeSet<Vec<u8>>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let below = places.filter_map(|place| Path::new(place).strip_prefix(folder).ok());
    Ok(below.map(|path| path.as_os_str().as_encoded_bytes().to_vec()).collect())
}

fn make(folder: &Path) -> std::io::Result<()> {
    let program = fs::read(std::env::current_exe()?)?;
    let mut about = header(tar::EntryType::Regular, program.len() as u64);
    about.set_mode(0o755);
    let layers =
        [base(), upper(), top(), Layer::new().entry("list-tree", about, &program).finish()];
    let stored = layers.each_ref().map(|layer| gzip(layer));
    for (name, bytes) in oci_layout("fidelity", &layers, &stored) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}
