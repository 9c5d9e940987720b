//! Whether containers can have networks here, and what somebody has taken away from those there are.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use vmm::error::chain;

use super::{Finding, fine, wrong};
use crate::network::{Network, Networks, host, user};
use crate::places::{Places, is_superuser};
use crate::resolver::is_taken;

const TUN_DEVICE: &str = "/dev/net/tun";
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// The groups whose members may ping without privilege (icmp(7)).
const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";
/// The first kernel with locked ports.
const LOCKED_PORTS: (u32, u32) = (5, 16);

/// What there is to say of networks.
pub(super) fn findings(places: &Places) -> Vec<Finding> {
    if !is_superuser() {
        return vec![unprivileged()];
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![means(&release), standing(&Networks::open(places)), firewall()]
}

/// What there is for somebody who is not root.
fn unprivileged() -> Finding {
    let name = "network";
    let Some(passt) = host::find_program(user::passt::PROGRAM) else {
        return wrong(name, "passt is not installed", "install passt, or run with --network none");
    };
    let found = fine(name, passt.display().to_string());
    let groups = fs::read_to_string(PING_GROUPS).unwrap_or_default();
    if may_ping(&groups, rustix::process::getegid().as_raw()) {
        return found;
    }
    let hint = "containers cannot ping: sysctl -w net.ipv4.ping_group_range='0 2147483647'";
    Finding { hint: Some(hint.to_owned()), ..found }
}

/// Whether a group is among those that may ping.
fn may_ping(groups: &str, group: u32) -> bool {
    let mut bounds = groups.split_ascii_whitespace().map(str::parse);
    matches!((bounds.next(), bounds.next()), (Some(Ok(first)), Some(Ok(last))) if (first..=last).contains(&group))
}

fn means(release: &str) -> Finding {
    let name = "network";
    if !Path::new(TUN_DEVICE).exists() {
        return wrong(name, format!("there is no {TUN_DEVICE}"), "modprobe tun");
    }
    let Some(nft) = host::find_nft() else {
        let hint = "install nftables, or run with --network none";
        return wrong(name, "nft is not installed", hint);
    };
    let found = fine(name, format!("{}, {}", nft.display(), carrier()));
    if version(release).is_some_and(|version| version < LOCKED_PORTS) {
        let hint = "before Linux 5.16 a container can use the hardware address of another one of its \
                    network";
        return Finding { hint: Some(hint.to_owned()), ..found };
    }
    found
}

/// Who will carry the frames of containers.
fn carrier() -> &'static str {
    match vmm::open_vhost() {
        Ok(_) => "frames by vhost-net",
        Err(_) => "frames without vhost-net, by each machine's own process",
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-', '+']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Whether what was set up still stands.
fn standing(networks: &Networks) -> Finding {
    let name = "networks";
    let all = match networks.list() {
        Ok(all) => all,
        Err(error) => return wrong(name, chain(&error), error.hint().unwrap_or_default()),
    };
    let broken: Vec<_> = all.iter().filter_map(damage).collect();
    if !broken.is_empty() {
        let hint = "the next start of a container on it makes them anew";
        return wrong(name, broken.join(", "), hint);
    }
    if is_taken(Ipv4Addr::UNSPECIFIED.into()) && all.iter().any(is_set_up) {
        let hint = "names of containers are not answered: have it listen at its own addresses only";
        return wrong(name, "another program has port 53 at all addresses", hint);
    }
    let forwards = fs::read_to_string(FORWARD).is_ok_and(|text| text.trim() == "1");
    if !forwards && all.iter().any(is_to_lead_out) {
        return wrong(name, "the host forwards nothing", "sysctl -w net.ipv4.ip_forward=1");
    }
    let names: Vec<_> = all.iter().map(|network| network.name.as_str()).collect();
    fine(name, if names.is_empty() { "none yet".to_owned() } else { names.join(", ") })
}

/// Whether a network is set up that has a way out.
fn is_to_lead_out(network: &Network) -> bool {
    !network.internal && is_set_up(network)
}

fn is_set_up(network: &Network) -> bool {
    host::look(network).is_ok_and(|standing| standing.bridge.is_some())
}

/// What is missing of a network that is set up. One that is not is made when it is needed.
fn damage(network: &Network) -> Option<String> {
    let name = &network.name;
    let standing = match host::look(network) {
        Ok(standing) => standing,
        Err(error) => return Some(chain(&error)),
    };
    standing.bridge?;
    (!standing.is_guarded()).then(|| format!("the firewall's rules of {name} are gone"))
}

/// Whether somebody else's firewall drops what is forwarded.
fn firewall() -> Finding {
    let name = "firewall";
    let chains = host::find_nft().and_then(|nft| {
        let ran = Command::new(nft).args(["-j", "list", "chains"]).stdin(Stdio::null()).output();
        serde_json::from_slice(&ran.ok()?.stdout).ok()
    });
    match chains.as_ref().and_then(forbidding) {
        Some(chain) => Finding {
            hint: Some(format!(
                "if containers do not get out, accept what comes from and goes to hyperrun0 and hr-* in {chain}"
            )),
            ..fine(name, format!("{chain} drops what nobody has accepted"))
        },
        None => fine(name, "forwards what networks send out"),
    }
}

/// The first chain at the way through the host that drops by default.
fn forbidding(chains: &Value) -> Option<String> {
    let chains = chains["nftables"].as_array()?.iter().map(|one| &one["chain"]);
    let mut chains = chains.filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop");
    let chain = chains.next()?;
    let word = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
    Some(format!("chain {} of table {} {}", word("name"), word("family"), word("table")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn releases_have_versions() {
        for (release, wanted) in [
            ("6.1.0-23-amd64", Some((6, 1))),
            ("5.15.0", Some((5, 15))),
            ("6.12+", Some((6, 12))),
            ("mine", None),
        ] {
            assert_eq!(version(release), wanted, "{release}");
        }
    }

    #[test]
    fn groups_that_may_ping_are_a_range() {
        for (groups, wanted) in
            [("0\t2147483647\n", true), ("1\t0\n", false), ("0 999", false), ("", false)]
        {
            assert_eq!(may_ping(groups, 1000), wanted, "{groups}");
        }
    }

    #[test]
    fn a_chain_that_drops_is_named() {
        let chain = |hook: &str, policy: &str| {
            json!({ "chain": {
                "family": "ip", "table": "filter", "name": "FORWARD", "hook": hook, "policy": policy
            } })
        };
        let all = |chains: Vec<Value>| json!({ "nftables": chains });
        let drops = all(vec![chain("forward", "accept"), chain("forward", "drop")]);
        assert_eq!(forbidding(&drops).unwrap(), "chain FORWARD of table ip filter");
        for other in [all(vec![chain("input", "drop")]), all(Vec::new()), json!({}), json!("x")] {
            assert_eq!(forbidding(&other), None);
        }
    }
}
