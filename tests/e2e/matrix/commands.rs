//! Rows about what commands do, print and return.

use super::{Group, Kind, Row, differs, same};

const fn group(name: &'static str, script: &'static str, rows: &'static [Row]) -> Group {
    Group { name, kind: Kind::After(script), rows }
}

const CODE: &str = "podman returns another code for it; ours is Docker's, 1";

pub(super) const GROUPS: &[Group] = &[
    group(
        "run",
        ":",
        &[
            same("an exit code", "box run --rm busybox sh -c 'exit 7'"),
            same("both outputs", "box run --rm busybox sh -c 'echo out; echo words >&2'"),
            same("a program that is missing", "box run --rm busybox no-such-program"),
            same("a program that is a folder", "box run --rm busybox /etc"),
            same("a program without the right to be one", "box run --rm busybox /etc/passwd"),
            same("a flag that is unknown", "box run --no-such-flag busybox true"),
            same(
                "a user that is unknown",
                "box run --rm -u nobody-has-this busybox true; [ $? -ge 125 ]",
            ),
            same(
                "a working folder that is a file",
                "box run --rm -w /etc/passwd busybox true; [ $? -ge 125 ]",
            ),
            differs(
                "a working folder that is missing",
                "box run --rm -w /made/here busybox pwd",
                "Docker makes it, podman does not",
            ),
            same("an image that is missing", "box run --rm --pull never no-such-image:1 true"),
            same("a name that is none", "box run --rm --name 'a b' busybox true"),
            same("a policy that is unknown", "box run --restart sometimes busybox true"),
            same("--restart and --rm", "box run --rm --restart always busybox true"),
            same("a limit that is no size", "box run --rm -m lots busybox true"),
            same("a capability that is unknown", "box run --rm --cap-add BEES busybox true"),
            same(
                "an environment file that is missing",
                "box run --rm --env-file $F/none busybox true",
            ),
        ],
    ),
    group(
        "unknown",
        ":",
        &[
            same("start of an unknown one", "box start no-such; [ $? != 0 ]"),
            same("rm of an unknown one", "box rm no-such"),
            same("logs of an unknown one", "box logs no-such; [ $? != 0 ]"),
            same("wait for an unknown one", "box wait no-such; [ $? != 0 ]"),
            same("exec in an unknown one", "box exec no-such true; [ $? != 0 ]"),
            same("inspect of an unknown one", "box inspect no-such; [ $? != 0 ]"),
            same("rename of an unknown one", "box rename no-such other; [ $? != 0 ]"),
            same("rm -f of an unknown one", "box rm -f no-such 2>/dev/null"),
            differs("stop of an unknown one", "box stop no-such", CODE),
            differs("kill of an unknown one", "box kill no-such", CODE),
        ],
    ),
    group(
        "ended",
        "box run --name $N busybox sh -c 'echo 1; echo 2; echo 3; echo words >&2; exit 4'; box create --name $N-new busybox true >/dev/null",
        &[
            same("ended: stop", "box stop $N"),
            same("ended: its code", "box inspect -f '{{.State.ExitCode}} {{.State.Running}}' $N"),
            same("ended: wait", "box wait $N"),
            same(
                "ended: rm of two, one unknown",
                "box rm no-such; box ps -aq --filter name=$N-new",
            ),
            same("ended: kill", "box kill $N; [ $? != 0 ]"),
            same("ended: pause", "box pause $N; [ $? != 0 ]"),
            same("ended: exec", "box exec $N true; [ $? != 0 ]"),
            same("ended: attach", "box attach $N; [ $? != 0 ]"),
            same("logs", "box logs $N"),
            same("logs: output alone", "box logs $N 2>/dev/null"),
            same("logs --tail", "box logs --tail 0 $N; box logs --tail 9 $N 2>/dev/null"),
            same("logs -f comes to an end", "box logs -f $N 2>/dev/null"),
            same("logs of one that has not run", "box logs $N-new"),
            same(
                "logs -t: a time before each",
                "box logs -t $N 2>/dev/null | grep -cE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+'",
            ),
            same("ps shows who runs", "box ps -q --filter name=$N"),
            same(
                "ps -a: filter by code",
                "box ps -a --filter exited=4 --filter name=$N --format '{{.Names}}'",
            ),
            same(
                "ps -a: filter by state",
                "box ps -a --filter status=created --filter name=$N --format '{{.Names}}'",
            ),
            same(
                "ps -a: filter by image",
                "box ps -aq --filter ancestor=no-such-image --filter name=$N",
            ),
            same("ps -aq --no-trunc", "box ps -aq --no-trunc --filter name=$N-new"),
            same("ps: a filter that is unknown", "box ps --filter bees=1; [ $? != 0 ]"),
            same("ps: a template that is none", "box ps --format '{{.Names'; [ $? != 0 ]"),
            differs(
                "ps: State",
                "box ps -a --filter name=$N --format '{{.State}}' | sort",
                "podman's is its Status, Docker's a word",
            ),
            differs(
                "ps: Image",
                "box ps -a --filter name=$N-new --format '{{.Image}}'",
                "podman shows the name that it has found, Docker the one that was given",
            ),
            differs(
                "ps: Command",
                "box ps -a --filter name=$N-new --format '{{.Command}}'",
                "Docker puts it in quotes, and so do we",
            ),
        ],
    ),
    group(
        "exec",
        "box run -d --name $N -e A=1 -l kind=$N busybox sh -c 'echo ready; sleep 1000' >/dev/null; until box logs $N | grep -q ready; do :; done",
        &[
            same("exec: success", "box exec $N true"),
            same("exec: failure", "box exec $N false"),
            same("exec: words with spaces", "box exec $N echo 'a  b' c"),
            same("runs: its state", "box inspect -f '{{.State.Status}} {{.State.Running}}' $N"),
            same("exec: an exit code", "box exec $N sh -c 'exit 4'"),
            same("exec: both outputs", "box exec $N sh -c 'echo out; echo words >&2'"),
            same("exec: a program that is missing", "box exec $N no-such-program"),
            same("exec: a program that is a folder", "box exec $N /etc"),
            same("exec: ended by a signal", "box exec $N sh -c 'kill -9 $$'"),
            same("exec: environment", "box exec -e B=2 $N sh -c 'echo $A $B $HOME'"),
            same("exec -u", "box exec -u daemon $N sh -c 'id -u; id -g; echo $HOME'"),
            same("exec -w", "box exec -w /etc $N pwd"),
            same("exec -w: a folder that is missing", "box exec -w /none $N pwd; [ $? -ge 126 ]"),
            same("exec -i", "echo x | box exec -i $N cat"),
            same("exec without -i", "echo x | box exec $N cat"),
            same("exec -t", "box exec -t $N sh -c '[ -t 1 ] && tty'"),
            same("exec: no capability more", "box exec -u daemon $N grep CapEff /proc/self/status"),
            same("exec --privileged", "box exec --privileged $N grep CapEff /proc/self/status"),
            same("runs: ps", "box ps -q --filter label=kind=$N"),
            same(
                "runs: ps by a label's key",
                "box ps --filter label=kind --filter name=$N --format '{{.Names}}'",
            ),
            differs(
                "runs: start once more",
                "box start $N",
                "podman says nothing, Docker the name",
            ),
            same("runs: logs", "box logs $N"),
            same(
                "runs: cp in and out",
                "echo x >$F/file; box cp $F/file $N:/tmp/file && box exec $N cat /tmp/file && box cp $N:/tmp/file - | tar -xO",
            ),
            same("runs: cp of what is missing", "box cp $N:/none $F/none; [ $? != 0 ]"),
            same("runs: unpause", "box unpause $N; [ $? != 0 ]"),
            same("runs: a signal that is none", "box kill -s BEES $N; [ $? != 0 ]"),
            differs("runs: rm", "box rm $N", CODE),
        ],
    ),
    group(
        "files",
        "box run --name $N busybox sh -c 'touch /made; rm /etc/group; echo x >>/etc/passwd'",
        &[
            same("diff", "box diff $N | grep -E 'made|group|passwd' | sort"),
            same(
                "commit, and run of it",
                "box commit $N made-of-it:1 >/dev/null 2>&1; box run --rm made-of-it:1 ls /made /etc/passwd /etc/group",
            ),
            same(
                "cp of a folder",
                "box cp $N:/etc - | tar -t | sed s:/$:: | grep -E 'etc$|passwd|group' | sort",
            ),
        ],
    ),
];
