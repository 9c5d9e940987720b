//! What plans come out of what was asked, said and had.

use protocol::ResourceLimit;

use super::*;
use crate::limits::{Cpus, MemorySize, ScratchSize};
use crate::spec::{EnvChange, PullPolicy, TemplateUse};

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

fn strings(text: &str) -> Option<Vec<String>> {
    Some(text.split_whitespace().map(str::to_owned).collect())
}

pub(super) fn spec() -> RunSpec {
    RunSpec {
        pull: PullPolicy::Missing,
        image: "debian:bookworm".to_owned(),
        command: Vec::new(),
        entrypoint: None,
        env: Vec::new(),
        working_dir: None,
        user: None,
        name: None,
        hostname: None,
        memory: MemorySize::DEFAULT,
        cpus: Cpus::DEFAULT,
        scratch: ScratchSize::DEFAULT,
        read_only: false,
        options: Options::default(),
        stdio: Stdio::OutputOnly,
        template: TemplateUse::Allowed,
        debug: false,
    }
}

pub(super) fn image() -> ImageConfig {
    image_with(|_| {})
}

pub(super) fn image_with(change: impl FnOnce(&mut ImageConfig)) -> ImageConfig {
    let mut image = ImageConfig::default();
    image.architecture = "amd64".to_owned();
    image.os = "linux".to_owned();
    image.cmd = strings("bash");
    change(&mut image);
    image
}

fn host() -> Host {
    let mut random = [0; 40];
    random[32..].copy_from_slice(&7_939_453_236_u64.to_le_bytes());
    Host {
        cpus: (0..2).collect(),
        env: vec![(b"LANG".to_vec(), b"C.UTF-8".to_vec())],
        resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
        random,
    }
}

pub(super) fn planned(spec: &RunSpec, config: &ImageConfig) -> Result<Plan, PlanError> {
    plan(spec, PlannedImage { name: &spec.image, config }, &host())
}

#[test]
fn nothing_asked_is_dockers_defaults() {
    let plan = planned(&spec(), &image()).unwrap();
    assert_eq!(plan.vm, VmConfig { memory_mib: 512, vcpus: 1 });
    let container = plan.container;
    assert_eq!(container.hostname, "debian-bookworm-7939453236");
    assert_eq!(container.shm_bytes, 67_108_864);
    assert_eq!(container.limits.cpu_quota_us, None);
    assert_eq!(container.etc.resolv_conf, "nameserver 192.0.2.1\n");
    assert!(container.etc.hosts.starts_with("127.0.0.1\tlocalhost\n"));
    // Its own name is added when it is known where it is.
    assert!(container.etc.hosts.ends_with("\tip6-allrouters\n"));
    let process = container.process;
    assert_eq!(process.args, words("bash"));
    assert_eq!(process.working_dir, "/");
    assert_eq!(process.user, User::default());
    assert_eq!((process.terminal, process.stdin), (None, false));
    assert_eq!(process.limits, [ResourceLimit { resource: 7, soft: 1_048_576, hard: 1_048_576 }]);
    let path = format!("PATH={DEFAULT_PATH}");
    let wanted = [path.as_str(), "HOSTNAME=debian-bookworm-7939453236"];
    assert_eq!(process.env, wanted.map(|line| line.as_bytes().to_vec()));
    assert!(plan.warnings.is_empty());
}

#[test]
fn entrypoint_and_command_are_put_together_as_docker_does() {
    // image's entrypoint, image's command, --entrypoint, command, what runs
    let cases = [
        (None, strings("bash"), None, "", "bash"),
        (None, strings("bash"), None, "ls -l", "ls -l"),
        (strings("/e x"), strings("a b"), None, "", "/e x a b"),
        (strings("/e x"), strings("a b"), None, "c", "/e x c"),
        (strings("/e x"), strings("a b"), Some("/f"), "", "/f"),
        (strings("/e x"), strings("a b"), Some("/f"), "c", "/f c"),
        (strings("/e x"), strings("a b"), Some(""), "c", "c"),
        (strings("/e"), None, None, "", "/e"),
    ];
    for (entrypoint, cmd, asked, command, wanted) in cases {
        let config = image_with(|image| (image.entrypoint, image.cmd) = (entrypoint, cmd));
        let entrypoint = asked.map(|text| text.as_bytes().to_vec());
        let spec = RunSpec { entrypoint, command: words(command), ..spec() };
        assert_eq!(planned(&spec, &config).unwrap().container.process.args, words(wanted));
    }
}

#[test]
fn without_a_command_there_is_nothing_to_run() {
    let config = image_with(|image| image.cmd = None);
    assert_eq!(planned(&spec(), &config), Err(PlanError::NoCommand));
    let reset = RunSpec { entrypoint: Some(Vec::new()), ..spec() };
    assert_eq!(planned(&reset, &image()), Err(PlanError::NoCommand));
    let empty = RunSpec { command: vec![Vec::new()], ..spec() };
    assert_eq!(planned(&empty, &image()), Err(PlanError::NoCommand));
}

#[test]
fn later_variables_win_and_keep_their_place() {
    let variables = ["PATH=/bin", "A=image", "B=image", "TERM=dumb", "C"];
    let config = image_with(|image| image.env = variables.map(str::to_owned).into());
    let changes = ["A=asked", "LANG", "B", "D=1=2", "E="];
    let env = changes.map(|text| EnvChange::parse(text.as_bytes()).unwrap()).into();
    let size = WindowSize { rows: 24, columns: 80 };
    let spec = RunSpec { env, stdio: Stdio::Terminal(size), ..spec() };
    let process = planned(&spec, &config).unwrap().container.process;
    let wanted = [
        "PATH=/bin",
        "HOSTNAME=debian-bookworm-7939453236",
        "TERM=dumb",
        "A=asked",
        "LANG=C.UTF-8",
        "D=1=2",
        "E=",
    ];
    assert_eq!(process.env, wanted.map(|line| line.as_bytes().to_vec()));
    assert_eq!((process.terminal, process.stdin), (Some(size), true));
}

#[test]
fn host_names_come_from_the_asked_the_name_or_the_image() {
    let cases = [
        ("debian", None, None, "debian-latest-7939453236"),
        ("localhost:5000/a/my_app:v1.2", None, None, "my-app-v1-2-7939453236"),
        ("ghcr.io/a/b@sha256:00", None, None, "b-latest-7939453236"),
        ("debian", Some("web_1"), None, "web-1"),
        ("debian", Some("web_1"), Some("www.example.org"), "www.example.org"),
    ];
    for (image_name, name, hostname, wanted) in cases {
        let spec = RunSpec {
            image: image_name.to_owned(),
            name: name.map(|text| text.parse().unwrap()),
            hostname: hostname.map(|text| text.parse().unwrap()),
            ..spec()
        };
        assert_eq!(planned(&spec, &image()).unwrap().container.hostname, wanted);
    }
}

#[test]
fn users_and_folders_are_asked_or_the_images() {
    let config = image_with(|image| {
        image.user = "www:web".to_owned();
        image.working_dir = "/srv".to_owned();
    });
    let process = planned(&spec(), &config).unwrap().container.process;
    assert_eq!(process.user, User { user: "www".to_owned(), group: Some("web".to_owned()) });
    assert_eq!(process.working_dir, "/srv");
    let asked =
        RunSpec { user: Some("1000".to_owned()), working_dir: Some("/tmp".to_owned()), ..spec() };
    let process = planned(&asked, &config).unwrap().container.process;
    assert_eq!(process.user, User { user: "1000".to_owned(), group: None });
    assert_eq!(process.working_dir, "/tmp");
}

#[test]
fn what_makes_no_container_is_an_error() {
    let relative = RunSpec { working_dir: Some("srv".to_owned()), ..spec() };
    let wanted = PlanError::WorkingDirectory("srv".to_owned());
    assert_eq!(planned(&relative, &image()), Err(wanted));
    for user in ["a:b:c", ":b"] {
        let spec = RunSpec { user: Some(user.to_owned()), ..spec() };
        assert_eq!(planned(&spec, &image()), Err(PlanError::User(user.to_owned())));
    }
    let config = image_with(|image| image.architecture = "arm64".to_owned());
    let error = planned(&spec(), &config).unwrap_err();
    let wanted = "image debian:bookworm is for linux/arm64, this machine runs linux/amd64";
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn more_cpus_than_the_host_has_is_a_warning() {
    let spec = RunSpec { cpus: "2.5".parse().unwrap(), ..spec() };
    let plan = planned(&spec, &image()).unwrap();
    assert_eq!(plan.vm.vcpus, 3);
    assert_eq!(plan.container.limits.cpu_quota_us, Some(250_000));
    assert_eq!(plan.warnings, ["--cpus 2.50 is more than the 2 CPUs of this machine"]);
}
