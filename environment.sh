# Sourced by the scripts. Makes .venv from requirements.txt and installs this checkout into it, so that `import aepretrain`
# and the command `aepretrain` work from every folder. The install is editable: Python reads the files that stand here.
# Uses uv where it is on PATH. Else venv and pip install the pinned uv first, which is four times as fast as pip.
# PYTHON names another interpreter: PYTHON=python3.12 ./run_tests.sh

find_python() {
  local name
  for name in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  local found="none of them is on PATH"
  [[ -z ${PYTHON:-} ]] || found="PYTHON=$PYTHON is none of them"
  echo "aepretrain needs Python 3.11, 3.12, 3.13 or 3.14, and $found." >&2
  return 1
}

# What .venv depends on. The path is part of it: the programs in .venv/bin have it in their first line.
made_from() {
  pwd -P
  echo "${PYTHON:-}"
  cat environment.sh requirements.txt
}

make_environment() {
  local python uv
  python=$(find_python) || return
  echo "Making .venv with $("$python" --version); this takes some minutes and 6 GB." >&2
  rm -rf .venv
  if uv=$(command -v uv); then
    "$uv" venv --quiet --python "$(command -v "$python")" .venv
  else
    "$python" -m venv .venv
    awk '/^[^ ]/ { of_uv = /^uv==/ } of_uv' requirements.txt > .venv/uv-requirements.txt
    .venv/bin/python -m pip install --quiet --require-hashes -r .venv/uv-requirements.txt
    uv=.venv/bin/uv
  fi
  "$uv" pip install --quiet --python .venv/bin/python -r requirements.txt ||
    .venv/bin/python -m pip install --quiet --require-hashes -r requirements.txt || return
  "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . || return
  made_from > .venv/made-from.txt # last, so that a half-made environment is made again
}

# Programs in such a folder's .venv could not be found or started. The last line of what is looked at is the point.
case $(pwd -P; echo .) in
  *:* | *$'\n'*$'\n'*)
    echo "A Python environment cannot be in a folder with a colon or a line break in its name: rename $(printf '%q' "$(pwd -P)")" >&2
    return 1
    ;;
esac

made_from | cmp --silent - .venv/made-from.txt || make_environment

# Let Python keep compiled modules: without them a start takes three times as long.
unset PYTHONDONTWRITEBYTECODE
