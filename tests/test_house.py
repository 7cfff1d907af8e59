"""The package stays thin: which room may import which, and how many lines each may have."""

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LIB = sorted((ROOT / "lib").rglob("*.py"))

#: What each room may import. `miniature` also from a branch of the last four, never at the top.
ROOMS = {
    "files": set(),
    "data": {"files"},
    "model": {"files"},
    "viewer": {"files", "data"},
    "miniature": {"files", "data"},
    "explain": {"files", "data", "model", "viewer"},
    "training": {"files", "data", "model"},
    "evaluation": {"files", "data", "model", "explain"},
    "live": {"files", "data", "model", "viewer", "explain"},
    "explorer": {"files", "data", "model", "viewer", "explain"},
}
DRAWN_ON_REQUEST = {"training", "evaluation", "explorer", "live"}


def module(path: Path) -> str:
    """lib/data/video.py -> data.video, lib/data/__init__.py -> data."""
    return ".".join(path.relative_to(ROOT / "lib").with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path):
    """(module of lib, whether at the top of the file) for each import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {module(other) for other in LIB}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("lib."):
                name = name.removeprefix("lib.")
                yield name if name in known else name.rpartition(".")[0], node in tree.body


def room(name: str) -> str:
    return name.split(".")[0]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_arrow_is_allowed():
    assert {room(module(path)) for path in LIB} - {"__init__"} == ROOMS.keys()
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in LIB
        for name, top in imports(path)
        if room(name) != (here := room(module(path)))
        and room(name) not in ROOMS[here]
        and not (room(name) == "miniature" and here in DRAWN_ON_REQUEST and not top)
    ]
    assert wrong == []


def test_no_circle():
    arrows = {module(path): {name for name, _ in imports(path)} for path in LIB}
    while leaves := [name for name, to in arrows.items() if not to & arrows.keys() - {name}]:
        for name in leaves:
            del arrows[name]
    assert arrows == {}


def test_thin():
    """No line more than today's: what is added takes some away elsewhere."""
    small = [path for path in LIB if module(path) != "miniature.actions"]
    assert [f"{path}: {lines(path)}" for path in small if lines(path) > 300] == []
    drawn = [path for path in LIB if room(module(path)) == "miniature"]
    assert sum(map(lines, LIB)) - sum(map(lines, drawn)) <= 6543
    assert sum(map(lines, LIB)) <= 8255
    assert (
        sum(lines(p) for kind in ("js", "css") for p in (ROOT / "lib").rglob(f"*.{kind}")) <= 2515
    )


def test_explaining_loads_neither_the_rasteriser_nor_scikit_learn():
    command = [sys.executable, "-X", "importtime", "-c", "import lib.explain"]
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stderr
    assert "lib.explain" in loaded
    assert not re.search(r"resvg|twemoji|sklearn|skimage|lib\.miniature", loaded)


def test_nothing_runs_what_a_file_says():
    """No shell, no code out of texts, no pickle."""
    names = {"eval", "exec", "shell", "weights_only", "allow_pickle"}
    found = []
    for path in (p for room in ("lib", "book", "tests") for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called, given = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
            true = {k for k in names & given.keys() if ast.unparse(given[k]) != "False"}
            risky = called in ("eval", "exec", "os.system") or true & {"shell", "allow_pickle"}
            if risky or (called == "torch.load" and "weights_only" not in true):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {called}")
    for path in (ROOT / "book").glob("*.ipynb"):
        words = re.findall(r"shell=True|torch\.load\(|(?<![\w.])(?:eval|exec)\(", path.read_text())
        found += [f"{path.name} calls {word}" for word in words]
    assert found == []


def test_the_lock_has_a_hash_for_every_package_and_fits_the_loose_pins():
    locked = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, version = re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line).groups()
            locked[canonicalize_name(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for requirement in map(Requirement, wanted):
        if requirement.name != project["name"]:
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement}: {version} is locked"
