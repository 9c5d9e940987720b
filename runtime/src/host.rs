//! Looks at the host, as far as a plan depends on it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Error;
use crate::plan::Host;

/// The most that is read of `/etc/resolv.conf`.
const MAX_RESOLV_CONF_BYTES: u64 = 64 << 10;

/// Looks at this host.
pub(crate) fn look() -> Result<Host, Error> {
    Ok(Host { cpus: cpus(), env: environment(), resolv_conf: resolv_conf(), random: random()? })
}

/// The CPUs this process may run on; where the kernel does not say, there is one.
pub(crate) fn cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or_else(
        |_| vec![0],
        |set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
    )
}

/// The environment of `hyperrun` itself.
pub(crate) fn environment() -> Vec<(Vec<u8>, Vec<u8>)> {
    std::env::vars_os().map(|(key, value)| (key.into_vec(), value.into_vec())).collect()
}

/// Words for the processor that a saved machine depends on: its features.
pub(crate) fn processor() -> String {
    use std::arch::x86_64::__cpuid_count;
    let mut text = String::new();
    for leaf in [0, 1, 7, 0xd, 0x8000_0001, 0x8000_0008] {
        let mut found = __cpuid_count(leaf, 0);
        if leaf == 1 {
            // The rest is the number of the processor that asks.
            found.ebx &= 0x00ff_ffff;
        }
        let words = [found.eax, found.ebx, found.ecx, found.edx];
        text.push_str(&format!("{leaf:x}:{words:x?} "));
    }
    text.trim_end().to_owned()
}

/// Release and version of the kernel, whose KVM a saved machine depends on too.
pub(crate) fn kernel() -> (String, String) {
    let uname = rustix::system::uname();
    let text = |words: &std::ffi::CStr| words.to_string_lossy().into_owned();
    (text(uname.release()), text(uname.version()))
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
