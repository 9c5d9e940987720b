//! `diff` as Docker tells it.

use super::{Doing, Home};

#[test]
fn changes_are_told_as_docker_tells_them() {
    let home = Home::new();
    home.container(
        "mkdir -p /data/sub; touch /data/a /data/b /data/sub/c /file; mkdir /folder",
        Doing::Exited,
    );
    home.sandbox.does("diff box").stdout_is(
        "A /data\nA /data/a\nA /data/b\nA /data/sub\nA /data/sub/c\nA /file\nA /folder\n",
    );
    home.sandbox.does("commit box changed");
    let script = "rm -r /data; mkdir /data; touch /data/new /data/b; rm /etc/group; \
        echo more >> /etc/passwd; chmod 600 /bin/busybox; chmod 755 /bin/busybox; \
        mkdir /home/made; rm -r /folder; touch /folder; rm /file; mkdir /file; touch /file/x; \
        touch /gone; rm /gone; chmod 700 /var; true > /dev/null";
    let wanted = "C /data\nD /data/a\nD /data/sub\nC /data/b\nA /data/new\n\
        C /etc\nD /etc/group\nC /etc/passwd\nC /file\nA /file/x\nC /folder\n\
        C /home\nA /home/made\nC /var\n";
    for doing in Doing::RAN {
        home.container_of("changed", script, doing);
        home.sandbox.does("diff box").stdout_is(wanted);
    }
    home.container("true", Doing::Created);
    home.sandbox.does("diff box").stdout_is("");
    home.sandbox.hyperrun(["diff", "nobody"]).fails_with(1, "no such container: nobody");
}
