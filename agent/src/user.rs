//! Looks a user up in the image's own `/etc/passwd` and `/etc/group`, as Docker does.

use std::os::fd::BorrowedFd;

use protocol::{StartError, User};

use crate::{disks, step::StepError};

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The user's number.
    pub(crate) uid: u32,
    /// The number of its main group.
    pub(crate) gid: u32,
    /// The supplementary groups, the main one among them.
    pub(crate) groups: Vec<u32>,
    /// The home directory; `/` when the image does not know the user.
    pub(crate) home: Vec<u8>,
}

/// The most that is read of one of the files.
const LIMIT_BYTES: u64 = 4 << 20;

/// The passwd file under `root`, or nothing.
pub(crate) fn passwd(root: BorrowedFd<'_>) -> Result<Vec<u8>, StepError> {
    Ok(disks::read_file(root, "/etc/passwd", LIMIT_BYTES)?.unwrap_or_default())
}

/// Looks `user` and the groups it shall have besides its own up in the files under `root`.
pub(crate) fn find(
    root: BorrowedFd<'_>,
    user: &User,
    more_groups: &[String],
) -> Result<Account, StartError> {
    let passwd = passwd(root)?;
    let group = disks::read_file(root, "/etc/group", LIMIT_BYTES)?.unwrap_or_default();
    let mut account = resolve(user, &passwd, &group)?;
    add_groups(&mut account, more_groups, &group)?;
    Ok(account)
}

/// What the image calls a user.
pub(crate) fn name_of(uid: u32, passwd: &[u8]) -> Option<String> {
    let entry = lines(passwd).filter_map(PasswdEntry::parse).find(|entry| entry.uid == uid)?;
    Some(String::from_utf8_lossy(entry.name).into_owned())
}

/// Looks groups up by name, or by number where no group has that name (moby's
/// `user.GetAdditionalGroups`).
fn add_groups(account: &mut Account, more: &[String], group: &[u8]) -> Result<(), StartError> {
    for wanted in more {
        let named = lines(group)
            .filter_map(GroupEntry::parse)
            .find(|entry| entry.name == wanted.as_bytes())
            .map(|entry| entry.gid);
        let unknown = || StartError::UnknownGroup { name: wanted.clone() };
        let gid = named.or_else(|| id(wanted.as_bytes())).ok_or_else(unknown)?;
        if !account.groups.contains(&gid) {
            account.groups.push(gid);
        }
    }
    Ok(())
}

/// The largest user or group number Docker takes.
const MAX_ID: u32 = i32::MAX.cast_unsigned();

/// The lookup itself (moby's `user.GetExecUser`): a number is always taken as one and need not be
/// known, a name must be, and a group asked for by hand replaces the supplementary ones.
fn resolve(user: &User, passwd: &[u8], group: &[u8]) -> Result<Account, StartError> {
    let number = if user.user.is_empty() { Some(0) } else { id(user.user.as_bytes()) };
    let known = lines(passwd).filter_map(PasswdEntry::parse).find(|entry| match number {
        Some(number) => entry.uid == number,
        None => entry.name == user.user.as_bytes(),
    });
    let mut account = Account { uid: 0, gid: 0, groups: Vec::new(), home: b"/".to_vec() };
    match (&known, number) {
        (Some(entry), _) => {
            (account.uid, account.gid) = (entry.uid, entry.gid);
            if !entry.home.is_empty() {
                account.home = entry.home.to_vec();
            }
        }
        (None, Some(number)) => account.uid = number,
        (None, None) => return Err(StartError::UnknownUser { name: user.user.clone() }),
    }
    let mut groups = lines(group).filter_map(GroupEntry::parse);
    match (&user.group, &known) {
        (Some(wanted), _) => {
            let number = id(wanted.as_bytes());
            let entry = groups.find(|entry| match number {
                Some(number) => entry.gid == number,
                None => entry.name == wanted.as_bytes(),
            });
            let unknown = || StartError::UnknownGroup { name: wanted.clone() };
            account.gid = entry.map(|entry| entry.gid).or(number).ok_or_else(unknown)?;
            account.groups.push(account.gid);
        }
        (None, Some(known)) => {
            account.groups.push(account.gid);
            account.groups.extend(
                groups
                    .filter(|entry| entry.has_member(known.name) && entry.gid != known.gid)
                    .map(|entry| entry.gid),
            );
        }
        (None, None) => account.groups.push(account.gid),
    }
    Ok(account)
}

/// A line of passwd(5): `name:password:uid:gid:comment:home:shell`.
struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl<'a> PasswdEntry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let uid = id(fields.next()?)?;
        let gid = id(fields.next()?)?;
        let _comment = fields.next();
        let home = fields.next().unwrap_or_default();
        Some(Self { name, uid, gid, home })
    }
}

/// A line of group(5): `name:password:gid:member,member`.
struct GroupEntry<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl<'a> GroupEntry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let gid = id(fields.next()?)?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }

    fn has_member(&self, name: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|member| member.trim_ascii() == name)
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

fn id(text: &[u8]) -> Option<u32> {
    let digits = text.iter().all(u8::is_ascii_digit);
    let number: u32 = str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()?;
    (number <= MAX_ID).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        broken line\n\
        web:x:33:33:Web:/var/www:/usr/sbin/nologin\n\
        toor:x:0:0::/toor:/bin/sh\n\
        bad:x:minus:1::/:\n\
        1234:x:50:51::/number:/bin/sh\n\
        homeless:x:60:61\n";
    const GROUP: &[u8] = b"root:x:0:\nweb:x:33:\nstaff:x:50:web,other\naudio:x:29: web \n\
        video:x:44:webmaster\n";

    fn account(uid: u32, gid: u32, groups: &[u32], home: &str) -> Account {
        Account { uid, gid, groups: groups.to_vec(), home: home.into() }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        for (user, group, expected) in [
            ("", None, account(0, 0, &[0], "/root")),
            ("root", None, account(0, 0, &[0], "/root")),
            ("0", None, account(0, 0, &[0], "/root")),
            ("toor", None, account(0, 0, &[0], "/toor")),
            ("web", None, account(33, 33, &[33, 50, 29], "/var/www")),
            ("33", None, account(33, 33, &[33, 50, 29], "/var/www")),
            ("web", Some("staff"), account(33, 50, &[50], "/var/www")),
            ("web", Some("4242"), account(33, 4242, &[4242], "/var/www")),
            ("9999", None, account(9999, 0, &[0], "/")),
            ("9999", Some("audio"), account(9999, 29, &[29], "/")),
            ("1234", None, account(1234, 0, &[0], "/")),
            ("homeless", None, account(60, 61, &[61], "/")),
            ("", Some("33"), account(0, 33, &[33], "/root")),
        ] {
            let user = User { user: user.into(), group: group.map(Into::into) };
            assert_eq!(resolve(&user, PASSWD, GROUP).as_ref(), Ok(&expected), "{user:?}");
        }
    }

    #[test]
    fn unknown_names_are_errors() {
        for (user, group, missing) in [
            ("nobody", None, "nobody"),
            ("bad", None, "bad"),
            ("web", Some("wheel"), "wheel"),
            ("4294967296", None, "4294967296"),
            ("2147483648", None, "2147483648"),
            ("-1", None, "-1"),
            ("+1", None, "+1"),
        ] {
            let name = missing.to_owned();
            let error = match group {
                Some(_) => StartError::UnknownGroup { name },
                None => StartError::UnknownUser { name },
            };
            let user = User { user: user.into(), group: group.map(Into::into) };
            assert_eq!(resolve(&user, PASSWD, GROUP).unwrap_err(), error, "{user:?}");
        }
    }

    #[test]
    fn groups_are_added_by_name_or_number() {
        let more = ["audio", "50", "4242", "33"].map(str::to_owned);
        let mut web = account(33, 33, &[33], "/");
        add_groups(&mut web, &more, GROUP).unwrap();
        assert_eq!(web.groups, [33, 29, 50, 4242]);
        let error = add_groups(&mut web, &["wheel".to_owned()], GROUP).unwrap_err();
        assert_eq!(error, StartError::UnknownGroup { name: "wheel".into() });
    }

    #[test]
    fn users_have_the_first_name_of_their_number() {
        assert_eq!(name_of(0, PASSWD).as_deref(), Some("root"));
        assert_eq!(name_of(33, PASSWD).as_deref(), Some("web"));
        assert_eq!(name_of(34, PASSWD), None);
    }

    #[test]
    fn an_image_without_the_files_has_root() {
        let user = User::default();
        assert_eq!(resolve(&user, b"", b""), Ok(account(0, 0, &[0], "/")));
    }
}
