//! Whom the host asks: the name servers of a `resolv.conf`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The most servers that are asked, as the C library has it.
const MAX_SERVERS: usize = 3;
/// The longest file that is read.
const MAX_BYTES: usize = 64 << 10;

/// The servers in a file, but those that are ours: a question must not come back to where it was asked.
pub(crate) fn servers(text: &[u8], ours: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_BYTES)]);
    let named: Vec<IpAddr> = text.lines().filter_map(server).take(MAX_SERVERS).collect();
    // As the C library has it for a file that names none.
    let named = if named.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { named };
    reachable(&named, ours, port)
}

/// The same of those that somebody has named.
pub(crate) fn reachable(named: &[IpAddr], ours: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let others = named.iter().filter(|server| !ours.contains(&server.to_canonical()));
    others.take(MAX_SERVERS).map(|server| SocketAddr::new(*server, port)).collect()
}

fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let ours = ["172.17.0.1".parse().unwrap()];
        servers(text.as_bytes(), &ours, 53).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_those_of_the_file() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver\t192.0.2.1\n\
                    nameserver 2001:db8::1 # why\n nameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        assert_eq!(read(text), ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
        assert_eq!(read("search example\n"), ["127.0.0.1:53"]);
        assert_eq!(read("nameserver x\nnameserver\n"), ["127.0.0.1:53"]);
    }

    #[test]
    fn nobody_asks_itself() {
        assert!(read("nameserver 172.17.0.1\n").is_empty());
        assert_eq!(read("nameserver ::ffff:172.17.0.1\nnameserver 192.0.2.1\n"), ["192.0.2.1:53"]);
    }
}
