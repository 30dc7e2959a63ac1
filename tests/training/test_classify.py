"""The classification loop: what it counts, what it visits, that it learns, and that it goes on as if never stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from scrimp.config import Augmentation, Horizon, Schedule
from scrimp.config.tasks import ClassificationRecipe, ClassificationWorkload
from scrimp.data.loading import Images, Normalisation, augmented
from scrimp.errors import ScrimpError
from scrimp.flops import ExampleFlops
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.models import vision
from scrimp.seeding import derived_generator, epoch_order
from scrimp.tasks.classification import Classification
from scrimp.training.budget import Budget, Spent
from scrimp.training.checkpoint import load_checkpoint, save_checkpoint
from scrimp.training.loop import train
from scrimp.training.place import Place
from scrimp.training.session import Trace

CPU = torch.device("cpu")
FLOPS = ExampleFlops(forward=10.0, training=30.0)
PLAIN = Normalisation(torch.zeros(3), torch.ones(3))
FROZEN = 1e-30  # a learning rate that moves no weight by as much as rounding does


def noisy_colours(count: int = 72, side: int = 8, seed: int = 0) -> Images:
    """Pictures whose strongest channel is the label, with noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 180, (count, side, side, 3), generator=generator)
    pixels[torch.arange(count), :, :, labels] += 40
    return Images(pixels.to(torch.uint8), labels)


def linear(classes: int = 3, side: int = 8) -> nn.Module:
    """Logits are zero until something is learnt."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    return model


def fixed_losses(images: Images, easy: int) -> nn.Module:
    """A model that is sure and right about the first `easy` examples' pictures, and sure and wrong about the others."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            marked = x[:, :, 0, 0] * 255  # red: label, green: is it easy
            label, is_easy = marked[:, 0].round().long(), marked[:, 1] > 0.5
            return 2 * nn.functional.one_hot(torch.where(is_easy, label, (label + 1) % 3), 3).float() + self.bias

    images.pixels[:, 0, 0, 0] = images.labels.to(torch.uint8)
    images.pixels[:, 0, 0, 1] = (torch.arange(len(images)) < easy).to(torch.uint8)
    return Fixed()


def task_of(splits: dict[str, Images], recipe: ClassificationRecipe, epochs: float, place: Place) -> Classification:
    """A task over pictures in memory, whose examples cost FLOPS."""
    task = Classification(ClassificationWorkload(recipe=recipe, epochs=epochs, arms=[]), place)
    task.use(splits, 3, PLAIN)
    task.__dict__["flops"] = FLOPS
    return task


def run(
    selector: dict[str, Any],
    horizon: Horizon | None = None,
    *,
    images: Images | None = None,
    model: nn.Module | None = None,
    epochs: float = 4,
    seed: int = 0,
    place: Place | None = None,
    held_out: Images | None = None,
    methods: list[dict[str, Any]] | None = None,
    options: dict[str, Any] | None = None,
    **recipe: Any,
) -> Trace:
    """Train on `images` by default a linear model that does not move, in batches of 16, without augmentation."""
    images = noisy_colours() if images is None else images
    keys = {"optimizer": "sgd", "learning_rate": FROZEN, "weight_decay": 0.0, "batch_size": 16, **recipe}
    chosen = ClassificationRecipe.model_validate(keys)
    splits = {"train": images, **({} if held_out is None else {"test": held_out})}
    task = task_of(splits, chosen, epochs, place or Place(CPU))
    budget = Budget.of(horizon or Horizon(epochs=1), task.workload, len(images), FLOPS.training, by_epochs=True)
    return train(
        task,
        linear() if model is None else model,
        Methods.of([selector, *(methods or [])], len(images), chosen.batch_size, seed),
        chosen,
        budget,
        seed,
        clock=Clock(CPU),
        evaluate=None if held_out is None else lambda learner: task.measure(learner, ["test"]),
        **(options or {}),
    ).trace


def evaluate(model: nn.Module, images: Images) -> tuple[float, float]:
    """Accuracy in percent and loss."""
    recipe = ClassificationRecipe(optimizer="sgd", learning_rate=1.0)
    measured = task_of({"train": images}, recipe, 1, Place(CPU)).evaluate(model, "train")
    return measured["accuracy"], measured["loss"]


def values(trace: Trace, metric: str) -> list[float]:
    return [row["value"] for row in trace.rows if row["metric"] == metric]


# ---------------------------------------------------------------------------------------------------- what is counted
def test_full_data_counts() -> None:
    spent = run({"name": "full"}).spent
    # 72 examples in batches of 16: five updates an epoch, the last of 8 examples.
    assert (spent.steps, spent.examples, spent.epochs) == (20, 288, 4.0)
    assert spent.flops == 288 * FLOPS.training


def test_rs2_counts() -> None:
    trace = run({"name": "rs2", "ratio": 0.5})
    # 36 examples an epoch: 16 + 16 + 4.
    assert (trace.spent.steps, trace.spent.examples, trace.spent.epochs) == (12, 144, 4.0)
    assert values(trace, "kept_fraction") == [0.5] * 4


def test_infobatch_prunes_nothing_while_all_losses_are_equal() -> None:
    trace = run({"name": "infobatch", "ratio": 0.5})
    # Logits of zero: every loss is log 3, none is below the mean.
    assert (trace.spent.steps, trace.spent.examples) == (20, 288)
    assert values(trace, "below_mean") == [0.0] * 4
    assert values(trace, "score_mean") == pytest.approx([math.log(3)] * 4, rel=1e-6)
    assert values(trace, "train_loss") == pytest.approx([math.log(3)] * 4, rel=1e-6)


def test_infobatch_prunes_half_of_the_easy_ones_until_the_last_eighth() -> None:
    images = noisy_colours()
    trace = run({"name": "infobatch", "ratio": 0.5}, images=images, model=fixed_losses(images, easy=48), epochs=8)
    # First epoch: all 72, no losses are known yet. Epochs 1 to 6 start before 7/8: the 24 hard ones and half of 48. The
    # last one starts at 7/8 = .875: all.
    kept = [72, *[48] * 6, 72]
    assert values(trace, "kept_fraction") == [count / 72 for count in kept]
    assert trace.spent.examples == sum(kept) == 432
    assert trace.spent.steps == sum(math.ceil(count / 16) for count in kept) == 28


@pytest.mark.parametrize("rescale", [True, False])
def test_rescaling_makes_up_for_the_pruned(rescale: bool) -> None:
    # All of one class, so that the easy ones are exchangeable, and so are the hard ones: which ones are drawn is no matter.
    images = noisy_colours()
    images.labels.zero_()
    model = fixed_losses(images, easy=48)
    seen: list[Tensor] = []
    model.bias.register_hook(lambda gradient: seen.append(gradient.clone()))
    selector = {"name": "infobatch", "ratio": 0.5, "rescale": rescale}
    run(selector, images=images, model=model, epochs=2, label_smoothing=0.0)
    full = sum((gradient * size for gradient, size in zip(seen[:5], [16, 16, 16, 16, 8], strict=True)), torch.zeros(3))
    pruned = sum((gradient * 16 for gradient in seen[5:]), torch.zeros(3))  # 24 hard and 24 of 48 easy: three batches
    # Cross-entropy's gradient is softmax minus one-hot; logits are 2 for the class named and 0 for the two others.
    sure = math.exp(2) / (math.exp(2) + 2)
    rest = (1 - sure) / 2
    easy, hard = torch.tensor([sure - 1, rest, rest]), torch.tensor([rest - 1, sure, rest])
    torch.testing.assert_close(full, 48 * easy + 24 * hard)
    torch.testing.assert_close(pruned, full if rescale else 24 * easy + 24 * hard)


@pytest.mark.parametrize("horizon", [Horizon(examples=0.5), Horizon(flops=0.5)])
@pytest.mark.parametrize("name", ["full", "rs2", "infobatch"])
def test_horizons_in_examples_and_flops_are_met_exactly(name: str, horizon: Horizon) -> None:
    images = noisy_colours(71)  # four epochs: 284; half of them, 142, ends within a batch
    model = fixed_losses(images, easy=40)
    ratio = {} if name == "full" else {"ratio": 0.3}
    trace = run({"name": name, **ratio}, horizon, images=images, model=model)
    assert trace.spent.examples == 142
    assert trace.spent.flops == 142 * FLOPS.training


def test_a_horizon_in_steps_is_met_exactly() -> None:
    # 4 epochs of 5 updates, 0.35 of them: 7 updates, 72 + 2 * 16 examples.
    spent = run({"name": "full"}, Horizon(steps=0.35)).spent
    assert (spent.steps, spent.examples) == (7, 104)


def test_a_horizon_that_ends_within_an_example_takes_it_whole_and_starts_no_epoch_for_the_rest() -> None:
    # A quarter of 2 epochs over 71: 35.5 examples. 16 + 16 + 4, not 16 + 16 + 3 and a batch of one.
    spent = run({"name": "full"}, Horizon(epochs=0.25), images=noisy_colours(71), epochs=2).spent
    assert (spent.steps, spent.examples) == (3, 36)


def test_binary_fractions_leave_no_rest() -> None:
    # 12 x 0.1 is 1.2000000000000002 in floating point: 1.2 epochs of 10 examples are 12 examples and no thirteenth.
    assert 12 * 0.1 > 1.2
    spent = run({"name": "full"}, Horizon(epochs=0.1), images=noisy_colours(10), epochs=12).spent
    assert (spent.steps, spent.examples) == (2, 12)
    assert Budget("epochs", 12 * 0.1).fraction(Spent(epochs=1.2)) == 1.0


def test_a_horizon_in_seconds_stops_soon_after(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr("scrimp.measure.clock.time.perf_counter", lambda: float(next(ticks)))
    trace = run({"name": "full"}, Horizon(seconds=7))
    # Every span lasts one tick: one for the selection of the first epoch, one an update: 5 updates and that make 6; then
    # the losses' span and the next selection's make 8.
    assert trace.spent.seconds >= 7
    assert trace.spent.steps == 6


def test_a_selector_that_leaves_nothing_is_an_error_that_says_so() -> None:
    with pytest.raises(ScrimpError, match=r"RS2 with ratio=0\.99 keeps none of 72 examples: give a smaller ratio"):
        run({"name": "rs2", "ratio": 0.99})


# --------------------------------------------------------------------------------------------------- what is visited
def test_an_epoch_visits_the_selected_in_the_order_of_seed_and_epoch_with_its_own_augmentation() -> None:
    images = noisy_colours()
    visits: list[Tensor] = []
    inputs: list[Tensor] = []
    model = linear()
    model.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    augmentation = Augmentation(shift=2, flip=True)
    run(
        {"name": "full"},
        images=images,
        model=model,
        epochs=2,
        seed=5,
        augmentation=augmentation,
        options={"on_batch": visits.append},
    )
    for epoch in range(2):
        order = epoch_order(72, seed=5, epoch=epoch)
        assert torch.equal(torch.cat(visits[5 * epoch : 5 * epoch + 5]), order)
        draws = derived_generator(5, epoch, "augmentation")
        for number, batch in enumerate(order.split(16)):
            expected = PLAIN(augmented(images.pixels[batch], augmentation, draws))
            assert torch.equal(inputs[5 * epoch + number], expected)


def test_evaluations_lie_evenly_over_the_budget() -> None:
    held_out = noisy_colours(30, seed=1)
    trace = run({"name": "full"}, held_out=held_out, options={"evaluate_times": 5})
    steps = [row["step"] for row in trace.rows if row["metric"] == "test_accuracy"]
    # Fifths of 288 examples, 57.6 apart: reached by the update that ends at 64, 120, 184, 232; the end is the caller's.
    assert steps == [4, 8, 12, 16]
    assert values(trace, "test_loss") == pytest.approx([math.log(3)] * 4, rel=1e-6)


def test_accuracy_and_loss_of_a_model_that_is_known() -> None:
    images = noisy_colours(600)  # more than one batch of an evaluation
    model = fixed_losses(images, easy=450)
    accuracy, loss = evaluate(model, images)
    assert accuracy == 75.0
    # log(e^2 + 2) - 2 where it is right, log(e^2 + 2) where it is wrong.
    assert loss == pytest.approx(math.log(math.exp(2) + 2) - 0.75 * 2, rel=1e-6)


def test_evaluation_leaves_training_as_it_was() -> None:
    images = noisy_colours(side=32)
    with_, without = (vision.build("resnet-narrow", 3, 0, {"width": 4, "stem": "quarter"}) for _ in range(2))
    held_out, often = noisy_colours(30, 32, seed=1), {"evaluate_times": 20}
    run({"name": "full"}, images=images, model=with_, held_out=held_out, epochs=1, learning_rate=0.1, options=often)
    run({"name": "full"}, images=images, model=without, epochs=1, learning_rate=0.1)
    for name, value in with_.state_dict().items():
        assert torch.equal(value, without.state_dict()[name]), name
    assert with_.training


# ------------------------------------------------------------------------------------------------------ that it learns
@pytest.mark.parametrize(
    ("optimizer", "learning_rate", "model_name"),
    [
        ("sgd", 0.05, "resnet-narrow"),
        ("adamw", 0.003, "resnet-narrow"),
        ("lars", 2.0, "resnet-narrow"),
        ("lamb", 0.02, "resnet-narrow"),
        ("adamw", 0.003, "vit"),
        ("lamb", 0.02, "vit"),
    ],
)
def test_every_optimizer_lowers_the_loss(optimizer: str, learning_rate: float, model_name: str) -> None:
    images = noisy_colours(side=32)
    options = {"resnet-narrow": {"width": 4, "stem": "quarter"}, "vit": {"patch": 8, "width": 16, "depth": 1}}
    model = vision.build(model_name, 3, 0, options[model_name])
    before = evaluate(model, images)[1]
    run(
        {"name": "full"},
        images=images,
        model=model,
        epochs=6,
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=1e-4,
        label_smoothing=0.0,
    )
    after = evaluate(model, images)[1]
    assert before > 0.9  # log 3 = 1.1 by chance
    assert after < 0.75 * before


def test_the_learning_rate_follows_the_share_of_the_budget_that_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr("scrimp.training.loop.set_learning_rate", lambda optimizer, rate: rates.append(rate))
    run({"name": "full"}, epochs=1, learning_rate=0.8, schedule={"name": "linear", "warmup": 0.5})
    # Batches start at 0, 16, 32, 48, 64 of 72 examples: up to the peak at half, then down.
    shares = [0, 16 / 72, 32 / 72, 48 / 72, 64 / 72]
    expected = [0.8 * (share / 0.5 if share < 0.5 else (1 - share) / 0.5) for share in shares]
    assert rates == pytest.approx(expected)


def test_averaged_weights_are_the_moving_average_of_the_visited_ones() -> None:
    decay, visited = 0.7, []
    model = linear()
    # Called before each update, so the first call sees the initial weights.
    run(
        {"name": "full"},
        model=model,
        epochs=1,
        learning_rate=0.1,
        ema_decay=decay,
        options={"on_batch": lambda _: visited.append(model[1].weight.detach().clone())},
    )
    average = torch.zeros_like(visited[0])
    for weight in visited:
        average = decay * average + (1 - decay) * weight
    assert len(visited) == 5
    torch.testing.assert_close(model[1].weight.detach(), average)
    assert not torch.allclose(model[1].weight.detach(), visited[-1])


def test_bf16_computes_in_bf16_and_still_learns() -> None:
    images = noisy_colours()
    dtypes: set[torch.dtype] = set()
    model = linear()
    model.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
    run({"name": "full"}, images=images, model=model, place=Place(CPU, bf16=True), learning_rate=0.05, label_smoothing=0.0)
    assert dtypes == {torch.bfloat16}
    assert model[1].weight.dtype == torch.float32
    assert evaluate(model, images)[1] < 0.8 < math.log(3)


# --------------------------------------------------------------------------------------------------------- going on
class StoppedError(Exception):
    """Thrown in the middle of an epoch, as a kill would be."""


def stop_at(share: float) -> Callable[[float], None]:
    def look(fraction: float) -> None:
        if fraction > share:
            raise StoppedError

    return look


def without_seconds(trace: Trace) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in trace.rows]


def untimed(trace: Trace) -> dict[str, Any]:
    return {key: value for key, value in vars(trace.spent).items() if "seconds" not in key}


RESUMED = [
    ("infobatch", {"optimizer": "sgd", "learning_rate": 0.05, "ema_decay": 0.9}),
    ("ucb", {"optimizer": "adamw", "learning_rate": 0.003}),
    ("epsilon-greedy", {"optimizer": "lars", "learning_rate": 1.0}),
    ("infobatch", {"optimizer": "lamb", "learning_rate": 0.02}),
    ("rs2", {"optimizer": "sgd", "learning_rate": 0.05, "precision": "bf16"}),
    ("random-static", {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.0}),
]


@pytest.mark.parametrize(("name", "recipe"), RESUMED, ids=[f"{name}-{r['optimizer']}" for name, r in RESUMED])
def test_a_stopped_run_goes_on_to_the_same_numbers(tmp_path: Path, name: str, recipe: dict[str, Any]) -> None:
    images, held_out = noisy_colours(side=32), noisy_colours(30, 32, seed=1)
    place = Place(CPU, recipe.get("precision") == "bf16")
    checkpoint = tmp_path / "run.safetensors"

    def go(**options: Any) -> tuple[Trace, nn.Module]:
        # Channels last, as runs have it: restored moments must lie in memory as their weights do.
        model = vision.build("resnet-narrow", 3, 0, {"width": 4, "stem": "quarter"}).to(memory_format=torch.channels_last)
        selector = {"name": name, "ratio": 0.4, **({"period": 2} if name in ("ucb", "epsilon-greedy") else {})}
        trace = run(
            selector,
            images=images,
            model=model,
            place=place,
            epochs=6,
            augmentation=Augmentation(shift=2, flip=True),
            held_out=held_out,
            options={"evaluate_times": 4, **options},
            **recipe,
        )
        return trace, model

    whole, whole_model = go()
    saved = {"checkpoint": checkpoint, "checkpoint_key": "this", "checkpoint_every": 0.0}
    with pytest.raises(StoppedError):
        go(**saved, on_progress=stop_at(0.55))
    loaded = load_checkpoint(checkpoint, "this")
    assert loaded is not None
    assert 0 < loaded[1]["examples"]["epoch"] < 6  # epochs 0 to 2, or 3 where the last were short, were finished
    first_fractions: list[float] = []
    resumed, resumed_model = go(**saved, on_progress=first_fractions.append)
    assert first_fractions[0] > 0.3  # it went on, rather than began again
    assert without_seconds(resumed) == without_seconds(whole)
    for parameter, value in whole_model.state_dict().items():
        assert torch.equal(resumed_model.state_dict()[parameter], value), parameter
    assert untimed(resumed) == untimed(whole)


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.safetensors"
    saved = {"checkpoint": checkpoint, "checkpoint_every": 0.0}
    with pytest.raises(StoppedError):
        run({"name": "full"}, options={**saved, "checkpoint_key": "one", "on_progress": stop_at(0.6)})
    assert checkpoint.exists()
    fractions: list[float] = []
    run({"name": "full"}, options={**saved, "checkpoint_key": "other", "on_progress": fractions.append})
    assert fractions[0] == pytest.approx(16 / 288)


def test_a_flipped_bit_of_a_checkpoint_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    tensors = {"model": {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3), "b": torch.ones(2, dtype=torch.bfloat16)}}
    save_checkpoint(path, tensors, {"key": "k", "rows": [1.5]})
    loaded = load_checkpoint(path, "k")
    assert loaded is not None
    assert torch.equal(loaded[0]["model"]["w"], tensors["model"]["w"])
    whole = path.read_bytes()
    flipped = [len(whole) - 3, whole.index(b"1.5")]  # of a tensor, and of what was noted
    for at in flipped:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert load_checkpoint(path, "k") is None


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_checkpoint_is_passed_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(content)
    told: list[str] = []
    assert load_checkpoint(path, "key", told.append) is None
    assert told == ["it is damaged"]


def test_a_full_disk_while_saving_a_checkpoint_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("scrimp.training.checkpoint.save_file", full)
    with pytest.raises(ScrimpError, match=r"cannot write .*run\.safetensors.*No space left.*free some space"):
        save_checkpoint(tmp_path / "run.safetensors", {"model": {"w": torch.zeros(2)}}, {"key": "k"})
    assert list(tmp_path.iterdir()) == []


def test_a_schedule_of_one_warmup_never_divides_by_zero() -> None:
    trace = run({"name": "full"}, epochs=1, schedule=Schedule(name="cosine", warmup=1.0))
    assert trace.spent.steps == 5
