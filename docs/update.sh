#!/usr/bin/env bash
# Make the committed report and the README's answer from the committed evidence.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rm -rf docs/report
# statistics.md says why conv has no planned seeds with few labels
.venv/bin/python -m aepretrain report --bundle docs/bundle --planned-seeds fc=40,conv=20,labels:fc=20 --out docs
.venv/bin/python - <<'SPLICE'
from pathlib import Path
readme, answer = Path("README.md"), Path("docs/answer.md").read_text()
before, begin, rest = readme.read_text().partition("<!-- answer: made by docs/update.sh -->\n")
_, end, after = rest.partition("<!-- end of answer -->\n")
readme.write_text(f"{before}{begin}\n{answer}\n{end}{after}")
SPLICE
