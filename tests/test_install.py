"""The wheel in a fresh environment: what it holds, and the library half alone, each head trained in ten lines."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TRAIN = """
import importlib.util, json, torch
from softmaxes import Entmax, GumbelSoftmax, HierarchicalSoftmax, SampledSoftmax, Sampler, Softmax, Tree

x = torch.randn(512, 2)
y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
accuracies = []
heads = [Softmax(32, 4), GumbelSoftmax(32, 4), HierarchicalSoftmax(32, Tree.balanced(4)), Entmax(32, 4)]
for head in [*heads, SampledSoftmax(32, Sampler.unigram(y.bincount()), 3)]:
    body = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU())
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.01)
    for _ in range(300):
        optimiser.zero_grad()
        head(body(x), y).mean().backward()
        optimiser.step()
    accuracies.append((head.predict(body(x)) == y).double().mean().item())
lab = ("pydantic", "cyclopts", "lightning_fabric", "rich", "PIL", "matplotlib")
print(json.dumps([accuracies, [name for name in lab if importlib.util.find_spec(name)]]))
"""


HELD = """
import importlib.metadata, json
from pathlib import Path
import softmaxes
from softmaxes import rows
from softmaxes.heads.hierarchical import compiled
folder = Path(softmaxes.__file__).parent
print(json.dumps([softmaxes.__version__, importlib.metadata.version("softmaxes"), str(folder),
    compiled.MISSING, rows.LIBRARY is None]))
"""
DATA = {  # what is read from the package, and is no Python
    "py.typed",
    "lab/cost/measured.csv",
    "lab/data/look_alikes.json",
    "lab/report/templates/page.html.jinja",
    "lab/report/templates/plotly-cartesian.min.js",
    "lab/report/templates/plotly-cartesian.LICENSE",
    "lab/use/page/index.html",
    "lab/use/page/demo.js",
}
COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive and the wheel, of a copy of the tree without what was built in it before."""
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    fresh = shutil.ignore_patterns("*.so", "*.pyd", "*.egg-info", "__pycache__")
    for name in ("src", "docs", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=fresh)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, tree)
    build = [sys.executable, "-m", "uv", "build", "--quiet", "--offline", "--no-build-isolation"]
    subprocess.run([*build, "--python", sys.executable, "--out-dir", str(dist), str(tree)], check=True)
    (source,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return source, wheel


@pytest.mark.slow
def test_wheel_and_source_hold_what_they_need(built: tuple[Path, Path]) -> None:
    source, wheel = built
    said = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout
    there = {name.removeprefix("softmaxes/") for name in zipfile.ZipFile(wheel).namelist()}
    expected = {
        path.relative_to(ROOT / "src/softmaxes").as_posix()
        for path in (ROOT / "src/softmaxes").rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".so", ".pyd", ".cpp")
    }
    assert expected >= DATA
    assert expected - there == set()
    libraries = {name for name in there if name.endswith((".so", ".pyd"))}
    sources = {name for name in there if name.endswith(".cpp")}
    named = {name.partition(".")[0] for name in libraries}
    assert named == ({"_rows", "_rounded", "heads/hierarchical/_compiled"} if COMPILER else set())
    others = {name for name in there - expected - libraries - sources if ".dist-info/" not in name}
    assert others == set()
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert inside >= {
        f"src/softmaxes/{name}" for name in (*DATA, "rows.cpp", "rounded.cpp", "heads/hierarchical/compiled.cpp")
    }
    assert inside >= {"LICENSE", "CHANGELOG.md", "CITATION.cff", "docs/index.md", "tests/test_install.py"}
    assert not any(name.endswith((".so", ".pyd", ".pyc")) for name in inside)


@pytest.mark.slow
def test_without_extras_each_head_trains_in_a_plain_loop(built: tuple[Path, Path], tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
    constraints = ["-c", "pins.txt", "-c", "constraints.txt"]
    subprocess.run([*uv, "pip", "install", "--python", str(python), *constraints, str(built[1])], check=True, cwd=ROOT)
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = subprocess.run(
        [str(python), "-c", HELD + TRAIN], check=True, capture_output=True, text=True, cwd=tmp_path, env=alone
    ).stdout
    held, trained = map(json.loads, printed.splitlines()[-2:])
    version, known_as, folder, missing, none = held
    assert version == known_as == built[1].name.split("-")[1]
    assert Path(folder).is_relative_to(environment)
    assert (missing is None, none) == (COMPILER, not COMPILER)
    accuracies, lab = trained
    assert len(accuracies) == 5
    assert min(accuracies) > 0.95
    assert lab == []
    said = subprocess.run([str(python.with_name("softmaxes"))], capture_output=True, text=True, cwd=tmp_path, env=alone)
    assert said.returncode == 2
    assert said.stderr.startswith("softmaxes: expected the lab's packages, got no ")
    assert said.stderr.endswith("install them: pip install 'softmaxes[lab]'\n")
