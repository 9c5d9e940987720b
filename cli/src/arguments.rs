//! The command line as a whole: what holds for every command, and which commands there are.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    boot, completion, container, doctor, events, history, image, images, import, info, inspect,
    load, login, logout, man, network, ps, pull, push, rmi, save, snapshot, system, tag, template,
    version,
};
use crate::help;

/// Runs container images, each in a virtual machine of its own
#[derive(Debug, Parser)]
#[command(
    name = "hyperrun",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  hyperrun run -t debian:bookworm bash"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Those of this process.
    ///
    /// # Errors
    /// When they make no sense, or ask for help.
    pub(crate) fn of_process() -> Result<Self, clap::Error> {
        // Of the commands only the one that is called is made; who needs help is told of all.
        let matches = match Self::command().try_get_matches() {
            Err(error) if error.kind() != ErrorKind::DisplayVersion => {
                Self::whole().try_get_matches()
            }
            matches => matches,
        };
        let mut matches = matches?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut Self::whole()))
    }

    /// The program with all that is known of its commands, which otherwise is made as they are called.
    pub(crate) fn whole() -> clap::Command {
        let mut command = Self::command();
        command.build();
        help::grouped(command)
    }
}

/// What holds for every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Keep images and containers under FOLDER [env: HYPERRUN_ROOT]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
    /// Show what the guest's kernel says
    #[arg(long, global = true)]
    pub(crate) debug: bool,
}

/// The commands, in the order of their help.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    #[command(flatten)]
    OfContainers(container::OfContainers),
    Ps(ps::PsArgs),
    Container(container::ContainerArgs),
    Pull(pull::PullArgs),
    Push(push::PushArgs),
    Login(login::LoginArgs),
    Logout(logout::LogoutArgs),
    Load(load::LoadArgs),
    Images(images::ImagesArgs),
    Rmi(rmi::RmiArgs),
    Tag(tag::TagArgs),
    Save(save::SaveArgs),
    Import(import::ImportArgs),
    History(history::HistoryArgs),
    Inspect(inspect::InspectArgs),
    Image(image::ImageArgs),
    Network(network::NetworkArgs),
    Snapshot(snapshot::SnapshotArgs),
    Template(template::TemplateArgs),
    System(system::SystemArgs),
    Events(events::EventsArgs),
    Boot(boot::BootArgs),
    Info(info::InfoArgs),
    Doctor(doctor::DoctorArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
    Man(man::ManArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::container::OfContainers;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command)
    }

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::whole().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        let mut left = vec![Arguments::whole()];
        let mut count = 0;
        while let Some(command) = left.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}: {help:?}", command.get_name());
            left.extend(command.get_subcommands().cloned());
            count += 1;
        }
        assert!(count > 25, "{count} commands");
    }

    #[test]
    fn every_command_is_documented() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let text = std::fs::read_to_string(docs).unwrap();
        let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for command in Arguments::whole().get_subcommands() {
            let name = command.get_name();
            let told = |heading: &&str| heading.split([',', ' ']).any(|word| word == name);
            assert!(headings.iter().any(told), "{name} has no section");
        }
    }

    #[test]
    fn every_shell_gets_a_script() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            let mut command = Arguments::whole();
            clap_complete::generate(*shell, &mut command, "hyperrun", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["history", "prune", "digests", "no-trunc"] {
                assert!(script.contains(word), "{shell} has no {word}");
            }
        }
    }

    #[test]
    fn image_commands_have_their_management_form() {
        let lines = [
            ("images -q", "image ls -q"),
            ("images -q", "image list -q"),
            ("rmi -f x", "image rm -f x"),
            ("rmi x", "image remove x"),
            ("history --human=false x", "image history -H=false x"),
            ("inspect -f {{.Id}} x", "image inspect --format {{.Id}} x"),
            ("save -o f x y", "image save --output f x y"),
            ("load -qi f", "image load --quiet --input f"),
            ("tag a b", "image tag a b"),
            ("import - b", "image import - b"),
        ];
        for (short, long) in lines {
            for line in [short, long] {
                parse(&format!("hyperrun {line}")).unwrap();
            }
        }
        assert!(parse("hyperrun image").is_err());
        assert!(parse("hyperrun save --format zip x").is_err());
    }

    #[test]
    fn container_commands_have_their_management_form() {
        for line in [
            "run -d --rm --cidfile f --detach-keys a,b --sig-proxy=false busybox true",
            "create -l a=b --label c --stop-signal HUP --stop-timeout -1 busybox",
            "create --storage-opt size=1g busybox",
            "run --restart on-failure:3 --log-driver none --log-opt max-size=1m busybox",
            "start -ai --detach-keys ctrl-x x",
            "attach --no-stdin --sig-proxy=false x",
            "ps -aqs --no-trunc -n 3 --filter status=exited --format json",
            "ps -l",
            "logs -ft --since 1h --until 2024-05-14 -n 5 x",
            "logs --tail -1 x",
            "logs --kernel x",
            "top x -eo pid,args",
            "top x aux",
            "stop -t -1 -s INT x y",
            "stop --time 3 x",
            "kill -s 9 x",
            "restart -t 3 x",
            "wait x y",
            "rm -fv x",
            "rename x yy",
            "exec -it -e A=b --env-file f -w /d -u 1 --privileged x sh -c exit",
            "exec -d x true",
            "pause x y",
            "unpause x",
            "top x",
            "port x 80/udp",
            "update -m 256m --cpus 1.5 -c 512 --pids-limit -1 --restart no --cpuset-cpus 0-1 x y",
            "stats --no-stream -a x",
            "inspect -s -f {{.Id}} --type container x",
            "cp -aLq x:/a -",
            "cp - x:/a",
            "diff x",
            "commit -a me -m why -c CMD -p=false x a/b:c",
            "commit --no-pause x",
            "restore -d --rm --name a1 --hostname h -p 80:80 -P --network none x",
            "clone -n 3 --name a1 --rm -P --network none x",
        ] {
            for line in [format!("hyperrun {line}"), format!("hyperrun container {line}")] {
                if let Err(error) = parse(&line) {
                    panic!("{line}: {error}");
                }
            }
        }
        for line in ["container ls -a", "container list", "container prune -f --filter until=1h"] {
            parse(&format!("hyperrun {line}")).unwrap();
        }
    }

    #[test]
    fn snapshots_are_made_kept_and_sent() {
        for line in [
            "create web before",
            "create --stop web before",
            "create --keep-running web before",
            "ls -q --no-trunc -f image=busybox --format json",
            "list",
            "inspect -f {{.Name}} before other",
            "rm before other",
            "export before",
            "export -o f before",
            "import",
            "import -i f other",
        ] {
            parse(&format!("hyperrun snapshot {line}")).unwrap();
        }
        for (line, wanted) in [
            ("create --stop --keep-running web b1", "cannot be used with"),
            ("create web a/b", "invalid snapshot name (a/b)"),
            ("create web .b", "invalid snapshot name (.b)"),
            ("import ..", "invalid snapshot name (..)"),
        ] {
            let error = parse(&format!("hyperrun snapshot {line}")).unwrap_err().to_string();
            assert!(error.contains(wanted), "{line}: {error}");
        }
        assert!(parse("hyperrun clone -n 0 web").is_err());
    }

    #[test]
    fn help_of_what_is_shared_is_each_commands_own() {
        let mut command = Arguments::whole();
        for (name, about) in [("run", "Run a program"), ("create", "Create a container")] {
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.starts_with(about), "{help}");
            assert!(help.contains(&format!("hyperrun {name} [OPTIONS] IMAGE")), "{help}");
        }
    }

    #[test]
    fn flags_behind_the_image_are_the_commands() {
        let Ok(Command::OfContainers(OfContainers::Run(run))) =
            parse("hyperrun run -it --rm debian ls -i --rm -- --root x")
        else {
            panic!("a run")
        };
        let run = run.container;
        assert!(run.interactive && run.tty && run.keeping.rm);
        assert_eq!(run.image_and_command, ["debian", "ls", "-i", "--rm", "--", "--root", "x"]);
    }

    #[test]
    fn flags_have_dockers_short_names() {
        let line = "hyperrun run -eA=b -e C -w /d -u 1:2 -h web -m 1g --cpus=1.5 debian";
        let Ok(Command::OfContainers(OfContainers::Run(run))) = parse(line) else {
            panic!("a run")
        };
        let run = run.container;
        assert_eq!(run.env.len(), 2);
        assert_eq!(run.workdir.as_deref(), Some("/d"));
        assert_eq!(run.user.as_deref(), Some("1:2"));
        assert_eq!(run.hostname.unwrap().as_str(), "web");
        assert_eq!(run.memory.unwrap().mib(), 1024);
        assert_eq!(run.cpus.unwrap().vcpus(), 2);
    }

    #[test]
    fn limits_and_confinement_have_dockers_names() {
        let line = "hyperrun run --init --privileged --tmpfs /run --tmpfs /tmp:exec --shm-size=1m \
            --ulimit nofile=1 --sysctl a.b=c --cap-add ALL --cap-drop=kill --group-add 7 \
            --security-opt no-new-privileges --add-host=a:::1 --domainname d --pids-limit -1 \
            --memory-reservation 1m --memory-swap -1 --oom-score-adj -7 --oom-kill-disable -c 2 \
            --ipc private --env-file f -p 8080:80 -p 53:53/udp -P --expose 90-91 --dns 192.0.2.1 \
            --dns-search a.example --dns-opt ndots:1 debian";
        let Ok(Command::OfContainers(OfContainers::Run(run))) = parse(line) else {
            panic!("a run")
        };
        let run = run.container;
        assert_eq!(run.options.env_file.len(), 1);
        let (ports, dns) = run.publishing.parts();
        assert_eq!((ports.published.len(), ports.exposed.len(), ports.all), (2, 2, true));
        assert_eq!((dns.servers.len(), dns.search.len(), dns.options.len()), (1, 1, 1));
        let options = run.options.options().unwrap();
        assert!(options.init && options.privileged && options.oom_kill_disable);
        assert!(options.no_new_privileges);
        assert_eq!((options.tmpfs.len(), options.ulimits.len(), options.sysctls.len()), (2, 1, 1));
        assert_eq!((options.cap_add.len(), options.cap_drop.len()), (1, 1));
        assert_eq!((options.groups.len(), options.hosts.len()), (1, 1));
        assert_eq!((options.pids_limit, options.oom_score_adjustment), (Some(-1), Some(-7)));
        assert_eq!(options.cpu_shares, Some(2));
        assert_eq!(options.memory_swap, Some(runtime::options::MemorySwap::Unlimited));
    }

    #[test]
    fn registries_go_by_their_host() {
        for (typed, wanted) in [
            ("hyperrun login", "docker.io"),
            ("hyperrun login https://index.docker.io/v1/", "docker.io"),
            ("hyperrun login -u me localhost:5000", "localhost:5000"),
            ("hyperrun login http://Ghcr.io/", "ghcr.io"),
        ] {
            let Ok(Command::Login(login)) = parse(typed) else { panic!("{typed}") };
            assert_eq!(login.server.as_str(), wanted);
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        let cases = [
            ("hyperrun run -m 3m debian", "minimum memory limit allowed is 4MB"),
            ("hyperrun run --ulimit files=1 debian", "invalid ulimit type: files"),
            ("hyperrun run --tmpfs run debian", "mount path must be absolute"),
            ("hyperrun run --sysctl x=1 debian", "invalid sysctl 'x=1'"),
            ("hyperrun run --cap-add FLY debian", "invalid capability: 'FLY'"),
            ("hyperrun run --security-opt x debian", "invalid --security-opt: \"x\""),
            ("hyperrun run -p x:80 debian", "invalid hostPort: x"),
            ("hyperrun run --expose 1:2 debian", "invalid port format for --expose: 1:2"),
            ("hyperrun run --dns me debian", "me is not an ip address"),
            ("hyperrun run --dns-search a..b debian", "a..b is not a valid domain"),
            ("hyperrun run --add-host db:x debian", "invalid IP address in add-host: \"x\""),
            (
                "hyperrun run --oom-score-adj 1001 debian",
                "range for oom score adj is [-1000, 1000]",
            ),
            ("hyperrun run --storage-opt size=1k debian", "storage size must be from 64m to 8t"),
            ("hyperrun run --storage-opt x=1 debian", "unknown storage opt \"x=1\""),
            ("hyperrun run --shm-size lots debian", "invalid size: 'lots'"),
            ("hyperrun run --pid host debian", "host is another's namespace"),
            ("hyperrun run -m 2t debian", "maximum memory limit allowed is 1024 GiB"),
            ("hyperrun run -m lots debian", "invalid size: 'lots'"),
            ("hyperrun run --cpus 0 debian", "range of CPUs is from 0.01 to 32.00"),
            ("hyperrun run --cpus 33 debian", "range of CPUs is from 0.01 to 32.00"),
            ("hyperrun run --restart maybe debian", "invalid restart policy"),
            ("hyperrun run --stop-signal NO debian", "invalid signal: NO"),
            ("hyperrun run --detach-keys ctrl-1 debian", "invalid detach keys"),
            ("hyperrun rename a -b", "unexpected argument"),
            ("hyperrun run -e =x debian", "invalid environment variable: =x"),
            ("hyperrun run --name a/b debian", "invalid container name (a/b)"),
            ("hyperrun run", "IMAGE"),
            ("hyperrun run --pull often debian", "possible values: always, missing, never"),
            ("hyperrun pull --platform linux debian", "OS/ARCHITECTURE"),
            ("hyperrun login a/b@c", "is not the name of a registry"),
        ];
        for (line, wanted) in cases {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }
}
