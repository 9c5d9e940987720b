# shellcheck shell=bash disable=SC2034
# What the scripts share: where things live, how a step is told, what must be installed.

TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=x86_64-unknown-linux-gnu
HYPERRUN_CACHE=${HYPERRUN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hyperrun}
# Demo, tests and lab agree on one store; the lab sees it copy-on-write at the same path.
HYPERRUN_ROOT=${HYPERRUN_ROOT:-$HYPERRUN_CACHE/root}
LAB_PARTS=$HYPERRUN_CACHE/lab
# The lab's kernel: a package of Debian's that stands for the newest of its kind.
LAB_KERNEL=$LAB_PARTS/${HYPERRUN_LAB_KERNEL:-linux-image-6.12-amd64}
export HYPERRUN_CACHE HYPERRUN_ROOT

# Tells a person what is being done; the scripts' output proper goes to stdout.
step() { printf '==> %s\n' "$*" >&2; }

# fail MESSAGE [HINT]
fail() {
    printf 'error: %s\n' "$1" >&2
    if [ $# -gt 1 ]; then printf 'hint: %s\n' "$2" >&2; fi
    exit 1
}

# The comment block at a script's head is its help.
show_help() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Installs the Debian packages that are missing, and says nothing when none is.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' ||
            missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    step "installing ${missing[*]}"
    quietly as_root apt-get update
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"
}

# quietly COMMAND…: what it says is shown only when it fails.
quietly() {
    local said
    if ! said=$("$@" 2>&1); then
        printf '%s\n' "$said" >&2
        fail "$* failed"
    fi
}

# publish FILE DESTINATION: a hard link where possible, put in place in one step.
publish() {
    [ "$1" -ef "$2" ] && return
    cmp -s "$1" "$2" && return
    mkdir -p "$(dirname "$2")"
    ln -f "$1" "$2.new" 2>/dev/null || cp "$1" "$2.new"
    mv -f "$2.new" "$2"
}

# locked NAME COMMAND…: one at a time, so that two scripts do not build the same thing.
locked() {
    local name=$1
    shift
    mkdir -p "$HYPERRUN_CACHE"
    (
        flock -n 9 || { step "waiting for another $name" && flock 9; }
        "$@" 9>&-
    ) 9>"$HYPERRUN_CACHE/.$name.lock"
}

# Whether this machine's own KVM can run guests, by hyperrun's own self-test.
kvm_is_good() { "$TREE/target/release/hyperrun" doctor --json 2>/dev/null | grep -q '"kvm": *"ok"'; }

# Says once, in a first line, where guests will run.
say_where() {
    if kvm_is_good; then
        step "guests run on this machine's own KVM"
    else
        step "this machine's KVM cannot run guests: they run in the lab"
    fi
}

# build_for_guest CARGO-ARGUMENT…: a small static program without position-independent code, since
# loading is what an exec costs. It is put into GUEST_BUILT.
build_for_guest() {
    RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" cargo build --quiet \
        --locked --profile agent --target "$TARGET" --target-dir "$TREE/target/agent-build" "$@"
}
GUEST_BUILT=$TREE/target/agent-build/$TARGET/agent

# unpack_kernel META FOLDER: unless FOLDER is there, the kernel package that META now stands for,
# downloaded and unpacked with its list of modules, but never installed.
unpack_kernel() {
    local package new=$2.new
    [ -d "$2" ] && return
    package=$(apt-cache depends "$1" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
    [ -n "$package" ] || fail "no package $1 is known" "run apt-get update"
    step "fetching $package"
    rm -rf "$new" && mkdir -p "$new"
    (cd "$new" && apt-get download -qq "$package" 2>/dev/null) ||
        fail "cannot download $package" "run apt-get update and try again"
    dpkg -x "$new"/*.deb "$new"
    rm "$new"/*.deb
    depmod -b "$new" "$(ls "$new/lib/modules")"
    mv "$new" "$2"
}

# pack_initramfs PROGRAM FILE: an initramfs with the program as /init, and a console to be heard on.
pack_initramfs() {
    local folder
    folder=$(mktemp -d)
    mkdir "$folder/dev"
    as_root mknod -m 600 "$folder/dev/console" c 5 1
    cp "$1" "$folder/init"
    (cd "$folder" && printf 'dev\ndev/console\ninit\n' |
        cpio --quiet --reproducible -o -H newc -R 0:0) >"$2"
    rm -rf "$folder"
}
