"""How easily the prose of a page is read: words in a sentence, on average and at most.

python book/_ext/readable.py             (one line a page)
"""

import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
NO_PROSE = re.compile(
    r"^(`{3,}|:{3,}).*$"  # the fences around code, notes and drop-downs
    r"|^\|.*$"  # tables
    r"|^#+ .*$"  # headings
    r"|^\$\$[\s\S]*?^\$\$"  # formulas
    r"|{cite}`[^`]*`",
    re.MULTILINE,
)
CODE = re.compile(
    r"^(`{3,})(?:sh|python|{(?:api|refusals|bibliography)}.*)?\n[\s\S]*?^\1 *$", re.MULTILINE
)
END = re.compile(r";\s|(?<=[.!?:])[*)\"]*\s+(?=[\"*($]*[A-Z{`])|\n\s*\n|\n(?=[-|] )")


def sentences(text: str) -> list[str]:
    """The sentences of a page's Markdown, without code, tables, headings and formulas."""
    text = NO_PROSE.sub("\n\n", CODE.sub("\n\n", text))
    text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text)  # a link is its words
    found = (part.strip() for part in END.split(text))
    return [part for part in found if len(part.split()) > 2]


def markdown(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def words(path: Path) -> list[int]:
    """Of each sentence, how many words it has."""
    return [len(sentence.split()) for sentence in sentences(markdown(path))]


def pages() -> list[Path]:
    return sorted(p for p in (ROOT / "book").iterdir() if p.suffix in (".md", ".ipynb"))


if __name__ == "__main__":
    for path in pages():
        counts = words(path)
        print(f"{path.stem:14}{sum(counts) / len(counts):6.1f} on average, at most {max(counts)}")
