//! The reader against archives written by hand and by the `tar` crate.

use super::*;

fn header(name: &str, flag: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0001750\0");
    block[116..124].copy_from_slice(b"0001751\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000017\0");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn member(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
    let mut out = header(name, flag, data.len() as u64).to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (1..6).map(|digits| body + digits).find(|n| n.to_string().len() + body == *n);
    let mut out = format!("{} {key}=", length.unwrap()).into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader
            .read_to_end(&mut data)
            .map_err(|source| TarError::Read { position: reader.position(), source })?;
        out.push((entry, data));
    }
    Ok(out)
}

#[test]
fn plain_members_come_with_their_fields_and_data() {
    let bytes = [member("a/b", b'0', b"hello"), member("d/", 0, b""), vec![0; 1024]].concat();
    let entries = read_all(&bytes).unwrap();
    let (file, data) = &entries[0];
    assert_eq!((&file.path[..], &data[..]), (&b"a/b"[..], &b"hello"[..]));
    assert_eq!(file.kind, Kind::File { size: 5 });
    assert_eq!((file.mode, file.uid, file.gid, file.mtime.seconds), (0o644, 1000, 1001, 15));
    assert_eq!(entries[1].0.kind, Kind::Directory);
    assert_eq!(entries.len(), 2);
}

#[test]
fn the_last_file_may_lack_its_padding_but_none_of_its_data() {
    let bytes = member("only", b'0', b"hello");
    assert_eq!(read_all(&bytes[..512 + 5]).unwrap()[0].1, b"hello");
    assert_eq!(read_all(&bytes[..512 + 100]).unwrap()[0].1, b"hello");
    read_all(&bytes[..512 + 4]).unwrap_err();
}

#[test]
fn extended_headers_speak_of_the_next_member_only() {
    let pax =
        [record("path", &[b'n'; 300]), record("uid", b"70000"), record("size", b"3")].concat();
    let mut real = header("short", b'0', 0).to_vec();
    real.extend_from_slice(b"abc");
    real.resize(1024, 0);
    let bytes = [member("pax", b'x', &pax), real, member("next", b'0', b"")].concat();
    let entries = read_all(&bytes).unwrap();
    assert_eq!(entries[0].0.path, [b'n'; 300]);
    assert_eq!((entries[0].0.uid, &entries[0].1[..]), (70_000, &b"abc"[..]));
    assert_eq!((&entries[1].0.path[..], entries[1].0.uid), (&b"next"[..], 1000));
}

#[test]
fn gnu_long_names_and_links() {
    let long = [b'l'; 400];
    let bytes = [
        member("././@LongLink", b'L', &[&long[..], b"\0"].concat()),
        member("././@LongLink", b'K', b"target\0"),
        member("cut", b'2', b""),
    ];
    let entries = read_all(&bytes.concat()).unwrap();
    assert_eq!(entries[0].0.path, long);
    assert_eq!(entries[0].0.kind, Kind::Symlink { target: b"target".to_vec() });
}

#[test]
fn sparse_files_of_every_kind_have_the_same_segments() {
    let expected = vec![Segment { offset: 0, length: 3 }, Segment { offset: 8192, length: 2 }];
    let mut old = header("sparse", b'S', 5);
    old[257..265].copy_from_slice(b"ustar  \0");
    for (at, value) in [(386, 0), (398, 3), (410, 8192), (422, 2), (483, 10_000)] {
        old[at..at + 12].copy_from_slice(format!("{value:011o}\0").as_bytes());
    }
    seal(&mut old);
    let mut data = b"abcde".to_vec();
    data.resize(BLOCK, 0);
    let pax01 = [
        record("GNU.sparse.size", b"10000"),
        record("GNU.sparse.numblocks", b"2"),
        record("GNU.sparse.map", b"0,3,8192,2"),
        record("GNU.sparse.name", b"sparse"),
    ];
    let pax10 = [
        record("GNU.sparse.major", b"1"),
        record("GNU.sparse.minor", b"0"),
        record("GNU.sparse.name", b"sparse"),
        record("GNU.sparse.realsize", b"10000"),
    ];
    let mut with_map = b"2\n0\n3\n8192\n2\n".to_vec();
    with_map.resize(BLOCK, 0);
    with_map.extend_from_slice(b"abcde");
    let archives = [
        [&old[..], &data].concat(),
        [member("x", b'x', &pax01.concat()), member("GNUSparseFile.1/s", b'0', b"abcde")].concat(),
        [member("x", b'x', &pax10.concat()), member("GNUSparseFile.1/s", b'0', &with_map)].concat(),
    ];
    for bytes in archives {
        let entries = read_all(&bytes).unwrap();
        assert_eq!(entries[0].0.path, b"sparse");
        let kind = Kind::SparseFile { size: 10_000, segments: expected.clone() };
        assert_eq!((&entries[0].0.kind, &entries[0].1[..]), (&kind, &b"abcde"[..]));
    }
}

#[test]
fn damaged_archives_are_told_apart() {
    let good = member("a", b'0', &[7; 600]);
    let mut flipped = [good.clone(), good.clone()].concat();
    flipped[good.len() + 3] ^= 1;
    let huge = header("x", b'x', 1 << 30).to_vec();
    let cases: [(&[u8], &str); 8] = [
        (b"", "not a tar"),
        (b"#!/bin/sh\n", "not a tar"),
        (&[1; 512], "not a tar"),
        (&good[..900], "byte"),
        (&[&good[..], &good[..100]].concat(), "too early"),
        (&flipped, "checksum"),
        (&huge, "more than 1048576"),
        (&member("x", b'x', &record("path", b"y")), "too early"),
    ];
    for (bytes, expected) in cases {
        let error = read_all(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn zero_blocks_alone_are_an_empty_archive() {
    assert!(read_all(&[0; 1024]).unwrap().is_empty());
    assert!(read_all(&[0; 10_240]).unwrap().is_empty());
}

mod oracle {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Member {
        path: String,
        data: Vec<u8>,
        uid: u64,
        mtime: u64,
        xattr: Option<Vec<u8>>,
    }

    fn members() -> impl Strategy<Value = Vec<Member>> {
        // No `.` and `..`: the crate that writes leaves the one out and refuses the other.
        let path = "[a-z]{1,60}(/[a-zA-Z0-9._-]{0,79}[a-zA-Z0-9_-]){0,5}";
        let data = proptest::collection::vec(any::<u8>(), 0..2000);
        let xattr = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let member = (path, data, 0_u64..0x1_0000_0000 - 1, 0_u64..1 << 40, xattr)
            .prop_map(|(path, data, uid, mtime, xattr)| Member { path, data, uid, mtime, xattr });
        proptest::collection::vec(member, 1..8)
    }

    fn write(members: &[Member]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for member in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(member.data.len() as u64);
            header.set_uid(member.uid);
            header.set_gid(member.uid);
            header.set_mtime(member.mtime);
            header.set_mode(0o4755);
            header.set_entry_type(tar::EntryType::Regular);
            if let Some(value) = &member.xattr {
                builder.append_pax_extensions([("SCHILY.xattr.user.x", &value[..])]).unwrap();
            }
            builder.append_data(&mut header, &member.path, &member.data[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_the_tar_crate_writes_is_read_back(members in members()) {
            let entries = read_all(&write(&members)).unwrap();
            prop_assert_eq!(entries.len(), members.len());
            for ((entry, data), member) in entries.iter().zip(&members) {
                prop_assert_eq!(&entry.path[..], member.path.as_bytes());
                prop_assert_eq!(data, &member.data);
                prop_assert_eq!(u64::from(entry.uid), member.uid);
                prop_assert_eq!(entry.mtime.seconds.unsigned_abs(), member.mtime);
                prop_assert_eq!(entry.mode, 0o4755);
                let xattr = entry.xattrs.first().map(|(_, value)| value.clone());
                prop_assert_eq!(&xattr, &member.xattr);
            }
        }

        #[test]
        fn any_bytes_end_in_entries_or_an_error(
            members in members(), flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6)
        ) {
            let mut bytes = write(&members);
            for (at, value) in flips {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            let _ = read_all(&bytes);
        }
    }
}
