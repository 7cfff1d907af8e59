"""A Sphinx extension: the directive `refusals` lists what the tests say is refused, and how.

Each row is a test that expects an error, of the files named: its name as a sentence and the cases
it is run with; the errors, with the texts that they must have; and where it is.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TESTS = Path(__file__).parents[2] / "tests"


def cases(paths: list[Path]) -> dict[str, list[str]]:
    """The names of the cases that pytest runs each test of some files with."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *map(str, paths)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS.parent)
    found = defaultdict(list)
    for line in listed.stdout.splitlines():
        if match := re.fullmatch(r".*::(\w+)\[(.*)\]", line):
            named = not re.search(r"(^|-)[a-z_]{3,}\d+(-|$)", match[2])  # not by pytest: told0
            found[match[1]] += [match[2]] * named
    return found


def rows(path: Path, known: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """(what is given, what happens, which test) of each test of a file that expects an error."""
    found = []
    for test in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
            errors = list(dict.fromkeys(filter(None, map(expected, ast.walk(test)))))
            if errors:
                said = test.name.removeprefix("test_").replace("_", " ")
                given = "; ".join([f"{said}:", *known[test.name]]).replace(":;", ":")
                found.append((given.rstrip(":"), "; ".join(errors), f"{path.name}:{test.lineno}"))
    return found


def expected(node: ast.AST) -> str:
    """The error that `pytest.raises(...)` waits for, with its text, where that is written there."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises"):
        return ""
    error = ast.unparse(node.args[0]).strip("()")
    match = next((k.value for k in node.keywords if k.arg == "match"), None)
    text = match.value if isinstance(match, ast.Constant) else ""
    return f"{error}: {text}" if text else error


class Refusals(SphinxDirective):
    has_content = True  # a file of tests on each line

    def run(self) -> list[nodes.Node]:
        paths = [TESTS / name for name in self.content]
        known = cases(paths)
        table = nodes.table(classes=["refusals"])
        group = nodes.tgroup(cols=3)
        group += [nodes.colspec(colwidth=width) for width in (45, 40, 15)]
        head, body = nodes.thead(), nodes.tbody()
        head += row("what is given, and what happens", "error, with its text", "test")
        for path in paths:
            self.env.note_dependency(str(path))
            body += [row(*texts) for texts in rows(path, known)]
        group += [head, body]
        table += group
        return [table]


def row(*texts: str) -> nodes.row:
    line = nodes.row()
    for text in texts:
        cell = nodes.entry()
        cell += nodes.paragraph(text=text)
        line += cell
    return line


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("refusals", Refusals)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
