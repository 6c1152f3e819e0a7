# Shared by the scripts of this directory; sourced, never run.
# It decides where caches are and which compiler is used, and says so.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/fulmar"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"
# Firmware has its own compiler, so its own target directory.
export BARE_TARGET_DIR="${BARE_TARGET_DIR:-$CACHE/target-bare}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
mkdir -p "$CACHE"

started=$SECONDS
step() { printf '==> [%4ds] %s\n' "$((SECONDS - started))" "$*"; }
die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf '   next: %s\n' "$2" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "installing Debian packages needs root, and there is no sudo here" "run as root: $*"
    fi
}

# Installs or upgrades the named Debian packages.
install_packages() {
    # A fresh machine's package lists are empty or old; the compiler comes from the security archive.
    as_root apt-get update -qq >"$CACHE/apt.log" 2>&1 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$CACHE/apt.log" 2>&1 \
        || { tail -5 "$CACHE/apt.log" >&2; die "apt-get could not install $*" "see $CACHE/apt.log"; }
}

# Installs the named Debian packages that are missing; silent when none is.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    step "installing Debian packages: ${missing[*]}"
    command -v apt-get >/dev/null || die "this is not a Debian system: apt-get is missing" "install by hand: ${missing[*]}"
    install_packages "${missing[@]}"
}

# Debian's Mosquitto without its service, which starts with the package and would take the port of a hub on this machine.
need_mosquitto() {
    if [ ! -x /usr/sbin/mosquitto ] && [ -d /run/systemd/system ]; then
        step "Mosquitto's service stays off (to use it: systemctl unmask mosquitto)"
        as_root systemctl mask --quiet mosquitto.service
    fi
    need_packages mosquitto
}

# True if a cargo of at least the workspace's rust-version is on PATH.
cargo_is_new_enough() {
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have=$(rustc --version 2>/dev/null | awk '{print $2}') || return 1
    [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ]
}

# A compiler for this machine: rustup's if there is one, else Debian's.
choose_rust() {
    need_packages gcc libc6-dev ca-certificates git
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    if cargo_is_new_enough; then
        RUST_FROM="$(rustc --version) on PATH"
    else
        need_packages rustc-web cargo-web rust-web-clippy rustfmt-web
        export PATH="/usr/bin:$PATH"
        cargo_is_new_enough || install_packages rustc-web cargo-web rust-web-clippy rustfmt-web
        hash -r
        cargo_is_new_enough || die "no Rust compiler new enough for this project was found" "install one with rustup: https://rustup.rs"
        RUST_FROM="Debian's $(rustc --version)"
    fi
    step "compiler: $RUST_FROM"
    claim_cache
}

# Checkouts share the cache, and cargo tells their crates apart by time stamps alone: after a change of checkout
# everything of ours must be newer than what was built.
claim_cache() {
    local claim="$PWD"
    [ "$(cat "$CACHE/checkout" 2>/dev/null)" = "$claim" ] && return 0
    find wire board agent-nostd agent fleet hub cli tests boards functions -type f -not -path '*/target/*' -exec touch {} +
    printf '%s' "$claim" >"$CACHE/checkout"
}

rustup_has_target() {
    command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$1"
}

# Says which compiler bare_cargo takes for a target, and installs Debian's if it is that.
choose_bare_rust() {
    if rustup_has_target "$1"; then
        step "firmware for $1: $(rustc --version), rustup's target"
    else
        need_packages rustc-web cargo-web rust-web-src lld-19
        step "firmware for $1: Debian's $(/usr/bin/rustc --version), core built from its sources (rustup target add $1 would do, too)"
    fi
}

# bare_cargo TARGET ARGUMENTS: cargo for a part without an operating system. Rustup's target if it is installed, else Debian's
# compiler, its sources and its linker.
bare_cargo() {
    local target=$1 variable
    shift
    if rustup_has_target "$target"; then
        CARGO_TARGET_DIR="$BARE_TARGET_DIR" cargo "$@" --target "$target"
    else
        variable="CARGO_TARGET_$(printf %s "$target" | tr 'a-z.-' 'A-Z__')_LINKER"
        env PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$BARE_TARGET_DIR" "$variable=ld.lld-19" \
            /usr/bin/cargo "$@" -Zbuild-std=core,alloc --target "$target"
    fi
}

# What the tables of boards say: list, target, qemu, size. The program is built by this machine's compiler.
boards() {
    cargo run --locked --quiet --manifest-path boards/Cargo.toml -p fulmar-board-support --bin fulmar-boards -- "$@"
}

# Builds the images of the named boards; of all if none is named.
build_firmware() {
    local list board target known=
    list=$(boards list)
    for board in $([ $# -gt 0 ] && printf '%s\n' "$@" || awk '{ print $1 }' <<<"$list"); do
        target=$(awk -v board="$board" '$1 == board { print $2 }' <<<"$list")
        [ -n "$target" ] || die "there is no board $board" "take one of: $(awk '{ print $1 }' <<<"$list" | paste -sd ' ')"
        [[ " $known " == *" $target "* ]] || choose_bare_rust "$target"
        known="$known $target"
        step "image of $board"
        (cd boards && bare_cargo "$target" build --locked --release --quiet -p "fulmar-$board")
        # What a board with two slots runs first. By itself: together they would share features, an allocator among them.
        [ ! -d "boards/$board-boot" ] || (cd boards && bare_cargo "$target" build --locked --release --quiet -p "fulmar-$board-boot")
    done
}

# What functions are built for. Debian has its library as sources only, rustup as a target.
WASM_TRIPLE=wasm32-unknown-unknown

debian_builds_functions() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && command -v wasm-ld-19 >/dev/null &&
        [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/core" ]
}

rustup_builds_functions() {
    command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$WASM_TRIPLE"
}

# Compilers of functions, in Rust and C: what is here, else Debian's.
need_function_compilers() {
    debian_builds_functions || rustup_builds_functions || need_packages rustc-web cargo-web rust-web-src lld-19 ca-certificates
    need_packages clang-19 lld-19
}
