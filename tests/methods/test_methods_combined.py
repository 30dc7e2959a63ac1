"""Methods that are no selectors, by hand; and methods that are combined by being listed together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scrimp.config.training import Arm, Horizon, Recipe, Schedule, Workload
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.methods.batch_growth import growth
from scrimp.methods.combined import Methods
from scrimp.methods.ghost_batch_norm import Ghost, in_parts, use_ghost_batch_norm
from scrimp.stages.fit import Fit, fit
from scrimp.tasks.base import Task, seeded
from scrimp.training.place import Place

CPU = torch.device("cpu")
GROWING = {"name": "batch-growth", "end": 4.0, "stages": 3}
GHOST = {"name": "ghost-batch-norm", "size": 8}
INFOBATCH = {"name": "infobatch", "ratio": 0.5}


# ------------------------------------------------------------------------------------------------------- ghost batch norm
def test_every_part_is_normalised_by_itself() -> None:
    x = torch.randn(24, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 25)[:, None, None, None]
    norm = nn.BatchNorm2d(3)
    y = in_parts(norm, x, 8)
    for part, normalised in zip(x.split(8), y.split(8), strict=True):
        mean, variance = part.mean(dim=(0, 2, 3)), part.var(dim=(0, 2, 3), unbiased=False)
        expected = (part - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt()
        torch.testing.assert_close(normalised, expected)


def test_running_statistics_see_the_parts_one_after_the_other() -> None:
    x = torch.tensor([1.0, 1.0, 3.0, 3.0])[:, None]
    norm = nn.BatchNorm1d(1, momentum=0.1)
    in_parts(norm, x, 2)
    assert float(norm.running_mean) == pytest.approx(0.9 * (0.1 * 1) + 0.1 * 3)  # algorithm 1 with eta = .1


def test_what_is_left_over_is_spread_and_a_small_batch_is_one_part() -> None:
    seen: list[int] = []

    def norm(part: Tensor) -> Tensor:
        seen.append(len(part))
        return part

    in_parts(norm, torch.zeros(21, 1), 8)
    in_parts(norm, torch.zeros(7, 1), 8)
    assert seen == [11, 10, 7]


def test_a_models_norms_work_in_parts_while_it_trains_and_keep_their_names() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    plain = copy.deepcopy(model)
    assert use_ghost_batch_norm(model, 4) is model
    assert isinstance(model[1], Ghost)
    assert list(model.state_dict()) == list(plain.state_dict())
    x = torch.randn(8, 3, 2, 2)
    assert not torch.allclose(model(x), plain(x))
    torch.testing.assert_close(model(x)[:4], plain.train()(x[:4]))
    assert torch.equal(copy.deepcopy(model)(x), model(x))  # a copy keeps its parts
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model.eval()(x), plain.eval()(x))


def test_a_model_without_batch_norm_is_told_so() -> None:
    with pytest.raises(ScrimpError, match="Linear has no batch norm: ghost batch norm would change nothing"):
        use_ghost_batch_norm(nn.Linear(2, 2), 4)


# ----------------------------------------------------------------------------------------------------------- growing batch
@pytest.mark.parametrize(
    ("fraction", "steps", "smooth"),
    [(0.0, 1.0, 1.0), (0.32, 1.0, 4**0.32), (0.34, 2.0, 4**0.34), (0.5, 2.0, 2.0), (0.67, 4.0, 4**0.67), (1.0, 4.0, 4.0)],
)
def test_growth_by_hand(fraction: float, steps: float, smooth: float) -> None:
    """From 1 to 4 in three stages: 1, 2, 4, each for a third of the budget; or along an exponential."""
    assert growth(fraction, 1.0, 4.0, "steps", 3) == pytest.approx(steps)
    assert growth(fraction, 1.0, 4.0, "smooth", 3) == pytest.approx(smooth)


@pytest.mark.parametrize(("coupling", "factor"), [("same", 0.5), ("linear", 1.0), ("sqrt", 0.5 * 2**0.5)])
def test_the_rate_is_coupled_to_the_size(coupling: str, factor: float) -> None:
    methods = Methods.of([{**GROWING, "learning_rate": coupling}], 100, 16, 0)
    assert methods.learning_rate(0.5, 0.5) == pytest.approx(factor)
    assert [methods.batch_size(fraction, 16) for fraction in (0.0, 0.5, 0.9)] == [16, 32, 64]


# ------------------------------------------------------------------------------------------------------------- combinations
class Squares(Task):
    """Fit y = x^2 by a small network with batch norm; the squared error of each example is its loss."""

    def setup(self, workspace: Any) -> None:
        x = torch.linspace(-2, 2, 96)[:, None]
        self.data = {"train": (x, x.square()), "test": (x[::3] + 0.01, (x[::3] + 0.01).square())}

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, lambda: nn.Sequential(nn.Linear(1, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)))

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return (model(x) - y).square().mean(dim=1)


def trained(*methods: dict[str, Any], epochs: float = 6, **changes: Any) -> tuple[Fit, list[int]]:
    """A fit of `Squares`, and the sizes of its batches."""
    schedule = Schedule(name="constant", warmup=0)
    recipe = Recipe(optimizer="sgd", learning_rate=0.02, batch_size=16, schedule=schedule, **changes)
    task = Squares(Workload(recipe=recipe, epochs=epochs, evaluations=1, arms=[]), Place(CPU))
    task.setup(None)
    sizes: list[int] = []
    losses = task.losses

    def noted(model: nn.Module, batch: Any) -> Tensor:
        if model.training and torch.is_grad_enabled():
            sizes.append(len(batch[0]))
        return losses(model, batch)

    task.flops  # noqa: B018 - counted before batches are noted
    task.losses = noted  # type: ignore[method-assign]
    arm = Arm(label="-", methods=list(methods), horizon=Horizon(epochs=1.0))
    return fit(task, arm, 0, Clock(CPU)), sizes


def test_a_task_of_four_methods_trains_and_learns() -> None:
    fitted, sizes = trained(epochs=40)
    assert set(sizes) == {16}
    assert fitted.metrics["test_loss"] < 0.3  # the variance of x^2 on the interval is 1.4
    assert fitted.cost.total.examples == 40 * 96
    # Two layers: 2 x 16 multiply-adds forward; backward the same for the weights, and for the second layer's input.
    assert fitted.cost.total.flops == 40 * 96 * (2 * (16 + 16) + 2 * (16 + 16) + 2 * 16)


def test_a_batch_that_grows_makes_fewer_updates_of_as_many_examples() -> None:
    fitted, sizes = trained(GROWING)
    # Two epochs each of batches of 16, 32 and 64: 2 x 6, 2 x 3, and 64 + 32 twice.
    assert sizes == [16] * 12 + [32] * 6 + [64, 32] * 2
    assert (fitted.cost.total.updates, fitted.cost.total.examples) == (22, 576)


def test_infobatch_a_growing_batch_and_ghost_batch_norm_go_together_and_costs_add_up() -> None:
    fitted, sizes = trained(INFOBATCH, GROWING, GHOST, epochs=8)
    kept = [row["value"] for row in fitted.rows if row["metric"] == "kept_fraction"]
    assert kept[0] == 1.0
    assert all(share < 1 for share in kept[1:7])
    assert kept[7] == 1.0  # seven of eight epochs prune, but for the first
    assert max(sizes) == 64
    assert sum(sizes) == fitted.cost.total.examples == sum(round(96 * share) for share in kept)
    assert len(sizes) == fitted.cost.total.updates
    assert any(isinstance(module, nn.BatchNorm1d) and hasattr(module, "ghost_size") for module in fitted.model.modules())
    alone, _ = trained(INFOBATCH, epochs=8)
    assert fitted.cost.total.updates < alone.cost.total.updates
    total = fitted.cost.learner + fitted.cost.scoring + fitted.cost.earlier
    assert total == fitted.cost.total


def test_a_proxys_cost_is_part_of_the_whole_and_of_every_row() -> None:
    with pytest.raises(ScrimpError, match="Squares gives no class logits"):
        trained({"name": "el2n", "ratio": 0.5, "models": 1, "horizon": 0.5})


def test_an_arm_has_one_selector_at_most() -> None:
    with pytest.raises(ScrimpError, match="infobatch and rs2 both choose the examples"):
        Methods.of([INFOBATCH, {"name": "rs2", "ratio": 0.5}], 96, 16, 0)


def test_sub_batches_of_one_size_do_not_grow() -> None:
    jest = {"name": "jest", "ratio": 0.5, "method": "hard-learner", "chunks": 4}
    with pytest.raises(ScrimpError, match="jest chooses sub-batches of one size: it does not go with a batch that grows"):
        Methods.of([jest, GROWING], 96, 16, 0)


def test_parts_of_a_batch_add_up_for_every_task() -> None:
    whole, _ = trained(INFOBATCH)
    parts, sizes = trained(INFOBATCH, micro_batch=16)
    assert max(sizes) == 16
    assert whole.metrics["test_loss"] == parts.metrics["test_loss"]  # one part of 16
    _, in_sixes = trained(micro_batch=6)
    assert set(in_sixes) == {6, 4}


def test_losses_that_are_no_losses_of_examples_are_told_so() -> None:
    class Mean(Squares):
        def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return super().losses(model, batch).mean()

    workload = Workload(recipe=Recipe(optimizer="sgd", learning_rate=0.1), epochs=1, arms=[])
    task = Mean(workload, Place(CPU))
    task.setup(None)
    with pytest.raises(ScrimpError, match=r"Mean.losses gave a tensor of shape \(\), not one value an example"):
        task.loss(task.model(0), task.batch("train", torch.arange(4)), None, 1.0)


EXAMPLE = Path(__file__).parents[2] / "examples" / "denoising"


def test_the_example_is_a_file_of_at_most_a_hundred_lines() -> None:
    assert len((EXAMPLE / "denoising.py").read_text().splitlines()) <= 100
