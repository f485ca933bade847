"""The public surface, and what importing it must not do."""

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module

import softmaxes
import softmaxes.heads
from cases import public_heads
from softmaxes import Head


def test_the_public_names() -> None:
    assert sorted(softmaxes.__all__) == [
        "AdaptiveSoftmax",
        "CosineSoftmax",
        "Entmax",
        "ForestSoftmax",
        "GumbelSoftmax",
        "Head",
        "HierarchicalSoftmax",
        "MixtureOfSoftmaxes",
        "NCE",
        "NegativeSampling",
        "OneVsRest",
        "SampledSoftmax",
        "Sampler",
        "Sigsoftmax",
        "Softmax",
        "Sparsemax",
        "SphericalSoftmax",
        "TaylorSoftmax",
        "Tree",
        "__version__",
    ]
    for name in softmaxes.__all__:
        assert getattr(softmaxes, name) is not None
        assert name in dir(softmaxes)
    assert not hasattr(softmaxes, "Sofmax")


def test_every_head_that_is_written_is_public_and_final() -> None:
    modules = [
        import_module(f"softmaxes.heads.{module.name}") for module in pkgutil.iter_modules(softmaxes.heads.__path__)
    ]
    written = {
        thing
        for module in modules
        for thing in vars(module).values()
        if inspect.isclass(thing) and issubclass(thing, Head) and thing.__module__ == module.__name__
    }
    assert written == public_heads()
    assert all(head.__final__ for head in written)  # type: ignore[attr-defined]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_library_never_imports_the_lab_or_its_dependencies() -> None:
    code = """
import sys
from softmaxes import *
import softmaxes.metrics, softmaxes.testing
lab = {"lightning_fabric", "pydantic", "cyclopts", "rich", "PIL", "matplotlib", "pooch"}
print([name for name in sys.modules if name.partition(".")[0] in lab or name.startswith("softmaxes.lab")])
"""
    assert run(code).strip() == "[]"


def test_help_does_not_wait_for_torch() -> None:
    code = """
import sys
from softmaxes.lab.cli import app
app(["compare", "--help"])
print("torch" in sys.modules)
"""
    assert run(code).splitlines()[-1] == "False"
