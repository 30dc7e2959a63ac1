"""LARS and LAMB against steps worked out by hand, and the round trip of every optimiser's state."""

from __future__ import annotations

import math
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scrimp.config import Recipe
from scrimp.errors import ScrimpError
from scrimp.training.optimizers import (
    LAMB,
    LARS,
    AdamW,
    AnyOptimizer,
    OwnOptimizer,
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
    trust_ratio,
)

NAMES = ["sgd", "adamw", "lars", "lamb"]


def weight(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([values]))  # [1, n]: a matrix, as far as the optimisers are concerned


def stepped(optimizer: Optimizer, parameter: nn.Parameter, *gradient: float) -> list[float]:
    parameter.grad = torch.tensor([gradient])
    optimizer.step()
    values: list[float] = parameter.detach()[0].tolist()
    return values


# ------------------------------------------------------------------------------------------------------------------ LARS
def test_lars_by_hand() -> None:
    w = weight(3.0, 4.0)
    optimizer = LARS([w], lr=0.6, momentum=0.9, weight_decay=0.1, trust=0.01)
    # |w| = 5, |g| = 1: local rate .01 x 5 / (1 + .1 x 5) = 1/30; g + .1 w = (.3, 1.4); times .6 / 30 = .02.
    assert stepped(optimizer, w, 0.0, 1.0) == pytest.approx([3 - 0.006, 4 - 0.028])
    # The learning rate is in the buffer: at rate 0 the old buffer still moves the weights, by .9 of it.
    set_learning_rate(optimizer, 0.0)
    assert stepped(optimizer, w, 7.0, 7.0) == pytest.approx([3 - 0.006 * 1.9, 4 - 0.028 * 1.9])


def test_lars_step_does_not_depend_on_the_gradients_size() -> None:
    steps = []
    for scale in (1.0, 1000.0):
        w = weight(3.0, 4.0)
        steps.append(stepped(LARS([w], lr=1.0, trust=0.1), w, 0.6 * scale, -0.8 * scale))
    assert steps[0] == pytest.approx(steps[1])
    assert steps[0] == pytest.approx([3 - 0.5 * 0.6, 4 + 0.5 * 0.8])  # .1 x 5 along the gradient's direction


def test_lars_of_zero_weights_takes_the_plain_step() -> None:
    w = weight(0.0, 0.0)
    assert stepped(LARS([w], lr=0.5, trust=0.001), w, 2.0, -4.0) == [-1.0, 2.0]


def test_lars_of_zero_gradient_stays() -> None:
    w = weight(3.0, 4.0)
    assert stepped(LARS([w], lr=0.5), w, 0.0, 0.0) == [3.0, 4.0]


def test_lars_without_adaptation_is_sgd_with_momentum() -> None:
    mine, torchs = weight(1.0, -2.0), weight(1.0, -2.0)
    lars = LARS([{"params": [mine], "adapt": False}], lr=0.1, momentum=0.9, weight_decay=0.01)
    sgd = torch.optim.SGD([torchs], lr=0.1, momentum=0.9, weight_decay=0.01)
    for gradient in ((1.0, 2.0), (-3.0, 0.5), (0.2, 0.0)):
        assert stepped(lars, mine, *gradient) == pytest.approx(stepped(sgd, torchs, *gradient))


# ------------------------------------------------------------------------------------------------------------------ LAMB
def test_lamb_by_hand() -> None:
    w = weight(3.0, 4.0)
    optimizer = LAMB([w], lr=0.01, betas=(0.9, 0.999), weight_decay=0.1)
    # First step: bias-corrected moments are g and g^2, so the update is sign(g) + .1 w = (1.3, -.6).
    rate = 0.01 * 5 / math.hypot(1.3, 0.6)
    first = [3 - rate * 1.3, 4 + rate * 0.6]
    assert stepped(optimizer, w, 1.0, -2.0) == pytest.approx(first, rel=1e-5)
    # Second step with g = (1, 0): moments (.09 + .1) / .19 = 1 and -.18 / .19; squares 1 and .003996 / .001999.
    update = [1 + 0.1 * first[0], -0.18 / 0.19 / math.sqrt(0.003996 / 0.001999) + 0.1 * first[1]]
    rate = 0.01 * math.hypot(*first) / math.hypot(*update)
    second = [first[0] - rate * update[0], first[1] - rate * update[1]]
    assert stepped(optimizer, w, 1.0, 0.0) == pytest.approx(second, rel=1e-5)


def test_lamb_without_adaptation_is_adamw() -> None:
    mine, torchs = weight(1.0, -2.0), weight(1.0, -2.0)
    lamb = LAMB([{"params": [mine], "adapt": False}], lr=0.1, weight_decay=0.2)
    adamw = torch.optim.AdamW([torchs], lr=0.1, weight_decay=0.2, eps=1e-6)
    for gradient in ((1.0, 2.0), (-3.0, 0.5), (0.2, 0.0)):
        assert stepped(lamb, mine, *gradient) == pytest.approx(stepped(adamw, torchs, *gradient), rel=1e-5)


@pytest.mark.parametrize(
    ("parameter", "update", "ratio"),
    [([3.0, 4.0], [0.0, 2.0], 2.5), ([0.0, 0.0], [0.0, 2.0], 1.0), ([3.0, 4.0], [0.0, 0.0], 1.0)],
)
def test_trust_ratio_by_hand(parameter: list[float], update: list[float], ratio: float) -> None:
    assert trust_ratio(torch.tensor(parameter), torch.tensor(update)).item() == ratio


@pytest.mark.parametrize("kind", [LARS, LAMB])
def test_closures_are_refused_and_missing_gradients_skipped(kind: type[LARS] | type[LAMB]) -> None:
    w = weight(1.0)
    optimizer = kind([w], lr=0.1)
    optimizer.step()
    assert w.tolist() == [[1.0]]
    with pytest.raises(ValueError, match=f"{kind.__name__} takes no closure"):
        optimizer.step(lambda: 0.0)


# -------------------------------------------------------------------------------------------------------- by the recipe
class Small(nn.Module):
    """Parameters of 4, 2, 1 and 0 dimensions; the last as a contrastive model's temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.head(self.norm(self.conv(pixels)).relu().mean(dim=(2, 3))) * self.temperature
        return scores


def recipe(name: str, **changes: Any) -> Recipe:
    return Recipe(**{"optimizer": name, "learning_rate": 0.05, "weight_decay": 0.1, **changes})


def test_sgd_decays_everything() -> None:
    optimizer = build_optimizer(Small(), recipe("sgd", momentum=0.8, nesterov=True))
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.05, 0.8, True, 0.1)
    assert len(group["params"]) == 6


def test_adamw_is_torchs_to_the_bit_and_goes_on_from_its_state() -> None:
    ours, theirs = Small(), Small()
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, recipe("adamw", betas=(0.8, 0.95)))
    groups = [{**group, "params": []} for group in optimizer.param_groups]
    names = {id(parameter): name for name, parameter in ours.named_parameters()}
    for group, of in zip(groups, optimizer.param_groups, strict=True):
        group["params"] = [dict(theirs.named_parameters())[names[id(parameter)]] for parameter in of["params"]]
    expected = torch.optim.AdamW(groups, fused=True)
    for step in range(6):
        pixels = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        for model, stepping in ((ours, optimizer), (theirs, expected)):
            model(pixels).square().sum().backward()
            stepping.step()
            stepping.zero_grad()
        if step == 2:
            kept = {name: value.clone() for name, value in optimizer_tensors(optimizer).items()}
            optimizer = build_optimizer(ours, recipe("adamw", betas=(0.8, 0.95)))
            restore_optimizer(optimizer, kept)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, dict(ours.named_parameters())[name]), name


def test_shares_of_the_learning_rate_make_groups_that_keep_them() -> None:
    model = Small()
    scales = {name: 0.25 if name == "conv.weight" else 1.0 for name, _ in model.named_parameters()}
    optimizer = build_optimizer(model, recipe("adamw"), scales)
    set_learning_rate(optimizer, 0.4)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in model.named_parameters()} == {
        name: 0.1 if name == "conv.weight" else 0.4 for name in scales
    }
    with pytest.raises(ScrimpError, match="lars takes one learning rate"):
        build_optimizer(model, recipe("lars"), scales)


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("lars", LARS), ("lamb", LAMB)])
def test_the_others_spare_biases_and_norms(name: str, kind: type) -> None:
    model = Small()
    optimizer = build_optimizer(model, recipe(name))
    assert type(optimizer) is kind
    decayed, spared = optimizer.param_groups
    assert [id(p) for p in decayed["params"]] == [id(model.conv.weight), id(model.head.weight)]
    assert {id(p) for p in spared["params"]} == {
        *(id(model.norm.weight), id(model.norm.bias), id(model.head.bias), id(model.temperature))
    }
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    if name != "adamw":
        assert (decayed["adapt"], spared["adapt"]) == (True, False)


def test_the_recipes_momentum_reaches_lars() -> None:
    assert {group["momentum"] for group in build_optimizer(Small(), recipe("lars", momentum=0.7)).param_groups} == {0.7}


def test_set_learning_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(Small(), recipe("adamw"))
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


# ------------------------------------------------------------------------------------------------------------ round trip
def fresh() -> Small:
    torch.manual_seed(3)
    return Small().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train(model: Small, optimizer: AnyOptimizer, steps: range) -> None:
    for step in steps:
        pixels = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(step))
        set_learning_rate(optimizer, 0.05 / (1 + step))
        model(pixels).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def values(model: nn.Module) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("through_file", [True, False], ids=["file", "memory"])
@pytest.mark.parametrize("name", NAMES)
def test_a_restored_optimiser_goes_on_identically(name: str, through_file: bool) -> None:
    model, restored = fresh(), fresh()
    optimizer, other = build_optimizer(model, recipe(name)), build_optimizer(restored, recipe(name))
    train(model, optimizer, range(3))
    restored.load_state_dict(model.state_dict())
    tensors = optimizer_tensors(optimizer)
    if through_file:
        flat = {key: value.contiguous() for key, value in tensors.items()}
        tensors = safetensors.torch.load(safetensors.torch.save(flat))
    restore_optimizer(other, tensors)
    train(model, optimizer, range(3, 6))  # must not move what the other was given
    train(restored, other, range(3, 6))
    assert values(restored) == values(model)


@pytest.mark.parametrize("name", NAMES)
def test_restored_tensors_lie_as_their_parameters_do(name: str) -> None:
    model, restored = fresh(), fresh()
    optimizer, other = build_optimizer(model, recipe(name)), build_optimizer(restored, recipe(name))
    train(model, optimizer, range(1))
    restore_optimizer(other, {key: value.contiguous() for key, value in optimizer_tensors(optimizer).items()})
    moments = [value for key, value in other.state[restored.conv.weight].items() if key != "step"]
    assert moments
    assert all(moment.stride() == restored.conv.weight.stride() for moment in moments)


def test_names_of_the_state() -> None:
    model = fresh()
    optimizer = build_optimizer(model, recipe("lamb"))
    assert optimizer_tensors(optimizer) == {}
    train(model, optimizer, range(2))
    tensors = optimizer_tensors(optimizer)
    assert set(tensors) == {f"{part}.{number}" for part in ("step", "exp_avg", "exp_avg_sq") for number in range(6)}
    assert {tensors[f"step.{number}"].item() for number in range(6)} == {2.0}


class Decaying(torch.optim.Optimizer):
    """Keeps a number beside a parameter and one in its group, a moment of another type, and sums over rows."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "share": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["share"] *= 0.9
            for parameter in group["params"]:
                assert parameter.grad is not None
                state = self.state[parameter]
                if not state:
                    state |= {"calls": 0, "rows": parameter.new_zeros(parameter.shape[:1])}
                    state["moment"] = torch.zeros_like(parameter, dtype=torch.float64)
                state["calls"] += 1
                assert isinstance(state["calls"], int)
                state["rows"] += parameter.grad.flatten(1).sum(dim=1) if parameter.ndim > 1 else 0 * state["rows"]
                state["moment"] += parameter.grad
                parameter -= (group["lr"] * group["share"] / state["calls"] * state["moment"]).to(parameter.dtype)


OWN = [Decaying, torch.optim.NAdam, torch.optim.Adafactor, torch.optim.Rprop, torch.optim.ASGD]


@pytest.mark.parametrize("kind", OWN)
def test_an_optimiser_of_ones_own_is_restored_and_goes_on_identically(kind: Any) -> None:
    model, restored = fresh(), fresh()
    optimizer, other = (OwnOptimizer(kind(one.parameters(), lr=0.01), 0.05) for one in (model, restored))
    train(model, optimizer, range(3))
    restored.load_state_dict(model.state_dict())
    tensors = optimizer_tensors(optimizer)
    tensors = safetensors.torch.load(safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()}))
    restore_optimizer(other, tensors)
    train(model, optimizer, range(3, 6))
    train(restored, other, range(3, 6))
    assert values(restored) == values(model)


def test_the_schedule_scales_the_rates_of_ones_own_groups() -> None:
    model = fresh()
    groups = [{"params": model.conv.parameters(), "lr": 0.02}, {"params": model.head.parameters()}]
    optimizer = OwnOptimizer(torch.optim.SGD(groups, lr=0.1), learning_rate=0.05)
    set_learning_rate(optimizer, 0.05)  # the peak
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.1])
    set_learning_rate(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.05])


def test_an_optimiser_that_needs_a_closure_is_an_error() -> None:
    with pytest.raises(ScrimpError, match="whose step needs no closure"):
        OwnOptimizer(torch.optim.LBFGS(fresh().parameters()), 0.1)
