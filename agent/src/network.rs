//! The machine's own network: the loopback interface, and what Docker sets in a new network.

use std::fs;

use crate::{
    step::{Doing, StepError},
    sys,
};

/// Settings Docker makes in the network of a container: any user may ping and open low ports,
/// since nothing else lives there.
const SETTINGS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
];

/// Brings the loopback up and makes the settings.
pub(crate) fn prepare() -> Result<(), StepError> {
    sys::raise_interface(c"lo").doing("bring the loopback interface up")?;
    for (path, value) in SETTINGS {
        fs::write(path, value).doing(format_args!("write {path}"))?;
    }
    Ok(())
}
