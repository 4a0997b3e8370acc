# Sourced by scripts/run, scripts/test and .ci/run: the project's virtual environment, made on first use in .venv.
#
# install [EXTRA]: installs the project with EXTRA, and with jax's CUDA or TPU extra where such a device is. It does so
# again only after pyproject.toml has changed. PYTHON names the interpreter to make the environment with; without it the
# newest that jax has wheels for is taken.

venv=$root/.venv

# The newest Python among the candidates for which jax has wheels. A name can be there and not run, as pyenv's are of
# versions that are not active; and a Python can run and have no venv, as Debian's.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.14 python3.13 python3.12 python3.11 python3 python
    fi
    for needs in venv,ensurepip sys; do
        for candidate in "$@"; do
            if "$candidate" -c "import sys, $needs; sys.exit(not (3, 11) <= sys.version_info < (3, 15))" 2>/dev/null; then
                echo "$candidate"
                return
            fi
        done
    done
    echo "${PYTHON:+$PYTHON does not run, or is another version. }Python 3.11 to 3.14 is needed. Install one, or name it:" \
        "PYTHON=/path/to/python $0" >&2
    return 2
}

device_extra() {
    if nvidia-smi -L >/dev/null 2>&1; then
        echo cuda
    elif ls /dev/accel* >/dev/null 2>&1; then
        echo tpu
    fi
}

# pip's own account only matters when it fails: then it is shown, and its exit code kept.
pip_install() {
    log=$venv/install.log
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1 || {
        status=$?
        cat "$log" >&2
        echo "The installation into $venv failed; pip's messages are above and in $log." >&2
        return "$status"
    }
}

# joined WORD...: those that are not empty, with commas between them.
joined() {
    printf '%s\n' "$@" | grep . | paste -sd, -
}

install() {
    device=$(device_extra)
    extras=$(joined "$device" "$@")
    if cmp -s "$venv/installed-$extras" "$root/pyproject.toml"; then
        return
    fi
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python) || return
        echo "Making a virtual environment in $venv" >&2
        "$python" -m venv --clear "$venv" || {
            echo "$python cannot make one; on Debian and Ubuntu: apt install python3-venv" >&2
            return 2
        }
    fi
    echo "Installing the project${extras:+ with $extras} into $venv (a few minutes the first time)" >&2
    pip_install --editable "$root${extras:+[$extras]}" || return
    # The package is installed as backhand; in a checkout pipeline/ and tasks/ can be imported, too.
    echo "$root" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/checkout.pth"
    cp "$root/pyproject.toml" "$venv/installed-$extras"
    cp "$root/pyproject.toml" "$venv/installed-$(joined "$device" all)"  # of which the extra test is more
}
