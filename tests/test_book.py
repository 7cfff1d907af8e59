"""The committed notebooks: light, in shape, and saying what a fresh run says."""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import readable
import yaml
from api import docstring, signature
from blank import blank
from light_outputs import executed, light, notebooks
from mathml import mathml
from nbformat import NotebookNode
from nbval.plugin import IPyNbFile, coalesce_streams
from packaging.specifiers import SpecifierSet
from pybtex.database import Entry, Person
from refusals import cases, rows
from repository import set_buttons
from roles import AuthorYearLabels
from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.util.docutils import docutils_namespace

from lib.explain import Explanation, explain

ROOT = Path(__file__).parents[1]
PAGES = notebooks()
TAGS = {
    "full-width",
    "hide-cell",
    "hide-input",
    "hide-output",
    "nbval-check-output",
    "nbval-ignore-output",
    "raises-exception",
    "remove-cell",
    "remove-input",
    "remove-output",
}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(cells: list[NotebookNode]) -> str:
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@each_page
def test_is_light(page):
    notebook = read(page)
    assert page.stat().st_size < 200_000, f"{page.name}: run `make outputs`"
    assert notebook == light(notebook), f"{page.name} has heavy outputs: run `make outputs`"


@each_page
def test_was_executed_from_top_to_bottom(page):
    counts = [cell.execution_count for cell in code_cells(read(page))]
    assert counts == list(range(1, len(counts) + 1)), f"{page.name}: run `make outputs`"


@each_page
def test_names_no_folder_or_address_of_a_machine(page):
    """Which would also be another one in each run."""
    outputs = [output for cell in code_cells(read(page)) for output in cell.outputs]
    assert not re.search(rf"{tempfile.gettempdir()}/|/home/|/root/| at 0x|[A-Z]:\\\\", str(outputs))


@each_page
def test_has_known_tags(page):
    tags = {tag for cell in read(page).cells for tag in cell.metadata.get("tags", [])}
    assert tags <= TAGS


@each_page
def test_has_the_skeleton_of_a_page(page):
    cells = read(page).cells
    opening, whole = prose(cells[:5]), prose(cells)
    assert opening.startswith("# ")
    for said in ("able to", r"\bneeds?\b", "seconds|minutes?"):
        assert re.search(said, opening, re.IGNORECASE), f"{page.name} does not open with {said!r}"
    closing = whole.partition("\n## What we saw")[2]
    assert closing, f"{page.name} does not close with 'What we saw'"
    assert re.search(r"^#+ Exercise", closing, re.MULTILINE), f"{page.name} has no exercise"
    solution = r"{dropdown}.*Solution|{admonition} Solution.*\n+:class: .*dropdown"
    assert re.search(solution, closing), f"{page.name} hides no solution in a drop-down"


@pytest.mark.built
@each_page
def test_a_fresh_run_says_what_is_committed(page, request):
    """nbval's own reading of tags and comparison, on the run that the site was built from.

    So each notebook is executed once for both. Both sides are light: pictures are not compared.
    """
    if not executed(page).is_file():
        pytest.skip("the book is not built: run `make book`")
    fresh = code_cells(light(read(executed(page))))
    cells = list(IPyNbFile.from_parent(request.session, path=page).collect())
    sources = [cell.cell.source for cell in cells]
    assert [cell.source for cell in fresh] == sources, "built from older pages: run `make book`"

    differ = [
        f"{page.name}, {cell.name}\n{cell.cell.source}\n" + "\n".join(cell.comparison_traceback)
        for cell, run in zip(cells, fresh, strict=True)
        if cell.options["check"]
        and not cell.compare_outputs(
            coalesce_streams(run.outputs), coalesce_streams(cell.cell.outputs)
        )
    ]
    if differ:
        pytest.fail("\n\n".join(differ), pytrace=False)


@pytest.mark.built
def test_is_built_once():
    """A style check leaves caches beside the pages: they are no reason to build again."""
    if not (ROOT / "_build" / "built").is_file():
        pytest.skip("the book is not built: run `make book`")
    cache = ROOT / "book" / ".ruff_cache"
    cache.mkdir(exist_ok=True)
    (cache / "newer").touch()
    command = ["make", "--dry-run", "book", f"VENV={sys.prefix}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "lib.miniature" in planned and "jupyter-book build" not in planned


def test_formulas_become_mathml():
    inline, block = mathml(r"\sum_c w_c A_c"), mathml(r"a &= b \\ &= c", "block")
    assert 'display="inline"' in inline and "<munder><mo movablelimits" in inline
    assert 'display="block"' in block and block.count("<mtr>") == 2


@pytest.mark.parametrize("latex", [r"\foo{x}", r"\frac{1}{", "a & b", r"\boldsymbol{w}"])
def test_formulas_that_would_come_out_wrong_are_refused(latex):
    with pytest.raises(ValueError, match=r"MathML|mathbf"):
        mathml(latex)


def test_refusals_are_read_from_the_tests():
    path = ROOT / "tests" / "test_networks.py"
    found = {given.split(":")[0]: (given, said) for given, said, _ in rows(path, cases([path]))}
    given, said = found["what is no file of weights is named with the remedy"]
    assert "foreign; empty; cut;" in given and said.startswith("ValueError: n.safetensors")


def test_of_two_builds_at_once_one_is_refused(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "_config.yml", "_toc.yml", "book/a.md", "lib/a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name, does in ("python", "true"), ("jupyter-book", "sleep 2; mkdir _build"):
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    (tmp_path / ".venv" / "installed-book").touch()
    how = dict(cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    both = [subprocess.Popen(["make", "book"], **how) for _ in range(2)]
    said = {process.communicate(timeout=60)[0]: process.returncode for process in both}
    assert sorted(said.values()) == [0, 2]
    refused = next(text for text, code in said.items() if code == 2)
    assert "Another make book runs here" in refused and "remove the folder .building" in refused
    assert (tmp_path / "_build" / "built").is_file() and not (tmp_path / ".building").exists()


def test_a_blank_notebook_has_no_answers():
    for page in PAGES:
        filled, empty = read(page), blank(read(page))
        assert len(empty.cells) == len(filled.cells) and not any(
            cell.outputs or cell.execution_count for cell in code_cells(empty)
        )
        text = "\n".join(cell.source for cell in empty.cells)
        assert "{dropdown}" not in text and "{term}" not in text and "Solution" not in text
        assert "assert" not in "".join(
            cell.source
            for cell, was in zip(empty.cells, filled.cells)
            if "hide-cell" in was.metadata.get("tags", [])
        )
        assert "*Your answer:*" in prose(empty.cells).partition("### Exercise")[2]
        assert read(page) == filled


def test_the_api_is_read_from_the_source():
    found, methods = signature(Explanation)
    assert "maps: np.ndarray  # (M, T, h, w) float32, signed" in found
    assert any(line.startswith("why(") for line, _ in methods)
    line, _ = signature(explain)
    assert line.startswith("explain(") and max(map(len, line.splitlines())) <= 80
    listed = docstring("Draw.\n\nArgs:\n    split: which\n      one\n    size: `S` pixels")
    assert [node.astext() for node in listed[2].children] == [
        "split\n\nwhich one",
        "size\n\nS pixels",
    ]


@pytest.mark.parametrize("address", ["", "https://github.com/someone/book"])
def test_buttons_need_one_address(address, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A page")])
    page.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(page, source / "index.ipynb")
    settings = {
        "extensions": ["myst_nb", "sphinx_book_theme", "repository"],
        "html_theme": "sphinx_book_theme",
        "nb_execution_mode": "off",
        "repository": address,
    }
    with docutils_namespace():
        Sphinx(source, None, out, out / "trees", "html", settings, status=None).build()
    html = (out / "index.html").read_text(encoding="utf-8")
    binder, colab = "mybinder.org/v2/gh/someone/book", "colab.research.google.com/github/someone"
    for said in ("source-repository-button", binder, colab, "someone/book/issues", "Tell us"):
        assert (said in html) == bool(address), said
    assert not address or "urlpath=lab/tree/index.ipynb" in html


def test_an_address_that_makes_no_buttons_is_refused():
    config = SimpleNamespace(repository="github.com/someone/book", html_theme_options={})
    with pytest.raises(ConfigError, match="https://github.com/OWNER/NAME is needed"):
        set_buttons(None, config)


def test_binder_installs_the_book():
    script = ROOT / ".binder" / "postBuild"
    assert script.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", script], check=True)
    assert ".[book]" in script.read_text()
    version = (ROOT / ".binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SpecifierSet(project["requires-python"]).contains(version)


def test_citation_and_changes_name_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["version"] == project["version"]
    assert cited["title"] == yaml.safe_load((ROOT / "_config.yml").read_text())["title"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", readable.pages(), ids=lambda page: page.stem)
def test_sentences_are_short(page):
    counts = readable.words(page)
    assert sum(counts) / len(counts) <= 16 and max(counts) <= 50, f"{page.name}: split sentences"


def test_sentences_are_told_from_code_and_tables():
    code = "```sh\na b c d\n```\n| x y z |"
    found = readable.sentences(f"# Title\n\nOne *two* three. Four five six; seven is 7\n\n{code}")
    assert found == ["One *two* three.", "Four five six", "seven is 7"]


def test_every_reference_is_cited():
    known = re.findall(
        r"^@\w+{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE
    )
    cited = re.findall(r"{cite}`([^`]*)`", "\n".join(map(readable.markdown, readable.pages())))
    assert set(known) == {key for keys in cited for key in keys.split(",")}


def test_references_are_labelled_as_the_text_cites_them():
    people = {"author": [Person('B{\\"o}hle, Moritz'), Person("van der Aa, Jan")]}
    entries = [Entry("misc", {"year": "2021"}, people)]
    assert list(AuthorYearLabels().format_labels(entries)) == ["Böhle and van der Aa, 2021"]
    people["author"].append(Person("Fritz, Mario"))
    assert list(AuthorYearLabels().format_labels(entries)) == ["Böhle et al., 2021"]
