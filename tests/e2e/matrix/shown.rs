//! Rows about what `inspect` shows.

use super::{Group, Kind, Row, differs, same};

const fn group(name: &'static str, script: &'static str, rows: &'static [Row]) -> Group {
    Group { name, kind: Kind::Shown(script), rows }
}

pub(super) const GROUPS: &[Group] = &[
    group(
        "created",
        "box create --name $N -it -h magpie -u daemon -w /srv -e A=1 -l kind=tested -m 64m --pids-limit 50 \
           --restart on-failure:3 --read-only --cap-add NET_ADMIN --cap-drop CHOWN --shm-size 1m \
           --group-add 7 --cpu-shares 512 \
           --oom-score-adj 300 --add-host db:192.0.2.7 busybox echo a 'b c'",
        &[
            same(
                "State: created",
                "{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}}",
            ),
            same("Path and Args", "{{.Path}} {{json .Args}}"),
            same("Config.Hostname", "{{.Config.Hostname}}"),
            same("Config.User", "{{.Config.User}}"),
            same("Config.WorkingDir", "{{.Config.WorkingDir}}"),
            same("Config.Cmd", "{{json .Config.Cmd}}"),
            same("Config.Tty and OpenStdin", "{{.Config.Tty}} {{.Config.OpenStdin}}"),
            same("Config.Labels", "{{index .Config.Labels \"kind\"}}"),
            same("HostConfig.Memory", "{{.HostConfig.Memory}}"),
            same("HostConfig.PidsLimit", "{{.HostConfig.PidsLimit}}"),
            same(
                "HostConfig.RestartPolicy",
                "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            ),
            same(
                "HostConfig.ReadonlyRootfs",
                "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}}",
            ),
            same("HostConfig.ShmSize", "{{.HostConfig.ShmSize}}"),
            same("HostConfig.OomScoreAdj", "{{.HostConfig.OomScoreAdj}}"),
            same("HostConfig.ExtraHosts", "{{json .HostConfig.ExtraHosts}}"),
            same("HostConfig.CapAdd", "{{json .HostConfig.CapAdd}}"),
            same("HostConfig.CapDrop", "{{json .HostConfig.CapDrop}}"),
            same("HostConfig.GroupAdd", "{{json .HostConfig.GroupAdd}}"),
            same("HostConfig.CpuShares", "{{.HostConfig.CpuShares}}"),
            same("RestartCount", "{{.RestartCount}}"),
            same(
                "functions of templates",
                "{{upper .State.Status}} {{len .Args}} {{if .State.Running}}yes{{else}}no{{end}}",
            ),
            same("a range", "{{range .Args}}<{{.}}>{{end}}"),
            differs("Name", "{{.Name}}", "Docker's begins with a slash, and so ours"),
            differs(
                "Config.Image",
                "{{.Config.Image}}",
                "podman shows the name that it has found, Docker the one that was given",
            ),
        ],
    ),
    group(
        "running",
        "box run -d --name $N busybox sleep 1000 >/dev/null",
        &[
            same(
                "State: running",
                "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}}",
            ),
            same("State.Pid is one", "{{if .State.Pid}}yes{{end}}"),
            same("State.StartedAt is past", "{{if .State.StartedAt}}yes{{end}}"),
        ],
    ),
    group(
        "exited",
        "box run --name $N busybox sh -c 'exit 3'; [ $? = 3 ]",
        &[same(
            "State: exited",
            "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.Pid}} {{.State.Error}}",
        )],
    ),
    group(
        "of-image",
        "box create --name $N configured:1 >/dev/null",
        &[
            same("of the image: Config.Cmd", "{{json .Config.Cmd}}"),
            same("of the image: Config.User", "{{.Config.User}} {{.Config.WorkingDir}}"),
            same("of the image: Path and Args", "{{.Path}} {{json .Args}}"),
            same("of the image: labels", "{{.Config.Labels.kind}}"),
            differs(
                "of the image: Config.Entrypoint",
                "{{json .Config.Entrypoint}}",
                "podman shows a text, Docker a list",
            ),
            differs(
                "of the image: Config.StopSignal",
                "{{.Config.StopSignal}}",
                "podman shows a number, Docker the name",
            ),
        ],
    ),
];
