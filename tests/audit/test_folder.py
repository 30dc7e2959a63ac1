from __future__ import annotations

from pathlib import Path

import pytest

from scrimp.audit.design import Design, Traits, candidates
from scrimp.audit.folder import Audited, load, write_folder
from scrimp.claims.loading import load_claims
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.listing import check_code, check_config


def test_an_audit_is_a_study_that_every_check_accepts(audited: Audited, tmp_path: Path) -> None:
    design = Design(candidates(Traits.of(audited.task)), seeds=2)
    workspace = write_folder(tmp_path / "audit", audited, design)
    check_config(workspace)
    check_code(workspace)
    study = workspace.study("my-line")
    assert study.arm_ids("audit") == list(design.arms())[:5] + [one.arm for one in design.candidates]
    assert study.baseline_sweep == ["plain-x0.25", "plain-x0.5", "plain-x0.75", "plain", "plain-x1.5"]
    claims = {claim.id: claim for claim in load_claims(workspace, "my-line")}
    assert len(claims) == 4 * len(design.candidates)
    assert claims["rs2-50-cpu-seconds"].direction == "higher"
    assert claims["rs2-50-quality"].direction == "lower"  # of an error
    assert claims["rs2-50-quality"].metric == "test_mse"


def test_a_second_audit_keeps_the_workspace_and_writes_the_new_design(audited: Audited, tmp_path: Path) -> None:
    few = Design(candidates(Traits.of(audited.task), ["rs2"]), seeds=2)
    write_folder(tmp_path / "audit", audited, few)
    (tmp_path / "audit" / "results").mkdir()
    workspace = write_folder(tmp_path / "audit", audited, Design(few.candidates, seeds=3))
    assert workspace.study("my-line").scale("audit").seeds == [0, 1, 2]
    assert (tmp_path / "audit" / "results").is_dir()


def test_nothing_is_written_into_a_folder_that_is_something_else(audited: Audited, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ScrimpError, match="is no audit"):
        write_folder(tmp_path / "mine", audited, Design((), seeds=2))


BROKEN = {
    '"metric": "mse"': ('"metric": "accuracy"', "evaluate gives test_loss, test_mse"),
    '"optimizer": "sgd"': ('"optimizer": "magic"', "optimizer"),
    '"epochs": 4,': ('"epoch": 4,', "epoch: unknown key"),
    '"test": (': ('"tests": (', "no examples under 'test'"),
    ".square()": (".square().mean()", "one value an example"),
}


@pytest.mark.parametrize("old", BROKEN)
def test_what_is_wrong_with_a_task_is_said_before_any_run(old: str, task_file: Path, tmp_path: Path) -> None:
    new, said = BROKEN[old]
    text = task_file.read_text()
    assert old in text
    task_file.write_text(text.replace(old, new))
    with pytest.raises(ScrimpError, match=said):
        load(task_file, Workspace(tmp_path / "audit"), "cpu", 1)


def test_a_task_without_a_plain_recipe_is_told_what_to_add(task_file: Path, tmp_path: Path) -> None:
    task_file.write_text(task_file.read_text().replace("plain = {", "unplain = {"))
    with pytest.raises(ScrimpError, match=r"plain = \{'epochs'"):
        load(task_file, Workspace(tmp_path / "audit"), "cpu", 1)


def test_a_module_beside_the_task_is_found(task_file: Path, tmp_path: Path) -> None:
    (task_file.parent / "my_net.py").write_text("from torch import nn\n\n\ndef net():\n    return nn.Linear(4, 1)\n")
    text = task_file.read_text().replace("nn.Linear(4, 1)", "net()")
    task_file.write_text(text.replace("import torch\n", "import torch\nfrom my_net import net\n", 1))
    assert load(task_file, Workspace(tmp_path / "audit"), "cpu", 1).metric == "test_mse"
