"""Bring the outputs of the last build into the committed notebooks, text only.

    python book/_ext/light_outputs.py            (what `make outputs` runs)

Jupyter Book leaves every notebook as it was executed in `_build/jupyter_execute`. What is worth
committing of it is what a test can compare: the text. Pictures, widgets and long HTML are made
again by every build, and whatever differs from run to run would only make noise in a diff.
"""

from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
EXECUTED = ROOT / "_build" / "jupyter_execute"
LONGEST_HTML = 10_000  # characters
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
CELL_METADATA = ("tags", "mystnb")


def notebooks() -> list[Path]:
    """The notebooks of the book, by name."""
    return sorted((ROOT / "book").glob("*.ipynb"))


def executed(path: Path) -> Path:
    """Where the last build left the executed notebook of `path`."""
    return EXECUTED / path.relative_to(ROOT)


def is_light(mime: str, content: str) -> bool:
    return mime.startswith("text/") and (mime != "text/html" or len(content) <= LONGEST_HTML)


def light_output(output: NotebookNode) -> NotebookNode | None:
    """The output without what is heavy or fleeting; None where nothing is left."""
    output = NotebookNode(output)
    if output.output_type == "stream":
        return None if output.name == "stderr" else output  # progress bars and warnings
    if output.output_type == "error":
        output.traceback = []  # holds paths of one machine; the name and the message stay
        return output
    output.data = NotebookNode({m: c for m, c in output.data.items() if is_light(m, c)})
    output.metadata = NotebookNode()
    return output if output.data else None


def joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Text printed in one go or in several is the same text."""
    together: list[NotebookNode] = []
    for output in outputs:
        if together and output.output_type == together[-1].output_type == "stream":
            together[-1].text += output.text
        else:
            together.append(output)
    return together


def light(notebook: NotebookNode) -> NotebookNode:
    """The notebook as it is committed: light outputs, and no metadata but what a page uses."""
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        cell.metadata = NotebookNode(
            {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata}
        )
        if cell.cell_type == "code":
            kept = (light_output(output) for output in cell.outputs)
            cell.outputs = joined(output for output in kept if output is not None)
    return notebook


def main() -> None:
    for path in notebooks():
        source = executed(path)
        if not source.is_file():
            raise SystemExit(f"{source.relative_to(ROOT)} is missing: run `make book` first")
        nbformat.write(light(nbformat.read(source, as_version=4)), path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
