"""The public surface, and what importing it must not do."""

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import softmaxes
import softmaxes.heads
from cases import public_heads
from softmaxes import Head


def test_the_public_names() -> None:
    assert sorted(softmaxes.__all__) == [
        "AdaptiveSoftmax",
        "CosineSoftmax",
        "Entmax",
        "ExactSearch",
        "ForestSoftmax",
        "GumbelSoftmax",
        "Head",
        "HierarchicalSoftmax",
        "MixtureOfSoftmaxes",
        "NCE",
        "NegativeSampling",
        "NeighborSampledSoftmax",
        "OneVsRest",
        "SGDInBackward",
        "SampledSoftmax",
        "Sampler",
        "Sigsoftmax",
        "Softmax",
        "Sparsemax",
        "SphericalSoftmax",
        "TaylorSoftmax",
        "Tree",
        "TreeSampledSoftmax",
        "__version__",
    ]
    for name in softmaxes.__all__:
        assert getattr(softmaxes, name) is not None
        assert name in dir(softmaxes)
    assert not hasattr(softmaxes, "Sofmax")


def test_the_arguments_of_each_head_and_what_they_are_if_not_given() -> None:
    rest = "device=None, dtype=None"
    sampling = f"sampler, num_samples, bias=True, sparse=False, {rest}"
    expected = {
        "AdaptiveSoftmax": f"counts, cutoffs=None, div_value=4.0, head_bias=False, {rest}",
        "CosineSoftmax": f"num_classes, scale=30.0, learn_scale=False, cosine_margin=0.0, angular_margin=0.0, {rest}",
        "Entmax": f"num_classes, alpha=1.5, learn_alpha=False, bias=True, {rest}",
        "ForestSoftmax": f"trees, bias=True, sparse=False, {rest}",
        "GumbelSoftmax": "num_classes, noise='gumbel', scale=1.0, temperature=1.0, final_temperature=None, "
        f"anneal_steps=None, straight_through=False, num_samples=1, bias=True, {rest}",
        "HierarchicalSoftmax": f"tree, bias=True, sparse=False, level_layers=False, {rest}",
        "MixtureOfSoftmaxes": f"num_classes, num_components=4, bias=True, {rest}",
        "NCE": sampling,
        "NegativeSampling": sampling,
        "NeighborSampledSoftmax": f"num_classes, num_samples, num_neighbors=16, bias=True, sparse=False, {rest}",
        "OneVsRest": f"num_classes, bias=True, {rest}",
        "SampledSoftmax": sampling,
        "Sigsoftmax": f"num_classes, bias=True, {rest}",
        "Softmax": f"num_classes, bias=True, {rest}",
        "Sparsemax": f"num_classes, bias=True, {rest}",
        "SphericalSoftmax": f"num_classes, epsilon=0.01, bias=True, {rest}",
        "TaylorSoftmax": f"num_classes, order=2, bias=True, {rest}",
        "TreeSampledSoftmax": f"tree, num_samples, bias=True, sparse=False, proposal_weight=1.0, {rest}",
    }
    found = {}
    for head in public_heads():
        arguments = inspect.signature(head).parameters.values()
        bare = [argument.replace(annotation=inspect.Parameter.empty) for argument in arguments]
        found[head.__name__] = ", ".join(str(argument) for argument in bare)
    assert found == {name: f"in_features, {arguments}" for name, arguments in expected.items()}


def test_every_head_that_is_written_is_public_and_final() -> None:
    modules = [
        import_module(module.name)
        for module in pkgutil.walk_packages(softmaxes.heads.__path__, "softmaxes.heads.")
        if not module.name.endswith("._compiled")  # which is for ctypes
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


@pytest.mark.slow
def test_the_library_never_imports_the_lab_or_its_dependencies() -> None:
    code = """
import sys
from softmaxes import *
import softmaxes.metrics, softmaxes.testing
lab = {"cloudpickle", "lightning_fabric", "pydantic", "cyclopts", "rich", "PIL", "matplotlib", "scipy"}
print([name for name in sys.modules if name.partition(".")[0] in lab or name.startswith("softmaxes.lab")])
"""
    assert run(code).strip() == "[]"


@pytest.mark.slow
def test_heads_do_not_wait_for_the_compiler_of_torch() -> None:
    code = "import sys; from softmaxes import *; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_help_does_not_wait_for_torch() -> None:
    code = """
import sys
from softmaxes.lab.cli.main import app
app(["compare", "--help"])
print("torch" in sys.modules)
"""
    assert run(code).splitlines()[-1] == "False"


@pytest.mark.slow
def test_the_public_names_of_the_lab() -> None:
    """Each is what its line says, also after all modules are imported: a package of that name would hide it."""
    code = """
import importlib, pkgutil, softmaxes.lab
for module in pkgutil.walk_packages(softmaxes.lab.__path__, "softmaxes.lab."):
    importlib.import_module(module.name)
for name in softmaxes.lab.__all__:
    print(name, type(getattr(softmaxes.lab, name)).__name__)
"""
    functions = dict.fromkeys(
        ("advise", "compare", "export", "load", "load_data", "repeat", "scale", "train", "tune"), "function"
    )
    classes = (
        "Advice",
        "Comparison",
        "Costs",
        "Data",
        "Entry",
        "Growth",
        "InputError",
        "Knob",
        "Repetition",
        "Trained",
    )
    records = dict.fromkeys(("DataCard", "Run", "Study"), "ModelMetaclass")
    found = dict(line.split() for line in run(code).splitlines())
    assert found == functions | dict.fromkeys(classes, "type") | records | {"HEADS": "dict"}
