"""JEST: losses and scores by hand, the draws against their distribution, both forms index for index, and bad input."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from scrimp import jest
from scrimp.kernels import learnability
from scrimp.kernels.blocks import BLOCK_ELEMENTS
from scrimp.methods import pairs
from scrimp.methods.jest import Embedded, Options, dense, gibbs, incremental

METHODS = ["learnability", "easy-reference", "hard-learner"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(count: int, width: int, seed: int, scale: float = 10.0, bias: float = -10.0, alike: float = 1.0) -> Embedded:
    """Random unit embeddings; `alike` pulls a text towards its image."""
    image, noise = torch.randn(2, count, width, generator=seeded(seed), dtype=torch.float64)
    text = alike * F.normalize(image, dim=1) + F.normalize(noise, dim=1)
    return Embedded(F.normalize(image, dim=1), F.normalize(text, dim=1), scale, bias)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# ------------------------------------------------------------------------------------------------------ losses and scores
def test_losses_of_two_pairs_by_hand() -> None:
    two = Embedded(torch.eye(2, dtype=torch.float64), torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double(), 2.0, -1.0)
    # Logits: 2 * 1 - 1 = 1 and 2 * .8 - 1 = .6 for the pairs; 2 * .6 - 1 = .2 (image 0, text 1), -1 (image 1, text 0).
    expected = torch.tensor([[softplus(-1), softplus(0.2)], [softplus(-1), softplus(-0.6)]], dtype=torch.float64)
    torch.testing.assert_close(jest.sigmoid_losses(two), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(jest.sigmoid_diagonal(two), expected.diagonal(), rtol=1e-6, atol=0)
    # Softmax of pair 0: rows (1, .2), columns (1, -1); of pair 1: rows (-1, .6), columns (.2, .6).
    first = (softplus(0.2 - 1) + softplus(-1 - 1)) / 2
    second = (softplus(-1 - 0.6) + softplus(0.2 - 0.6)) / 2
    torch.testing.assert_close(jest.softmax_losses(two), torch.tensor([first, second]).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("block", [1, 3, 50])
def test_softmax_losses_are_cross_entropies_both_ways_whatever_the_block(block: int) -> None:
    some = model(7, 5, 0)
    logits, own = some.scale * some.image @ some.text.T, torch.arange(7)
    both = (F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(logits.T, own, reduction="none")) / 2
    torch.testing.assert_close(jest.softmax_losses(some, block), both)


def test_each_method_takes_the_models_it_names_with_their_own_scale_and_bias() -> None:
    learner, reference = model(6, 4, 1, 5.0, -3.0), model(6, 4, 2, 20.0, -12.0)
    of_learner, of_reference = jest.sigmoid_losses(learner), jest.sigmoid_losses(reference)
    expected = {
        "learnability": of_learner - of_reference,
        "easy-reference": -of_reference,
        "hard-learner": of_learner,
    }
    for method, scores in expected.items():
        models = jest.signed_models(method, learner, reference)  # type: ignore[arg-type]
        torch.testing.assert_close(jest.pairwise_scores(models), scores)
        torch.testing.assert_close(jest.diagonal_scores(models), scores.diagonal())
    assert jest.select(None, reference, 2, 1, "easy-reference", generator=seeded()).shape == (2,)
    assert jest.select(learner, None, 2, 1, "hard-learner", generator=seeded()).shape == (2,)


@pytest.mark.parametrize("few", [0, 1 << 16])
def test_a_chunks_rows_and_columns_are_summed_in_any_block(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnability, "FEW_ELEMENTS", few)
    models = [(model(9, 4, 3), 1.0), (model(9, 3, 4, 5.0, -2.0), -1.0)]  # of different widths
    scores, chosen, left = jest.pairwise_scores(models), torch.tensor([1, 4, 4]), torch.tensor([0, 2, 3, 5, 6, 7, 8])
    expected = scores[chosen][:, left].sum(dim=0) + scores[left][:, chosen].sum(dim=1)
    both = jest.stacked(models)
    for block in (None, 1, 4):
        torch.testing.assert_close(jest.chunk_scores(both.at(left), both.at(chosen), block), expected)


def test_the_score_of_a_sub_batch_is_its_sub_matrix_over_its_size() -> None:
    scores = torch.arange(9.0).view(3, 3)
    assert jest.batch_score(scores, torch.tensor([0, 2])) == (0 + 2 + 6 + 8) / 2


# ------------------------------------------------------------------------------------------------------------- both forms
OPTIONS = [
    {"size": 24, "chunks": 1},
    {"size": 24, "chunks": 6},
    {"size": 24, "chunks": 24},
    {"size": 40, "chunks": 5},  # everything
    {"size": 24, "chunks": 4, "first": "uniform"},
    {"size": 24, "chunks": 4, "first": "linear", "gain": 0.3},
    {"size": 24, "chunks": 4, "replacement": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_both_forms_choose_the_same_indices(method: Any, options: dict[str, Any]) -> None:
    for seed in range(5):
        learner, reference = model(40, 8, seed, 8.0, -6.0, alike=0.5), model(40, 8, 100 + seed, 12.0, -10.0)
        both = [
            jest.select(learner, reference, method=method, generator=seeded(seed), form=form, **options)  # type: ignore[arg-type]
            for form in ("dense", "incremental")
        ]
        assert torch.equal(*both)


def test_single_precision_chooses_what_the_specification_does_almost_everywhere() -> None:
    learner, reference = model(512, 32, 0, alike=0.5), model(512, 32, 1)
    exact = jest.select(learner, reference, 128, 16, generator=seeded(), form="dense")
    single = jest.select(learner, reference, 128, 16, generator=seeded(), dtype=torch.float32)
    # A near tie may fall the other way and steer what follows; chance would share a quarter.
    assert len(set(exact.tolist()) & set(single.tolist())) >= 120


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10), st.integers(0, 10_000), st.sampled_from(METHODS))
@settings(max_examples=60, deadline=None)
def test_a_sub_batch_has_distinct_members_and_hangs_on_the_generator_alone(
    chunks: int, of_chunk: int, spare: int, seed: int, method: Any
) -> None:
    size = chunks * of_chunk
    learner, reference = model(size + spare, 3, seed), model(size + spare, 3, seed + 1)
    before = torch.get_rng_state()
    chosen, again = (jest.select(learner, reference, size, chunks, method, generator=seeded(seed)) for _ in range(2))
    assert torch.equal(chosen, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(set(chosen.tolist())) == sorted(chosen.tolist())
    assert len(chosen) == size
    assert int(chosen.min()) >= 0
    assert int(chosen.max()) < size + spare


def test_replacement_may_repeat_inside_a_chunk_but_not_between_chunks() -> None:
    some = model(12, 3, 0)
    repeats = 0
    for seed in range(50):
        chosen = jest.select(some, None, 8, 2, "hard-learner", generator=seeded(seed), replacement=True, gain=0.1)
        first, second = chosen[:4].tolist(), chosen[4:].tolist()
        assert not set(first) & set(second)
        repeats += len(set(first)) < 4
    assert 0 < repeats < 50


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.numel())
        return made


def test_the_incremental_form_makes_no_matrix_of_the_super_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCK_ELEMENTS, "cpu", 4096)
    # The op by what it is made of: its own inside cannot be watched.
    monkeypatch.setattr(pairs, "pairwise_learnability_update", learnability.blocked)
    learner, reference = model(600, 8, 0), model(600, 8, 1)
    learner.image.requires_grad_()  # must not make it keep anything
    with LargestTensor() as watched:
        jest.select(learner, reference, 64, 16, generator=seeded())
        embeddings = 4 * 600 * 8  # of both models
        assert watched.largest <= embeddings
        incremental(jest.signed_models("learnability", learner, reference), Options(64, 16), seeded())
        assert watched.largest <= embeddings
        dense(jest.pairwise_scores(jest.signed_models("hard-learner", learner, None)), Options(64, 16), seeded())
        assert watched.largest == 600 * 600


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_any_float_type_chooses_much_as_the_specification_does(dtype: torch.dtype) -> None:
    learner, reference = model(300, 32, 0, alike=0.5), model(300, 32, 1)
    scale = torch.nn.Parameter(torch.tensor(10.0))  # as a model keeps it
    exact = jest.select(learner, reference, 64, 8, generator=seeded(), form="dense")
    rounded = [Embedded(m.image.to(dtype), m.text.to(dtype), scale, -10.0) for m in (learner, reference)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chosen = jest.select(*rounded, 64, 8, generator=seeded())
    assert len(set(exact.tolist()) & set(chosen.tolist())) >= 55


# ----------------------------------------------------------------------------------------------------------- distributions
def test_the_first_pair_is_drawn_by_the_weights_of_the_rule() -> None:
    own = torch.tensor([0.5, 1.5, 2.0], dtype=torch.float64)
    weights = {"exponential": own.exp(), "uniform": torch.ones(3), "linear": torch.tensor([0.0, 1.0, 1.5])}
    generator, draws = seeded(), 3_000
    for rule, replacement in itertools.product(weights, (False, True)):
        options, weight = Options(1, 1, rule, replacement=replacement), weights[rule]  # type: ignore[arg-type]
        firsts = torch.cat([dense(torch.diag(own), options, generator) for _ in range(draws)])
        share = torch.bincount(firsts, minlength=3) / draws
        torch.testing.assert_close(share, (weight / weight.sum()).float(), rtol=0, atol=4 * 0.5 / draws**0.5)


def test_a_chunk_of_two_is_drawn_without_and_with_replacement_by_its_weights() -> None:
    own = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64).log()
    generator, draws = seeded(), 4_000
    without = torch.stack([dense(torch.diag(own), Options(2, 1), generator) for _ in range(draws)])
    # In order: the heaviest first, then the lightest: 4/7 of the draws, and 1 of the 3 that are left.
    share = float(((without[:, 0] == 2) & (without[:, 1] == 0)).double().mean())
    assert share == pytest.approx(4 / 7 * 1 / 3, abs=4 * 0.5 / draws**0.5)
    twice = torch.stack([dense(torch.diag(own), Options(2, 1, replacement=True), generator) for _ in range(draws)])
    share = float((twice == 2).all(dim=1).double().mean())
    assert share == pytest.approx((4 / 7) ** 2, abs=4 * 0.5 / draws**0.5)


def test_the_second_chunk_is_drawn_by_the_conditional_score() -> None:
    scores = torch.tensor([[9.0, 0.5, -1.0], [0.25, 0.0, 0.0], [0.5, 0.0, 0.2]], dtype=torch.float64)
    generator, draws = seeded(), 6_000
    # Pair 0 is all but sure to be first; then pair 1 has logit 0 + .5 + .25, pair 2 .2 - 1 + .5.
    chosen = torch.stack([dense(scores, Options(2, 2), generator) for _ in range(draws)])
    seconds = chosen[chosen[:, 0] == 0][:, 1]
    assert len(seconds) > 0.99 * draws
    share = float((seconds == 1).double().mean())
    assert share == pytest.approx(math.exp(0.75) / (math.exp(0.75) + math.exp(-0.3)), abs=4 * 0.5 / draws**0.5)


def test_a_large_gain_is_greedy_and_its_first_chunk_is_top_k() -> None:
    learner, reference = model(30, 6, 4), model(30, 6, 5)
    models = jest.signed_models("learnability", learner, reference)
    own = jest.diagonal_scores(models)
    sharp = incremental(models, Options(5, 1, gain=1e9), seeded())
    assert torch.equal(sharp, jest.top_k(own, 5))
    scores, chosen = jest.pairwise_scores(models), [int(own.argmax())]
    while len(chosen) < 5:
        rest = [j for j in range(30) if j not in chosen]
        worth = [float(own[j] + scores[chosen, j].sum() + scores[j, chosen].sum()) for j in rest]
        chosen.append(rest[max(range(len(rest)), key=worth.__getitem__)])
    assert incremental(models, Options(5, 5, gain=1e9), seeded()).tolist() == chosen


def test_independent_choice_is_one_chunk_and_top_k_the_highest() -> None:
    learner, reference = model(20, 4, 6), model(20, 4, 7)
    one_chunk = jest.select(learner, reference, 8, 1, generator=seeded(3))
    assert torch.equal(jest.select(learner, reference, 8, choice="independent", generator=seeded(3)), one_chunk)
    own = jest.softmax_losses(learner) - jest.softmax_losses(reference)
    best = jest.select(learner, reference, 8, choice="top-k", loss="softmax", generator=seeded())
    assert best.tolist() == sorted(range(20), key=lambda at: -float(own[at]))[:8]
    assert jest.top_k(torch.tensor([1.0, 2.0, 2.0, 0.0]), 3).tolist() == [1, 2, 0]


def test_gibbs_sampling_finds_what_all_sub_batches_hold() -> None:
    learner, reference = model(8, 3, 8, alike=0.3), model(8, 3, 9)
    scores = jest.pairwise_scores(jest.signed_models("learnability", learner, reference))
    best = max(jest.batch_score(scores, torch.tensor(some)) for some in itertools.combinations(range(8), 3))
    members, trace = gibbs(scores, 3, 300, seeded(), gain=50.0, every=100)
    assert [at for at, _ in trace] == [0, 100, 200, 300]
    assert trace[-1][1] == pytest.approx(jest.batch_score(scores, members))
    assert trace[-1][1] == pytest.approx(best)


def test_gibbs_visits_sub_batches_by_their_weights() -> None:
    scores = torch.tensor([[0.5, 0.2, 0.0], [0.1, 0.0, -0.4], [0.0, 0.3, 0.8]], dtype=torch.float64)
    pairs = list(itertools.combinations(range(3), 2))
    # The stationary weight of a sub-batch is the exponential of the sum of its sub-matrix.
    weights = torch.tensor([math.exp(float(scores[list(p)][:, list(p)].sum())) for p in pairs])
    generator, chains = seeded(), 2000
    counts = dict.fromkeys(pairs, 0)
    for _ in range(chains):
        members, _ = gibbs(scores, 2, 12, generator)
        counts[tuple(sorted(members.tolist()))] += 1  # type: ignore[index]
    share = torch.tensor([counts[p] / chains for p in pairs])
    torch.testing.assert_close(share, weights / weights.sum(), rtol=0, atol=4 * 0.5 / chains**0.5)


def test_more_chunks_find_more_learnable_sub_batches() -> None:
    learner, reference = model(400, 16, 10, 10.0, -5.0, alike=0.3), model(400, 16, 11, 10.0, -5.0)
    models = jest.signed_models("learnability", learner, reference)
    scores = jest.pairwise_scores(models)
    mean = {
        chunks: sum(jest.batch_score(scores, incremental(models, Options(80, chunks), seeded(s))) for s in range(8)) / 8
        for chunks in (1, 4, 16)
    }
    uniform = sum(jest.batch_score(scores, torch.randperm(400, generator=seeded(s))[:80]) for s in range(8)) / 8
    assert uniform < mean[1] < mean[4] < mean[16]


# ------------------------------------------------------------------------------------------------------------------ sizes
@pytest.mark.parametrize(
    ("super_batch", "ratio", "chunks", "size"),
    [
        (65_536, 0.5, 16, 32_768),
        (163_840, 0.8, 16, 32_768),  # int(163840 * (1 - 0.8) / 16) is 2047, not 2048
        (327_680, 0.9, 16, 32_768),
        (1000, 0.7, 16, 288),
        (6144, 1 - 2048 / 6144, 4, 2048),  # a ratio computed from sizes
        (300, 1 - 100 / 300, 4, 100),
        (1000, 0.1 + 0.2, 10, 700),
    ],
)
def test_sizes_are_whole_numbers(super_batch: int, ratio: float, chunks: int, size: int) -> None:
    assert jest.sub_batch_size(super_batch, ratio, chunks) == size


# --------------------------------------------------------------------------------------------------------------- bad input
def test_a_clip_model_has_no_bias() -> None:
    learner, reference = (model(12, 4, seed) for seed in (1, 2))
    without = [(*each[:3], None) for each in (learner, reference)]
    # A bias cancels in the softmax loss, so that of 7 chooses as none does.
    shifted = [each._replace(bias=7.0) for each in (learner, reference)]
    for choice in ("top-k", "independent"):
        chosen = [
            jest.select(*both, 4, choice=choice, loss="softmax", generator=seeded()).tolist()  # type: ignore[arg-type]
            for both in (without, shifted)
        ]
        assert chosen[0] == chosen[1]
    with pytest.raises(ValueError, match=r"the learner's bias is None, as a CLIP.*loss=\"softmax\".*a bias of 0\.0"):
        jest.select(*without, 4, 2, generator=seeded())
    with pytest.raises(ValueError, match="the reference's bias is None"):
        jest.select(learner, without[1], 4, 2, generator=seeded())


def test_embeddings_of_other_lengths_are_an_error_with_a_switch() -> None:
    good = model(10, 4, 0)
    long = good._replace(image=3 * good.image)
    with pytest.raises(ValueError, match=r"the reference's image embeddings are not of length 1 \(row \d has 3\)"):
        jest.select(good, long, 4, 2, generator=seeded())
    # Thrice as long at a third of the scale is the same model.
    same = long._replace(scale=good.scale / 3)
    both = [jest.select(good, one, 4, 2, generator=seeded(), unit=False).tolist() for one in (good, same)]
    assert both[0] == both[1]


def test_bad_input_says_which() -> None:
    good = model(10, 4, 0)
    spoilt = Embedded(good.image, good.text.clone(), good.scale, good.bias)
    spoilt.text[3, 1] = torch.nan
    shorter = model(9, 4, 0)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"size": 10, "chunks": 3}, "3 chunks do not divide a sub-batch of 10"),
        ({"size": 11, "chunks": 1}, "11 pairs were asked for, but the super-batch has 10"),
        ({"size": 11, "choice": "top-k"}, "11 pairs were asked for"),
        ({"size": 0, "chunks": 1}, "at least 1"),
        ({"gain": -1.0}, "gain is a positive number, got -1.0"),
        ({"gain": math.nan}, "gain is a positive number"),
        ({"choice": "indep"}, "unknown choice 'indep'; known: joint, independent, top-k"),
        ({"form": "denes"}, "unknown form 'denes'"),
        ({"loss": "sofmax", "choice": "top-k"}, "unknown loss 'sofmax'"),
        ({"first": "gauss", "choice": "top-k"}, "unknown rule for the first chunk 'gauss'"),
        ({"generator": None}, "give a torch.Generator"),
        ({"learner": good._replace(text=good.text.float())}, "the learner's embeddings are torch.float64 and torch.float32"),
        ({"reference": good._replace(scale=torch.ones(10))}, "the reference's scale and bias are one number each"),
        ({"learner": spoilt}, "the learner's text holds a number that is not finite"),
        ({"reference": spoilt}, "the reference's text holds"),
        ({"learner": good._replace(bias=math.nan)}, "the learner's bias holds"),
        ({"reference": shorter}, r"the reference's embeddings must be two matrices \[10, d\]"),
        ({"reference": None}, "learnability needs the reference's embeddings"),
        ({"learner": None, "method": "hard-learner"}, "hard-learner needs the learner's embeddings"),
        ({"method": "learnable"}, "unknown method 'learnable'; known: learnability"),
        ({"first": "gauss"}, "unknown rule for the first chunk 'gauss'; known: exponential, uniform, linear"),
        ({"loss": "softmax"}, "joint choice needs a loss of every combination"),
    ]
    for given_, message in cases:
        options: dict[str, Any] = {"learner": good, "reference": good, "size": 4, "chunks": 2, "generator": seeded()}
        with pytest.raises(ValueError, match=message):
            jest.select(**(options | given_))
    spoilt_scores = torch.tensor([1.0, math.nan, 2.0])
    for call in (
        lambda: jest.top_k(spoilt_scores, 1),
        lambda: jest.independent(spoilt_scores, Options(1, 1), seeded()),
        lambda: dense(torch.diag(spoilt_scores), Options(1, 1), seeded()),
        lambda: gibbs(torch.diag(spoilt_scores), 1, 1, seeded()),
    ):
        with pytest.raises(ValueError, match="the scores hold a number that is not finite"):
            call()
    with pytest.raises(ValueError, match="every is at least 1"):
        gibbs(torch.eye(3), 1, 1, seeded(), every=0)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, 1.5])
def test_ratios_lie_between_0_and_1(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"lies in \(0, 1\)"):
        jest.sub_batch_size(100, ratio)
    with pytest.raises(ValueError, match="at least 1 chunk"):
        jest.sub_batch_size(100, 0.5, 0)
    with pytest.raises(ValueError, match="leaves less than 16 of 20"):
        jest.sub_batch_size(20, 0.5, 16)
