"""`python -m scripts.reference FOLDER` writes the pages of docs/api; run by scripts/docs."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.reference import error_page, proto_pages


def main(folder: Path) -> None:
    pages = {**proto_pages.pages(), "errors.md": error_page.page()}
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
