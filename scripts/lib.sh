# Sourced by the scripts beside it. Gives them a complete environment in .venv from nothing but
# bash, git and a Python of 3.11 or later. Written for bash 3.2, which macOS still ships.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Byte code that is not kept makes every start of the program four times slower.
unset PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_SYSTEM_CERTS=1
export PIP_DISABLE_PIP_VERSION_CHECK=1

PINS=requirements/dev.txt
STAMP=.venv/.set-up-for

# Commands that the tests and the demo run, and the Debian package of each.
TOOLS="ssh:openssh-client ssh-keygen:openssh-client rsync:rsync curl:curl"
LINUX_TOOLS="strace:strace pg_ctlcluster:postgresql"

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Networks fail for seconds at a time: three tries, a little further apart each.
retried() {
    local try
    for try in 1 2 3; do
        "$@" && return 0
        [ "$try" = 3 ] && break
        say "failed (try $try of 3), again in $((try * 5)) s: $*"
        sleep $((try * 5))
    done
    return 1
}

may_install() { [ "$(id -u)" = 0 ] && have apt-get; }

apt_install() {
    say "installing Debian packages: $*"
    retried apt-get -q update >&2 || return 1
    DEBIAN_FRONTEND=noninteractive retried apt-get -q install -y --no-install-recommends "$@" >&2
}

missing_packages() {
    local pair missing="" tools=$TOOLS
    [ "$(uname -s)" = Linux ] && tools="$TOOLS $LINUX_TOOLS"
    for pair in $tools; do
        have "${pair%%:*}" && continue
        case " $missing " in *" ${pair#*:} "*) ;; *) missing="$missing ${pair#*:}" ;; esac
    done
    printf '%s' "$missing"
}

set_up_tools() {
    local missing
    missing=$(missing_packages)
    [ -z "$missing" ] && return 0
    # Word splitting is meant: one word, one package.
    # shellcheck disable=SC2086
    may_install && apt_install $missing && return 0
    say "missing:$missing. Install them (Debian: apt-get install$missing); tests that need them fail."
}

newest_python() {
    local name
    for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
        have "$name" || continue
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        printf '%s' "$name"
        return 0
    done
    fail "no Python of 3.11 or later is found. Install one, or name it: PYTHON=/path/to/python3"
}

make_venv() {
    local python
    python=$(newest_python)
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv >/dev/null 2>&1 && return 0
    # Debian keeps the venv module's other half in a package of its own.
    may_install || fail "$python has no venv module. Debian: apt-get install python3-venv"
    apt_install python3-venv || fail "python3-venv could not be installed"
    "$python" -m venv --clear .venv >&2
}

pinned() { sed -n "s/^$1==\\([^ ;]*\\).*/\\1/p" "$PINS"; }

install_pinned() {
    retried .venv/bin/python -m pip install --quiet "uv==$(pinned uv)" >&2 \
        || fail "uv could not be installed; is the package index reached?"
    retried .venv/bin/uv pip sync --quiet --python .venv/bin/python "$PINS" >&2 \
        || fail "the pinned requirements could not be installed"
    # The build back end is among the pins, so nothing is fetched here.
    .venv/bin/uv pip install --quiet --python .venv/bin/python \
        --no-deps --no-build-isolation --editable . >&2
}

# What the environment depends on: pins, project file, where the checkout lies, and its Python.
fingerprint() {
    { cat "$PINS" pyproject.toml scripts/lib.sh; pwd; .venv/bin/python -VV; } | git hash-object --stdin
}

set_up() {
    set_up_tools
    if [ -x .venv/bin/python ] && [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]; then
        return 0
    fi
    .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || make_venv
    say "installing the pinned requirements"
    rm -f "$STAMP"
    install_pinned
    fingerprint >"$STAMP"
}

# What every script runs after it: the environment's programs come first.
activate() {
    set_up
    PATH="$PWD/.venv/bin:$PATH"
    export PATH
}
