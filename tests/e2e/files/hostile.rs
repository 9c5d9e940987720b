//! Containers and people that mean no good.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::{Doing, Home};

#[test]
fn links_of_a_container_lead_nowhere_else() {
    let home = Home::new();
    let outside = home.word("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(home.here("outside/secret"), "mine").unwrap();
    let script = format!(
        "echo inside > /home/passwd; ln -s /home /home/etc; ln -s ../../../../../../etc /home/up; \
         ln -s {outside} /home/out; ln -s {outside}/secret /home/secret; \
         ln -s /proc/1/root /home/proc; mkdir /home/sub"
    );
    fs::write(home.here("file"), "file").unwrap();
    for doing in Doing::RAN {
        home.container(&script, doing);
        let to = |name: &str| home.word(&format!("{name}-{doing:?}"));
        home.cp("box:/home/etc/passwd", &to("passwd")).code_is(0);
        assert_eq!(fs::read(to("passwd")).unwrap(), b"inside\n");
        home.cp("box:/home/up/passwd", &to("up")).code_is(0);
        assert!(fs::read_to_string(to("up")).unwrap().starts_with("root:x:0:0:root:/root:/bin/sh"));
        for path in ["/home/out/secret", "/home/out/.", "/home/proc/etc/passwd"] {
            home.cp(&format!("box:{path}"), &to("none")).fails_with(1, "could not find the file");
        }
        home.sandbox.hyperrun(["cp", "-L", "box:/home/secret", &to("none")]).fails_with(1, "");
        home.cp(&home.word("file"), "box:/home/out/file").fails_with(1, "could not find the file");
        home.cp(&home.word("file"), "box:/home/secret").fails_with(1, "could not find the file");
        home.cp("box:/home", &to("home")).code_is(0);
        assert!(fs::symlink_metadata(to("home") + "/out").unwrap().is_symlink());
        // The copy now has a link where the container has a folder.
        home.cp("box:/home/sub", &(to("home") + "/out")).code_is(0);
        assert!(home.here("outside/sub").is_dir(), "the person's own destination is followed");
        fs::remove_dir(home.here("outside/sub")).unwrap();
        symlink(&outside, to("home") + "/link").unwrap();
    }
    assert_eq!(fs::read(home.here("outside/secret")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_link_in_the_way_is_not_written_through() {
    let home = Home::new();
    home.container("mkdir -p /d/sub; echo theirs > /d/sub/x; echo theirs > /d/y", Doing::Exited);
    fs::create_dir_all(home.here("outside")).unwrap();
    fs::create_dir_all(home.here("to/d")).unwrap();
    fs::write(home.here("outside/y"), "mine").unwrap();
    symlink(home.here("outside/y"), home.here("to/d/y")).unwrap();
    home.cp("box:/d/y", &home.word("to/d/z")).code_is(0);
    home.cp("box:/d", &home.word("to")).code_is(0);
    assert_eq!(fs::read(home.here("outside/y")).unwrap(), b"mine");
    assert_eq!(fs::read(home.here("to/d/y")).unwrap(), b"theirs\n");
    fs::remove_dir_all(home.here("to/d/sub")).unwrap();
    symlink(home.here("outside"), home.here("to/d/sub")).unwrap();
    home.cp("box:/d", &home.word("to")).fails_with(1, "cannot overwrite non-directory");
    assert_eq!(fs::read_dir(home.here("outside")).unwrap().count(), 1);
}

#[test]
fn devices_pipes_sockets_and_odd_names_have_a_clear_result() {
    let home = Home::new();
    let script = "mkdir /d; mknod /d/disk b 254 0; mknod /d/zero c 1 5; mkfifo /d/pipe; \
        cp /bin/true /d/mighty; chmod 6755 /d/mighty; touch \"/d/$(printf 'a\\nb\\033[2J')\"; \
        echo x > /d/last";
    for doing in Doing::RAN {
        home.container(script, doing);
        let to = |name: &str| home.here(&format!("{doing:?}")).join(name);
        let out = home.cp("box:/d", &home.word(&format!("{doing:?}")));
        out.code_is(0);
        out.stderr_has("warning: disk is left out: it is a device");
        out.stderr_has("warning: zero is left out: it is a device");
        assert!(!to("disk").exists() && !to("zero").exists());
        assert!(fs::symlink_metadata(to("pipe")).unwrap().file_type().is_fifo());
        assert!(to("a\nb\x1b[2J").exists());
        assert_eq!(fs::read(to("last")).unwrap(), b"x\n");
        assert_eq!(fs::metadata(to("mighty")).unwrap().permissions().mode() & 0o7777, 0o755);
        home.cp("box:/d/zero", &home.word("zero")).fails_with(1, "it is a device");
        home.cp("box:/d/disk", "/dev/null").fails_with(1, "must be a directory or a regular file");
        assert!(!home.here("zero").exists());
    }
    home.cp("/dev/null", "box:/null").code_is(0);
    home.sandbox.does("start box");
    home.sandbox.does("wait box");
    fs::create_dir(home.here("local")).unwrap();
    let _socket = UnixListener::bind(home.here("local/socket")).unwrap();
    fs::write(home.here("local/file"), "x").unwrap();
    home.cp(&home.word("local"), "box:/home")
        .code_is(0)
        .stderr_is("warning: socket is left out: it is a socket\n");
    home.cp(&home.word("local/socket"), "box:/home").fails_with(1, "cannot copy the socket");
    home.cp("box:/home/local/file", &home.word("back")).code_is(0);
    let diff = home.sandbox.hyperrun(["diff", "box"]);
    diff.code_is(0).stdout_has("A /d/a\nb\u{1b}[2J\n").stdout_has("A /null\n");
}
