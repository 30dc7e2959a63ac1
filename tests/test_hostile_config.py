"""Configuration that would run a command, fill the memory, or mean something else than it says is refused in a second."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.listing import check_config

RULES = Path(__file__).parents[1] / "workflow" / "rules"
EVIL = "$(touch PWNED)"
Change = Callable[[dict[str, Any]], object]


def study_file(workspace: Workspace) -> Path:
    return workspace.root / "config" / "studies" / "tiny" / "study.yaml"


def refusal(workspace: Workspace) -> str:
    """What `scrimp check` says first, which takes it less than a second of this process."""
    began = time.process_time()
    with pytest.raises(ScrimpError) as refused:
        check_config(workspace)
    assert time.process_time() - began < 1
    return str(refused.value)


def changed(workspace: Workspace, change: Change) -> str:
    path = study_file(workspace)
    study = yaml.safe_load(path.read_text())
    change(study)
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return refusal(workspace)


def smoke(study: dict[str, Any]) -> Any:
    return study["scales"]["smoke"]


def rename_arm(study: dict[str, Any]) -> None:
    study["arms"][EVIL] = study["arms"]["full"]
    smoke(study)["workloads"]["colours"]["arms"].append(EVIL)


def rename_workload(study: dict[str, Any]) -> None:
    smoke(study)["workloads"][EVIL] = smoke(study)["workloads"].pop("vit")


NAMES: dict[str, Change] = {
    "arms": rename_arm,
    "scales.smoke.workloads": rename_workload,
    "scales.smoke.probes": lambda s: smoke(s).update(probes={EVIL: {}}),
    "scales.smoke.references": lambda s: smoke(s).update(references={EVIL: {"label": "R", "subset": "raw", "steps": 1}}),
    "figures": lambda s: s.update(figures={EVIL: "a caption"}),
    "scales": lambda s: s["scales"].update({EVIL: smoke(s)}),
}


@pytest.mark.parametrize("place", NAMES)
def test_a_name_that_is_a_command_is_refused(tiny: Workspace, place: str) -> None:
    told = changed(tiny, NAMES[place])
    assert told.startswith(f"{study_file(tiny)}: {place}")
    assert f"{EVIL!r} is no name" in told


@pytest.mark.parametrize("name", [EVIL, "", "-rf", ".hidden", "a/b", "a b", "a@b", "a\nb", "x" * 101])
def test_names_have_a_pattern(tiny: Workspace, name: str) -> None:
    assert "is no name" in changed(tiny, lambda s: s["arms"].update({name: s["arms"]["full"]}))


def test_a_dataset_s_name_has_it_too(tiny: Workspace) -> None:
    path = tiny.root / "config" / "datasets.yaml"
    datasets = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**datasets, EVIL: datasets["colours"]}))
    assert f"{EVIL!r} is no name" in refusal(tiny)


def test_every_interpolation_in_the_workflow_is_quoted() -> None:
    found = []
    for path in RULES.glob("*.smk"):
        commands = re.findall(r'shell:\n((?:\s+"[^\n]*"\n)+)', path.read_text() + "\n")
        assert len(commands) == path.read_text().count("shell:")
        found += [(path.name, part) for text in commands for part in re.findall(r"\{[^}]*\}", text)]
    assert len(found) > 20
    assert [(name, part) for name, part in found if not part.endswith(":q}")] == []


VALUES: dict[str, tuple[Change, str]] = {
    "infinity": (lambda s: s["arms"]["full"].update(horizon={"epochs": float("inf")}), ".inf is not finite"),
    "no number": (lambda s: s["arms"]["full"].update(horizon={"epochs": float("nan")}), ".nan is not finite"),
    "infinity as text": (lambda s: s["arms"]["full"].update(horizon={"epochs": "inf"}), "horizon.epochs: "),
    "duplicate seeds": (lambda s: smoke(s).update(seeds=[0, 1, 0]), "scales.smoke.seeds: 0 is there twice"),
    "a negative seed": (lambda s: smoke(s).update(seeds=[-1]), "scales.smoke.seeds.0: "),
    "a seed of 2^80": (lambda s: smoke(s).update(seeds=[2**80]), "scales.smoke.seeds.0: "),
    "no seeds": (lambda s: smoke(s).update(seeds=[]), "scales.smoke.seeds: "),
    "duplicate arms": (
        lambda s: smoke(s)["workloads"]["colours"]["arms"].append("full"),
        "scales.smoke.workloads.colours.arms: 'full' is there twice",
    ),
    "no arms": (lambda s: smoke(s)["workloads"]["colours"].update(arms=[]), "workloads.colours.arms: is empty"),
    "an arm twice in the sweep": (lambda s: s["baseline_sweep"].append("full"), "baseline_sweep: 'full' is there twice"),
    "no scales": (lambda s: s.update(scales={}), "scales: "),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value_that_no_run_can_have_is_refused(tiny: Workspace, case: str) -> None:
    change, told = VALUES[case]
    assert told in changed(tiny, change)


@pytest.mark.parametrize("seeds", ["[0, 0]", "[-1]", f"[{2**80}]", "[]"])
def test_the_settings_seeds_too(tiny: Workspace, seeds: str) -> None:
    path = tiny.root / "config" / "config.yaml"
    told = {**yaml.safe_load(path.read_text()), "seeds": yaml.safe_load(seeds)}
    path.write_text(yaml.safe_dump(told))
    assert refusal(tiny).startswith(f"{path}: seeds")


def test_no_study_is_chosen(tiny: Workspace) -> None:
    path = tiny.root / "config" / "config.yaml"
    path.write_text("studies: []\n")
    assert refusal(tiny).startswith(f"{path}: studies: ")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new}\n  <<: [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS: dict[str, tuple[bytes, str]] = {
    "a duplicate key": (b"task: classification\ntitle: one\ntask: causal-lm\n", "line 3: the key 'task' twice"),
    "a duplicate key inside": (b"arms:\n  full: {label: a, label: b}\n", "line 2: the key 'label' twice"),
    "an alias bomb": (BOMB.encode(), "its aliases stand for more than 100,000 values"),
    "a bomb of merges": (MERGES.encode(), "its aliases stand for more than 100,000 values"),
    "an alias of itself": (b"a: &a [*a]\n", "line 1: an anchor that holds an alias of itself"),
    "10^5 lists": (b"[" * 10**5, "nest"),  # newer versions of libyaml say it first, in words of their own
    "10^5 mappings": (b"{a: " * 10**5, "line 1: nested deeper than 50 levels"),
    "10^5 dashes": (b"- " * 10**5, "line 1: nested deeper than 50 levels"),
    "Latin 1": ("title: Größe\n".encode("latin-1"), "is not UTF-8 text: byte 9 is 0xf6"),
    "UTF-16": ("title: a\n".encode("utf-16"), "is not UTF-8 text: byte 0 is 0xff"),
    "a number of 10^4 digits": (b"seed: " + b"9" * 10**4, "Exceeds the limit"),
    "no such day": (b"when: 2024-13-45\n", "month must be in 1..12"),
    "a float beyond floats": (b"rate: 1.0e+999\n", "line 1: 1.0e+999 is beyond what a float holds"),
    "a control character": (b"title: \x00\n", "is not valid YAML"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_that_would_hang_or_mislead_is_refused(tiny: Workspace, case: str) -> None:
    text, told = TEXTS[case]
    study_file(tiny).write_bytes(text)
    refused = refusal(tiny)
    assert refused.startswith(str(study_file(tiny)))
    assert told in refused


def test_a_folder_or_a_forbidden_file_in_the_place_of_one_is_told(tiny: Workspace) -> None:
    study_file(tiny).unlink()
    study_file(tiny).mkdir()
    assert refusal(tiny) == f"cannot read {study_file(tiny)}: Is a directory"


def test_a_card_that_is_no_text_is_told(tiny: Workspace) -> None:
    card = study_file(tiny).with_name("README.md")
    card.write_bytes(b"\xff\xfe")
    assert refusal(tiny).startswith(f"cannot read {card} as UTF-8 text")
