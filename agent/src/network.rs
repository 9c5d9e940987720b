//! The machine's network: the loopback interface, the container's own, and what Docker sets in a new
//! network.

use std::{fs, io, net::Ipv4Addr};

use crate::{
    interface::Interface,
    step::{Doing, StepError},
};

/// Settings Docker makes in the network of a container: any user may ping and open low ports,
/// since nothing else lives there.
const SETTINGS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
];

/// Settings of a container's interface: it has no IPv6, and says where it is when it comes up, since
/// somebody else may have had its address (`arp_notify`, Documentation/networking/ip-sysctl.rst).
const INTERFACE_SETTINGS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1"),
    ("/proc/sys/net/ipv4/conf/eth0/arp_notify", "1"),
];

/// The one network device that a machine can have, and its driver.
const DEVICE: &str = "eth0";
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_net/unbind";

/// Brings the loopback up and makes the settings.
pub(crate) fn prepare() -> Result<(), StepError> {
    let loopback = Interface::named("lo").and_then(|loopback| loopback.raise());
    loopback.doing("bring the loopback interface up")?;
    write_all(&SETTINGS)
}

/// Connects the container as it is said; one that has no network does not see the machine's device.
pub(crate) fn connect(asked: Option<&protocol::Interface>) -> Result<(), StepError> {
    match asked {
        Some(asked) => {
            write_all(&INTERFACE_SETTINGS)?;
            set_up(asked).doing(format_args!("set up {DEVICE}"))
        }
        None => hide().doing(format_args!("hide {DEVICE}")),
    }
}

fn set_up(asked: &protocol::Interface) -> io::Result<()> {
    let interface = Interface::named(DEVICE)?;
    interface.set_mac(asked.mac)?;
    interface.set_mtu(asked.mtu)?;
    interface.set_address(asked.address)?;
    interface.set_netmask(netmask(asked.prefix_bits))?;
    interface.raise()?;
    asked.gateway.map_or(Ok(()), |gateway| interface.route_through(gateway))
}

/// Takes the device from its driver, if there is one.
fn hide() -> io::Result<()> {
    match fs::read_link(format!("/sys/class/net/{DEVICE}/device")) {
        Ok(path) => fs::write(DRIVER, path.file_name().unwrap_or_default().as_encoded_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn netmask(prefix_bits: u8) -> Ipv4Addr {
    let host_bits = 32u32.saturating_sub(u32::from(prefix_bits));
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

fn write_all(settings: &[(&str, &str)]) -> Result<(), StepError> {
    settings
        .iter()
        .try_for_each(|(path, value)| fs::write(path, value).doing(format_args!("write {path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netmask_has_as_many_bits_as_its_prefix() {
        for (bits, mask) in [
            (0, [0, 0, 0, 0]),
            (1, [128, 0, 0, 0]),
            (20, [255, 255, 240, 0]),
            (32, [255; 4]),
            (99, [255; 4]),
        ] {
            assert_eq!(netmask(bits).octets(), mask, "{bits}");
        }
    }
}
