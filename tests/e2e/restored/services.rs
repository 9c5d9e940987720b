//! Services of Debian that are saved under load: what they have acknowledged is in every copy.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hyperrun_tests::Sandbox;

use crate::home::Home;

/// Somebody who speaks to a redis.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// The one in a container on the usual network, once it listens.
    fn of(sandbox: &Sandbox, name: &str) -> Self {
        let address = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
        let address = sandbox.hyperrun(["inspect", "-f", address, name]).stdout;
        let address = format!("{}:6379", address.trim());
        loop {
            // Who comes before it listens is turned away, as on any host.
            if let Ok(stream) = TcpStream::connect(&address) {
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                return Self { stream: BufReader::new(stream) };
            }
        }
    }

    /// Says a line and hears one.
    fn asks(&mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.stream.read_line(&mut answer).unwrap();
        if answer.starts_with('$') && answer.trim() != "$-1" {
            answer.clear();
            self.stream.read_line(&mut answer).unwrap();
        }
        answer.trim_end().to_owned()
    }
}

#[test]
#[ignore = "takes a minute"]
fn a_redis_saved_under_load_goes_on_three_times_with_all_that_it_has_acknowledged() {
    let home = Home::new();
    // With a blank of its own: the file system of those that are shared may know no holes.
    std::fs::remove_file(home.folder.path().join("scratch")).unwrap();
    let archive = std::env::var("HYPERRUN_TEST_IMAGES").unwrap() + "/services/services.tar";
    home.sandbox.does(&format!("load -i {archive}"));
    home.sandbox.does(
        "run -d --name store services redis-server --protected-mode no --enable-debug-command yes",
    );
    let mut client = Client::of(&home.sandbox, "store");
    assert_eq!(client.asks("DEBUG POPULATE 50000 filler 100"), "+OK");
    let (acknowledged, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let at_least = thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                let number = acknowledged.load(Ordering::SeqCst);
                assert_eq!(client.asks(&format!("SET key{number} {number}")), "+OK");
                acknowledged.store(number + 1, Ordering::SeqCst);
            }
        });
        while acknowledged.load(Ordering::SeqCst) < 100 {
            thread::yield_now();
        }
        let at_least = acknowledged.load(Ordering::SeqCst);
        home.sandbox.does("snapshot create store warm");
        // The original has gone on, and loses nothing.
        let after = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < after + 20 {
            thread::yield_now();
        }
        ends.store(true, Ordering::SeqCst);
        at_least
    });
    let last = acknowledged.load(Ordering::SeqCst) - 1;
    assert_eq!(client.asks(&format!("GET key{last}")), last.to_string());
    let file = home.folder.path().join("warm.snapshot");
    home.sandbox.does(&format!("snapshot export -o {} warm", file.display()));
    let elsewhere = tempfile::tempdir().unwrap();
    let there = Sandbox::at(elsewhere.path());
    there.does(&format!("snapshot import -i {}", file.display()));
    home.sandbox.does("restore -d --name one warm");
    home.sandbox.does("restore -d --name two warm");
    there.does("restore -d --name three warm");
    let copies = [(&home.sandbox, "one"), (&home.sandbox, "two"), (&there, "three")];
    let mut clients = copies.map(|(sandbox, name)| (Client::of(sandbox, name), name));
    for (client, name) in &mut clients {
        for number in 0..at_least {
            assert_eq!(client.asks(&format!("GET key{number}")), number.to_string(), "{name}");
        }
        assert_eq!(client.asks("GET filler:49999").len(), 100, "{name}");
        assert_eq!(client.asks(&format!("SET own {name}")), "+OK");
    }
    for (client, name) in &mut clients {
        assert_eq!(client.asks("GET own"), *name);
    }
    there.remove_containers();
    there.does("network prune -f");
}

/// All rows of a table, and what the check of its files and of its index says: nothing, or an error.
const CHECK: &str = "SELECT count(*) FROM rows; SELECT count(*) FROM verify_heapam('rows'); \
     SELECT bt_index_parent_check('rows_pkey', true, true)";

#[test]
#[ignore = "takes a minute"]
fn a_postgres_saved_under_load_is_whole_in_its_copy() {
    let home = Home::new();
    let archive = std::env::var("HYPERRUN_TEST_IMAGES").unwrap() + "/services/postgres.tar";
    home.sandbox.does(&format!("load -i {archive}"));
    home.sandbox.does("run -d --name base postgres postgres -D /data -k /tmp");
    let sql = |name: &str, words: &str| {
        let psql =
            ["exec", name, "psql", "-h", "/tmp", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", words];
        home.sandbox.hyperrun(psql)
    };
    while sql("base", "SELECT 1").code != 0 {}
    let table = "CREATE EXTENSION amcheck; CREATE TABLE rows (id int PRIMARY KEY, words text)";
    sql("base", table).code_is(0);
    let (acknowledged, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let at_least = thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                let first = acknowledged.load(Ordering::SeqCst);
                let last = first + 99;
                let row = format!(
                    "SELECT n, repeat(n::text, 50) FROM generate_series({first}, {last}) n"
                );
                sql("base", &format!("INSERT INTO rows {row}")).code_is(0);
                acknowledged.store(last + 1, Ordering::SeqCst);
            }
        });
        while acknowledged.load(Ordering::SeqCst) < 1000 {
            thread::yield_now();
        }
        let at_least = acknowledged.load(Ordering::SeqCst);
        home.sandbox.does("snapshot create base warm");
        ends.store(true, Ordering::SeqCst);
        at_least
    });
    home.sandbox.does("restore -d --name copy warm");
    let last = acknowledged.load(Ordering::SeqCst);
    for (name, at_least) in [("copy", at_least), ("base", last)] {
        let out = sql(name, CHECK);
        let lines: Vec<_> = out.code_is(0).stdout.lines().collect();
        let rows: u64 = lines[0].parse().unwrap();
        assert!(rows >= at_least && rows.is_multiple_of(100), "{name}: {rows} of {at_least}");
        assert_eq!(lines[1], "0", "{name}: {}", out.stdout);
    }
    // The copy goes on apart, and writes down what it does.
    sql("copy", "INSERT INTO rows VALUES (-1, 'own'); CHECKPOINT").code_is(0);
    sql("copy", CHECK).code_is(0);
    sql("base", "SELECT count(*) FROM rows WHERE id = -1").code_is(0).stdout_is("0\n");
}
