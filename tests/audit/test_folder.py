from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scrimp.audit.design import Design, Traits, candidates
from scrimp.audit.folder import Audited, load, study_of, write_folder
from scrimp.claims.loading import load_claims
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.listing import check_code, check_config
from scrimp.stages import training_code


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
    '"metric": "mse"': ('"metric": "accuracy"', "evaluate gives loss, mse"),
    '"optimizer": "sgd"': ('"optimizer": "magic"', "optimizer"),
    '"epochs": 4,': ('"epoch": 4,', "epoch: unknown key"),
    '"test": (': ('"tests": (', "no examples under 'test'"),
    ".square()": (".square().mean()", "one value an example"),
    "targets).square()": ("targets).square().mean().expand(len(targets))", "all 8 examples have the same loss"),
    "(model(inputs)[:, 0] - targets)": ("(model(inputs)[:, 0].detach() - targets)", "do not depend on the model's weights"),
    "- targets)": ("- targets / 0)", "are not finite: "),
    "return (model(inputs)[:, 0] - targets).square()": ("return [1.0, 2.0]", "losses gave list, not a tensor"),
    "targets[:128]": ("targets[:120]", r"'train'\] have different lengths: \[128, 120\]"),
    "inputs[128:]": ("inputs[128:].numpy()", r"self.data\['test'\]\[0\] is no tensor but of the type ndarray"),
    'return {"loss"': ('{"loss"', "evaluate gave nothing: return the metrics by name"),
    '"mse": self.mean_loss(model, split)': ('"mse": torch.ones(2)', "evaluate gave 'mse' as Tensor: return float"),
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


def test_the_splits_name_is_no_part_of_a_metrics(task_file: Path, tmp_path: Path) -> None:
    task_file.write_text(task_file.read_text().replace('"metric": "mse"', '"metric": "test_mse"'))
    with pytest.raises(ScrimpError, match="evaluate gives loss, mse: say 'mse', since runs put the split before it"):
        load(task_file, Workspace(tmp_path / "audit"), "cpu", 1)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("nn.Linear(4, 1)", "model(0) gives other weights each time"),
        ("seeded(7, lambda: nn.Linear(4, 1))", "model(0) and model(1) have the same weights"),
        ("seeded(seed, lambda: nn.Linear(4, 1))", ""),
    ],
)
def test_a_model_that_is_no_function_of_the_seed_is_told(
    made: str, said: str, task_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = task_file.read_text()
    task_file.write_text(text.replace("seeded(seed, lambda: nn.Linear(4, 1))", made))
    load(task_file, Workspace(tmp_path / "audit"), "cpu", 1)
    printed = capsys.readouterr().out
    assert said in printed
    assert bool(said) == ("warning" in printed)


def test_a_last_layer_that_begins_at_zero_is_no_constant_loss(task_file: Path, tmp_path: Path) -> None:
    text = task_file.read_text().replace("targets = inputs.sum(dim=1) + 0.1", "targets = torch.ones(192) + 0.0")
    text = text.replace("return seeded(", "return _zeroed(").replace("class Line", ZEROED + "class Line")
    task_file.write_text(text)
    assert load(task_file, Workspace(tmp_path / "audit"), "cpu", 1).metric == "test_mse"


ZEROED = """def _zeroed(seed, make):
    made = seeded(seed, make)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)
    return made


"""


@pytest.mark.parametrize(("stem", "name"), [("MyTask", "mytask"), ("try_my pets (2)", "try-my-pets-2"), ("\u00fc", "task")])
def test_any_files_name_makes_a_study(stem: str, name: str, task_file: Path, tmp_path: Path) -> None:
    file = task_file.rename(task_file.with_name(f"{stem}.py"))
    audited = load(file, Workspace(tmp_path / "audit"), "cpu", 1)
    workspace = write_folder(tmp_path / "audit", audited, Design(candidates(Traits.of(audited.task), ["rs2"]), seeds=2))
    assert workspace.study(name).title == f"Audit of {stem}.py"


@pytest.mark.parametrize("file", ["study.yaml", "claims.yaml"])
def test_an_edited_study_is_not_written_over(file: str, audited: Audited, tmp_path: Path) -> None:
    design = Design(candidates(Traits.of(audited.task), ["rs2"]), seeds=2)
    workspace = write_folder(tmp_path / "audit", audited, design)
    path = workspace.study_folder("my-line") / file
    path.write_text(path.read_text().replace("RS2 50 %", "RS2, half"))
    with pytest.raises(ScrimpError, match=f"{file} was edited.*snakemake --cores all.*or delete it"):
        write_folder(tmp_path / "audit", audited, design)
    path.unlink()
    write_folder(tmp_path / "audit", audited, design)
    assert "RS2 50 %" in path.read_text()


def test_runs_may_have_a_gpu_that_this_machine_has_not(
    task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = load(task_file, Workspace(tmp_path / "audit"), "auto", 1)
    assert (here.gpus, here.time_axis) == (0, "cpu_seconds")
    assert "no GPU is seen here, and --gpus 1" in here.where
    there = load(task_file, Workspace(tmp_path / "audit"), "auto", 1, gpus=1)
    assert (there.gpus, there.time_axis) == (1, "seconds")
    assert "which this machine has not" in there.where
    assert study_of(there, Design((), seeds=2), tmp_path)["scales"]["audit"]["gpus"] == 1
    with pytest.raises(ScrimpError, match="--gpus 1 with --device cpu"):
        load(task_file, Workspace(tmp_path / "audit"), "cpu", 1, gpus=1)


def test_data_and_a_model_elsewhere_are_part_of_a_runs_digest(task_file: Path, tmp_path: Path) -> None:
    (tmp_path / "birds" / "owl").mkdir(parents=True)
    (tmp_path / "birds" / "owl" / "1.png").write_bytes(b"1")
    (tmp_path / "net.py").write_text("import part\n")
    (tmp_path / "part.py").write_text("WIDTH = 1\n")
    (tmp_path / "0001.tar").write_bytes(b"1")
    head = f"FOLDER, SIZE, MODEL = {str(tmp_path / 'birds')!r}, 8, {str(tmp_path / 'net.py') + ':make'!r}\n"
    head += f"TARS = [{str(tmp_path / '{0000..0001}.tar')!r}]\nWHERE = {str(tmp_path / 'other.csv')!r}\n"
    (tmp_path / "other.csv").write_text("1")
    task_file.write_text(task_file.read_text().replace("class Line", head + "\n\nclass Line"))

    def digest() -> str:
        return training_code("run", task_file.name, ["rs2"], task_file.parent)

    digests = [digest()]
    assert digest() == digests[0]
    for path in ("birds/owl/1.png", "birds/owl/2.png", "part.py", "net.py", "0001.tar"):
        (tmp_path / path).write_text("WIDTH = 22\n")
        digests.append(digest())
    assert len(set(digests)) == 6
    (tmp_path / "other.csv").write_text("22")  # of a name that is not one of those at the head
    assert digest() == digests[-1]
