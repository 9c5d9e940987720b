//! The commands about containers that need no machine: what is created, listed, renamed, removed.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{empty_store, labelled, load};
use tests::Sandbox;

/// A store with one image, and whatever containers a test creates.
struct Home {
    sandbox: Sandbox,
    root: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let (sandbox, root) = empty_store();
        load(&sandbox, &labelled("base:1", "2020-01-01T00:00:00Z", "image", "1"));
        Self { sandbox, root }
    }

    #[track_caller]
    fn fails(&self, line: &str, code: i32, words: &str) {
        self.sandbox.hyperrun(line.split(' ')).fails_with(code, words);
    }

    /// The names of the containers that a filter shows, the youngest first.
    #[track_caller]
    fn names(&self, filter: &str) -> Vec<String> {
        let out = self.sandbox.does(&format!("ps -a --format {{{{.Names}}}} --filter {filter}"));
        out.stdout.lines().map(str::to_owned).collect()
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        let id =
            self.sandbox.does(&format!("inspect -f {{{{.Id}}}} {name}")).stdout.trim().to_owned();
        self.root.path().join("containers").join(id)
    }
}

#[test]
fn what_is_created_is_listed_until_it_is_removed() {
    let home = Home::new();
    let id = home.sandbox.does("create --name job base:1 echo hi").stdout.trim().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    home.sandbox
        .does("ps")
        .stdout_is("CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n");
    let list = home.sandbox.does("ps -a");
    list.stdout_has(&id[..12]).stdout_has("base:1").stdout_has("\"echo hi\"").stdout_has("Created");
    home.sandbox.does("ps -aq").stdout_is(&format!("{}\n", &id[..12]));
    home.sandbox.does("ps -aq --no-trunc").stdout_is(&format!("{id}\n"));
    home.sandbox.does("container ls -a --format {{.Names}}:{{.State}}").stdout_is("job:created\n");
    home.sandbox.does("ps -a --format json").stdout_has("\"Names\":\"job\"");
    home.sandbox.does("ps -as --format {{.Size}}").stdout_has("0B (virtual ");
    home.fails("kill job", 1, "container job is not running");
    home.fails("attach job", 1, "cannot attach to a stopped container");
    home.fails("exec job true", 1, "container job is not running");
    home.sandbox.does("stop job").stdout_is("job\n");
    home.sandbox.does("wait job").stdout_is("0\n");
    home.sandbox.does("logs job").stdout_is("");
    home.sandbox.does(&format!("rm {}", &id[..9])).stdout_is(&format!("{}\n", &id[..9]));
    home.fails("rm job", 1, "no such container: job");
    home.sandbox.does("ps -aq").stdout_is("");
    let left = fs::read_dir(home.root.path().join("containers")).unwrap().count();
    assert_eq!(left, 1, "the register's lock alone");
}

#[test]
fn a_container_is_inspected_as_dockers() {
    let home = Home::new();
    home.sandbox.does("create --name job -e A=b -l mine=1 --restart on-failure:3 --stop-signal HUP -w /d -u 7 base:1 ls -l");
    for (template, wanted) in [
        ("{{.Name}} {{.Path}} {{json .Args}}", "/job ls [\"-l\"]"),
        (
            "{{.State.Status}} {{.State.Running}} {{.State.StartedAt}}",
            "created false 0001-01-01T00:00:00Z",
        ),
        (
            "{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{.Config.Image}}",
            "[\"ls\",\"-l\"] null base:1",
        ),
        ("{{.Config.User}} {{.Config.WorkingDir}} {{.Config.Hostname}}", "7 /d job"),
        ("{{index .Config.Env 2}} {{.Config.StopSignal}}", "A=b SIGHUP"),
        ("{{.Config.Labels.mine}} {{.Config.Labels.kind}}", "1 image"),
        (
            "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            "on-failure 3",
        ),
        (
            "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.LogConfig.Type}}",
            "536870912 1000000000 json-file",
        ),
    ] {
        let out = home.sandbox.hyperrun(["inspect", "-f", template, "job"]);
        out.code_is(0).stdout_is(&format!("{wanted}\n"));
    }
    home.sandbox.does("inspect base:1").stdout_has("RepoTags");
    home.sandbox.does("inspect job base:1").stdout_has("RepoTags").stdout_has("RestartCount");
    let out = home.sandbox.hyperrun(["inspect", "--type", "container", "base:1"]);
    out.code_is(1).stdout_is("[]\n").stderr_has("no such container: base:1");
    let out = home.sandbox.hyperrun(["inspect", "nothing"]);
    out.code_is(1).stdout_is("[]\n").stderr_has("no such object: nothing");
}

#[test]
fn what_was_asked_for_is_inspected_in_dockers_words() {
    let home = Home::new();
    home.sandbox.does(
        "create --name job --cap-add net_admin --cap-add CAP_BPF --cap-drop ALL --init \
         --security-opt no-new-privileges --security-opt label=disable --group-add 7 --group-add wheel \
         --tmpfs /run:size=1m,exec --tmpfs /tmp --shm-size 1m --ulimit nofile=5:6 --ulimit core=-1 \
         --sysctl net.ipv4.ip_forward=1 --add-host db:192.0.2.7 --add-host six=::1 -c 512 --read-only \
         --pids-limit 9 base:1",
    );
    home.sandbox.does("create --name plain -it base:1");
    for (template, job, plain) in [
        ("{{json .CapAdd}}", "[\"CAP_BPF\",\"CAP_NET_ADMIN\"]", "null"),
        ("{{json .CapDrop}}", "[\"ALL\"]", "null"),
        ("{{json .SecurityOpt}}", "[\"no-new-privileges\",\"label=disable\"]", "null"),
        ("{{json .GroupAdd}}", "[\"7\",\"wheel\"]", "null"),
        ("{{json .Tmpfs}}", "{\"/run\":\"size=1m,exec\",\"/tmp\":\"\"}", "{}"),
        ("{{.ShmSize}} {{.Init}} {{.ReadonlyRootfs}}", "1048576 true true", "67108864 false false"),
        (
            "{{json .Ulimits}}",
            "[{\"Hard\":6,\"Name\":\"nofile\",\"Soft\":5},{\"Hard\":-1,\"Name\":\"core\",\"Soft\":-1}]",
            "null",
        ),
        ("{{json .Sysctls}}", "{\"net.ipv4.ip_forward\":\"1\"}", "{}"),
        ("{{json .ExtraHosts}}", "[\"db:192.0.2.7\",\"six:::1\"]", "null"),
        ("{{.CpuShares}} {{json .PidsLimit}} {{.IpcMode}}", "512 9 private", "0 null private"),
    ] {
        let template =
            template.replace("json .", "json .HostConfig.").replace("{{.", "{{.HostConfig.");
        for (name, wanted) in [("job", job), ("plain", plain)] {
            let out = home.sandbox.hyperrun(["inspect", "-f", &template, name]);
            out.code_is(0).stdout_is(&format!("{wanted}\n"));
        }
    }
    home.sandbox.does("update -c 256 job");
    home.sandbox.does("inspect -f {{.HostConfig.CpuShares}} job").stdout_is("256\n");
    let attached =
        "inspect -f {{.Config.AttachStdin}}{{.Config.AttachStdout}}{{.Config.AttachStderr}}";
    home.sandbox.does(&format!("{attached} plain")).stdout_is("truetruetrue\n");
    home.sandbox.does(&format!("{attached} job")).stdout_is("falsetruetrue\n");
}

#[test]
fn names_states_and_labels_find_containers() {
    let home = Home::new();
    for (name, label) in [("apple", "kind=fruit"), ("carrot", "kind=root"), ("plum", "kind=fruit")]
    {
        home.sandbox.does(&format!("create --name {name} -l {label} base:1"));
    }
    home.fails("create --name plum base:1", 125, "\"plum\" is already in use by container ");
    assert_eq!(home.names("label=kind=fruit"), ["plum", "apple"]);
    assert_eq!(home.names("label=kind"), ["plum", "carrot", "apple"]);
    assert_eq!(home.names("name=r"), ["carrot"]);
    assert_eq!(home.names("status=created"), ["plum", "carrot", "apple"]);
    assert!(home.names("exited=0").is_empty());
    assert_eq!(home.names("ancestor=base:1"), ["plum", "carrot", "apple"]);
    assert_eq!(home.names("since=apple"), ["plum", "carrot"]);
    assert_eq!(home.names("before=carrot"), ["apple"]);
    home.sandbox.does("ps -l --format {{.Names}}").stdout_is("plum\n");
    home.sandbox.does("ps -n 2 --format {{.Names}}").stdout_is("plum\ncarrot\n");
    let table = ["ps", "-n", "1", "--format", "table {{.Names}}\t{{.Label \"kind\"}}"];
    home.sandbox.hyperrun(table).code_is(0).stdout_is("NAMES     kind\nplum      fruit\n");
    let created = home.sandbox.does("ps -l --format {{.CreatedAt}}").stdout;
    assert!(created.ends_with(" +0000 UTC\n") && created.find(' ') == Some(10), "{created}");
    home.fails("ps --filter colour=red", 1, "invalid filter 'colour'");
    home.fails("ps --filter status=up", 1, "invalid filter 'status=up'");
    home.sandbox.does("rename carrot turnip");
    home.fails("rename turnip plum", 1, "already in use");
    assert_eq!(home.names("name=turnip"), ["turnip"]);
    home.sandbox
        .does("container prune -f --filter label=kind=fruit")
        .stdout_has("Deleted Containers:\n");
    assert_eq!(home.names("label=kind"), ["turnip"]);
    home.sandbox.does("container prune -f").stdout_has("Total reclaimed space: ");
    assert!(home.names("label=kind").is_empty());
}

#[test]
fn one_without_a_name_is_called_after_its_image() {
    let home = Home::new();
    home.sandbox.does("create base:1");
    let name = home.sandbox.does("ps -a --format {{.Names}}").stdout;
    let digits = name.trim().strip_prefix("base-1-").unwrap_or_default();
    assert!(digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    home.sandbox.does(&format!("rm {}", name.trim()));
}

#[test]
fn an_image_that_a_container_uses_stays() {
    let home = Home::new();
    let id = home.sandbox.does("create --name user base:1").stdout;
    home.fails("rmi base:1", 1, &format!("is being used by stopped container {}", &id[..12]));
    home.sandbox.does("rmi -f base:1").stdout_is("Untagged: base:1\n");
    let image = home.sandbox.does("images -aq").stdout;
    home.fails(&format!("rmi -f {}", image.trim()), 1, "is being used by stopped container");
    home.sandbox.does("image prune -f").stdout_is("Total reclaimed space: 0B\n");
    home.sandbox.does("rm user");
    home.sandbox.does("image prune -f").stdout_has("Deleted: sha256:");
}

#[test]
fn a_broken_record_is_set_aside_and_harms_no_other() {
    let home = Home::new();
    home.sandbox.does("create --name broken base:1");
    home.sandbox.does("create --name whole base:1");
    fs::write(home.folder_of("broken").join("container.json"), "{\"version\":1,").unwrap();
    let out = home.sandbox.does("ps -a --format {{.Names}}");
    out.stdout_is("whole\n").stderr_has("warning: ").stderr_has("set aside as ");
    home.sandbox.does("ps -a --format {{.Names}}").stdout_is("whole\n").stderr_is("");
    home.sandbox.does("create --name broken base:1").stderr_is("");
}

#[test]
fn a_record_of_an_unknown_policy_is_set_aside() {
    let home = Home::new();
    home.sandbox.does("create --name odd --restart always base:1");
    let path = home.folder_of("odd").join("container.json");
    let record = fs::read_to_string(&path).unwrap();
    assert!(record.contains("\"restart\":\"always\""), "{record}");
    fs::write(&path, record.replace("\"always\"", "\"sometimes\"")).unwrap();
    home.sandbox.does("boot").stdout_is("").stderr_has("set aside as ").stderr_has("sometimes");
    home.sandbox.does("boot").stdout_is("").stderr_is("");
}

#[test]
fn labels_come_from_files_too() {
    let home = Home::new();
    let file = home.root.path().join("labels");
    fs::write(&file, "# mine\ntier=front\nbare\n").unwrap();
    let path = file.to_str().unwrap();
    home.sandbox.does(&format!("create --name web --label-file {path} -l tier=back base:1"));
    home.sandbox
        .does("inspect -f {{.Config.Labels.tier}},{{.Config.Labels.bare}},{{.Config.Labels.kind}} web")
        .stdout_is("back,,image\n");
    fs::write(&file, "a b=c\n").unwrap();
    home.fails(&format!("create --label-file {path} base:1"), 125, "contains whitespaces");
    home.fails("create --label-file /no/such base:1", 125, "/no/such");
}

#[test]
fn a_health_check_is_kept() {
    let home = Home::new();
    let words = [
        "create",
        "--name",
        "web",
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "1m30s",
        "--health-retries",
        "5",
        "base:1",
    ];
    home.sandbox.hyperrun(words).code_is(0);
    let wanted = r#"{"Test":["CMD-SHELL","test -e /ok"],"Interval":90000000000,"Retries":5}"#;
    let out = home.sandbox.hyperrun(["inspect", "-f", "{{json .Config.Healthcheck}}", "web"]);
    let shown: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(wanted).unwrap());
    home.sandbox.does("create --name none --no-healthcheck base:1");
    let words =
        ["inspect", "-f", "{{if .State.Health}}{{.State.Health.Status}}{{else}}no{{end}}", "none"];
    home.sandbox.hyperrun(words).code_is(0).stdout_is("no\n");
    let out = home.sandbox.hyperrun(["inspect", "-f", "{{json .Config.Healthcheck.Test}}", "none"]);
    out.stdout_is("[\"NONE\"]\n");
    for (line, words) in [
        ("create --no-healthcheck --health-retries 3 base:1", "cannot be used with"),
        ("create --health-interval fast base:1", "invalid duration \"fast\""),
        ("create --health-timeout 10us base:1", "cannot be less than 1ms"),
    ] {
        home.fails(line, 125, words);
    }
}

#[test]
fn everything_that_is_not_used_is_pruned() {
    let home = Home::new();
    load(&home.sandbox, &labelled("spare:1", "2021-01-01T00:00:00Z", "image", "2"));
    let id = home.sandbox.does("create --name job base:1").stdout;
    let out = home.sandbox.hyperrun_with_input(["system", "prune", "-a"], b"n\n");
    out.fails_with(1, "system prune has been cancelled")
        .stderr_has("WARNING! This will remove:\n  - all stopped containers\n")
        .stderr_has("  - all images without at least one container associated to them\n");
    let df = home.sandbox.does("system df --format {{.Type}}:{{.TotalCount}}:{{.Active}}");
    df.stdout_is("Images:2:1\nContainers:1:0\nSnapshots:0:0\n");
    home.sandbox.does("system df -v").stdout_has("Containers space usage:").stdout_has("job");
    let out = home.sandbox.does("system prune -f");
    out.stdout_has(&format!("Deleted Containers:\n{id}\nTotal reclaimed space: "));
    home.sandbox.does("create --name other -l keep base:1");
    let out = home.sandbox.does("system prune -a -f --volumes --filter label!=keep");
    out.stdout_has("Deleted Images:\nUntagged: spare:1\n");
    home.sandbox.does("ps -a --format {{.Names}}").stdout_is("other\n");
    home.fails(
        "system prune --volumes --filter until=1h",
        1,
        "is not supported with \"--volumes\"",
    );
}

#[test]
fn one_of_a_newer_hyperrun_is_left_alone() {
    let home = Home::new();
    home.sandbox.does("create --name later base:1");
    let path = home.folder_of("later").join("container.json");
    fs::write(&path, "{\"version\":1000}").unwrap();
    let out = home.sandbox.does("ps -aq");
    out.stdout_is("").stderr_has("is left alone: ").stderr_has("a newer hyperrun");
    home.sandbox.does("rm -f later").stdout_is("").stderr_has("error: no such container: later");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"version\":1000}");
}

#[test]
fn wishes_that_make_no_sense_create_nothing() {
    let home = Home::new();
    for (line, words) in [
        ("create --rm --restart always base:1", "cannot specify both --restart and --rm"),
        ("create --log-driver syslog base:1", "unknown log driver"),
        ("create --log-opt max-file=0 base:1", "invalid log opt"),
        ("create -w here base:1", "absolute path"),
        ("create nothing:1", "no such image: nothing:1"),
    ] {
        let line = line.replace("nothing:1", "--pull never nothing:1");
        home.fails(&line, 125, words);
    }
    let file = home.root.path().join("id");
    fs::write(&file, "").unwrap();
    let words = ["create", "--cidfile", file.to_str().unwrap(), "base:1"];
    home.sandbox.hyperrun(words).fails_with(125, "container ID file found");
    home.sandbox.does("ps -aq").stdout_is("");
}

#[test]
fn files_are_copied_between_a_container_and_this_machine() {
    let home = Home::new();
    home.fails("cp a b", 1, "must specify at least one container source");
    home.fails("cp a:b c:d", 1, "copying between containers is not supported");
    home.sandbox.hyperrun(["cp", "", "c:d"]).fails_with(1, "source can not be empty");
    home.sandbox.hyperrun(["cp", "c:d", ""]).fails_with(1, "destination can not be empty");
    home.fails("cp none:/a b", 1, "no such container: none");
    home.fails("cp /no/such/file none:/a", 1, "no such file or directory: \"/no/such/file\"");
    home.fails("cp /etc/passwd none:/a", 1, "no such container: none");
    home.fails("diff none", 1, "no such container: none");
    home.fails("commit none", 1, "no such container: none");
    home.fails("commit none UPPER", 1, "invalid image name");
    home.fails("commit -c FLY=1 none", 125, "FLY=1 is not a valid change command");
}

#[test]
fn what_there_is_beside_networks_can_be_inspected() {
    let home = Home::new();
    let format = "{{.Name}} {{.Driver}} {{.EnableIPv4}} {{len .Containers}}";
    let out = home.sandbox.hyperrun(["network", "inspect", "-f", format, "none", "user"]);
    out.code_is(0).stdout_is("none null false 0\nuser passt true 0\n");
    let out = home.sandbox.hyperrun(["network", "inspect", "host"]);
    out.code_is(1).stdout_is("[]\n").stderr_has("network host not found");
}

#[test]
fn ports_and_servers_that_are_asked_for_are_kept() {
    let home = Home::new();
    let line = "create --name web --network none -p 8080:80 -p 127.0.0.1::80 -p 8000-8010:53/udp --expose 90 \
                --dns 192.0.2.1 --dns-search a.example --dns-option ndots:2 base:1";
    home.sandbox.does(line).stderr_has("published ports are discarded: the container has no");
    let shown = |name: &str, of: &str| {
        let out = home.sandbox.hyperrun(["inspect", "-f", &format!("{{{{json {of}}}}}"), name]);
        serde_json::from_str::<serde_json::Value>(&out.stdout).unwrap()
    };
    let is = |of: &str, wanted: &str| {
        let wanted: serde_json::Value = serde_json::from_str(wanted).unwrap();
        assert_eq!(shown("web", of), wanted, "{of}");
    };
    is(
        ".HostConfig.PortBindings",
        r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"127.0.0.1","HostPort":""}],
            "53/udp":[{"HostIp":"","HostPort":"8000-8010"}]}"#,
    );
    is(".Config.ExposedPorts", r#"{"53/udp":{},"80/tcp":{},"90/tcp":{}}"#);
    is(".HostConfig.PublishAllPorts", "false");
    is(".HostConfig.Dns", r#"["192.0.2.1"]"#);
    is(".HostConfig.DnsSearch", r#"["a.example"]"#);
    is(".HostConfig.DnsOptions", r#"["ndots:2"]"#);
    home.sandbox.does("create --name plain base:1").stderr_is("");
    assert!(shown("plain", ".Config.ExposedPorts").is_null());
}
