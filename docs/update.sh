#!/usr/bin/env bash
# Make everything that shows the answer from the committed evidence: the report, the README's answer and the pictures.
# The pictures need Chromium (Debian's package).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
plans=("$PWD"/plans/source-grid.yaml) # the plan "when" follows as soon as its campaign has results
rm -rf docs/report
.venv/bin/python -m aepretrain report "${plans[@]}" --bundle evidence --out docs
.venv/bin/python - <<'SPLICE'
from pathlib import Path
readme, answer = Path("README.md"), Path("docs/answer.md").read_text()
before, begin, rest = readme.read_text().partition("<!-- answer: made by docs/update.sh -->\n")
_, end, after = rest.partition("<!-- end of answer -->\n")
readme.write_text(f"{before}{begin}\n{answer}\n{end}{after}")
SPLICE
.venv/bin/python -m docs.screenshots "${plans[@]}"
