//! `cp` by Docker's rules.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Stdio;
use std::thread;

use super::{Doing, Home};

#[test]
fn files_go_both_ways_whatever_the_container_does() {
    let home = Home::new();
    fs::create_dir_all(home.here("site/sub")).unwrap();
    fs::write(home.here("site/index"), "hello").unwrap();
    fs::write(home.here("site/sub/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(home.here("site/sub/tool"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("sub/tool", home.here("site/link")).unwrap();
    fs::hard_link(home.here("site/index"), home.here("site/twin")).unwrap();
    for doing in Doing::ALL {
        home.container("true", doing);
        home.cp(&home.word("site"), "box:/home").code_is(0).stdout_is("").stderr_is("");
        let copy = format!("{doing:?}");
        home.cp("box:/home/site", &home.word(&copy)).code_is(0).stdout_is("").stderr_is("");
        let at = |path: &str| home.here(&format!("{copy}/{path}"));
        assert_eq!(fs::read(at("index")).unwrap(), b"hello", "{doing:?}");
        assert_eq!(fs::read_link(at("link")).unwrap().to_str(), Some("sub/tool"));
        let (old, new) = (
            fs::metadata(home.here("site/sub/tool")).unwrap(),
            fs::metadata(at("sub/tool")).unwrap(),
        );
        assert_eq!((old.mode(), old.mtime_nsec()), (new.mode(), new.mtime_nsec()), "{doing:?}");
        let inode = |path: &str| fs::metadata(at(path)).unwrap().ino();
        assert_eq!(inode("index"), inode("twin"), "{doing:?}");
        let state = home.sandbox.hyperrun(["inspect", "-f", "{{.State.Status}}", "box"]);
        state.stdout_is(&format!("{}\n", copy.to_lowercase()));
    }
    // What was put into one that had not run yet is there when it does.
    let out = home.sandbox.hyperrun(["start", "-a", "box"]);
    out.code_is(0);
    home.sandbox.does("rm box");
    home.sandbox.does("create --rm --name box busybox cat /home/index");
    home.cp(&home.word("site/index"), "box:/home").code_is(0);
    home.sandbox.hyperrun(["start", "-a", "box"]).code_is(0).stdout_is("hello");
    home.sandbox.does("ps -aq").stdout_is("");
}

#[test]
fn dockers_rules_say_what_goes_where() {
    let home = Home::new();
    home.container(
        "cd /home; mkdir folder empty; echo f > folder/f; echo file > file; ln -s folder link; \
         ln -s /home/file to-file; ln -s nowhere dangling; mkdir -p /srv/file",
        Doing::Running,
    );
    fs::create_dir_all(home.here("folder/sub")).unwrap();
    fs::write(home.here("folder/mine"), "mine").unwrap();
    fs::write(home.here("file"), "mine").unwrap();
    symlink("file", home.here("link")).unwrap();
    // Into the container: source, destination, and what it says, or a file that is there afterwards.
    for (from, to, outcome) in [
        ("file", "/home/new", Ok("/home/new")),
        ("file", "home/relative", Ok("/home/relative")),
        ("file", "/home/empty", Ok("/home/empty/file")),
        ("file", "/home/link", Ok("/home/folder/file")),
        ("file", "/home/dangling", Ok("/home/nowhere")),
        ("file", "/home/to-file", Ok("/home/file")),
        ("folder", "/home/made", Ok("/home/made/mine")),
        ("folder", "/home/made/", Ok("/home/made/folder/mine")),
        ("folder/.", "/home/empty", Ok("/home/empty/mine")),
        ("link", "/home/aslink", Ok("/home/aslink")),
        ("file", "/home/none/", Err("no such directory")),
        ("file", "/home/none/x", Err("could not find the file /home/none in container box")),
        ("folder", "/home/file", Err("cannot copy directory")),
        ("file", "/srv", Err("cannot overwrite directory with non-directory")),
        ("none", "/home", Err("no such file or directory")),
        ("file/", "/home", Err("not a directory")),
    ] {
        let out = home.cp(&home.word(from), &format!("box:{to}"));
        match outcome {
            Ok(there) if there.ends_with("aslink") => {
                out.code_is(0);
                home.exec(&format!("readlink {there}")).stdout_is("file\n");
            }
            Ok(there) => {
                out.code_is(0).stderr_is("");
                home.exec(&format!("cat {there}")).stdout_is("mine");
            }
            Err(words) => drop(out.fails_with(1, words)),
        }
    }
    // Out of it.
    fs::create_dir(home.here("out")).unwrap();
    home.exec("rm -r /home/folder; mkdir /home/folder; echo theirs > /home/folder/f; cp /home/folder/f /home/file");
    for (from, to, outcome) in [
        ("/home/file", "out", Ok("out/file")),
        ("/home/file", "out/new", Ok("out/new")),
        ("/home/folder", "out", Ok("out/folder/f")),
        ("/home/folder/.", "out", Ok("out/f")),
        ("/home/folder/", "out/made", Ok("out/made/f")),
        ("/home/link/.", "out/behind", Ok("out/behind/f")),
        ("/home/none", "out", Err("could not find the file /home/none in container box")),
        ("/home/file/", "out", Err("not a directory")),
        ("/home/folder", "out/file", Err("cannot copy directory")),
        ("/home/file", "none/x", Err("does not exist")),
        ("/home/file", "out/none/", Err("no such directory")),
    ] {
        let out = home.cp(&format!("box:{from}"), &home.word(to));
        match outcome {
            Ok(there) => {
                out.code_is(0).stderr_is("");
                assert_eq!(fs::read(home.here(there)).unwrap(), b"theirs\n", "{from} {to}");
            }
            Err(words) => drop(out.fails_with(1, words)),
        }
    }
    home.cp("box:/home/to-file", &home.word("out/kept")).code_is(0);
    assert_eq!(fs::read_link(home.here("out/kept")).unwrap().to_str(), Some("/home/file"));
    home.sandbox.hyperrun(["cp", "-L", "box:/home/to-file", &home.word("out")]).code_is(0);
    assert_eq!(fs::read(home.here("out/to-file")).unwrap(), b"theirs\n");
    home.sandbox.hyperrun(["cp", "-L", &home.word("link"), "box:/home/empty"]).code_is(0);
    home.exec("cat /home/empty/link").stdout_is("mine");
}

#[test]
fn owners_are_dockers() {
    let home = Home::new();
    fs::write(home.here("file"), "x").unwrap();
    std::os::unix::fs::chown(home.here("file"), Some(1234), Some(2345)).unwrap();
    let words = ["run", "-d", "--name", "box", "-u", "daemon", "busybox", "sleep", "1000"];
    home.sandbox.hyperrun(words).code_is(0);
    home.cp(&home.word("file"), "box:/kept").code_is(0);
    home.sandbox.hyperrun(["cp", "-a", &home.word("file"), "box:/theirs"]).code_is(0);
    home.exec("stat -c %u:%g /kept /theirs").stdout_is("1234:2345\n1:1\n");
    home.cp("box:/kept", &home.word("mine")).code_is(0);
    home.sandbox.hyperrun(["cp", "-a", "box:/kept", &home.word("kept")]).code_is(0);
    let owner = |path: &str| {
        let metadata = fs::metadata(home.here(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!((owner("mine"), owner("kept")), ((0, 0), (1234, 2345)));
}

#[test]
fn archives_go_through_standard_streams() {
    let home = Home::new();
    home.container("mkdir /d; echo x > /d/x; ln /d/x /d/y; ln -s x /d/l", Doing::Exited);
    let archive =
        home.sandbox.command(["cp", "box:/d", "-"]).stdin(Stdio::null()).output().unwrap();
    assert!(archive.status.success());
    let mut reader = tar::Archive::new(&archive.stdout[..]);
    let mut seen = Vec::new();
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        seen.push(format!("{} {content}", entry.path().unwrap().display()).trim().to_owned());
    }
    assert_eq!(seen, ["d/", "d/l", "d/x x", "d/y"]);
    let put = |input: &[u8], path: &str| {
        home.sandbox.hyperrun_with_input(["cp", "-", &format!("box:{path}")], input)
    };
    put(&archive.stdout, "/home").code_is(0);
    home.cp("box:/home/d/y", &home.word("y")).code_is(0);
    assert_eq!(fs::read(home.here("y")).unwrap(), b"x\n");
    put(&archive.stdout, "/none").fails_with(1, "must be a directory");
    put(&archive.stdout, "/d/x").fails_with(1, "must be a directory");
    put(b"this is no archive", "/home").fails_with(1, "cannot read the archive");
    put(&archive.stdout[..1500], "/home").code_is(1);
}

#[test]
fn volumes_are_seen_and_a_read_only_root_is_not_written() {
    let home = Home::new();
    home.container("mkdir /data; echo image > /data/a", Doing::Exited);
    home.sandbox.hyperrun(["commit", "-c", "VOLUME /data", "box", "with-volume"]).code_is(0);
    fs::write(home.here("file"), "new").unwrap();
    for verb in [&["run", "-d"][..], &["create"]] {
        home.sandbox.hyperrun(["rm", "-f", "box"]);
        let words = ["--read-only", "--name", "box", "with-volume", "sleep", "1000"];
        home.sandbox.hyperrun([verb, &words].concat()).code_is(0);
        home.cp(&home.word("file"), "box:/data").code_is(0);
        home.cp(&home.word("file"), "box:/").fails_with(1, "container rootfs is marked read-only");
        home.cp("box:/data/.", &home.word(verb[0])).code_is(0);
        let read = |name: &str| fs::read(home.here(&format!("{}/{name}", verb[0]))).unwrap();
        assert_eq!((read("a"), read("file")), (b"image\n".to_vec(), b"new".to_vec()));
    }
}

#[test]
#[ignore = "takes long: the soak runs it"]
fn commands_about_one_container_that_does_not_run_wait_for_each_other() {
    let home = Home::new();
    home.container("true", Doing::Exited);
    fs::write(home.here("file"), vec![7; 3 << 20]).unwrap();
    thread::scope(|scope| {
        for number in 0..3 {
            let home = &home;
            scope.spawn(move || {
                home.cp(&home.word("file"), &format!("box:/file{number}")).code_is(0);
            });
        }
    });
    home.sandbox.does("start box");
    home.sandbox.does("wait box");
    let out = home.sandbox.hyperrun(["diff", "box"]);
    out.code_is(0).stdout_is("A /file0\nA /file1\nA /file2\n");
}
