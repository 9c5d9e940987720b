//! hyperrun and podman, each with the same images and nothing else.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use hyperrun_tests::archive::{self, Layer, docker_archive_of, header};
use hyperrun_tests::{Output, Sandbox, SmallDisk, busybox_archive, environment_of};

use super::{Chosen, Kind};

/// Between two rows of one container, and between their parts.
const MARK: char = '\u{1e}';

/// podman without systemd, its journal and a network, none of which a lab has.
const CONFIGURATION: &str = "[containers]\nnetns = \"none\"\nlog_driver = \"k8s-file\"\n\
                             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";

/// The engine, whose containers have no network: a lab has none that podman could use.
const BOX: &str = "box() {
    verb=$1; shift
    case $verb in run | create) set -- --network none \"$@\" ;; esac
    \"$ENGINE\" \"$verb\" \"$@\"
}";

/// Who is asked to do what a row says.
pub(super) struct Engine {
    program: Command,
    disk: SmallDisk,
}

/// What came of a row.
#[derive(Debug)]
pub(super) struct Told {
    stdout: String,
    stderr: Words,
    code: i32,
    /// All of standard error, for whoever reads of a failure.
    pub(super) said: String,
}

impl Told {
    fn new(stdout: &str, stderr: &str, code: i32) -> Self {
        Self { stdout: without_ids(stdout), stderr: words(stderr), code, said: stderr.to_owned() }
    }

    /// Whether another engine did the same.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        (&self.stdout, &self.stderr, self.code) == (&other.stdout, &other.stderr, other.code)
    }
}

/// Whose words stand on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Words {
    Nobodys,
    /// An error of the engine's; each has its own words for it.
    Engines,
    Programs(String),
}

impl Engine {
    pub(super) fn hyperrun() -> Self {
        let disk = SmallDisk::new(512);
        let program = Sandbox::beside_others(disk.path().join("root")).command([""; 0]);
        let engine = Self { program, disk };
        engine.load_configured();
        engine
    }

    pub(super) fn podman() -> Self {
        // podman binds its folder to itself and leaves it so, and a cleanup of an ended container does
        // it again whenever that gets to run.
        let disk = SmallDisk::new(512).with_all_on_it();
        let file = |name: &str, content: &str| {
            let path = disk.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let [root, run] = ["root", "run"].map(|name| disk.path().join(name).display().to_string());
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}\"\nrunroot = \"{run}\"\n"
        );
        let mut program = Command::new("podman");
        program.env("CONTAINERS_CONF", file("containers.conf", CONFIGURATION));
        program.env("CONTAINERS_STORAGE_CONF", file("storage.conf", &storage));
        let engine = Self { program, disk };
        engine.must(&format!("box load -q -i {}", busybox_archive()));
        engine.load_configured();
        engine
    }

    fn load_configured(&self) {
        let archive = self.disk.path().join("configured.tar");
        fs::write(&archive, configured()).unwrap();
        self.must(&format!("box load -i {}", archive.display()));
    }

    /// Does what the rows of a group say; fails where it does not come to them.
    pub(super) fn tell(&self, group: &Chosen) -> Result<Vec<Told>, String> {
        let files = self.disk.path().join("files").join(group.name);
        fs::create_dir_all(&files).unwrap();
        let run = |script: &str, program: &str| self.run(script, group.name, &files, program);
        let before = |script: &str| {
            let out = run(script, "");
            if out.code == 0 { Ok(()) } else { Err(format!("{script}: {}", out.stderr)) }
        };
        match group.kind {
            Kind::Inside(flags) => {
                let out = run(&format!("box run --rm {flags} sh -c \"$PROGRAM\""), &inside(group));
                apart(&out, group.rows.len())
            }
            Kind::Shown(script) => {
                before(script)?;
                let templates: String = group
                    .rows
                    .iter()
                    .map(|row| format!("{}{MARK}0{MARK}{MARK}", row.script))
                    .collect();
                apart(&run("box inspect -f \"$PROGRAM\" $N", &templates), group.rows.len())
            }
            Kind::After(script) => {
                before(script)?;
                let tell = |row: &super::Row| {
                    // A row that hangs is the last one that is named.
                    println!("{}: {}", self.name(), row.what);
                    let out = run(row.script, "");
                    Told::new(&out.stdout, &out.stderr, out.code)
                };
                Ok(group.rows.iter().map(tell).collect())
            }
        }
    }

    /// What its program is called.
    fn name(&self) -> &str {
        let program = Path::new(self.program.get_program());
        program.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }

    #[track_caller]
    fn must(&self, script: &str) {
        self.run(script, "", Path::new("/"), "").code_is(0);
    }

    fn run(&self, script: &str, name: &str, files: &Path, program: &str) -> Output {
        // What hangs is told by its code, 124.
        let mut shell = Command::new("timeout");
        shell.args(["-k", "1", "60", "sh", "-c"]).arg(format!("{BOX}\n{script}"));
        shell.envs(environment_of(&self.program));
        shell.env("ENGINE", self.program.get_program()).env("PROGRAM", program);
        shell.env("N", name).env("F", files).env("OF_THE_HOST", "seen");
        let out = shell.stdin(Stdio::null()).output().expect("there is a shell");
        Output::new(script.to_owned(), out)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.must("box rm -f $(box ps -aq) >/dev/null; exit 0");
    }
}

/// A program that does what all rows say, one after another.
fn inside(group: &Chosen) -> String {
    let one = |row: &super::Row| {
        format!(
            "(\n{}\n) 2>/dev/shm/words\nprintf '{MARK}%s{MARK}' $?; cat /dev/shm/words; printf '{MARK}'\n",
            row.script
        )
    };
    group.rows.iter().map(one).collect()
}

/// What each row has told of what all have.
fn apart(out: &Output, rows: usize) -> Result<Vec<Told>, String> {
    let parts: Vec<&str> = out.stdout.split(MARK).collect();
    if parts.len() != 3 * rows + 1 {
        return Err(format!("{}{}", out.stdout, out.stderr));
    }
    let one = |part: &[&str]| Told::new(part[0], part[2], part[1].parse().unwrap());
    Ok(parts.chunks_exact(3).map(one).collect())
}

fn words(stderr: &str) -> Words {
    let warning = |line: &&str| line.starts_with("warning: ") || line.contains("level=warning");
    let rest: Vec<&str> = stderr.lines().filter(|line| !warning(line)).collect();
    match rest.first() {
        None => Words::Nobodys,
        Some(line) if line.to_lowercase().starts_with("error: ") => Words::Engines,
        Some(_) => Words::Programs(rest.join("\n")),
    }
}

/// With the length of each id in its place.
fn without_ids(text: &str) -> String {
    let mut rest = text;
    let mut told = String::new();
    while let Some(at) = rest.find(|character: char| character.is_ascii_alphanumeric()) {
        let word = &rest[at..];
        let end = word.find(|character: char| !character.is_ascii_alphanumeric());
        let (word, behind) = word.split_at(end.unwrap_or(word.len()));
        let is_id = matches!(word.len(), 12 | 64)
            && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        told.push_str(&rest[..at]);
        if is_id {
            told.push_str(&format!("<{} digits>", word.len()))
        } else {
            told.push_str(word)
        }
        rest = behind;
    }
    told + rest
}

/// An image that says about itself all that an image can: `configured`.
fn configured() -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").unwrap();
    let mut program = header(tar::EntryType::Regular, busybox.len() as u64);
    program.set_mode(0o755);
    let mut layer = Layer::new().dir("bin").entry("bin/busybox", program, &busybox).dir("etc");
    for name in ["sh", "echo", "id", "pwd", "cat", "sleep"] {
        layer = layer.symlink(&format!("bin/{name}"), "busybox");
    }
    let layers = [layer
        .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nbee:x:7:8::/hive:/bin/sh\n")
        .finish()];
    let config = String::from_utf8(archive::config(&layers)).unwrap();
    let settings = r#""Entrypoint":["echo","entry"],"User":"bee","WorkingDir":"/work",
        "Labels":{"kind":"tested"},"StopSignal":"USR1","Env":["OF_THE_IMAGE=yes","#;
    let config = config.replace("\"Env\":[", settings).replace("[\"sh\"]", "[\"a\",\"b c\"]");
    docker_archive_of("configured:1", config.as_bytes(), &layers)
}
