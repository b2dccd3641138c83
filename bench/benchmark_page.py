"""Brings docs/benchmark.md up to date: its marked parts from the code, its figures from a dataset. `make docs`."""

import re
import sys
from pathlib import Path

from bench.benchmark_text import PARTS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmark.md"
_PART = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with its marked parts written anew. Raises: ValueError where a part is missing, unknown or marked twice."""
    names = re.findall(r"<!-- begin: (\w+) -->", page)
    if sorted(names) != sorted(PARTS) or len(_PART.findall(page)) != len(PARTS):
        raise ValueError(f"page: expected the parts {', '.join(PARTS)}, each marked begin and end once, got {', '.join(names)}")
    return _PART.sub(lambda match: f"{match[1]}\n{PARTS[match[2]]()}\n\n{match[3]}", page)


def main() -> int:
    """Writes the page and its figures."""
    from bench.benchmark_figures import draw  # matplotlib is needed for the figures only

    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw(DOCS / "figures")
    print(f"{PAGE} and its figures are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
