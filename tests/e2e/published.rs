//! Published ports: from this host, from outside, from another container; and gone with the container.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hyperrun_tests::Outside;

use crate::home::Home;

/// A page.
const SERVE: &str =
    "mkdir -p /www; echo hello >/www/index.html; httpd -p 80 -h /www; echo ready; exec sleep 1000";
/// Nothing here takes that long unless it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer to a short request.
fn get(at: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
fn is_served(at: &str) {
    let answer = get(at).unwrap();
    assert!(answer.starts_with("HTTP/1") && answer.ends_with("hello\n"), "{at}: {answer}");
}

/// Waits until a program that was just started listens.
#[track_caller]
fn is_served_soon(at: &str) {
    let since = Instant::now();
    while let Err(error) = get(at) {
        assert!(since.elapsed() < PATIENCE, "{at}: {error}");
    }
    is_served(at);
}

impl Home {
    #[track_caller]
    fn serves(&self, name: &str, flags: &str) {
        let words = format!("run -d --name {name} {flags} busybox sh -c");
        let mut words: Vec<_> = words.split_whitespace().collect();
        words.push(SERVE);
        self.sandbox.hyperrun(words).code_is(0);
        self.is_ready(name);
    }
}

#[test]
fn published_ports_lead_to_the_container_from_everywhere() {
    let home = Home::new();
    let outside = Outside::new("hrt-pub");
    home.serves("web", "-p 8080:80 -p 8009:9/udp -p 127.0.0.1:8081:80 --expose 443");
    for at in ["127.0.0.1:8080", "[::1]:8080", "127.0.0.1:8081"] {
        is_served(at);
    }
    let here = Outside::HOST;
    let fetch = |at: &str| outside.run(&format!("busybox wget -q -O /dev/null http://{at}/"));
    assert_eq!(fetch(&format!("{here}:8080")), Some(0));
    assert_eq!(fetch(&format!("[{}]:8080", Outside::HOST6)), Some(0));
    assert_ne!(fetch(&format!("{here}:8081")), Some(0));
    // Another container comes by the host, whatever its network.
    home.sandbox.does("network create other");
    let line = "wget -q -O - http://$(ip route | sed -n 's/default via //; s/ dev.*//; 1p'):8080/";
    let words = ["run", "--rm", "--network", "other", "busybox", "sh", "-c", line];
    home.sandbox.hyperrun(words).code_is(0).stdout_is("hello\n");
    // All of it is shown.
    home.sandbox.does("port web 80").stdout_is("0.0.0.0:8080\n127.0.0.1:8081\n[::]:8080\n");
    home.sandbox.does("port web 9/udp").stdout_is("0.0.0.0:8009\n[::]:8009\n");
    home.fails("port web 443", 1, "no public port '443/tcp' published for web");
    home.sandbox
        .does("ps --format {{.Ports}}")
        .stdout_has("0.0.0.0:8080->80/tcp, 127.0.0.1:8081->80/tcp, [::]:8080->80/tcp")
        .stdout_has("443/tcp");
    home.shows("web", "{{(index .NetworkSettings.Ports \"9/udp\" 0).HostPort}}", "8009");
    home.sandbox.does("ps -q --filter publish=8080").stdout_has("\n");
    home.sandbox.does("ps -q --filter publish=80").stdout_is("");
    home.sandbox.does("ps -q --filter expose=443").stdout_has("\n");
    home.sandbox.does("stop -t 0 web");
    home.sandbox.does("port web").stdout_is("");
    TcpListener::bind("0.0.0.0:8080").unwrap();
}

#[test]
fn a_taken_port_is_told_before_anything_starts() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:8090").unwrap();
    let words = "Bind for 127.0.0.1:8090 failed: port is already allocated";
    home.fails("run --name late -p 127.0.0.1:8090:80 busybox echo started", 125, words);
    home.shows("late", "{{.State.Status}}", "created");
    drop(taken);
    home.sandbox.does("start -a late").stdout_is("started\n");
    // And by another container.
    home.serves("web", "-p 8090:80");
    let words = "Bind for 0.0.0.0:8090 failed: port is already allocated";
    home.fails("run -d --name other -p 8090:80 busybox true", 125, words);
    is_served("127.0.0.1:8090");
    home.sandbox.does("restart -t 0 web");
    is_served_soon("127.0.0.1:8090");
    // A supervisor that is killed leaves no port behind.
    let supervisor = home.supervisor("web");
    Command::new("kill").args(["-9", &supervisor]).status().unwrap();
    while Path::new(&format!("/proc/{supervisor}/fd/0")).exists() {
        std::thread::yield_now();
    }
    home.shows("web", "{{.State.Status}}", "exited");
    TcpListener::bind("0.0.0.0:8090").unwrap();
    home.sandbox.does("port web").stdout_is("");
}

#[test]
#[ignore = "takes a minute"]
fn services_of_debian_serve_by_name_and_by_port() {
    let home = Home::new();
    let archive = std::env::var("HYPERRUN_TEST_IMAGES").unwrap() + "/services/services.tar";
    home.sandbox.does(&format!("load -i {archive}"));
    home.sandbox.does("network create shop");
    home.sandbox.does("run -d --name web --network shop -p 8088:80 services nginx");
    home.sandbox.does(
        "run -d --name store --network shop -p 6380:6379 services redis-server --protected-mode no",
    );
    // Who comes before they listen is turned away, as on any host.
    let script = "until wget -q -O - http://web/; do sleep 0.1; done; \
                  until printf 'PING\\r\\n' | nc -w 5 store 6379; do sleep 0.1; done";
    let words = ["run", "--rm", "--network", "shop", "services", "sh", "-c", script];
    home.sandbox.hyperrun(words).code_is(0).stdout_is("hello\n+PONG\r\n");
    for _ in 0..1000 {
        is_served("127.0.0.1:8088");
    }
    let run = |program: &str, words: &str| {
        let out = Command::new(program).args(words.split(' ')).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        text
    };
    let text = run("wrk", "-t 1 -c 8 -d 3s --timeout 30s http://127.0.0.1:8088/");
    assert!(text.contains("requests in"), "{text}");
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    let text = run("redis-benchmark", "-p 6380 -n 1000 -c 8 -q -t set,get");
    assert!(text.contains("SET: ") && text.contains("GET: "), "{text}");
    assert!(!text.to_lowercase().contains("error"), "{text}");
}
