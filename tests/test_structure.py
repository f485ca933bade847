"""How the modules hang together: no circle, trees know no head, the library knows no lab."""

import ast
from pathlib import Path

import networkx as nx
import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def imported(module: str) -> set[str]:
    """The modules of the project that a module imports, wherever in it; but for those that only annotations name."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            inner = {f"{node.module}.{name.name}" for name in node.names} & FILES.keys()
            names = {name.name for name in node.names if f"{node.module}.{name.name}" not in FILES}
            found |= inner | ({node.module} if names else set())
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & FILES.keys()
    return found - {module}


@pytest.fixture(scope="module")
def graph() -> "nx.DiGraph[str]":
    return nx.DiGraph((module, other) for module in FILES for other in imported(module))


@pytest.mark.slow
def test_there_is_no_circle(graph: "nx.DiGraph[str]") -> None:
    assert [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1] == []


@pytest.mark.parametrize(
    ("room", "others"),
    [
        ("softmaxes.trees", ("softmaxes.heads", "softmaxes.head", "softmaxes.lab")),
        ("softmaxes.heads", ("softmaxes.lab",)),
        ("softmaxes.lab.data", ("softmaxes.lab.comparison", "softmaxes.lab.report", "softmaxes.lab.cli")),
        ("softmaxes.lab.training", ("softmaxes.lab.comparison", "softmaxes.lab.report", "softmaxes.lab.cli")),
        ("softmaxes.lab.report", ("softmaxes.lab.training", "softmaxes.lab.comparison", "softmaxes.lab.cli")),
        ("softmaxes.lab.comparison", ("softmaxes.lab.cli",)),
    ],
)
def test_a_room_knows_nothing_of_those_above_it(room: str, others: tuple[str, ...]) -> None:
    found = {
        (module, other)
        for module in FILES
        if module == room or module.startswith(f"{room}.")
        for other in imported(module)
        if any(other == known or other.startswith(f"{known}.") for known in others)
    }
    assert found == set()


def test_no_file_imports_a_test_file() -> None:
    """What test files share is in a file without tests."""
    tests = Path(__file__).parent
    names = {path.stem for path in tests.rglob("test_*.py")}
    found = set()
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom | ast.Import):
                said = [getattr(node, "module", None) or "", *(name.name for name in node.names)]
                found |= {(path.name, name) for name in said if names & set(name.split("."))}
    assert found == set()
