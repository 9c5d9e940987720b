//! What the machine's configuration and the user's say, together.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::process::Command;

use hyperrun_tests::{Output, Sandbox, environment_of};

/// Puts a folder in the place of `/etc` for this command alone.
const MOUNT: &str = "mount --bind \"$0\" /etc && exec \"$@\"";

#[test]
fn each_setting_is_that_of_the_last_file_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (etc, user) = (folder.path().join("etc"), folder.path().join("config"));
    for (place, text) in [
        (&etc, "memory = \"256m\"\ncpus = 2\n\n[log-opts]\nmax-file = 7\n"),
        (&user, "# Mine.\ncpus = 1.5\n"),
    ] {
        fs::create_dir_all(place.join("hyperrun")).unwrap();
        fs::write(place.join("hyperrun/config.toml"), text).unwrap();
    }
    let sandbox = Sandbox::beside_others(folder.path().join("state"))
        .env("XDG_CONFIG_HOME", user.to_str().unwrap());
    let does = |line: &str| {
        let command = sandbox.command(line.split(' '));
        let mut confined = Command::new("unshare");
        confined.args(["-m", "sh", "-c", MOUNT]).arg(&etc);
        confined.arg(command.get_program()).args(command.get_args());
        confined.envs(environment_of(&command));
        let out = confined.output().unwrap();
        let out = Output::of(&command, out);
        out.code_is(0);
        out
    };
    let mine = user.join("hyperrun/config.toml").display().to_string();
    does("info")
        .stdout_has("\n memory: 256m (/etc/hyperrun/config.toml:1)\n")
        .stdout_has(&format!("\n cpus: 1.50 ({mine}:2)\n"))
        .stdout_has("\n restart: no (built in)\n")
        .stdout_has("\n log-opts.max-size: 10m (built in)\n")
        .stdout_has("\n log-opts.max-file: 7 (/etc/hyperrun/config.toml:5)\n");
    does("info -f {{range.Defaults}}{{.Key}}={{.Origin}};{{end}}")
        .stdout_has("memory=/etc/hyperrun/config.toml:1;")
        .stdout_has(&format!("cpus={mine}:2;"));
    // What is in force is what a container gets, and a flag counts more.
    does("create --name one -m 64m busybox true");
    does("inspect -f {{.HostConfig.Memory}}:{{.HostConfig.NanoCpus}} one")
        .stdout_is("67108864:1500000000\n");
    does("create --name two busybox true");
    does("inspect -f {{.HostConfig.Memory}}:{{.HostConfig.NanoCpus}} two")
        .stdout_is("268435456:1500000000\n");
}
