//! The machine's network: the loopback interface, the container's own, and what Docker sets in a new
//! network.

use std::{fs, io, net::Ipv4Addr, path::Path};

use protocol::MmioDevice;

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

/// Settings of every interface: it says where it is when it comes up, since somebody else may have had
/// its address (`arp_notify`, Documentation/networking/ip-sysctl.rst).
const INTERFACE_SETTINGS: [(&str, &str, &str); 1] = [("ipv4", "arp_notify", "1")];
/// One without IPv6.
const WITHOUT_SIX: [(&str, &str, &str); 1] = [("ipv6", "disable_ipv6", "1")];
/// One with it: its address is there at once, and is all that it has; no router tells it more.
const WITH_SIX: [(&str, &str, &str); 5] = [
    ("ipv6", "accept_dad", "0"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv6", "ndisc_notify", "1"),
    ("ipv6", "disable_ipv6", "0"),
];

/// The network device that every machine begins with, and its driver.
const DEVICE: &str = "eth0";
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_net/unbind";
const BINDING: &str = "/sys/bus/virtio/drivers/virtio_net/bind";
const INTERFACES: &str = "/sys/class/net";
const ROUTES: &str = "/proc/net/route";
/// The driver of the places in which further devices appear.
const PLACES: &str = "/sys/bus/platform/drivers/virtio-mmio";

/// Brings the loopback up and makes the settings. The machine's own interface comes up too, without an
/// address: what it takes is made once for all that are restored from this machine.
pub(crate) fn prepare() -> Result<(), StepError> {
    let loopback = Interface::named("lo").and_then(|loopback| loopback.raise());
    loopback.doing("bring the loopback interface up")?;
    write_all(&SETTINGS)?;
    if !fs::exists(format!("/sys/class/net/{DEVICE}")).doing(format_args!("find {DEVICE}"))? {
        return Ok(());
    }
    write_settings(DEVICE, &WITHOUT_SIX)?;
    let device = Interface::named(DEVICE).and_then(|device| device.raise());
    device.doing(format_args!("bring {DEVICE} up"))
}

/// Connects the container as it is said; one that has no network does not see the machine's device.
pub(crate) fn connect(asked: &[(MmioDevice, protocol::Interface)]) -> Result<(), StepError> {
    let Some(((_, first), others)) = asked.split_first() else {
        return hide().doing(format_args!("hide {DEVICE}"));
    };
    set_up(DEVICE, first, 0)?;
    (1..).zip(others).try_for_each(|(metric, (device, asked))| take_over(*device, asked, metric))
}

/// Cuts the container off from all networks that it is on.
pub(crate) fn cut() -> Result<(), StepError> {
    for name in interfaces().doing("list the interfaces")? {
        let lowered = Interface::named(&name).and_then(|interface| interface.lower());
        lowered.doing(format_args!("bring {name} down"))?;
    }
    Ok(())
}

/// Connects a container that has been cut off, as it is said; nothing is left of what it had before.
pub(crate) fn reconnect(asked: &[(MmioDevice, protocol::Interface)]) -> Result<(), StepError> {
    let wanted: Vec<String> = asked.iter().map(|(device, _)| place(*device)).collect();
    for name in interfaces().doing("list the interfaces")? {
        let at = place_of(&name).doing(format_args!("find the place of {name}"))?;
        if wanted.contains(&at) {
            continue;
        }
        match name.as_str() {
            DEVICE => hide().doing(format_args!("hide {DEVICE}"))?,
            _ => let_go(&at)?,
        }
    }
    (0..).zip(asked).try_for_each(|(metric, (device, asked))| {
        show(*device).doing("show the container its interface")?;
        take_over(*device, asked, metric)
    })
}

/// All interfaces that have a device.
fn interfaces() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(INTERFACES)? {
        let entry = entry?;
        if fs::exists(entry.path().join("device"))? {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The place of an interface's device.
fn place_of(name: &str) -> io::Result<String> {
    let device = fs::canonicalize(format!("{INTERFACES}/{name}/device"))?;
    let place = device.parent().and_then(Path::file_name).ok_or(io::ErrorKind::NotFound)?;
    Ok(place.to_string_lossy().into_owned())
}

/// Gives a device that was hidden back to its driver.
fn show(device: MmioDevice) -> io::Result<()> {
    let place = format!("{PLACES}/{}", place(device));
    // One whose place has no driver is found when that has one.
    let Ok(entries) = fs::read_dir(place) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let is_device = entry.file_name().as_encoded_bytes().starts_with(b"virtio");
        if is_device && !fs::exists(entry.path().join("driver"))? {
            fs::write(BINDING, entry.file_name().as_encoded_bytes())?;
        }
    }
    Ok(())
}

/// Takes over the interface of a device that the machine has now. What goes elsewhere leaves through it only
/// once those that were there before are gone.
pub(crate) fn join(device: MmioDevice, asked: &protocol::Interface) -> Result<(), StepError> {
    let routes = fs::read_to_string(ROUTES).doing("look at the routes")?;
    take_over(device, asked, metric_behind(&routes))
}

/// The metric of a way to everywhere that is taken when there is none of these any more.
fn metric_behind(routes: &str) -> u16 {
    let metrics = routes.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        words.next().filter(|destination| *destination == "00000000")?;
        words.nth(4)?.parse::<u16>().ok()
    });
    metrics.max().map_or(0, |last| last.saturating_add(1))
}

fn take_over(
    device: MmioDevice,
    asked: &protocol::Interface,
    metric: u16,
) -> Result<(), StepError> {
    let place = place(device);
    let doing = format!("find the interface at {place}");
    // The driver has found what was there when the kernel booted.
    if !fs::exists(format!("{PLACES}/{place}")).doing(&doing)? {
        fs::write(format!("{PLACES}/bind"), &place).doing(&doing)?;
    }
    let name = name_of(&place).doing(&doing)?;
    set_up(&name, asked, metric).inspect_err(|_| {
        // What was being done is told; the device is given back as well as can be.
        let _left = leave(device);
    })
}

/// Lets go of a device, whose interface is gone then.
pub(crate) fn leave(device: MmioDevice) -> Result<(), StepError> {
    let_go(&place(device))
}

fn let_go(place: &str) -> Result<(), StepError> {
    fs::write(format!("{PLACES}/unbind"), place).doing(format_args!("let go of {place}"))
}

/// What the kernel calls the places on its command line (drivers/virtio/virtio_mmio.c).
fn place(device: MmioDevice) -> String {
    format!("virtio-mmio.{}", device.index)
}

/// The name of the interface at a place, which its driver has given it by now.
fn name_of(place: &str) -> io::Result<String> {
    let first = |path: &Path| fs::read_dir(path).ok()?.next()?.ok().map(|entry| entry.file_name());
    // The place has a folder of its virtio device among others, which has one of its interfaces.
    let name = fs::read_dir(format!("{PLACES}/{place}"))?
        .find_map(|entry| first(&entry.ok()?.path().join("net")))
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(name.to_string_lossy().into_owned())
}

/// Sets an interface up as it is said; `metric` is that of its way to everywhere, if it has one.
fn set_up(name: &str, asked: &protocol::Interface, metric: u16) -> Result<(), StepError> {
    let six = if asked.six.is_some() { &WITH_SIX[..] } else { &WITHOUT_SIX[..] };
    if asked.six.is_some() {
        // Its first address of IPv6 follows from the hardware address that it has when it comes up.
        let lowered = Interface::named(name).and_then(|interface| interface.lower());
        lowered.doing(format_args!("take {name} down"))?;
    }
    write_settings(name, &INTERFACE_SETTINGS)?;
    write_settings(name, six)?;
    configure(name, asked, metric).doing(format_args!("set up {name}"))
}

fn configure(name: &str, asked: &protocol::Interface, metric: u16) -> io::Result<()> {
    let interface = Interface::named(name)?;
    if !asked.offloads {
        interface.keep_checksums()?;
    }
    interface.set_mtu(asked.mtu)?;
    interface.set_address(asked.address)?;
    interface.set_netmask(netmask(asked.prefix_bits))?;
    // Behind the address: one that is up says now where that is.
    interface.set_mac(asked.mac)?;
    interface.raise()?;
    asked.gateway.map_or(Ok(()), |gateway| interface.route_through(gateway, metric))?;
    let Some(six) = asked.six else { return Ok(()) };
    let interface = interface.six()?;
    interface.add_address(six.address, six.prefix_bits)?;
    six.gateway.map_or(Ok(()), |gateway| interface.route_through(gateway, metric))
}

/// Takes the device from its driver, if there is one.
fn hide() -> io::Result<()> {
    match fs::read_link(format!("{INTERFACES}/{DEVICE}/device")) {
        Ok(path) => fs::write(DRIVER, path.file_name().unwrap_or_default().as_encoded_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn netmask(prefix_bits: u8) -> Ipv4Addr {
    let host_bits = 32u32.saturating_sub(u32::from(prefix_bits));
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

fn write_settings(name: &str, settings: &[(&str, &str, &str)]) -> Result<(), StepError> {
    settings.iter().try_for_each(|(family, key, value)| {
        let path = format!("/proc/sys/net/{family}/conf/{name}/{key}");
        fs::write(&path, value).doing(format_args!("write {path}"))
    })
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
    fn a_later_way_stands_behind_those_that_there_are() {
        let title = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let line = |to: &str, metric: &str| {
            format!("eth0\t{to}\t010013AC\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0\n")
        };
        let near = line("000013AC", "9");
        for (routes, metric) in [
            (String::new(), 0),
            (near.clone(), 0),
            (line("00000000", "0"), 1),
            (line("00000000", "3") + &near + &line("00000000", "1"), 4),
            (line("00000000", "65535"), 65535),
            ("eth0\t00000000\n".to_owned(), 0),
        ] {
            assert_eq!(metric_behind(&format!("{title}{routes}")), metric, "{routes}");
        }
    }

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
