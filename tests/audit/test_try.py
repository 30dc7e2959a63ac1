"""`scrimp try`: the files that it writes load, train, and are audited as they are."""

from __future__ import annotations

import csv
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from scrimp.audit import work
from scrimp.audit.design import Design, Traits, candidates
from scrimp.audit.folder import Audited, load
from scrimp.audit.plan import outline, pace_of
from scrimp.audit.ready import BUCKETS, hashed_words, is_test, model_named, pictures, table, text_model
from scrimp.audit.starters import starter
from scrimp.cli import app
from scrimp.config import Workspace
from scrimp.errors import ScrimpError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty pictures of each of two classes, 12 x 10 pixels: dark with noise, and bright with noise."""
    draws = np.random.default_rng(0)
    for label, (name, level) in enumerate((("day", 170), ("night", 80))):
        (tmp_path / "sky" / name).mkdir(parents=True)
        for number in range(30):
            pixels = draws.normal(level, 40, (10, 12, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "sky" / name / f"{30 * label + number}.png")
    return tmp_path / "sky"


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """Sixty lines; those with `prize` in them are spam."""
    with (tmp_path / "mails.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for number in range(60):
            spam = number % 2 == 0
            rows.writerow([f"letter {number}, you won a {'prize' if spam else 'day'}!", "spam" if spam else "ham"])
    return tmp_path / "mails.csv"


def written(tmp_path: Path, **given: Any) -> Path:
    told = {"data": None, "texts": None, "model": None, "size": 8, "text": "text", "label": "label", "epochs": 2}
    return starter(**{**told, **given}, to=tmp_path / "mine.py")


def loaded(file: Path, tmp_path: Path) -> Audited:
    return load(file, Workspace(tmp_path / "audit"), "cpu", 1)


def small(file: Path) -> Path:
    """The file with a model of one layer, as a user may edit it."""
    (file.parent / "net.py").write_text(
        "from torch import nn\n\n\ndef make(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))\n"
    )
    file.write_text(file.read_text().replace("'resnet-narrow'", repr(f"{file.parent / 'net.py'}:make")))
    return file


def test_a_folder_of_pictures_is_planned(folder: Path, tmp_path: Path) -> None:
    audited = loaded(written(tmp_path, data=folder), tmp_path)
    task = audited.task
    held_out = sum(is_test(f"{path.parent.name}/{path.name}") for path in folder.glob("*/*.png"))
    assert (task.size("train"), task.size("test")) == (60 - held_out, held_out)
    assert 0 < held_out < 30
    assert task.data["train"][0].shape == (60 - held_out, 3, 8, 8)
    assert audited.metric == "test_accuracy"
    assert task.labels.bincount().sum() == 60 - held_out  # for methods that balance classes
    design = Design(candidates(Traits.of(task)), seeds=2)
    told = "\n".join(outline(design, pace_of(audited, 0.1), audited, 1))
    assert f"mine.py: {60 - held_out} examples" in told
    assert "growing" in told
    model = task.model(1)
    assert torch.equal(task.model(1)(task.data["test"][0]), model(task.data["test"][0]))  # the same for a seed


def test_a_table_of_texts_is_planned(mails: Path, tmp_path: Path) -> None:
    audited = loaded(written(tmp_path, texts=mails), tmp_path)
    numbers, labels = audited.task.data["train"]
    assert numbers.shape == (len(labels), 64)
    assert audited.task.classes == ["ham", "spam"]
    logits, _ = audited.task.outputs(audited.task.model(0), (numbers, labels))
    assert logits.shape == (len(labels), 2)
    pace = pace_of(audited, 0.1)
    assert pace.steps == 2  # two epochs of less than 64


def test_both_learn_in_a_few_steps(folder: Path, mails: Path, tmp_path: Path) -> None:
    for name, given in (("a", {"data": folder}), ("b", {"texts": mails})):
        (tmp_path / name).mkdir()
        file = small(written(tmp_path / name, **given))
        task = loaded(file, tmp_path / name).task
        model = task.model(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            loss, losses = task.loss(model, task.batch("train", torch.arange(task.examples)), None, 1 / task.examples)
            assert losses is not None
            loss.backward()
            optimizer.step()
        assert task.evaluate(model, "test")["accuracy"] == 100.0


@pytest.mark.slow
def test_the_command_writes_audits_and_reports(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "Design", partial(Design, sweep=(0.5, 1.0)))  # fewer lengths than five
    small(written(tmp_path, data=folder))  # only for net.py
    told = ["--data", str(folder), "--model", "net.py:make", "--size", "8", "--epochs", "2"]
    told += ["--methods", "rs2", "--seeds", "2", "--cores", "2"]
    result = CliRunner().invoke(app, ["try", *told])
    assert result.exit_code == 0, result.output
    assert "wrote try_sky.py" in result.output
    assert "RS2 50 %: " in result.output
    verdict = json.loads((tmp_path / "audit-try-sky" / "verdict.json").read_text())
    assert verdict["complete"]
    assert verdict["metric"] == "test_accuracy"
    assert [point["share"] for point in verdict["sweep"]] == [0.5, 1.0]
    assert (tmp_path / "audit-try-sky" / "report.html").stat().st_size > 0
    (tmp_path / "try_sky.py").write_text((tmp_path / "try_sky.py").read_text().replace("0.05", "0.1"))
    again = CliRunner().invoke(app, ["try", *told])
    assert again.exit_code != 0
    assert isinstance(again.exception, ScrimpError)
    assert "`scrimp audit try_sky.py` goes on with it" in str(again.exception)


def test_audit_and_try_take_the_same_options() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {name: {one.name for one in commands[name].params} for name in ("audit", "try")}
    assert options["audit"] - options["try"] == {"task"}
    assert {"data", "text", "model", "budget", "plan", "methods", "seeds"} <= options["try"]


def test_damaged_and_other_files_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "day" / "broken.png").write_bytes(b"\x89PNG\r\n")
    (folder / "day" / "notes.txt").write_text("")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "dusk").mkdir()
    splits, classes = pictures(folder, 8)
    assert classes == ["day", "night"]
    assert sum(len(labels) for _, labels in splits.values()) == 60
    said = capsys.readouterr().out
    for reason in (
        "left out, damaged: 1 (",
        "left out, hidden: 1 (",
        "no picture (.txt): 1 (",
        "folder without pictures: 1 (",
    ):
        assert reason in said


def test_splits_of_the_user_are_kept(folder: Path, tmp_path: Path) -> None:
    for split, numbers in (("train", range(20)), ("test", range(20, 25))):
        for name, first in (("day", 0), ("night", 30)):
            (tmp_path / "own" / split / name).mkdir(parents=True)
            for number in numbers:
                path = folder / name / f"{first + number}.png"
                (tmp_path / "own" / split / name / path.name).write_bytes(path.read_bytes())
    splits, _ = pictures(tmp_path / "own", 8)
    assert (len(splits["train"][1]), len(splits["test"][1])) == (40, 10)


def test_a_file_that_nobody_edited_is_written_anew(folder: Path, mails: Path, tmp_path: Path) -> None:
    assert "label='tag'" in written(tmp_path, texts=mails, label="tag").read_text()  # there is no such column
    assert "label='label'" in written(tmp_path, texts=mails).read_text()  # the corrected command


def split_up(folder: Path, to: Path, **splits: range) -> Path:
    for split, numbers in splits.items():
        for name, first in (("day", 0), ("night", 30)):
            (to / split / name).mkdir(parents=True)
            for number in numbers:
                path = folder / name / f"{first + number}.png"
                (to / split / name / path.name).write_bytes(path.read_bytes())
    return to


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_validation_folder_is_held_out_where_there_is_no_test(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = split_up(folder, tmp_path / "own", **{"train": range(20), name: range(20, 25)})
    splits, classes = pictures(own, 8)
    assert classes == ["day", "night"]
    assert {split: len(labels) for split, (_, labels) in splits.items()} == {"train": 40, "test": 10}
    assert f"own/{name} is what methods are held against" in capsys.readouterr().out
    split_up(folder, own, test=range(25, 28))
    splits, _ = pictures(own, 8)
    assert {split: len(labels) for split, (_, labels) in splits.items()} == {"train": 40, "test": 6, "validation": 10}


def test_one_split_alone_is_told_what_is_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match=r"own/train/CLASS/ and .*own/test/CLASS/ \(or val/\)"):
        pictures(split_up(folder, tmp_path / "own", train=range(20)), 8)


def test_pictures_lie_between_minus_one_and_one(tmp_path: Path) -> None:
    for name, level in (("black", 0), ("white", 255)):
        (tmp_path / "two" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (4, 4), (level, level, level)).save(tmp_path / "two" / name / f"{number}.png")
    splits, _ = pictures(tmp_path / "two", 8)
    pixels, labels = splits["train"]
    assert pixels[labels == 0].unique().tolist() == [-1.0]
    assert pixels[labels == 1].unique().tolist() == [1.0]


def test_the_same_word_has_the_same_number_whatever_its_case() -> None:
    numbers = hashed_words(["Ham and ham!", ""], 5, BUCKETS)
    assert numbers[0, 0] == numbers[0, 2] > 0
    assert numbers[0, 4] == 0
    assert numbers[1].tolist() == [0] * 5


def test_what_cannot_be_tried_is_said(folder: Path, mails: Path, tmp_path: Path) -> None:
    for given in ({}, {"data": folder, "texts": mails}):
        with pytest.raises(ScrimpError, match="give one of --data"):
            written(tmp_path, **given)
    (tmp_path / "mine.py").write_text(written(tmp_path, data=folder).read_text().replace("0.05", "0.1"))
    with pytest.raises(ScrimpError, match="is there already, and edited"):
        written(tmp_path, data=folder)
    with pytest.raises(ScrimpError, match="no column 'subject'; it has text, label"):
        table(mails, text="subject")
    with pytest.raises(ScrimpError, match="has no class's folder with pictures in it: put pictures in"):
        pictures(folder / "day", 8)
    with pytest.raises(ScrimpError, match="is no folder"):
        pictures(tmp_path / "none", 8)
    (tmp_path / "holes.csv").write_text("text,label\na,b\n,c\n")
    with pytest.raises(ScrimpError, match="'text' is empty in line 3"):
        table(tmp_path / "holes.csv")


def test_models_by_name_and_by_function(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("from torch import nn\n\n\ndef make(classes):\n    return nn.Linear(7, classes)\n")
    assert model_named(f"{tmp_path / 'nets.py'}:make", 5).out_features == 5
    assert text_model(f"{tmp_path / 'nets.py'}:make", 3).out_features == 3
    assert model_named("resnet18", 4)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(ScrimpError, match="has no function 'mike'"):
        model_named(f"{tmp_path / 'nets.py'}:mike", 5)
    with pytest.raises(ScrimpError, match="does not exist"):
        model_named(f"{tmp_path / 'none.py'}:make", 5)
    with pytest.raises(ScrimpError, match="it is one of resnet-narrow"):
        model_named("resnet-19", 5)
    with pytest.raises(ScrimpError, match="for texts it is bag-of-words"):
        text_model("resnet-18", 5)


def test_a_timm_that_does_not_import_points_to_the_function_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ScrimpError, match=r"nms does not exist.*write a function.*--model my_file.py:make"):
        model_named("timm:resnet18", 5)


def test_a_table_is_read_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    lines = [f'"line {n}, with a comma",{"NA" if n % 2 else "no"}' for n in range(40)]
    file.write_bytes("\ufefftext,label\n".encode() + "\n".join(lines).encode())
    splits, classes = table(file)
    assert classes == ["NA", "no"]
    assert sum(len(texts) for texts, _ in splits.values()) == 40
    file.write_text("text\tlabel\n" + "\n".join(f'so he said "{n}, NA\t{n % 2}' for n in range(40)).replace('"', "'"))
    assert table(file)[1] == ["0", "1"]


BAD_TABLES = {
    "ragged": (b"text,label\none, two,a\nb,b\n", r"line 2 has 3 fields, and the header 2: put a text with ',' in it"),
    "short": (b"text,label\none,a\nb\n", "line 3 has 1 fields, and the header 2"),
    "latin": ("text,label\none,a\ncaf\u00e9,b\n".encode("latin-1"), "is not UTF-8: byte 0xe9 in line 3.*iconv -f LATIN1"),
    "utf16": ("text,label\none,a\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
    "empty": (b"", "bad.csv is empty"),
    "grades": (b"text,label\n" + b"".join(b"t%d,%d.5\n" % (n, n % 30) for n in range(90)), "30 different values in 90 rows"),
    "ids": (b"text,label\n" + b"".join(b"t%d,id%d\n" % (n, n) for n in range(90)), "90 different values.*--label-column"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_what_is_wrong_with_a_table_is_said(name: str, tmp_path: Path) -> None:
    content, said = BAD_TABLES[name]
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(ScrimpError, match=said):
        table(tmp_path / "bad.csv")


def test_a_damaged_parquet_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ScrimpError, match=r"bad\.parquet is no parquet file, or damaged"):
        table(tmp_path / "bad.parquet")
