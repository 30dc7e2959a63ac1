"""The drop-ins stand on torch, numpy and pydantic alone. Also run by itself, where nothing else is installed."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib.abc
import sys

# What the three bring themselves, and nothing of ours beside them.
CORE = "torch torchgen functorch numpy pydantic pydantic_core annotated_types typing_extensions typing_inspection"
BROUGHT = set((CORE + " sympy mpmath networkx jinja2 markupsafe filelock fsspec scrimp").split())


class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in BROUGHT or top.startswith("_"):
            return None
        raise ModuleNotFoundError(f"{name} is not of the core", name=name)


sys.meta_path.insert(0, Refuse())
import torch
from torch.utils.data import DataLoader, TensorDataset
from scrimp import BatchSchedule, Cascade, GhostBatchNorm, InfoBatch, SelectedData, jest, sigmoid_loss, sparsify

data = InfoBatch(TensorDataset(torch.arange(20.0)), epochs=3)
for epoch in range(2):
    for (x,), index in DataLoader(data, batch_size=5, sampler=data.sampler):
        data.update(x, index)
images, texts = (torch.nn.functional.normalize(torch.randn(8, 4), dim=1) for _ in range(2))
chosen = jest.select((images, texts, 1.0, 0.0), (texts, images, 1.0, 0.0), 4, 2, generator=torch.Generator())
assert len(chosen) == 4
assert sigmoid_loss(images, texts, 1.0, 0.0) > 0
rows = torch.arange(40.0)[:, None].expand(40, 4)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
GhostBatchNorm.convert(model, size=4)
sparse = sparsify(model, weights=0.5, activations=0.5)
for x, in DataLoader(TensorDataset(rows), batch_sampler=BatchSchedule(40, batch_size=8, epochs=1)):
    model(x).sum().backward()
ask = lambda x: model.eval()(x).softmax(dim=1)
assert len(Cascade([(ask, 1.0), (ask, 2.0)]).choose(rows, [0] * 40, price=1.0)(rows).labels) == 40
assert not {"yaml", "pandas", "scipy", "typer"} & set(sys.modules)
"""


def test_the_drop_ins_run_where_only_the_core_can_be_imported() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
