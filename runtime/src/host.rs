//! Looks at the host, as far as a plan depends on it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::thread::available_parallelism;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Error;
use crate::plan::Host;

/// The most that is read of `/etc/resolv.conf`.
const MAX_RESOLV_CONF_BYTES: u64 = 64 << 10;

/// Looks at this host.
pub(crate) fn look() -> Result<Host, Error> {
    Ok(Host {
        cpus: available_parallelism().map_or(1, usize::from),
        env: std::env::vars_os().map(|(k, v)| (k.into_vec(), v.into_vec())).collect(),
        resolv_conf: resolv_conf(),
        random: random()?,
    })
}

/// Fills an array from the kernel's random source.
pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    let count = getrandom(&mut bytes, GetRandomFlags::empty());
    match count {
        Ok(count) if count == BYTES => Ok(bytes),
        Ok(_) => Err(system(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(system(error.into())),
    }
}

fn system(source: io::Error) -> Error {
    Error::System { action: "read random bytes", source }
}

/// The host's own file; a host without one gives its guests an empty one.
fn resolv_conf() -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open("/etc/resolv.conf")
        && file.take(MAX_RESOLV_CONF_BYTES).read_to_end(&mut text).is_err()
    {
        text.clear();
    }
    String::from_utf8_lossy(&text).into_owned()
}
