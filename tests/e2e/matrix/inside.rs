//! Rows about what a program sees.

use super::{Group, Kind, Row, differs, same};

const fn group(name: &'static str, flags: &'static str, rows: &'static [Row]) -> Group {
    Group { name, kind: Kind::Inside(flags), rows }
}

pub(super) const GROUPS: &[Group] = &[
    group(
        "plain",
        "busybox",
        &[
            same("the working folder", "pwd"),
            same("the user", "id -u; id -g; whoami"),
            same("the groups", "id -G"),
            same("the home", "echo $HOME"),
            same("the search path", "echo $PATH"),
            differs("the host's name", "hostname", "ours tells the image, theirs is the id"),
            same("nothing of the host's environment", "echo ${OF_THE_HOST-none}"),
            same("it is process one", "echo $$ $PPID"),
            same("no new privileges is off", "grep NoNewPrivs /proc/self/status"),
            same("no signal is blocked", "grep SigBlk /proc/self/status"),
            same("the mask of files", "umask"),
            same(
                "devices",
                "ls -d /dev/null /dev/zero /dev/full /dev/tty /dev/random /dev/urandom /dev/fd /dev/stdin /dev/ptmx /dev/pts /dev/shm /dev/mqueue",
            ),
            same("no other devices", "[ -e /dev/sda ] || [ -e /dev/vda ] || [ -e /dev/mem ]"),
            same("kernel settings are read-only", "echo x >/proc/sys/kernel/hostname"),
            same("what is masked reads as empty", "cat /proc/keys /proc/timer_list | wc -c"),
            same("cgroups are read-only", "mkdir /sys/fs/cgroup/mine"),
            same("standard input is at its end", "wc -c"),
            same("no terminal", "tty; [ -t 0 ] || [ -t 1 ] || [ -t 2 ]"),
            same("bytes that are no text", "printf '\\377\\000a'"),
            same("out of memory, as likely as others", "cat /proc/self/oom_score_adj"),
            same("the loopback alone", "ls /sys/class/net; ip -o -4 addr show lo | cut -d' ' -f7"),
            differs(
                "its hosts",
                "grep -c localhost /etc/hosts",
                "podman names the loopback once, Docker in IPv6 too",
            ),
            same("a name of a host", "ping -c 1 -W 1 no-such-host.example"),
            same("the root can be written", "echo x >/file && cat /file"),
            same("a temporary folder", "stat -c '%a %u' /tmp"),
            same("shared memory", "stat -c %a /dev/shm"),
            differs(
                "shared memory: its size",
                "df -k /dev/shm | tail -n 1 | awk '{print $2}'",
                "podman's are 64,000 KiB, Docker's 64 MiB",
            ),
            same("a program ends by a signal", "sh -c 'kill -9 $$'"),
            same("a missing program in a shell", "no-such-program"),
            same("a file that is no program", "/etc/passwd"),
            differs(
                "TERM",
                "echo ${TERM-none}",
                "podman sets it without a terminal too, Docker does not",
            ),
            same("capabilities", "grep CapEff /proc/self/status"),
            differs(
                "system calls are not filtered",
                "grep Seccomp: /proc/self/status",
                "the machine is the wall",
            ),
        ],
    ),
    group(
        "env",
        "-e A=1 -e B= -e 'C=x y' -e OF_THE_HOST -e MISSING -w /etc -u daemon -h magpie busybox",
        &[
            same("-e: a value", "echo $A"),
            same("-e: an empty value", "echo \"${B-none}\""),
            same("-e: a space", "echo \"$C\""),
            same("-e: the host's value", "echo $OF_THE_HOST"),
            same("-e: not in the host's environment", "echo ${MISSING-none}"),
            same("-w: a folder", "pwd"),
            same("-u: a name", "id -u; id -g; id -G"),
            same("-u: its home", "echo $HOME"),
            same("-u: no capabilities", "grep CapEff /proc/self/status"),
            same("-u: what is not its own", "echo x >/file"),
            same("-h: the host's name", "hostname; grep -c magpie /etc/hosts"),
        ],
    ),
    group(
        "uid",
        "-u 4242 -e HOME=/mine busybox",
        &[
            same("-u: a number that nobody has", "id -u; id -g; id -G"),
            same("-e: a home", "echo $HOME"),
        ],
    ),
    group(
        "uid-gid",
        "-u 4242:1 busybox",
        &[
            same("-u: a number and a group", "id -u; id -g; id -G"),
            same("-u: without a home", "echo $HOME"),
        ],
    ),
    group(
        "read-only",
        "--read-only --tmpfs /made:size=64k,mode=700 busybox",
        &[
            same("--read-only: the root", "echo x >/file"),
            same("--read-only: shared memory", "echo x >/dev/shm/file && cat /dev/shm/file"),
            same("--tmpfs: it can be written", "echo x >/made/file && cat /made/file"),
            same("--tmpfs: its mode", "stat -c %a /made"),
            same("--tmpfs: its size", "df -k /made | tail -n 1 | awk '{print $2}'"),
            same("--tmpfs: it is soon full", "head -c 100000 /dev/zero >/made/large"),
            differs(
                "--read-only: the temporary folder",
                "echo x >/tmp/file",
                "podman mounts /run and /tmp, Docker does not",
            ),
        ],
    ),
    group(
        "caps",
        "--cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges --init busybox",
        &[
            same("--cap-add: alone", "grep -E '^Cap(Eff|Prm|Bnd)' /proc/self/status"),
            same(
                "--cap-add: it serves",
                "touch /dev/shm/file && chown 5 /dev/shm/file && stat -c %u /dev/shm/file",
            ),
            same("--cap-drop: it is missed", "mkdir -m 0 /dev/shm/shut && ls /dev/shm/shut"),
            same("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status"),
            same("--init: the program is the second", "echo $$ $PPID"),
            differs("--init: its name", "cat /proc/1/comm", "each has an init of its own"),
        ],
    ),
    group(
        "privileged",
        "--privileged busybox",
        &[
            same("--privileged: all capabilities", "grep CapEff /proc/self/status"),
            same("--privileged: mounts", "mkdir /m && mount -t tmpfs none /m && echo mounted"),
            same("--privileged: kernel settings", "echo x >/proc/sys/kernel/hostname && hostname"),
        ],
    ),
    group(
        "limits",
        "--ulimit nofile=100:200 --ulimit core=0 --pids-limit 50 -m 64m --shm-size 1m --oom-score-adj 300 \
           --sysctl net.ipv4.ip_forward=1 --group-add 42 --add-host db:192.0.2.7 busybox",
        &[
            same("--ulimit", "ulimit -Sn; ulimit -Hn; ulimit -c"),
            same("--pids-limit", "cat /sys/fs/cgroup/pids.max"),
            differs(
                "-m",
                "cat /sys/fs/cgroup/memory.max",
                "the whole machine has no more memory than that",
            ),
            same("--shm-size", "df -k /dev/shm | tail -n 1 | awk '{print $2}'"),
            same("--oom-score-adj", "cat /proc/self/oom_score_adj"),
            same("--sysctl", "cat /proc/sys/net/ipv4/ip_forward"),
            same("--group-add", "id -G"),
            same("--add-host", "grep 'db$' /etc/hosts | tr '\\t' ' '"),
        ],
    ),
    group(
        "terminal",
        "-t busybox",
        &[
            same("-t: a terminal", "tty; [ -t 0 ] && [ -t 1 ]"),
            same("-t: lines end as a terminal's", "echo x"),
            same("-t: TERM", "echo $TERM"),
            same("-t: the device", "stat -c '%u %a' /dev/console; ls /dev/pts"),
        ],
    ),
];
