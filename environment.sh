# Sourced by the scripts: makes .venv from requirements.txt, unless it was made from that very file before.
# With uv where it is on PATH, else with venv and pip, which first bring the pinned uv, four times as fast as pip.

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
  local python uv
  python=$(find_python)
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
    .venv/bin/python -m pip install --quiet --require-hashes -r requirements.txt
  # The command, from wherever it is called. The package itself is not installed: what runs is what stands here.
  printf '#!/bin/sh\nPYTHONPATH="%s${PYTHONPATH:+:$PYTHONPATH}" exec "%s/.venv/bin/python" -m aepretrain "$@"\n' \
    "$PWD" "$PWD" > .venv/bin/aepretrain
  chmod +x .venv/bin/aepretrain
  cp requirements.txt .venv/made-from.txt # last, so that a half-made environment is made again
}

cmp --silent requirements.txt .venv/made-from.txt || make_environment

# Let Python keep compiled modules: without them a start takes three times as long.
unset PYTHONDONTWRITEBYTECODE
