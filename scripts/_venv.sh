# Sourced by the other scripts: a virtual environment in .venv with this project in it.
# Needs Python 3.11 or newer (PYTHON=... chooses one) and a package registry; nothing is done twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    say "polyconv needs Python 3.11 or newer, and found none as python3. Install one, or name it: PYTHON=/path/to/python3.12 $0"
    return 1
}

# make_venv: an environment whose Python runs and whose folder is where it was made.
make_venv() {
    if [ "$(cat "$venv/.made-at" 2>/dev/null)" = "$venv" ] && "$venv/bin/python" -c '' 2>/dev/null; then
        return
    fi
    local python
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    rm -rf "$venv"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        say "$python could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
        return 1
    fi
    echo "$venv" >"$venv/.made-at"
}

pip_install() { "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input "$@"; }

# install EXTRAS: the project, editable, with these extras; again only when pyproject.toml has changed.
install() {
    local stamp=$venv/.installed-${1:-plain} want
    make_venv
    want=$("$venv/bin/python" -c 'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
        say "installing polyconv${1:+[$1]} into .venv"
        pip_install --editable ".${1:+[$1]}"
        echo "$want" >"$stamp"
    fi
}

# One set-up at a time: two scripts started together must not write one environment.
if command -v flock >/dev/null; then
    exec 8>"$root/.venv.lock"
    flock 8
fi
set_up_done() { if command -v flock >/dev/null; then exec 8>&-; fi; }
