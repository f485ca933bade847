"""The library half alone: a fresh environment without the extras, and each head trained in ten lines."""

import json
import subprocess
import sys
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


@pytest.mark.slow
def test_without_extras_each_head_trains_in_a_plain_loop(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
    constraints = ["-c", "pins.txt", "-c", "constraints.txt"]
    subprocess.run([*uv, "pip", "install", "--python", str(python), *constraints, "."], check=True, cwd=ROOT)
    printed = subprocess.run([str(python), "-c", TRAIN], check=True, capture_output=True, text=True, cwd=tmp_path)
    accuracies, lab = json.loads(printed.stdout.splitlines()[-1])
    assert len(accuracies) == 5
    assert min(accuracies) > 0.95
    assert lab == []
    said = subprocess.run([str(python.with_name("softmaxes"))], capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 2
    assert said.stderr.startswith("softmaxes: expected the lab's packages, got no ")
    assert said.stderr.endswith("install them: pip install 'softmaxes[lab]'\n")
