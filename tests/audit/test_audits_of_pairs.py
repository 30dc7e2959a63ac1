"""`scrimp try --pairs`: tars become a two-tower task, with a reference for the arms that score against one."""

from __future__ import annotations

import io
import json
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from scrimp.audit import pairs, work
from scrimp.audit.design import Design, Traits, candidates
from scrimp.audit.folder import SCALE, Audited, check_place, load, write_folder
from scrimp.audit.pairs import pairs_of, tars_in
from scrimp.audit.plan import Pace, outline
from scrimp.audit.starters import starter
from scrimp.claims.loading import load_claims
from scrimp.cli import app
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.listing import check_code, check_config
from scrimp.records import read_summary
from scrimp.stages.reference import train_reference
from scrimp.stages.run import run_arm

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200), "white": (230, 230, 230)}
SMALL = {'"image": [128, 2, 4]': '"image": [16, 1, 2]', '"text": [128, 2, 4]': '"text": [16, 1, 2]'}
SMALL |= {'"width_out": 128': '"width_out": 16', '"batch_size": 128': '"batch_size": 16', ", 32  # pixels": ", 8  # pixels"}


def picture(number: int) -> bytes:
    """One of four colours with noise, 10 x 12 pixels."""
    noise = np.random.default_rng(number).normal(0, 20, (12, 10, 3))
    pixels = (np.array(list(COLOURS.values())[number % 4]) + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def caption(number: int) -> str:
    return f"a {list(COLOURS)[number % 4]} patch, number {number}"


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Two tars of 80 pairs each: captions as texts in one, and in JSON, with a score, in the other."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    first, second = {}, {}
    for number in range(160):
        files = first if number < 80 else second
        files[f"{number:04d}.png"] = picture(number)
        told: dict[str, Any] = {"fit": number / 160}
        if number < 80:
            files[f"{number:04d}.txt"] = caption(number).encode()
        else:
            told["caption"] = caption(number)
        files[f"{number:04d}.json"] = json.dumps(told).encode()
    write_tar(folder / "0.tar", first)
    write_tar(folder / "1.tar", second)
    return folder


def written(tmp_path: Path, *given: Path | str, **changes: str) -> Path:
    """The file that is written for tars, with towers as small as tests want them."""
    file = starter(None, None, None, 16, "text", "label", 2, tmp_path / "mine.py", list(map(str, given)))
    text = file.read_text()
    for old, new in {**SMALL, **changes}.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


def loaded(file: Path) -> Audited:
    return load(file, Workspace(file.parent / "audit"), "cpu", 1)


def test_tars_become_a_two_tower_task(tars: Path, tmp_path: Path) -> None:
    audited = loaded(written(tmp_path, tars))
    task: Any = audited.task
    assert audited.metric == "test_r5"
    assert {split: task.size(split) for split in ("pool", "validation", "test")} == {
        "pool": 128,
        "validation": 16,
        "test": 16,
    }
    pixels, tokens = task.batch("pool", torch.arange(128))
    assert (pixels.shape, pixels.dtype, tokens.shape) == ((128, 16, 16, 3), torch.uint8, (128, 8))
    samples = task.known.samples
    assert set(samples["caption"]) == {caption(number) for number in range(160)}
    colours = torch.tensor([list(COLOURS.values())[int(key) % 4] for key in samples["key"][samples["split"] == "pool"]])
    assert (pixels.float().mean(dim=(1, 2)) - colours).abs().max() < 15  # each caption has its own picture
    assert task.losses(task.model(0), (pixels[:5], tokens[:5])).shape == (5,)
    assert task.features(task.model(0), (pixels[:5], tokens[:5])).shape == (5, 32)
    assert Traits.of(task) == Traits(16, 128, logits=False, history=False, contrast="sigmoid")


def test_what_the_tars_hold_is_found_once(tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "audit")
    first = pairs_of(workspace, str(tars), 16, 8)
    check_place(tmp_path / "audit", "mine")  # what is kept there makes it no stranger's
    streamed = pairs_of(Workspace(tmp_path / "other"), str(tars), 16, 8)
    (kept,) = (tmp_path / "audit" / "resources" / "shards").glob("pairs-*")
    made = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    again = pairs_of(workspace, [str(tars / "0.tar"), str(tars / "*.tar")], 16, 8)  # the same two, each once
    assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == made
    monkeypatch.setattr(pairs, "LARGEST", 0)
    read = pairs_of(Workspace(tmp_path / "other"), str(tars), 16, 8)
    assert type(read.pairs) is not type(first.pairs)
    at = torch.tensor([3, 0, 7])
    for split in ("pool", "test"):
        wanted = first.splits[split]
        for other in (again, streamed, read):
            assert torch.equal(other.splits[split].images(at), wanted.images(at))
            assert torch.equal(other.splits[split].captions(at), wanted.captions(at))


def test_with_a_score_the_best_pairs_are_the_reference_s_alone(tars: Path, tmp_path: Path) -> None:
    changes = {"SCORE, CURATED_FROM = None, None": 'SCORE, CURATED_FROM = "fit", 0.75'}
    task: Any = loaded(written(tmp_path, tars, **changes)).task
    assert task.reference_subset == "curated"
    samples = task.known.samples
    assert (samples.loc[samples["split"] == "curated", "score"] >= 0.75).all()
    assert (samples.loc[samples["split"] == "pool", "score"] < 0.75).all()
    assert task.size("pool") + task.size("curated") == 128


def test_an_audit_of_pairs_is_a_study_that_every_check_accepts(tars: Path, tmp_path: Path) -> None:
    audited = loaded(written(tmp_path, tars))
    design = Design(candidates(Traits.of(audited.task), ["jest", "prototypes-50"]), seeds=2)
    workspace = write_folder(tmp_path / "audit", audited, design)
    check_config(workspace)
    check_code(workspace)
    (reference,) = workspace.study("mine").scale(SCALE).references.values()
    assert (reference.subset, reference.steps) == ("raw", 16)  # two epochs of 128 pairs in batches of 16
    claims = {claim.id: claim for claim in load_claims(workspace, "mine")}
    assert claims["jest-80-cpu-seconds-amortised"].rule.axis == "cpu_seconds-amortised"  # type: ignore[attr-defined]
    assert "prototypes-50-cpu-seconds-amortised" not in claims
    assert len(claims) == 3 * 7 + 4
    pace = Pace(steps=16, step=1.0, evaluation=0.0, evaluations=1, start=0.0, memory=0)
    told = "\n".join(outline(design, pace, audited, 1))
    assert f"{'reference, once':<24}{'100%':>21} {'16 s':>10}" in told
    arms = sum(design.arms().values())
    assert pace.hours_of(design, 1) == pytest.approx((2 * arms + 1) * 16 / 3600)


def test_every_arm_trains_and_pays_for_what_it_needs(tars: Path, tmp_path: Path) -> None:
    audited = loaded(written(tmp_path, tars))
    wanted = ["jest", "prototypes-50", "infobatch-50"]
    design = Design(candidates(Traits.of(audited.task), wanted), sweep=(0.5, 1.0), seeds=2)
    workspace = write_folder(tmp_path / "audit", audited, design)
    cost = read_json(train_reference(workspace, "mine", "reference", SCALE, "cpu") / "summary.json")["cost"]
    assert cost["updates"] == 16
    summaries = {arm: read_summary(run_arm(workspace, "mine", arm, 0, SCALE, "cpu")) for arm in list(design.arms())[1:]}
    meters = {arm: summary.meters for arm, summary in summaries.items()}
    assert all(0 <= summary.metrics["test_r5"] <= 100 for summary in summaries.values())
    assert meters["plain"].updates == 16
    for arm in ("jest-80", "easy-reference-80", "top-k-80"):
        assert meters[arm].updates == 16 + 16
        assert meters[arm].flops_reference == cost["flops"]
        assert meters[arm].flops_train == meters["plain"].flops_train
    assert meters["jest-80"].examples_scored == meters["top-k-80"].examples_scored == 16 * 80
    assert meters["easy-reference-80"].examples_scored == 0  # the reference's embeddings are there
    assert 0 < meters["easy-reference-80"].flops_scoring < meters["jest-80"].flops_scoring
    pruned = meters["prototypes-50"]
    assert pruned.examples - pruned.examples_reference == 128  # half of the pool, twice
    assert pruned.examples_reference == pytest.approx(0.1 * 2 * 128, abs=1)
    assert pruned.examples_scored == 128


def test_towers_under_the_softmax_loss_train_by_jest_too(tars: Path, tmp_path: Path) -> None:
    audited = loaded(written(tmp_path, tars, **{'"loss": "sigmoid"': '"loss": "softmax"'}))
    design = Design(candidates(Traits.of(audited.task), ["jest-80"]), sweep=(0.5, 1.0), seeds=2)
    workspace = write_folder(tmp_path / "audit", audited, design)
    train_reference(workspace, "mine", "reference", SCALE, "cpu")
    run = read_summary(run_arm(workspace, "mine", "jest-80", 0, SCALE, "cpu"))
    assert run.meters.examples_scored == 16 * 80


# -------------------------------------------------------------------------------------------------------------- mistakes
def test_what_is_of_no_use_is_counted_and_named(tars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"alone.png": picture(0), "untold.txt": b"words", "torn.png": picture(1)[:60], "torn.txt": b"a torn picture"}
    tar = write_tar(tars / "2.tar", more)
    data = pairs_of(Workspace(tmp_path / "audit"), str(tars), 16, 8)
    assert len(data.pairs) == 160
    said = capsys.readouterr()
    for reason in ("no caption (alone", "no picture (untold", "a corrupt picture (torn"):
        assert f"1 with {reason} in {tar})" in " ".join(said.err.split())
    assert f"no pair in 1 of 3 tars ({tar})" in said.out


def test_too_few_pairs_and_tars_without_captions_are_errors_that_name_the_file(tars: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "audit")
    with pytest.raises(ScrimpError, match=r"0\.tar: 80 pairs, 80 of them with a caption of their own, are too few: 100"):
        pairs_of(workspace, str(tars / "0.tar"), 16, 8)
    bare = write_tar(tmp_path / "bare.tar", {f"{number}.png": picture(number) for number in range(120)})
    with pytest.raises(ScrimpError, match=r"bare\.tar: 0 pairs.*left out: 120 with no caption \(0 in .*bare\.tar\)"):
        pairs_of(workspace, str(bare), 16, 8)
    same = {f"{n}.{end}": what for n in range(120) for end, what in (("png", picture(n)), ("txt", b"a patch"))}
    with pytest.raises(ScrimpError, match=r"same\.tar: 120 pairs, 0 of them with a caption of their own"):
        pairs_of(workspace, str(write_tar(tmp_path / "same.tar", same)), 16, 8)
    assert not list((tmp_path / "audit").rglob("manifest.json"))  # nothing half-made is kept


def test_damaged_and_missing_tars_are_errors_that_name_the_file(tars: Path, tmp_path: Path) -> None:
    with (tars / "1.tar").open("r+b") as file:
        file.truncate(30_000)
    with pytest.raises(ScrimpError, match=r"1\.tar cannot be read to its end, it is truncated or damaged"):
        pairs_of(Workspace(tmp_path / "audit"), str(tars), 16, 8)
    with pytest.raises(ScrimpError, match=r"no tar at .*none: --pairs takes a folder of tars, a glob"):
        tars_in(str(tmp_path / "none"))
    with pytest.raises(ScrimpError, match=r"2\.tar does not exist; 1 of the 2 tars"):
        tars_in(str(tars / "{0,2}.tar"))


def test_what_cannot_be_written_for_pairs_is_said(tars: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = {"texts": None, "text": "text", "label": "label", "epochs": 2, "to": tmp_path / "a.py"}
    with pytest.raises(ScrimpError, match=r"give one of --data FOLDER.*--pairs TARS"):
        starter(data=tars, model=None, size=16, pairs=[str(tars)], **told)
    with pytest.raises(ScrimpError, match="--size 20: a picture is cut into patches of 8 x 8"):
        starter(data=None, model=None, size=20, pairs=[str(tars)], **told)
    with pytest.raises(ScrimpError, match="--model hf:clip: of pairs, the two towers are made in the file"):
        starter(data=None, model="hf:clip", size=16, pairs=[str(tars)], **told)


def test_the_file_is_called_after_the_folder_of_several_tars(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = partial(starter, None, None, None, 16, "text", "label", 2, None)
    assert given(["drawn/*.tar"]).name == "try_drawn.py"
    assert f"TARS, SIZE, LENGTH = '{tars}/*.tar', 16, 32" in Path("try_drawn.py").read_text()
    assert given(["drawn/0.tar"]).name == "try_0.py"
    Path("try_drawn.py").unlink()
    assert given(["drawn/0.tar", "drawn/1.tar"]).name == "try_drawn.py"
    assert f"['{tars}/0.tar', '{tars}/1.tar'], 16, 32" in Path("try_drawn.py").read_text()


def test_the_command_takes_what_the_shell_made_of_a_pattern(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "conduct", lambda *arguments: seen.update(task=arguments[0], more=arguments[-1]))
    told = ["--pairs", "drawn/0.tar", "drawn/1.tar", "--size", "16", "--", "--keep-going"]
    result = CliRunner().invoke(app, ["try", *told])
    assert result.exit_code == 0, result.output
    assert seen == {"task": Path("try_drawn.py"), "more": ["--keep-going"]}
    assert f"['{tars}/0.tar', '{tars}/1.tar']" in Path("try_drawn.py").read_text()


@pytest.mark.slow
def test_the_command_writes_audits_and_reports(tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "Design", partial(Design, sweep=(0.5, 1.0)))  # fewer lengths than five
    file = written(tmp_path, tars)
    told = [str(file), "--methods", "top-k-80", "--seeds", "2", "--cores", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, ["audit", *told])
    assert result.exit_code == 0, result.output
    assert "top-k 80 %: " in result.output
    verdict = json.loads((tmp_path / "audit-mine" / "verdict.json").read_text())
    assert verdict["complete"]
    (method,) = verdict["methods"]
    assert set(method["speedup"]) == {
        f"{axis}{ending}" for axis in ("cpu_seconds", "examples", "flops") for ending in ("", "-amortised")
    }
    assert (tmp_path / "audit-mine" / "report.html").stat().st_size > 0
