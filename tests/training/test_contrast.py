"""Training on image-text pairs: candidates, bit-identical repeats, resuming, costs, two processes that train as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from scrimp.config import Horizon, Schedule
from scrimp.config.tasks import ImageTextRecipe, ImageTextWorkload
from scrimp.data.pairs import Pairs
from scrimp.data.tables import Frame
from scrimp.flops import TowerFlops, tower_flops
from scrimp.measure.clock import Clock
from scrimp.measure.retrieval import retrieval
from scrimp.methods import jest
from scrimp.methods.batch import BatchSelector
from scrimp.methods.combined import Methods
from scrimp.models.contrastive import TwoTowers, build_two_towers
from scrimp.seeding import candidates_of
from scrimp.tasks.image_text import ImageText
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.contrast import embed, own_losses, softmax_loss
from scrimp.training.loop import backward, train
from scrimp.training.losses import sigmoid_loss
from scrimp.training.place import Place
from scrimp.training.proxy import score_examples
from scrimp.training.reference import Reference
from scrimp.training.session import Trace

CPU = Place(torch.device("cpu"))
OPTIONS = {"size": 8, "length": 3, "patch": 2, "finest_patch": 2, "image": (16, 1, 2), "text": (16, 1, 2), "width_out": 8}
FLOPS = TowerFlops({2: 100.0, 4: 30.0}, 10.0, 8)
RECIPE = ImageTextRecipe(optimizer="adamw", learning_rate=0.01, weight_decay=0.0, batch_size=8)
# Plain gradient descent, whose steps are gradients: AdamW makes a step of the rounding of one that is zero.
DESCENT = RECIPE.model_copy(
    update={"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0, "schedule": Schedule(name="constant", warmup=0.0)}
)


def pairs(count: int = 40) -> Pairs:
    """Distinct pictures, each with a caption of its own."""
    draws = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (count + 5, 8, 8, 3), dtype=torch.uint8, generator=draws)
    rows = torch.randperm(count + 5, generator=draws)[:count]
    tokens = torch.stack([1 + torch.arange(count) % 7, 8 + torch.arange(count) // 7, torch.zeros(count).long()], dim=1)
    return Pairs(pixels, rows, tokens)


def towers(seed: int = 0) -> TwoTowers:
    return build_two_towers(20, seed, OPTIONS)


class InMemory(ImageText):
    """The task over `pairs()`, with costs by hand."""

    def __init__(self, recipe: ImageTextRecipe, steps: int = 10) -> None:
        super().__init__(ImageTextWorkload(recipe=recipe, steps=steps, arms=[]), CPU)
        self.data, self.patch, self.towers = {"pool": pairs()}, 2, FLOPS
        self.watch: Any = None

    def on_choice(self) -> Any:
        return self.watch


def selector_of(spec: dict[str, Any], seed: int = 0) -> BatchSelector:
    selector: BatchSelector = Methods.of([spec], 40, 8, seed).selector
    return selector


def trained(
    selector: BatchSelector,
    steps: int = 6,
    recipe: ImageTextRecipe = RECIPE,
    seed: int = 0,
    on_choice: Any = None,
    **options: Any,
) -> tuple[TwoTowers, Trace]:
    model, task = towers(seed), InMemory(recipe)
    task.watch = on_choice
    methods = Methods({"selector": selector})
    session = train(task, model, methods, recipe, Budget("steps", steps), seed, clock=Clock(CPU.device), **options)
    return model, session.trace


def joint(seed: int = 0, **changes: Any) -> BatchSelector:
    return selector_of({"name": "jest", "ratio": 0.5, "reference": "r", "chunks": 4, **changes}, seed)


def reference() -> Reference:
    model = towers(77)
    return Reference(embed(model, pairs(), torch.arange(40), None, CPU), model)


def weights(model: TwoTowers) -> Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


# ------------------------------------------------------------------------------------------------------------ candidates
@pytest.mark.parametrize(("size", "count"), [(10, 3), (7, 7), (5, 12), (100, 30)])
def test_candidates_walk_through_the_pool_and_every_pass_has_each_pair_once(size: int, count: int) -> None:
    steps = -(-3 * size // count)
    drawn = torch.cat([candidates_of(size, count, 4, step) for step in range(steps)])
    for first in range(0, 3 * size, size):
        assert sorted(drawn[first : first + size].tolist()) == list(range(size))
    assert drawn[:size].tolist() != drawn[size : 2 * size].tolist()
    assert torch.equal(candidates_of(size, count, 4, 1), candidates_of(size, count, 4, 1))
    assert not torch.equal(candidates_of(100, 50, 4, 0), candidates_of(100, 50, 5, 0))


class Pruned(InMemory):
    """With models of its own, and pairs of two icon sets."""

    def __init__(self) -> None:
        super().__init__(RECIPE, steps=10)
        sets = ["one", "two"] * 20 + ["three"]
        samples = pd.DataFrame({"split": ["pool"] * 40 + ["test"], "set": sets})
        self.known: Any = SimpleNamespace(table=Frame(samples), splits={})

    def model(self, seed: int) -> TwoTowers:
        return towers(seed)


def test_pairs_are_pruned_by_their_pictures_and_trained_on_by_epochs() -> None:
    task = Pruned()
    assert task.labels.tolist() == [0, 1] * 20
    spec = {"name": "prototypes", "ratio": 0.5, "clusters": 4, "horizon": 0.4}
    selector = Methods.of([spec], 40, 8, 0, "image-text").selector
    scores = score_examples(selector.scoring(), task, 0)
    # 10 steps of 8 are two epochs of 40 pairs; .4 of them are 4 steps of 8 pairs, two views each.
    assert (scores.proxies.updates, scores.proxies.examples) == (4, 2 * 8 * 4)
    # The image tower alone: 3 x 100 FLOPs a view beside the projection's.
    heads = 6 * 2 * 8 * (16 * 16 + 16 * 64) + 6 * 16**2 * 64
    assert scores.proxies.flops == 4 * (2 * 8 * 300 + heads)
    assert scores.scoring.flops >= 40 * 100
    selector.accept_scores(scores.values, task.labels)
    kept = selector.select(0, 0.0).indices
    assert len(kept) == 20
    trained_on: list[Tensor] = []
    session = train(
        task, towers(), Methods({"prototypes": selector}), RECIPE, Budget("examples", 80), 0,
        clock=Clock(CPU.device), on_batch=trained_on.append,
    )  # fmt: skip
    # Four passes over the kept half; a pass is two batches of 8 and one of 4.
    assert torch.cat(trained_on).bincount(minlength=40).tolist() == [4 * (pair in kept.tolist()) for pair in range(40)]
    assert session.spent.steps == 12


# ------------------------------------------------------------------------------------------------------------- training
@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
@pytest.mark.parametrize("weighted", [False, True])
def test_towers_may_embed_few_pairs_at_a_time_for_the_gradients_of_the_whole_batch(loss: str, weighted: bool) -> None:
    weights_of = torch.linspace(0.5, 2.0, 9) if weighted else None
    gradients, losses, embedded = [], [], list[int]()
    for most in (None, 2, 9):
        recipe = RECIPE.model_copy(update={"loss": loss, "patches": [2, 4], "micro_batch": most})
        task, model = InMemory(recipe), towers()
        model.image_tower.register_forward_hook(lambda _, inputs, result: embedded.append(len(result)))
        batch = task.batch("pool", torch.arange(9))
        assert task.workload.recipe.micro_batch is None  # the loop's, which would take the losses of the parts
        value, _ = backward(task, model, batch, weights_of, 1 / 9, task.workload.recipe.micro_batch)
        losses.append(float(value))
        gradients.append(torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]))
    assert embedded == [5, 4, *[2, 2, 1, 2, 2], *reversed([2, 2, 1, 2, 2]), 5, 4]
    largest = float(gradients[0].abs().max())
    print(f"difference {float((gradients[1] - gradients[0]).abs().max()):.1e} of {largest:.1e}")
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6 * largest, rtol=1e-5)
    assert torch.equal(gradients[2], gradients[0])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] == losses[0]


def test_uniform_training_learns_to_tell_pairs_apart() -> None:
    model, trace = trained(selector_of({"name": "uniform"}), steps=150)
    seen = embed(model, pairs(), torch.arange(40), None, CPU)
    before = embed(towers(), pairs(), torch.arange(40), None, CPU)
    assert retrieval(before.image, before.text)["r5"] < 30  # 12.5 by chance
    assert retrieval(seen.image, seen.text)["r5"] > 90
    assert (trace.spent.steps, trace.spent.examples) == (150, 1200)


def test_the_same_run_gives_the_same_bits_and_another_seed_others() -> None:
    first, second = (weights(trained(joint(), reference=reference())[0]) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, weights(trained(joint(seed=1), reference=reference(), seed=1)[0]))


class StopHereError(Exception):
    """Thrown after a step, as a kill would be."""


@pytest.mark.parametrize("patches", [[], [2, 4]])
def test_a_killed_run_ends_as_if_it_had_not_been_killed(tmp_path: Path, patches: list[int]) -> None:
    recipe = RECIPE.model_copy(update={"patches": patches})
    seen: list[list[int]] = []

    def note(chosen: Tensor, fraction: float) -> dict[str, float]:
        seen.append(chosen.tolist())
        return {"noted": fraction}

    options: dict[str, Any] = {"recipe": recipe, "reference": reference(), "on_choice": note}
    options |= {"evaluate": lambda model: {"sum": float(weights(model).sum())}, "evaluate_times": 3}
    whole, trace = trained(joint(), **options)
    choices, seen[:] = list(seen), []

    def stop(fraction: float) -> None:
        if fraction > 0.6:
            raise StopHereError

    kept = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_key": "k", "checkpoint_every": 0.0}
    with pytest.raises(StopHereError):
        trained(joint(), on_progress=stop, **options, **kept)
    assert len(seen) == 4
    resumed, again = trained(joint(), **options, **kept)
    assert len(seen) == 4 + 3  # the fourth step was not saved
    assert seen[4:] == choices[3:]
    assert torch.equal(weights(whole), weights(resumed))
    costless = [[{**row, "seconds": 0} for row in rows] for rows in (trace.rows, again.rows)]
    assert costless[0] == costless[1]
    assert (trace.resumed, again.resumed) == (False, True)
    # A checkpoint of another recipe is not gone on from.
    assert trained(joint(), **{**options, **kept, "checkpoint_key": "other"})[1].resumed is False


def test_the_reference_live_or_cached_gives_the_same_choice() -> None:
    cached = trained(joint(), reference=reference())[0]
    assert torch.equal(weights(cached), weights(trained(joint(live=True), reference=reference())[0]))
    # And it matters: without a reference other pairs are chosen.
    alone = selector_of({"name": "jest", "ratio": 0.5, "method": "hard-learner", "chunks": 4})
    assert not torch.equal(weights(cached), weights(trained(alone)[0]))


def test_what_is_trained_on_is_what_the_selector_chose_by_the_learner_before_the_step() -> None:
    seen: list[Tensor] = []

    def keep(chosen: Tensor, _: float) -> dict[str, float]:
        seen.append(chosen)
        return {}

    trained(joint(scoring_patch=4), steps=1, reference=reference(), on_choice=keep)
    drawn = candidates_of(40, 16, 0, 0)
    learner = embed(towers(), pairs(), drawn, 4, CPU)
    known = embed(towers(77), pairs(), drawn, None, CPU)
    expected = jest.select(learner, known, 8, 4, generator=jest.derived_generator(0, 0, "jest"))
    assert torch.equal(seen[0], drawn[expected])


def test_two_resolutions_share_every_batch_pair_by_pair() -> None:
    """One step of plain gradient descent is the step on a loss whose odd pairs are embedded in coarse patches."""
    recipe = DESCENT.model_copy(update={"patches": [2, 4]})
    model, _ = trained(selector_of({"name": "uniform"}), steps=1, recipe=recipe)
    plain, data = towers(), pairs()
    at = candidates_of(40, 8, 0, 0)
    x = data.images(at).permute(0, 3, 1, 2).float() / 127.5 - 1
    embedded = [plain.embed_images(x[n : n + 1], 4 if n % 2 else 2) for n in range(8)]
    logits = plain.log_scale.exp() * torch.cat(embedded) @ plain.embed_texts(data.captions(at)).T + plain.bias
    signs = 2 * torch.eye(8) - 1
    (torch.nn.functional.softplus(-signs * logits).sum() / 8).backward()
    stepped = [parameter - 0.1 * parameter.grad for parameter in plain.parameters() if parameter.grad is not None]
    for mine, expected in zip(model.parameters(), stepped, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_the_softmax_loss_is_clips() -> None:
    draws = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(6, 4, generator=draws), dim=1) for _ in range(2))
    of_rows = [-torch.log_softmax(5 * image[i] @ text.T, dim=0)[i] for i in range(6)]
    of_columns = [-torch.log_softmax(5 * image @ text[i], dim=0)[i] for i in range(6)]
    expected = (sum(of_rows) + sum(of_columns)) / 12
    torch.testing.assert_close(softmax_loss(image, text, torch.tensor(5.0)), expected)
    soft, _ = trained(selector_of({"name": "uniform"}), recipe=RECIPE.model_copy(update={"loss": "softmax"}))
    assert not torch.equal(weights(soft), weights(trained(selector_of({"name": "uniform"}))[0]))


# ---------------------------------------------------------------------------------------------------------------- costs
def test_costs_are_counted_step_by_step() -> None:
    uniform, task = selector_of({"name": "uniform"}), InMemory(RECIPE)
    _, trace = trained(uniform, steps=5, evaluate=lambda _: {"x": 1.0}, evaluate_times=5)
    assert trace.spent.flops == pytest.approx(5 * 3 * 8 * (100 + 10 + 2 * 8 * 8))
    assert [row["examples"] for row in trace.rows if row["metric"] == "x"] == [8, 16, 24, 32]  # the end is the caller's
    assert FLOPS.training(8, [2, 4]) == 3 * 8 * (65 + 10 + 128)
    assert task.scoring_flops(uniform) == 0
    chosen = joint(scoring_patch=4)
    # 16 candidates in coarse patches; chunks of 2: 2 x (14 + 12 + 10) products both ways and 16 of the pairs, two models.
    products = 2 * (2 * 2 * (14 + 12 + 10) + 16) * 2 * 8
    assert task.scoring_flops(chosen) == 16 * (30 + 10) + products
    assert task.scoring_flops(joint(live=True)) == 2 * 16 * (100 + 10) + products
    easy = joint(method="easy-reference")
    assert task.scoring_flops(easy) == products / 2
    once = joint(choice="independent")
    assert task.scoring_flops(once) == 16 * 110 + 2 * 16 * 2 * 8
    _, trace = trained(chosen, steps=5, reference=reference())
    assert trace.spent.flops_scoring == pytest.approx(5 * task.scoring_flops(chosen))
    assert trace.spent.flops == pytest.approx(5 * (3 * 8 * (100 + 10 + 128) + task.scoring_flops(chosen)))
    assert (trace.spent.drawn, trace.spent.scored) == (80, 80)


def test_forward_passes_are_counted_by_patch_side() -> None:
    counted = tower_flops(towers(), 8, 3, [2, 4])
    # Width 16, one block: per token 12 x 16^2 multiply-adds, attention 2 x L^2 x 16, patches 3 p^2 x 16, head 16 x 8.
    for patch, tokens in ((2, 16), (4, 4)):
        adds = tokens * (12 * 256 + 3 * patch**2 * 16) + 2 * tokens**2 * 16 + 128
        assert counted.image[patch] == pytest.approx(2 * adds, rel=1e-6)
    assert counted.text == pytest.approx(2 * (3 * 12 * 256 + 2 * 9 * 16 + 128), rel=1e-6)
    assert counted.width == 8


@pytest.mark.parametrize(("axis", "amount"), [("steps", 20), ("examples", 160), ("epochs", 20), ("flops", 1000.0)])
def test_horizons_of_a_recipe_of_steps(axis: str, amount: float) -> None:
    workload = InMemory(RECIPE, steps=10).workload
    budget = Budget.of(Horizon(**{axis: 2.0}), workload, 40, 5.0, by_epochs=False, scoring=10.0)  # type: ignore[arg-type]
    assert (budget.axis, budget.amount) == (axis, amount)


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
def test_a_pairs_shares_add_up_to_the_batchs_loss(loss: str) -> None:
    draws = torch.Generator().manual_seed(0)
    image, text = (nn.functional.normalize(torch.randn(6, 4, generator=draws), dim=1) for _ in range(2))
    scale, bias = torch.tensor(5.0), torch.tensor(-2.0)
    whole = sigmoid_loss(image, text, scale, bias) if loss == "sigmoid" else softmax_loss(image, text, scale)
    torch.testing.assert_close(own_losses(image, text, scale, bias, loss).mean(), whole)


def test_losses_of_pairs_come_in_the_order_of_the_batch_whatever_the_patches() -> None:
    task, fine = InMemory(RECIPE.model_copy(update={"patches": [2, 2]})), InMemory(RECIPE)
    batch = task.batch("pool", torch.arange(7))
    torch.testing.assert_close(task.losses(towers(), batch), fine.losses(towers(), batch))


# ------------------------------------------------------------------------------------------------------- two processes
def begin(rank: int, world: int, path: str, work: Callable[[int, str], None]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{path}/meeting", rank=rank, world_size=world)
    torch.set_num_threads(1)
    try:
        work(rank, path)
    finally:
        dist.destroy_process_group()


def choose(rank: int, path: str) -> None:
    seen: list[list[int]] = []

    def keep(chosen: Tensor, _: float) -> dict[str, float]:
        seen.append(chosen.tolist())
        return {}

    recipe = RECIPE.model_copy(update={"patches": [2, 4]})
    model, trace = trained(joint(), recipe=recipe, reference=reference(), on_choice=keep)
    told = {"choices": seen, "examples": trace.spent.examples, "weights": weights(model).tolist()}
    (Path(path) / f"rank{rank}.json").write_text(json.dumps(told))


@pytest.mark.slow
def test_two_processes_choose_alike_and_train_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(begin, args=(2, str(tmp_path), choose), nprocs=2)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    seen: list[list[int]] = []

    def keep(chosen: Tensor, _: float) -> dict[str, float]:
        seen.append(chosen.tolist())
        return {}

    # Each process interleaves the patch sides of its own part: 0, 2, 4, ... fine, coarse, fine; so the sides of pairs
    # differ from one process's, but the choices and the amount do not depend on that in the first step.
    trained(joint(), recipe=RECIPE.model_copy(update={"patches": [2, 4]}), reference=reference(), on_choice=keep)
    assert first["choices"][0] == seen[0]
    assert first["examples"] == 48


def gather(rank: int, path: str) -> None:
    batch = torch.arange(10.0).view(5, 2)[:4]
    assert torch.equal(parallel.gathered_rows(batch[parallel.part_of(4)[0]]), batch)
    model, _ = trained(joint(), recipe=DESCENT, reference=reference())
    (Path(path) / f"rank{rank}.json").write_text(json.dumps(weights(model).tolist()))


@pytest.mark.slow
def test_two_processes_at_one_resolution_end_with_one_processs_weights(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(begin, args=(2, str(tmp_path), gather), nprocs=2)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    alone = weights(trained(joint(), recipe=DESCENT, reference=reference())[0])
    assert float((alone - weights(towers())).abs().max()) > 0.01
    torch.testing.assert_close(torch.tensor(first), alone, rtol=1e-4, atol=1e-6)
