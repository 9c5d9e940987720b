//! Containers find each other by name, and all else by the host's servers or their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;

use hyperrun_tests::{Output, Outside};

use crate::home::Home;

impl Home {
    /// A container that waits for its end, with these flags.
    #[track_caller]
    fn waits(&self, name: &str, flags: &str) {
        let words = format!("run -d --name {name} {flags} busybox sleep 1000");
        self.sandbox.hyperrun(words.split_whitespace()).code_is(0);
    }

    /// What a container is told of a name.
    #[track_caller]
    fn asks(&self, from: &str, words: &str) -> Output {
        let line = format!("nslookup {words} 2>&1");
        self.sandbox.hyperrun(["exec", from, "sh", "-c", &line])
    }

    #[track_caller]
    fn address_on(&self, name: &str, network: &str) -> String {
        let template = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
        let out = self.sandbox.hyperrun(["inspect", "-f", &template, name]);
        out.code_is(0).stdout.trim().to_owned()
    }

    /// The resolver of this home's networks, while there is one.
    fn resolver(&self) -> Option<String> {
        let path = self.folder.path().join("networks/.resolver.lock");
        let pid = fs::read_to_string(path).ok()?.trim().to_owned();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        name.starts_with("hyperrun-resolv").then_some(pid)
    }
}

#[test]
fn containers_find_each_other_by_name_alias_and_id() {
    let home = Home::new();
    let outside = Outside::new("hrt-dns");
    outside.answers_names([192, 0, 2, 53]);
    home.sandbox.does("network create back");
    home.waits("db", "--network back --network-alias sql --hostname store");
    home.waits("web", &format!("--network back --dns {}", Outside::ADDRESS));
    let (db, web) = (home.address_on("db", "back"), home.address_on("web", "back"));
    let id = home.sandbox.does("inspect -f {{.Id}} db").stdout[..12].to_owned();
    for name in ["db", "DB", "sql", "store", "db.back", &id] {
        home.asks("web", &format!("-type=a {name}")).stdout_has(&format!("Address: {db}\n"));
    }
    home.asks("db", "-type=a web").stdout_has(&format!("Address: {web}\n"));
    let backwards: Vec<_> = web.split('.').rev().collect();
    let backwards = format!("-type=ptr {}.in-addr.arpa", backwards.join("."));
    home.asks("db", &backwards).stdout_has("name = web.back\n");
    // What is no container's is asked for where the container wants it.
    home.asks("web", "-type=a host.example").stdout_has("Address: 192.0.2.53\n");
    // A program finds them by the same way.
    home.sandbox.does("exec web ping -c 1 -W 5 db").stdout_has(&format!("({db})"));
    home.sandbox.does("exec db cat /etc/resolv.conf").stdout_has("nameserver ");
    // Who has ended is not found any more, and by its new name only.
    home.sandbox.does("rename db data");
    home.asks("web", "-type=a data").stdout_has(&format!("Address: {db}\n"));
    home.sandbox.does("stop -t 0 data");
    home.asks("web", "-type=a data").stdout_has("Address: 192.0.2.53\n");
    assert!(home.resolver().is_some());
}

#[test]
fn networks_have_names_of_their_own() {
    let home = Home::new();
    home.sandbox.does("network create --internal inside");
    home.waits("ant", "--add-host gate:host-gateway");
    home.waits("bee", "");
    home.waits("cat", "--network inside");
    let bee = home.address_on("bee", "bridge");
    home.asks("ant", "-type=a bee").stdout_has(&format!("Address: {bee}\n"));
    // The resolver of an internal network asks nobody.
    home.asks("cat", "-type=a bee").stdout_has("REFUSED");
    home.asks("cat", "-type=a cat").stdout_has(&home.address_on("cat", "inside"));
    let gateway = home.sandbox.does("inspect -f {{.NetworkSettings.Gateway}} ant").stdout;
    let gateway = gateway.trim();
    home.sandbox.does("exec ant cat /etc/hosts").stdout_has(&format!("{gateway}\tgate\n"));
    home.sandbox
        .does("exec ant cat /etc/resolv.conf")
        .stdout_has(&format!("nameserver {gateway}\n"));
    // A resolver that was killed is there again with the next container.
    let killed = home.resolver().unwrap();
    std::process::Command::new("kill").args(["-9", &killed]).status().unwrap();
    home.waits("dog", "");
    home.asks("ant", "-type=a dog").stdout_has(&home.address_on("dog", "bridge"));
    assert_ne!(home.resolver(), Some(killed));
}
