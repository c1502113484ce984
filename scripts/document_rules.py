"""Write the rules' pages and their table from the rules themselves.

    python scripts/document_rules.py [--check]

With `--check` nothing is written; the exit status is 1 if a file is not what it should be.
"""

from __future__ import annotations

import sys
from pathlib import Path

from trainlint.output.pages import markdown_table, page
from trainlint.rules import all_rules

DOCS = Path(__file__).parents[1] / "docs"


def wanted() -> dict[Path, str]:
    """Every generated file with its content."""
    pages = {DOCS / "rules" / f"{rule.name}.md": page(rule) for rule in all_rules()}
    return {**pages, DOCS / "rules.md": f"# Rules\n\n{markdown_table(all_rules())}"}


def main(check: bool) -> int:
    """Write or compare; the exit status."""
    files = wanted()
    stale = [p for p, text in files.items() if not p.exists() or p.read_text("utf-8") != text]
    gone = [p for p in (DOCS / "rules").glob("*.md") if p not in files]
    for path in (*stale, *gone):
        print(f"{'stale' if check else 'written' if path in files else 'removed'}: {path}")
    if check:
        return 1 if stale or gone else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], "utf-8")
    for path in gone:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
