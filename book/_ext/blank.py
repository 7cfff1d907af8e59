"""Write a blank version of every notebook: no outputs, no answers, no solutions.

    python book/_ext/blank.py FOLDER

A drop-down becomes a question with room for an answer, a cell with a solution's run an empty one.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from light_outputs import METADATA, ROOT, notebooks

FENCED = r"^(?P<fence>`{3,}|:{3,}) *{(?:dropdown|admonition)} *(?P<title>.*)\n(.*\n)*?(?P=fence) *$"
HIDDEN = re.compile(FENCED, re.MULTILINE)
ROLE = re.compile(r"{term}`(.*?)(?: *<.*?>)?`")
ANSWER = "*Your answer:*"


def asked(block: re.Match) -> str:
    """The title of a drop-down and room for an answer; of an exercise's solution, only the room."""
    title = block["title"].strip()
    if "dropdown" not in block[0].partition("\n\n")[0]:
        return block[0]
    return ANSWER if title in ("Solution", "Answer") else f"**{title}**\n\n{ANSWER}\n"


def blank(notebook: NotebookNode) -> NotebookNode:
    """A copy of a notebook without outputs and answers."""
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "hide-cell" in cell.metadata.get("tags", []):
                cell.source, cell.metadata = "# your code", NotebookNode()
        else:
            cell.source = ROLE.sub(r"\1", HIDDEN.sub(asked, cell.source))
    return notebook


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    if folder == ROOT / "book":
        raise SystemExit(f"{folder} holds the filled notebooks: name another folder")
    shutil.copytree(ROOT / "book" / "_static", folder / "_static", dirs_exist_ok=True)
    for path in notebooks():
        nbformat.write(blank(nbformat.read(path, as_version=4)), folder / path.name)
    print(f"{len(notebooks())} notebooks in {folder}: PYTHONPATH=book jupyter lab {sys.argv[1]}")


if __name__ == "__main__":
    main()
