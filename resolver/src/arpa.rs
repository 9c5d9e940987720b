//! Reads the names by which addresses are asked about (RFC 1035, section 3.5; RFC 3596, section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a name in small letters stands for.
pub(crate) fn address(name: &str) -> Option<IpAddr> {
    if let Some(parts) = name.strip_suffix(".in-addr.arpa") {
        let mut parts = parts.rsplit('.');
        let mut octets = [0; 4];
        for octet in &mut octets {
            *octet = decimal(parts.next()?)?;
        }
        return parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let mut digits = name.strip_suffix(".ip6.arpa")?.rsplit('.');
    let mut bits = 0_u128;
    for _ in 0..32 {
        bits = bits << 4 | u128::from(hexadecimal(digits.next()?)?);
    }
    digits.next().is_none().then(|| IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

fn decimal(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn hexadecimal(text: &str) -> Option<u8> {
    (text.len() == 1).then(|| u8::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses_are_read_from_their_end() {
        let zeros = "0.".repeat(24);
        for (name, wanted) in [
            ("2.1.17.172.in-addr.arpa".to_owned(), Some("172.17.1.2")),
            (format!("7.{}8.b.d.0.1.0.0.2.ip6.arpa", &zeros[..46]), Some("2001:db8::7")),
            ("17.172.in-addr.arpa".to_owned(), None),
            ("1.2.1.17.172.in-addr.arpa".to_owned(), None),
            ("256.1.17.172.in-addr.arpa".to_owned(), None),
            ("+2.1.17.172.in-addr.arpa".to_owned(), None),
            (".1.17.172.in-addr.arpa".to_owned(), None),
            (format!("{zeros}8.b.d.0.1.0.0.2.0.ip6.arpa"), None),
            ("in-addr.arpa".to_owned(), None),
            ("web".to_owned(), None),
        ] {
            assert_eq!(address(&name), wanted.map(|text| text.parse().unwrap()), "{name}");
        }
    }
}
