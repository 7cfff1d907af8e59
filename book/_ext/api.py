"""A Sphinx extension: the directive `api` shows public names of a module as their source has them.

Signature, fields with their comments, public methods, and the docstring, whose parts of the form
"name: what it is" become a list of definitions.
"""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDTH = 66
ITEM = re.compile(r"^(\w+): +(.*)$")
LITERAL = re.compile(r"``(.+?)``|`(.+?)`")


def head(node: ast.FunctionDef) -> str:
    """The signature of a function, broken into lines where it is long; without `self`."""
    node.args.args = [a for a in node.args.args if a.arg not in ("self", "cls")]
    given, back = ast.unparse(node.args), f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({given}){back}"
    if len(line) <= WIDTH:
        return line
    whole = re.sub(r"(?<!,) ", "\0", given)  # a line breaks after a comma only
    filled = textwrap.fill(whole, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
    filled = filled.replace("\0", " ")
    return f"{node.name}(\n{filled}\n){back}"


def is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(d) in ("property", "cached_property") for d in node.decorator_list)


def signature(thing: object) -> tuple[str, list[tuple[str, str]]]:
    """The head of a function, or the fields of a class; and the methods: (head, docstring)."""
    source = textwrap.dedent(inspect.getsource(thing))
    tree = ast.parse(source).body[0]
    if isinstance(tree, ast.FunctionDef):
        return head(tree), []
    fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    lines = source.splitlines()
    shown = [line.strip() for f in fields for line in lines[f.lineno - 1 : f.end_lineno]]
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    methods = [(n.name if is_property(n) else head(n), ast.get_docstring(n) or "") for n in public]
    return "\n".join(shown), methods


def text(words: str) -> nodes.paragraph:
    paragraph = nodes.paragraph()
    for i, part in enumerate(LITERAL.split(" ".join(words.split()))):
        if part:  # every third part is between words; the others are names
            paragraph += nodes.literal(text=part) if i % 3 else nodes.Text(part)
    return paragraph


def docstring(doc: str) -> list[nodes.Node]:
    found = []
    for block in filter(None, doc.split("\n\n")):
        lines = block.splitlines()
        if re.fullmatch(r"(Args|Raises|Returns):", lines[0]):
            found.append(text(lines[0]))
            lines = textwrap.dedent("\n".join(lines[1:])).splitlines()
        if not ITEM.match(lines[0]):
            found.append(text(" ".join(lines)))
            continue
        listed = nodes.definition_list()
        for item in re.split(r"\n(?=\w+: )", "\n".join(lines)):
            name, rest = item.split(":", 1)
            said = nodes.definition("", text(rest))
            term = nodes.term("", "", nodes.literal(text=name))
            listed += nodes.definition_list_item("", term, said)
        found.append(listed)
    return found


class Api(SphinxDirective):
    required_arguments = 1  # the module
    has_content = True  # a public name on each line

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        return [self.entry(module, name) for name in self.content]

    def entry(self, module: object, name: str) -> nodes.section:
        thing = getattr(module, name)
        self.env.note_dependency(str(Path(inspect.getsourcefile(thing))))
        full = f"{module.__name__}.{name}"
        section = nodes.section(ids=[full.replace(".", "-").lower()], names=[full])
        section += nodes.title("", "", nodes.literal(text=name))
        code, methods = signature(thing)
        section += nodes.literal_block(code, code, language="python")
        section += docstring(inspect.getdoc(thing) or "")
        for line, doc in methods:
            section += nodes.literal_block(line, line, language="python")
            section += docstring(doc)
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("api", Api)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
