"""A module imports only from floors above it; the order of the floors is the one direction of the data."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("data",),
    ("models",),
    ("evaluation",),
    ("learning", "baselines"),
    ("compression",),
    ("device",),
    ("report",),
    ("stages",),
    ("launch",),
)
FLOOR = {folder: number for number, folders in enumerate(FLOORS) for folder in folders}
ROOM = ""
"""The folder of modules directly in jaxrec/, which every floor may use."""
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}


def modules(root):
    """{dotted name: path} of every module of the project below `root`."""
    paths = [path for top in ("jaxrec", "launch") for path in sorted((root / top).rglob("*.py"))]
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imports(path, known=()):
    """Dotted names of the modules that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: expected absolute imports; got a relative one in line {node.lineno}"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
    return found


def folder(name):
    """The folder of a project's module: "data", "launch", ROOM for jaxrec/*.py."""
    first, *rest = name.split(".")
    if first == "launch":
        return "launch"
    return rest[0] if rest and ((ROOT / "jaxrec" / rest[0]).is_dir() or len(rest) > 1) else ROOM


def violations(root):
    """One line per import that goes the wrong way."""
    known, found = modules(root), []
    for name, path in known.items():
        own = folder(name)
        for other in sorted(imports(path, known)):
            if other.split(".")[0] in ("jaxrec", "launch") and not allowed(own, folder(other)):
                found.append(f"{name} ({own or 'root'}) imports {other} ({folder(other) or 'root'})")
    return found


def allowed(own, other):
    if own == other or other == ROOM:
        return True
    return own != ROOM and FLOOR[other] < FLOOR[own]


def top_levels(path):
    return {name.split(".")[0] for name in imports(path)}


def test_every_folder_has_a_floor():
    folders = {path.name for path in (ROOT / "jaxrec").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders | {"launch"} == FLOOR.keys()


def test_no_import_goes_upward():
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        (
            "jaxrec/models/bad",
            "from jaxrec.stages.train import run_train",
            ["jaxrec.models.bad (models) imports jaxrec.stages.train (stages)"],
        ),
        (
            "jaxrec/learning/bad",
            "import jaxrec.baselines.counts",
            ["jaxrec.learning.bad (learning) imports jaxrec.baselines.counts (baselines)"],
        ),
        (
            "jaxrec/baselines/bad",
            "from jaxrec.learning import step",
            ["jaxrec.baselines.bad (baselines) imports jaxrec.learning (learning)"],
        ),
        ("jaxrec/bad", "from jaxrec.data.blocks import Block", ["jaxrec.bad (root) imports jaxrec.data.blocks (data)"]),
        ("jaxrec/stages/bad", "def late():\n    from launch import flags", ["jaxrec.stages.bad (stages) imports launch (launch)"]),
        ("jaxrec/stages/good", "from jaxrec.data.blocks import Block\nfrom jaxrec import files", []),
        ("launch/good", "from launch import flags\nfrom jaxrec.stages.train import run_train", []),
    ],
)
def test_an_upward_import_is_found(tmp_path, module, line, found):
    path = tmp_path / f"{module}.py"
    path.parent.mkdir(parents=True)
    path.write_text(f'"""A module made up by the test."""\n\n{line}\n')
    assert violations(tmp_path) == found


def test_preparing_data_needs_no_jax():
    for name, path in modules(ROOT).items():
        if folder(name) in ("data", ROOM):
            assert not top_levels(path) & JAX, name


def test_a_device_needs_numpy_and_the_runtime_alone():
    known = modules(ROOT)
    reached, ahead = set(), {"jaxrec", "jaxrec.device", "jaxrec.data", "jaxrec.device.runtime"}
    while ahead:
        reached |= ahead
        ahead = set().union(*(imports(known[name], known) & known.keys() for name in ahead)) - reached
    assert {"jaxrec.data.own_history", "jaxrec.files"} <= reached
    for name in reached:
        foreign = top_levels(known[name]) - sys.stdlib_module_names
        assert foreign <= {"numpy", "ai_edge_litert", "jaxrec"}, name
    for name, path in known.items():
        if folder(name) == ROOM:
            assert top_levels(path) <= sys.stdlib_module_names | {"jaxrec"}, name


@pytest.mark.parametrize("wanted", ["jaxrec.device.runtime", "jaxrec.data.prepare, jaxrec.data.lanes, jaxrec.data.shop, launch.prepare"])
def test_importing_them_loads_no_jax(wanted):
    """What the text says, seen in a real process: also nothing that they import themselves brings it in."""
    code = f"import sys, {wanted}; print(*sorted({JAX!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_only_commands_know_flags():
    for name, path in modules(ROOT).items():
        if folder(name) != "launch":
            assert "absl" not in top_levels(path), name
