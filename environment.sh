# Sourced by the scripts: makes .venv from requirements.txt unless it is there already, from the same file.
# Uses uv where it is on PATH, else venv and pip.

find_python() {
  local name
  for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "aepretrain needs Python 3.11, 3.12, 3.13 or 3.14, and none of them is on PATH." >&2
  return 1
}

make_environment() {
  local python
  python=$(find_python)
  echo "Making .venv with $("$python" --version); this takes some minutes and 6 GB." >&2
  rm -rf .venv
  if command -v uv >/dev/null; then
    uv venv --quiet --python "$(command -v "$python")" .venv
    uv pip install --quiet --python .venv/bin/python -r requirements.txt
  else
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --require-hashes -r requirements.txt
  fi
  cp requirements.txt .venv/installed-requirements.txt # last, so that a half-made environment is made again
}

cmp --silent requirements.txt .venv/installed-requirements.txt || make_environment
