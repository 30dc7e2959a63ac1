from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from scrimp.audit.design import CANDIDATES, TOWERS, Design, Traits, candidates, duration, fitted, hours_of, sweep_arm
from scrimp.audit.folder import Audited
from scrimp.errors import ScrimpError
from scrimp.methods import check_method

PLAIN_TASK = Traits(batch_size=32, examples=1000)


def test_a_growing_batch_has_ghost_batch_norm_where_the_model_has_batch_norm() -> None:
    plain = {one.arm: one for one in candidates(PLAIN_TASK)}
    normed = {one.arm: one for one in candidates(replace(PLAIN_TASK, batch_norm=True))}
    assert [spec["name"] for spec in plain["growing"].methods] == ["batch-growth"]
    assert normed["growing"].methods[1] == {"name": "ghost-batch-norm", "size": 32}
    assert set(plain) == set(normed) == {one.arm for one in CANDIDATES}


def test_traits_are_read_off_a_task(audited: Audited) -> None:
    task = audited.task
    assert Traits.of(task) == Traits(16, 128, logits=False, history=False)
    task.model = lambda seed: nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 1, 1))  # type: ignore[method-assign]
    task.losses = lambda model, batch: model(batch[0][:, :, None])[:, 0, 0]  # type: ignore[method-assign]
    type(task).labels = property(lambda task: task.data["train"][1].long().abs() % 3)  # type: ignore[method-assign, assignment]
    assert Traits.of(task) == Traits(16, 128, batch_norm=True, labels=True, features=False, logits=False, history=False)


def test_labels_that_are_no_classes_and_features_that_are_no_vectors_offer_nothing(audited: Audited) -> None:
    task = audited.task
    for labels in (torch.arange(128), torch.full((128,), -100)):
        type(task).labels = property(lambda task, labels=labels: labels)  # type: ignore[method-assign, assignment]
        assert not Traits.of(task).labels
    type(task).labels = property(lambda task: torch.arange(128) % 12)  # type: ignore[method-assign, assignment]
    assert Traits.of(task).labels
    task.features = lambda model, batch: torch.zeros(2, 3, 4)  # type: ignore[method-assign]
    assert not Traits.of(task).features


def test_prototypes_are_balanced_by_labels_or_are_as_many_as_the_root_of_the_examples() -> None:
    labelled = candidates(replace(PLAIN_TASK, labels=True), ["prototypes", "semdedup"])
    assert [one.arm for one in labelled] == ["prototypes-20", "prototypes-50", "semdedup-50"]
    assert labelled[1].methods == [{"name": "prototypes", "ratio": 0.5, "embedding": "features", "balance": 0.5}]
    assert labelled[2].methods == [{"name": "semdedup", "ratio": 0.5, "embedding": "features"}]
    (bare,) = candidates(PLAIN_TASK, ["prototypes-20"])
    assert bare.methods == [{"name": "prototypes", "ratio": 0.2, "embedding": "features", "clusters": 32}]
    without = replace(PLAIN_TASK, features=False)
    assert [one.arm for one in candidates(PLAIN_TASK)][-1] == "prototypes-20"
    assert candidates(without) == candidates(PLAIN_TASK)[:-1]
    with pytest.raises(ScrimpError, match="prototypes-20: the task offers no features"):
        candidates(without, ["prototypes"])


def test_two_towers_have_arms_of_their_own_before_the_usual_ones() -> None:
    towers = replace(PLAIN_TASK, contrast="sigmoid")
    chosen = candidates(towers)
    assert [one.arm for one in chosen] == [one.arm for one in (*TOWERS, *CANDIDATES)]
    assert [one.arm for one in candidates(towers, ["jest"])] == ["jest-80", "easy-reference-80", "top-k-80"]
    jest, easy, top = (one.methods[0] for one in chosen[:3])
    assert jest == {"name": "jest", "ratio": 0.8, "reference": "reference", "chunks": 16}
    assert easy == {**jest, "method": "easy-reference"}
    assert top == {"name": "jest", "ratio": 0.8, "reference": "reference", "choice": "top-k"}
    odd = candidates(replace(towers, batch_size=20), ["jest-80"])
    assert odd[0].methods[0]["chunks"] == 4
    assert Design(chosen).reference
    assert not Design(chosen[3:]).reference
    with pytest.raises(ScrimpError, match="jest-80: 159 pairs to train on are too few, since it chooses 32 out of 160"):
        candidates(replace(towers, examples=159))


def test_under_the_softmax_loss_pairs_are_scored_one_by_one() -> None:
    jest, easy, top = candidates(replace(PLAIN_TASK, contrast="softmax"))[:3]
    assert (jest.label, easy.label) == ("JEST 80 %, pair by pair", "easy reference 80 %, pair by pair")
    assert top.label == "top-k 80 %"
    for one, choice in ((jest, "independent"), (easy, "independent"), (top, "top-k")):
        check_method(one.methods[0], one.arm)
        assert (one.methods[0]["loss"], one.methods[0]["choice"]) == ("softmax", choice)
        assert "chunks" not in one.methods[0]


def test_methods_are_picked_by_method_by_arm_and_by_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from scrimp.methods.base import EpochSelector\n\n\nclass Mine(EpochSelector):\n    pass\n\n\nMETHOD = Mine\n"
    )
    chosen = candidates(PLAIN_TASK, ["infobatch", "rs2-50", "forgetting", str(own)])
    assert [one.arm for one in chosen] == ["infobatch-50", "infobatch-30", "infobatch-70", "rs2-50", "forgetting", "mine"]
    assert chosen[-2].methods == [{"name": "forgetting", "ratio": 0.5}]
    assert chosen[-1].methods == [{"name": str(own)}]


def test_unknown_methods_and_files_without_one_are_errors_that_help(tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match="did you mean 'infobatch'"):
        candidates(PLAIN_TASK, ["infobach"])
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(ScrimpError, match="must set METHOD"):
        candidates(PLAIN_TASK, [str(empty)])
    with pytest.raises(ScrimpError, match="does not exist"):
        candidates(PLAIN_TASK, [str(tmp_path / "none.py")])
    with pytest.raises(ScrimpError, match="scores pairs by two towers"):
        candidates(PLAIN_TASK, ["jest"])
    with pytest.raises(ScrimpError, match="it needs size"):
        candidates(PLAIN_TASK, ["ghost-batch-norm"])


def test_every_arm_has_every_seed() -> None:
    design = Design(CANDIDATES, seeds=3)
    assert design.runs == 3 * (5 + 7)
    assert design.arms()[sweep_arm(0.25)] == 0.25
    assert list(design.arms())[3] == "plain"


def test_a_short_time_leaves_out_seeds_then_methods_then_lengths_and_says_so() -> None:
    def hours(design: Design) -> float:
        return design.seeds * sum(design.arms().values())

    whole = Design(CANDIDATES)
    same, nothing = fitted(whole, hours, hours(whole))
    assert same == whole
    assert nothing == []
    some, left_out = fitted(whole, hours, hours(whole) * 0.5)
    assert some.seeds == 3
    assert left_out[:2] == ["seed 4", "seed 3"]
    assert left_out[2:] == ["prototypes 20 %", "InfoBatch 70 %"]
    assert hours(some) <= hours(whole) * 0.5
    least, left_out = fitted(whole, hours, 5.2)
    assert (least.seeds, len(least.candidates), least.sweep) == (2, 1, (0.25, 0.5, 1.0))
    assert "the plain recipe x 1.5" in left_out
    with pytest.raises(ScrimpError, match="the smallest audit"):
        fitted(whole, hours, 1.0)


@pytest.mark.parametrize(("text", "hours"), [("2h", 2.0), ("30m", 0.5), ("90s", 0.025), ("1.5", 1.5), ("15min", 0.25)])
def test_times(text: str, hours: float) -> None:
    assert hours_of(text) == pytest.approx(hours)


@pytest.mark.parametrize("text", ["", "soon", "-1h", "0", "2d", "inf"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(ScrimpError, match="--budget"):
        hours_of(text)


def test_times_in_words() -> None:
    assert [duration(hours) for hours in (0.01, 0.2, 3.0)] == ["36 s", "12 min", "3.0 h"]


def test_methods_that_score_by_logits_want_a_task_that_has_them() -> None:
    bare = replace(PLAIN_TASK, labels=True, logits=False, history=False)
    for name in ("el2n", "ccs"):
        assert candidates(PLAIN_TASK, [name])[0].methods == [{"name": name, "ratio": 0.5}]
        with pytest.raises(ScrimpError, match=rf"--methods {name}: it scores by logits: define outputs\(model, batch\)"):
            candidates(bare, [name])
    assert candidates(replace(PLAIN_TASK, labels=True), ["forgetting"])[0].arm == "forgetting"
    with pytest.raises(ScrimpError, match=r"--methods forgetting: .*self\.on_outputs\(logits, labels\)"):
        candidates(bare, ["forgetting"])
    assert candidates(bare, ["ucb"])[0].arm == "ucb"  # by losses alone


def test_arms_of_two_towers_say_what_they_need() -> None:
    for name in ("jest", "jest-80", "top-k-80"):
        with pytest.raises(ScrimpError, match=f"--methods {name}: it scores pairs by two towers: `scrimp try --pairs`"):
            candidates(PLAIN_TASK, [name])
