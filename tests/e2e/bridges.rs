//! Networks as containers see them: to the host, to each other, out, and not where they must not.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hyperrun_tests::{Output, Outside, echoed};

use crate::home::Home;

/// Nothing here takes that long unless it has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A program that waits for its end.
const IDLE: &str = "echo ready; exec sleep 1000";

impl Home {
    /// A container that idles, with these flags.
    #[track_caller]
    fn idles(&self, name: &str, flags: &str) {
        let words = format!("run -d --name {name} {flags} busybox");
        let mut words: Vec<_> = words.split_whitespace().collect();
        words.extend(["sh", "-c", IDLE]);
        self.sandbox.hyperrun(words).code_is(0);
    }

    /// What a script in a container prints.
    #[track_caller]
    fn says(&self, name: &str, script: &str) -> Output {
        self.sandbox.hyperrun(["exec", name, "sh", "-c", script])
    }

    #[track_caller]
    fn reaches(&self, name: &str, address: &str) {
        self.says(name, &format!("ping -c 1 -W 5 {address}")).code_is(0);
    }

    #[track_caller]
    fn misses(&self, name: &str, address: &str) {
        self.says(name, &format!("ping -c 1 -W 1 {address}")).code_is(1);
    }

    #[track_caller]
    fn told(&self, name: &str, template: &str) -> String {
        let out = self.sandbox.hyperrun(["inspect", "-f", template, name]);
        out.code_is(0).stdout.trim().to_owned()
    }

    /// A container's address on a network.
    #[track_caller]
    fn address(&self, name: &str, network: &str) -> String {
        self.told(name, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
    }

    /// What a template makes of a network.
    #[track_caller]
    fn of_network(&self, network: &str, template: &str) -> String {
        let out = self.sandbox.hyperrun(["network", "inspect", "-f", template, network]);
        out.code_is(0).stdout.trim().to_owned()
    }

    /// The gateways of a container's networks, the one first that all else goes through: its routes and its
    /// name servers are these and no others.
    #[track_caller]
    fn leaves_by(&self, name: &str, gateways: &[&str]) {
        let lines = |head: &str| -> String {
            gateways.iter().map(|gateway| format!("{head} {gateway}\n")).collect()
        };
        let script = "ip route | sed -n 's/\\(default via [^ ]*\\).*/\\1/p'";
        self.says(name, script).stdout_is(&lines("default via"));
        self.says(name, "grep nameserver /etc/resolv.conf").stdout_is(&lines("nameserver"));
    }

    /// The name of a network's bridge.
    #[track_caller]
    fn bridge(&self, network: &str) -> String {
        self.of_network(network, "{{index .Options \"com.docker.network.bridge.name\"}}")
    }
}

/// The interfaces of the host whose names begin so.
fn interfaces(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// The network namespaces that somebody has given names.
fn named_namespaces() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What nftables has.
fn tables() -> String {
    let out = Command::new("nft").args(["list", "tables"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn nft(words: &str) {
    assert!(Command::new("nft").args(words.split(' ')).status().unwrap().success(), "nft {words}");
}

/// What the host believes about an address, and has from nobody who is there.
struct Neighbour<'a> {
    address: &'a str,
    bridge: &'a str,
}

impl<'a> Neighbour<'a> {
    fn wrong(address: &'a str, bridge: &'a str) -> Self {
        let words =
            format!("neigh replace {address} lladdr 02:00:00:00:00:09 dev {bridge} nud reachable");
        assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success());
        let neighbour = Self { address, bridge };
        assert!(neighbour.shown().contains("02:00:00:00:00:09"));
        neighbour
    }

    fn shown(&self) -> String {
        let words = ["neigh", "show", self.address, "dev", self.bridge];
        let out = Command::new("ip").args(words).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    /// The container has said where it is; nobody has asked.
    #[track_caller]
    fn becomes(&self, mac: &str) {
        let since = Instant::now();
        while !self.shown().contains(mac) {
            assert!(since.elapsed() < PATIENCE, "not at {mac}: {}", self.shown());
        }
    }
}

#[test]
fn a_container_reaches_the_outside_and_stays_where_it_is() {
    let home = Home::new();
    let outside = Outside::new("hrt-out");
    home.idles("finch", "");
    let address = home.told("finch", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(home.address("finch", "bridge"), address);
    let gateway = home.told("finch", "{{.NetworkSettings.Gateway}}");
    home.reaches("finch", &gateway);
    // Its own address is not known there: the host stands in for it.
    let listening = outside.answer_once("198.51.100.2:7");
    home.says("finch", "nc 198.51.100.2 7 </dev/null").stdout_is(Outside::HOST);
    assert_eq!(listening.join().unwrap(), Outside::HOST);
    home.says("finch", "grep finch /etc/hosts").code_is(0);
    home.says("finch", "ip route").stdout_has(&format!("default via {gateway} dev eth0"));
    let seen = home.says("finch", "cat /sys/class/net/eth0/address").stdout.trim().to_owned();
    assert_eq!(home.told("finch", "{{.NetworkSettings.MacAddress}}"), seen);
    home.sandbox.does("restart -t 0 finch");
    home.says("finch", "ip -4 -o address show dev eth0").stdout_has(&format!("inet {address}/"));
    home.reaches("finch", Outside::ADDRESS);
    home.shows("finch", "{{.HostConfig.NetworkMode}}", "bridge");
    home.shows("finch", "{{.NetworkSettings.Carrier}}", "vhost-net");
    home.sandbox.does("ps --format {{.Networks}}").stdout_is("bridge\n");
}

#[test]
fn containers_reach_those_on_their_own_network_alone() {
    let home = Home::new();
    for network in ["one", "two"] {
        home.sandbox.does(&format!("network create {network}"));
    }
    home.idles("ant", "--network one");
    home.idles("bee", "--network one --cap-add NET_ADMIN");
    home.idles("cow", "--network two");
    let [a, b, c] = [("ant", "one"), ("bee", "one"), ("cow", "two")]
        .map(|(name, network)| home.address(name, network));
    home.reaches("ant", &b);
    home.reaches("bee", &a);
    home.misses("ant", &c);
    home.misses("cow", &a);
    let gateway = home.told("cow", "{{.NetworkSettings.Networks.two.Gateway}}");
    home.misses("ant", &gateway);
    // Who has all of its own interface still speaks with its own addresses alone.
    let free = a.rsplit_once('.').map(|(head, _)| format!("{head}.250")).unwrap();
    home.says("bee", &format!("ip address add {free}/32 dev eth0")).code_is(0);
    home.says("bee", &format!("ping -c 1 -W 1 -I {free} {a}")).code_is(1);
    home.says("bee", &format!("ping -c 1 -W 5 -I {b} {a}")).code_is(0);
    let other =
        "ip link set eth0 down; ip link set eth0 address 02:42:0a:00:00:09; ip link set eth0 up";
    home.says("bee", other).code_is(0);
    home.misses("bee", &a);
}

#[test]
fn an_internal_network_leads_nowhere_and_knows_both_kinds_of_addresses() {
    let home = Home::new();
    let outside = Outside::new("hrt-int");
    home.sandbox.does("network create --internal --ipv6 back");
    home.sandbox.does("network create --ipv6 --subnet 2001:db8:7::/64 front");
    home.idles("ant", "--network back");
    home.idles("bee", "--network back");
    home.idles("cow", "--network front");
    home.reaches("ant", &home.address("bee", "back"));
    let six = "{{.NetworkSettings.Networks.back.GlobalIPv6Address}}";
    home.reaches("ant", &home.told("bee", six));
    // It says where it is when it begins. The other one keeps the bridge up, and so what is known there.
    let addresses = [home.address("bee", "back"), home.told("bee", six)];
    let mac = home.told("bee", "{{.NetworkSettings.Networks.back.MacAddress}}");
    let bridge = home.bridge("back");
    home.sandbox.does("stop -t 0 bee");
    let wrong = addresses.each_ref().map(|address| Neighbour::wrong(address, &bridge));
    home.sandbox.does("start bee");
    wrong.iter().for_each(|neighbour| neighbour.becomes(&mac));
    home.misses("ant", Outside::ADDRESS);
    home.misses("ant", Outside::ADDRESS6);
    home.reaches("cow", Outside::ADDRESS);
    home.reaches("cow", Outside::ADDRESS6);
    // Nobody outside can begin a conversation, even where there is a way.
    let subnet = home.of_network("front", "{{range .IPAM.Config}}{{.Subnet}} {{end}}");
    outside.route(subnet.split_whitespace().next().unwrap());
    let inside = home.address("cow", "front");
    assert_eq!(outside.run(&format!("ping -c 1 -W 1 {inside}")), Some(1));
}

#[test]
fn nothing_is_left_of_a_network() {
    let home = Home::new();
    let namespaces = named_namespaces();
    home.sandbox.does("network create web");
    home.idles("finch", "--network web -p 8099:80");
    let bridge = home.bridge("web");
    let tap = format!("hr{}", &home.told("finch", "{{.Id}}")[..12]);
    assert_eq!(interfaces(&tap).len(), 1);
    home.fails("network rm web", 1, "network web has active endpoints");
    let supervisor = home.supervisor("finch");
    assert!(Command::new("kill").args(["-KILL", &supervisor]).status().unwrap().success());
    while !interfaces(&tap).is_empty() {}
    let address = home.address("finch", "web");
    assert_eq!(address, "", "it does not run");
    // Its place is kept for its next start.
    home.fails("network rm web", 1, "network web has active endpoints");
    TcpListener::bind("0.0.0.0:8099").unwrap();
    // One that is removed while it runs leaves as little.
    home.sandbox.does("start finch");
    let supervisor = home.supervisor("finch");
    home.sandbox.does("rm -f finch");
    TcpListener::bind("0.0.0.0:8099").unwrap();
    while !interfaces(&tap).is_empty() || Path::new("/proc").join(&supervisor).exists() {}
    home.sandbox.does("network rm web").stdout_is("web\n");
    assert_eq!(interfaces(&bridge), [""; 0]);
    assert!(!tables().contains(&bridge), "{}", tables());
    home.fails("network inspect web", 1, "network web not found");
    // Nor of one that was to go with its end, whose end nobody has seen.
    home.sandbox.does("network create web");
    home.idles("wren", "--rm --network web");
    let supervisor = home.supervisor("wren");
    assert!(Command::new("kill").args(["-KILL", &supervisor]).status().unwrap().success());
    while Path::new("/proc").join(&supervisor).join("fd/0").exists() {}
    home.sandbox.does("ps -aq").stdout_is("");
    home.sandbox.does("network rm web").stdout_is("web\n");
    assert_eq!(named_namespaces(), namespaces);
}

#[test]
fn what_somebody_else_takes_away_is_made_anew() {
    let home = Home::new();
    let outside = Outside::new("hrt-new");
    home.idles("ant", "");
    let bridge = home.bridge("bridge");
    nft("add table inet guard");
    nft("add chain inet guard forward { type filter hook forward priority 0 ; policy drop ; }");
    home.sandbox
        .hyperrun(["doctor"])
        .stdout_has("chain forward of table inet guard drops what nobody has accepted")
        .stdout_has("accept what comes from and goes to hyperrun0 and hr-*")
        .stdout_has("frames by vhost-net");
    home.misses("ant", Outside::ADDRESS);
    nft("flush ruleset");
    let out = home.sandbox.hyperrun(["doctor"]);
    out.code_is(1).stdout_has("the firewall's rules of bridge are gone");
    home.sandbox.does("run --rm busybox ping -c 1 -W 5 198.51.100.2");
    assert!(tables().contains(&format!("inet {bridge}")), "{}", tables());
    home.sandbox.does("rm -f ant");
    let deleted = Command::new("ip").args(["link", "delete", &bridge]).status().unwrap();
    assert!(deleted.success());
    home.sandbox.does("run --rm busybox ping -c 1 -W 5 198.51.100.2");
    drop(outside);
}

#[test]
fn an_interface_keeps_to_its_rate_either_way() {
    /// Of 100 KiB in each second, one of the longest frames and a tenth of a second's worth are free.
    const BYTES: usize = 256 << 10;
    const LEAST: Duration = Duration::from_millis(1500);
    let home = Home::new();
    home.idles("finch", "--network-rate 100kb");
    home.shows("finch", "{{.HostConfig.NetworkRate}}", "102400");
    let gateway = home.told("finch", "{{.NetworkSettings.Gateway}}");
    let listener = TcpListener::bind((gateway.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = thread::spawn(move || {
        let (mut sender, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        sender.read_to_end(&mut heard).unwrap();
        drop(sender);
        let (mut reader, _) = listener.accept().unwrap();
        reader.write_all(&heard).unwrap();
    });
    let ways = [
        (format!("head -c {BYTES} /dev/zero | nc {gateway} {port}"), String::new()),
        (format!("nc {gateway} {port} </dev/null | wc -c"), format!("{BYTES}\n")),
    ];
    for (script, told) in ways {
        let since = Instant::now();
        home.says("finch", &script).code_is(0).stdout_is(&told);
        let time = since.elapsed();
        assert!(time > LEAST, "{script}: {time:?}");
    }
    host.join().unwrap();
    let moved = home.sandbox.does("stats --no-stream --format {{.NetIO}} finch").stdout;
    let bytes = |text: &str| text.trim().strip_suffix("kB")?.parse::<f64>().ok();
    let ways: Vec<_> = moved.split(" / ").map(bytes).collect();
    let [Some(received), Some(sent)] = ways[..] else { panic!("{moved}") };
    assert!((262.0..600.0).contains(&received) && (262.0..600.0).contains(&sent), "{moved}");
    home.fails("run --network-rate fast busybox", 125, "invalid network rate: fast");
}

#[test]
fn roots_that_race_are_given_different_addresses() {
    let homes = [Home::new(), Home::new()];
    let makers =
        [("one", "network create one"), ("two", "network create two"), ("bridge", "network ls")];
    thread::scope(|scope| {
        for home in &homes {
            for (_, words) in makers {
                scope.spawn(|| drop(home.sandbox.does(words)));
            }
        }
    });
    let subnet = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
    let subnets: BTreeSet<String> = homes
        .iter()
        .flat_map(|home| makers.map(|(network, _)| home.of_network(network, subnet)))
        .collect();
    assert_eq!(subnets.len(), homes.len() * makers.len(), "{subnets:?}");
}

#[test]
fn what_makes_no_network_is_refused() {
    let home = Home::new();
    home.sandbox.does("network create --subnet 192.0.2.0/30 tiny");
    home.fails("network create tiny", 1, "network with name tiny already exists");
    home.fails("network create --subnet 192.0.2.0/24 wide", 1, "Pool overlaps with other one");
    home.fails("network create --subnet 192.0.2.1/24 bits", 1, "it should be 192.0.2.0/24");
    home.fails("network create none", 1, "operation is not permitted on predefined none network");
    home.fails("network create bridge", 1, "network with name bridge already exists");
    home.fails("network rm bridge", 1, "bridge is a pre-defined network and cannot be removed");
    home.sandbox.does("create --network tiny --name first busybox");
    home.fails("create --network tiny busybox", 125, "no available IPv4 addresses");
    home.fails("create --network nobody busybox", 125, "network nobody not found");
    home.fails("create --network host busybox", 125, "host is another's network");
    home.fails(
        "create --network tiny --ip 192.0.3.1 busybox",
        125,
        "contain the IP address 192.0.3.1",
    );
    home.fails("create --ip 192.0.2.2 busybox", 125, "supported on user defined networks only");
    // Nothing is left of a container that was not made.
    assert_eq!(home.sandbox.does("ps -aq").stdout.lines().count(), 1);
    home.sandbox.does("network disconnect tiny first");
    home.fails("network disconnect tiny first", 1, "is not connected to network tiny");
    home.sandbox.does("network connect --ip 192.0.2.2 tiny first");
    home.fails("network connect tiny first", 1, "already exists in network tiny");
    home.sandbox.does("rm first");
    home.sandbox.does("network prune -f").stdout_is("Deleted Networks:\ntiny\n\n");
    home.sandbox
        .does("network ls --format {{.Name}}/{{.Driver}}")
        .stdout_is("bridge/bridge\nnone/null\nuser/passt\n");
}

#[test]
fn without_nft_a_start_says_what_is_missing() {
    let home = Home::new();
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", "mount --bind /dev/null $(command -v nft) && exec \"$@\"", "sh"])
        .arg(std::env::var("HYPERRUN_BIN").unwrap())
        .args(["--root", home.folder.path().to_str().unwrap()])
        .args(["run", "--rm", "busybox", "true"])
        .output()
        .unwrap();
    let out = Output::new("run without nft".to_owned(), out);
    out.fails_with(125, "cannot make the firewall's rules of network bridge");
    home.sandbox.does("run --rm --network none busybox ls /sys/class/net").stdout_is("lo\n");
}

#[test]
fn a_container_that_runs_is_connected_and_disconnected() {
    let home = Home::new();
    for network in ["one", "two"] {
        home.sandbox.does(&format!("network create {network}"));
    }
    home.idles("ant", "--network one -p 8095:9/udp");
    home.idles("bee", "--network two");
    let (gateway, bee) =
        (home.told("ant", "{{.NetworkSettings.Networks.one.Gateway}}"), home.address("bee", "two"));
    home.misses("ant", &bee);
    home.sandbox.does("network connect --alias other two ant");
    home.reaches("ant", &bee);
    home.reaches("ant", &gateway);
    home.reaches("bee", &home.address("ant", "two"));
    home.says("ant", "ls /sys/class/net").stdout_is("eth0\neth1\nlo\n");
    home.fails("network connect two ant", 1, "already exists in network two");
    // What it is on now, it is on after its next start, too.
    home.sandbox.does("restart -t 0 ant");
    home.reaches("ant", &bee);
    // Its port leads to it on whichever network is its first.
    let echo = std::env::var("HYPERRUN_TEST_LOAD").expect("scripts/test sets it");
    home.sandbox.does(&format!("cp {echo} ant:/echo"));
    home.sandbox.does("exec -d ant /echo 0.0.0.0:9");
    assert_eq!(echoed("127.0.0.1:8095"), b"echo");
    let other = home.told("ant", "{{.NetworkSettings.Networks.two.Gateway}}");
    home.leaves_by("ant", &[&gateway, &other]);
    home.sandbox.does("network disconnect one ant");
    assert_eq!(echoed("127.0.0.1:8095"), b"echo");
    home.reaches("ant", &bee);
    // So do its way out and its names.
    home.leaves_by("ant", &[&other]);
    home.sandbox.does("network connect one ant");
    home.leaves_by("ant", &[&other, &gateway]);
    home.sandbox.does("network disconnect two ant");
    assert_eq!(echoed("127.0.0.1:8095"), b"echo");
    home.misses("ant", &bee);
    home.reaches("ant", &gateway);
    home.says("ant", "ls /sys/class/net").stdout_is("eth0\nlo\n");
    home.shows("ant", "{{.NetworkSettings.Carrier}}", "vhost-net");
    home.sandbox.does("network disconnect one ant");
    home.says("ant", "ls /sys/class/net").stdout_is("lo\n");
    home.shows("ant", "{{json .NetworkSettings.Carrier}}", "null");
    home.sandbox.does("network connect one ant");
    home.shows("ant", "{{.NetworkSettings.Carrier}}", "vhost-net");
    home.reaches("ant", &gateway);
    home.leaves_by("ant", &[&gateway]);
    // What somebody has written there is theirs.
    home.says("ant", "echo mine >/etc/resolv.conf").code_is(0);
    home.sandbox.does("network connect two ant");
    home.says("ant", "cat /etc/resolv.conf").stdout_is("mine\n");
    let tap = format!("hr{}", &home.told("ant", "{{.Id}}")[..11]);
    home.sandbox.does("rm -f ant");
    while !interfaces(&tap).is_empty() {}
}
