"""The drop-in InfoBatch over several processes: spawned loader workers, and two ranks that train together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import together
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scrimp import InfoBatch
from scrimp.methods.infobatch import InfoBatchSelector

SIZE, EPOCHS, BATCH = 23, 6, 3

pytestmark = pytest.mark.slow


class Tens(Dataset[float]):
    """Item i is 10 i, so that an item gives its index away."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> float:
        return 10.0 * index


def scores_of(data: InfoBatch[float]) -> Tensor:
    assert isinstance(data.selector, InfoBatchSelector)
    return data.selector.scores.clone()


# ------------------------------------------------------------------------------------------------------ loader workers
@pytest.mark.parametrize("persistent", [True, False])
def test_spawned_workers_that_run_ahead(persistent: bool) -> None:
    data = InfoBatch(Tens(), epochs=3, delta=0.6)
    loader = DataLoader(
        data,
        batch_size=BATCH,
        sampler=data.sampler,
        num_workers=2,
        prefetch_factor=4,  # the whole epoch is drawn before its first loss is known
        persistent_workers=persistent,
        multiprocessing_context="spawn",
    )
    sizes = []
    for _ in range(3):
        told, batches, seen = len(loader), 0, []
        for item, index in loader:
            assert item.tolist() == [10.0 * at for at in index.tolist()]
            data.update(item.float() + 0.5, index)
            seen += index.tolist()
            batches += 1
        assert batches == told
        assert scores_of(data)[seen].tolist() == [10 * at + 0.5 for at in seen]
        sizes.append(len(set(seen)))
        assert len(seen) == sizes[-1]
    # Losses .5, 10.5, ..., 220.5 with mean 110.5: 11 of 23 lie below, 5 of those are kept; then the annealing epoch.
    assert sizes == [23, 17, 23]


# ------------------------------------------------------------------------------------------------------------ two ranks
def losses_at(epoch: int) -> Tensor:
    """What the examples' losses would be in an epoch, on every rank."""
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(100 + epoch))


def train_alone(path: Path, rank: int, world: int) -> None:
    """Train for some epochs as one rank; write down what it saw and what it knew at the end of every epoch."""
    data = InfoBatch(Tens(), epochs=EPOCHS, delta=0.8)
    # The last batches of the two ranks differ in size where the rank's parts do not divide by three.
    loader = DataLoader(data, batch_size=BATCH, sampler=data.sampler)
    record: list[dict[str, Any]] = []
    for epoch in range(EPOCHS):
        told, batches = len(loader), []
        for item, index in loader:
            assert item.tolist() == [10.0 * at for at in index.tolist()]
            loss = data.update(losses_at(epoch)[index].bfloat16(), index)
            batches.append({"index": index.tolist(), "loss": float(loss)})
        state = data.state_dict()
        record.append(
            {
                "told": told,
                "batches": batches,
                "plan": state["order"].tolist(),
                "weights": state["weights"].tolist(),
                "scores": scores_of(data).nan_to_num(-1.0).tolist(),
            }
        )
    path.joinpath(f"{world}-{rank}.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("ranks")
    together(train_alone, path)
    return [json.loads((path / f"2-{rank}.json").read_text()) for rank in range(2)]


def indices_of(epoch: dict[str, Any]) -> list[int]:
    return [at for batch in epoch["batches"] for at in batch["index"]]


def test_ranks_prune_alike(ranks: list[list[dict[str, Any]]]) -> None:
    for first, second in zip(*ranks, strict=True):
        assert first["plan"] == second["plan"]
        assert first["weights"] == second["weights"]
        assert first["scores"] == second["scores"]
    sizes = [len(epoch["plan"]) for epoch in ranks[0]]
    assert sizes[0] == sizes[5] == SIZE
    assert max(sizes[1:5]) < SIZE


def test_parts_are_disjoint_and_cover_the_plan(ranks: list[list[dict[str, Any]]]) -> None:
    for first, second in zip(*ranks, strict=True):
        mine, other = indices_of(first), indices_of(second)
        assert len(mine) == len(other) == len(first["plan"]) // 2
        assert not set(mine) & set(other)
        # At most one example, the odd one at the end of the plan, waits for another epoch.
        assert set(mine) | set(other) == set(first["plan"][: len(first["plan"]) // 2 * 2])
        assert first["told"] == len(first["batches"]) == second["told"]


def test_scores_are_those_of_one_process_with_the_same_visits(ranks: list[list[dict[str, Any]]]) -> None:
    alone = InfoBatchSelector(SIZE, 0, delta=0.8)
    for number, (first, second) in enumerate(zip(*ranks, strict=True)):
        plan = alone.select(number, number / EPOCHS)
        assert set(plan.indices.tolist()) == set(first["plan"])
        weights = torch.ones(SIZE)
        weights[plan.indices] = plan.weights
        assert first["weights"] == weights.tolist()
        seen = torch.tensor(indices_of(first) + indices_of(second))
        losses = losses_at(number).bfloat16().float()
        for batch in [*first["batches"], *second["batches"]]:
            # A rank's loss is the weighted mean over its own batch; DistributedDataParallel averages the gradients.
            own = torch.tensor(batch["index"])
            assert batch["loss"] == pytest.approx(float((losses * weights)[own].mean()), rel=1e-6)
        alone.observe(seen, losses[seen])
        assert first["scores"] == alone.scores.nan_to_num(-1.0).tolist()


def test_one_process_visits_the_same_plans(ranks: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    train_alone(tmp_path, 0, 1)
    alone = json.loads((tmp_path / "1-0.json").read_text())
    # The first epoch has 23 examples: two ranks leave the last one out, so only here must the plans agree.
    assert alone[0]["plan"] == ranks[0][0]["plan"]
    assert indices_of(alone[0])[:22:2] == indices_of(ranks[0][0])
    assert indices_of(alone[0])[1:22:2] == indices_of(ranks[1][0])
