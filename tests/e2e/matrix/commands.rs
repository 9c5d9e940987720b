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
            same("ended by KILL", "box run --rm --init busybox sh -c 'kill -9 $$'"),
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
        "run-more",
        ":",
        &[
            same("no command: the image's, at the end of its input", "box run --rm busybox"),
            same("flags behind the image are the program's", "box run --rm busybox echo --rm -it"),
            same("-i: what comes in", "printf 'a\\nb' | box run -i --rm busybox cat"),
            same("no -i: nothing comes in", "echo x | box run --rm busybox cat"),
            same("-i: nothing comes in", "box run -i --rm busybox wc -c </dev/null"),
            same("-t without a terminal on input", "box run --rm -t busybox echo x"),
            same(
                "--env-file",
                "printf '# no\\nA=1\\nB=x y\\nOF_THE_HOST\\n' >$F/e; box run --rm --env-file $F/e -e A=2 busybox sh -c 'echo $A,$B,$OF_THE_HOST'",
            ),
            same("--cidfile", "box run --rm --cidfile $F/id busybox true; cat $F/id"),
            same(
                "--cidfile is there",
                "touch $F/there; box run --rm --cidfile $F/there busybox true",
            ),
            same("the image's entrypoint and command", "box run --rm configured:1"),
            same("the image's entrypoint, other words", "box run --rm configured:1 x 'y z'"),
            same(
                "another entrypoint takes no command of the image",
                "box run --rm --entrypoint echo configured:1",
            ),
            same(
                "another entrypoint with words",
                "box run --rm --entrypoint /bin/echo configured:1 x",
            ),
            same("no entrypoint", "box run --rm --entrypoint '' configured:1 pwd"),
            same(
                "the image's user, folder and environment",
                "box run --rm --entrypoint sh configured:1 -c 'id -u; id -g; pwd; echo $OF_THE_IMAGE $A $HOME'",
            ),
            same(
                "the image's stop signal",
                "box run -d --name $N-usr --entrypoint sh configured:1 -c 'trap \"exit 5\" USR1; while :; do sleep 0.1; done' >/dev/null; box exec $N-usr sleep 1; box stop $N-usr; box wait $N-usr",
            ),
        ],
    ),
    group(
        "life",
        ":",
        &[
            same("create says its id", "box create --name $N-a busybox true"),
            same(
                "create, start",
                "box create --name $N-b busybox true >/dev/null; box start $N-b; box wait $N-b",
            ),
            same(
                "start -a",
                "box create --name $N-c busybox sh -c 'echo hi; exit 3' >/dev/null; box start -a $N-c; echo $?; box start -a $N-c",
            ),
            same(
                "start -ai",
                "box create -i --name $N-d busybox cat >/dev/null; echo x | box start -ai $N-d",
            ),
            same(
                "a name in use",
                "box create --name $N-e busybox true >/dev/null; box create --name $N-e busybox true",
            ),
            same(
                "a restart after failures",
                "box run -d --name $N-f --restart on-failure:2 busybox sh -c 'echo once; exit 3' >/dev/null; until [ $(box logs $N-f | wc -l) = 3 ]; do sleep 0.2; done; box wait $N-f; box inspect -f '{{.RestartCount}} {{.State.Status}}' $N-f",
            ),
            same(
                "no restart after success",
                "box run -d --name $N-g --restart on-failure busybox echo once >/dev/null; box wait $N-g; box logs $N-g",
            ),
            same(
                "a restart always",
                "box run -d --name $N-h --restart always busybox sh -c 'echo once; sleep 0.1' >/dev/null; until [ $(box logs $N-h | wc -l) -ge 2 ]; do sleep 0.2; done; box stop -t 0 $N-h >/dev/null 2>&1; box inspect -f '{{.State.Running}}' $N-h",
            ),
            same(
                "stop asks",
                "box run -d --name $N-i busybox sh -c 'trap \"echo bye; exit 3\" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null; until box logs $N-i | grep -q ready; do :; done; box stop $N-i; box wait $N-i; box logs $N-i",
            ),
        ],
    ),
    group(
        "life-more",
        ":",
        &[
            same(
                "stop kills",
                "box run -d --name $N-j busybox sleep 1000 >/dev/null; box stop -t 0 $N-j; box wait $N-j",
            ),
            same(
                "--stop-signal",
                "box run -d --name $N-k --stop-signal KILL busybox sleep 1000 >/dev/null; box stop $N-k; box wait $N-k",
            ),
            same(
                "kill",
                "box run -d --name $N-l busybox sleep 1000 >/dev/null; box kill $N-l; box wait $N-l",
            ),
            same(
                "kill -s",
                "box run -d --name $N-m --init busybox sleep 1000 >/dev/null; box exec $N-m true; box kill -s HUP $N-m; box wait $N-m",
            ),
            same(
                "pause, unpause",
                "box run -d --name $N-n busybox sleep 1000 >/dev/null; box pause $N-n; box inspect -f '{{.State.Status}}' $N-n; box unpause $N-n; box inspect -f '{{.State.Status}}' $N-n",
            ),
            same(
                "restart",
                "box run -d --name $N-o busybox sh -c 'echo once; sleep 1000' >/dev/null; until box logs $N-o | grep -q once; do :; done; box restart -t 0 $N-o; until [ $(box logs $N-o | wc -l) = 2 ]; do :; done; box inspect -f '{{.State.Running}}' $N-o",
            ),
            same(
                "rename",
                "box create --name $N-p busybox true >/dev/null; box rename $N-p $N-q; box inspect -f '{{.State.Status}}' $N-q; box start $N-p; [ $? != 0 ]",
            ),
            same(
                "rm",
                "box create --name $N-r busybox true >/dev/null; box rm $N-r; box inspect $N-r 2>/dev/null; [ $? != 0 ]",
            ),
            same(
                "rm -f",
                "box run -d --name $N-s busybox sleep 1000 >/dev/null; box rm -f -t 0 $N-s 2>/dev/null || box rm -f $N-s",
            ),
            same(
                "--rm of one that is detached",
                "box run -d --rm --name $N-t busybox true >/dev/null; until [ -z \"$(box ps -aq --filter name=$N-t)\" ]; do :; done",
            ),
            same(
                "one that floods and one that reads little",
                "box run --rm busybox sh -c 'yes | head -c 300000' | wc -c",
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
