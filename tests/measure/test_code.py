"""Digests of code: an edit reaches exactly the stages whose result it can change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrimp.measure import code
from scrimp.methods import method_class, method_module, method_names

RUNNERS = {True: "scrimp.training.pairs_runner", False: "scrimp.training.runner"}
OF_PAIRS = {name for name in method_names() if method_class(name).task == "image-text"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that digests are taken of."""
    copy = tmp_path / "scrimp"
    shutil.copytree(code.package_root(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "package_root", lambda: copy)
    code.imports_of.cache_clear()
    yield copy
    code.imports_of.cache_clear()


def digests() -> dict[str, str]:
    code.imports_of.cache_clear()  # as a new process would
    return {name: code.code_digest(RUNNERS[name in OF_PAIRS], method_module(name)) for name in method_names()}


EVERY = set(method_names())
OF_CLASSES = EVERY - OF_PAIRS
EDITS = [
    ("selection/infobatch.py", {"infobatch"}),
    ("selection/rs2.py", {"rs2"}),
    ("selection/random_static.py", {"random-static"}),
    ("selection/ccs.py", {"ccs"}),
    ("selection/forgetting.py", {"forgetting", "ccs"}),
    ("selection/el2n.py", {"el2n", "forgetting", "ccs"}),  # both build on it
    ("selection/jest.py", {"jest"}),
    ("selection/drawing.py", {"jest"}),
    ("selection/uniform.py", {"uniform"}),
    ("selection/base.py", EVERY),
    ("selection/batch.py", OF_PAIRS),
    ("selection/pairs.py", OF_PAIRS),
    ("training/classify.py", OF_CLASSES),
    ("training/proxy.py", OF_CLASSES),
    ("training/contrast.py", OF_PAIRS),
    ("training/losses.py", OF_PAIRS),
    ("training/reference.py", OF_PAIRS),
    ("training/stage.py", EVERY),
    ("models/vision.py", EVERY),  # the towers are built of its blocks
    ("models/contrastive.py", OF_PAIRS),
    ("data/loading.py", EVERY),
    ("data/pairs.py", OF_PAIRS),
    ("measure/flops.py", OF_CLASSES),
    ("measure/retrieval.py", OF_PAIRS),
    # What comes after a run, or beside it, changes no run.
    ("selection/dropin.py", set()),
    ("claims/judge.py", set()),
    ("studies/infobatch.py", set()),
    ("studies/jest.py", set()),
    ("report/page.py", set()),
    ("data/icons.py", set()),
    ("data/sources.py", set()),
    ("training/tuning.py", set()),
    ("cli.py", set()),
    ("tracking.py", set()),
]


@pytest.mark.parametrize(("edited", "reached"), EDITS, ids=[file for file, _ in EDITS])
def test_an_edit_reaches_exactly_the_runs_it_can_change(package: Path, edited: str, reached: set[str]) -> None:
    before = digests()
    path = package / edited
    path.write_text(path.read_text() + "\n# edited\n")
    after = digests()
    assert {name for name in before if before[name] != after[name]} == reached


def test_the_same_sources_elsewhere_give_the_same_digest(package: Path) -> None:
    copied = digests()
    program = (
        "from scrimp.measure.code import code_digest\nfrom scrimp.methods import method_module, method_names\n"
        f"runners = {RUNNERS}\npairs = {OF_PAIRS}\n"
        "for name in method_names(): print(name, code_digest(runners[name in pairs], method_module(name)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert dict(line.split() for line in done.stdout.splitlines()) == copied


def test_all_runs_of_different_selectors_have_different_digests(package: Path) -> None:
    assert len(set(digests().values())) == len(EVERY)


def test_the_closure_follows_imports_of_modules_and_names_alike(package: Path) -> None:
    (package / "one.py").write_text("from scrimp import two\nimport json\n")
    (package / "two.py").write_text("def inside():\n    import scrimp.three\n")
    (package / "three.py").write_text("from scrimp.one import something\n")  # a circle
    code.imports_of.cache_clear()
    ours = {name for name in code.closure("scrimp.one") if name in {"scrimp.one", "scrimp.two", "scrimp.three"}}
    assert ours == {"scrimp.one", "scrimp.two", "scrimp.three"}
    with pytest.raises(ValueError, match=r"scrimp\.four is not a module of scrimp"):
        code.closure("scrimp.four")
    assert code.module_path("torch.nn") is None
