"""Digests of code: an edit reaches exactly the stages whose result it can change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scrimp.measure import code
from scrimp.methods import method_names
from scrimp.stages import training_code

# A task, and the methods of one of its arms.
RUNS = {
    **{name: ("classification", [name]) for name in method_names() if name not in ("jest", "uniform")},
    **{name: ("image-text", [name]) for name in ("jest", "uniform")},
    "text": ("causal-lm", []),
    "text-rs2": ("causal-lm", ["rs2"]),
    "both": ("classification", ["infobatch", "ghost-batch-norm"]),
}
OF_PAIRS = {name for name, (task, _) in RUNS.items() if task == "image-text"}
OF_CLASSES = {name for name, (task, _) in RUNS.items() if task == "classification"}
OF_TEXT = {name for name, (task, _) in RUNS.items() if task == "causal-lm"}
EVERY = set(RUNS)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that digests are taken of."""
    copy = tmp_path / "scrimp"
    shutil.copytree(code.package_root(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "package_root", lambda: copy)
    return copy


def digests() -> dict[str, str]:
    return {name: training_code("run", task, methods) for name, (task, methods) in RUNS.items()}


EDITS = [
    ("methods/infobatch.py", {"infobatch", "both"}),
    ("methods/ghost_batch_norm.py", {"ghost-batch-norm", "both"}),
    ("methods/rs2.py", {"rs2", "text-rs2"}),
    ("methods/random_static.py", {"random-static"}),
    ("methods/ccs.py", {"ccs"}),
    ("methods/forgetting.py", {"forgetting", "ccs"}),
    ("methods/el2n.py", {"el2n", "forgetting", "ccs"}),  # both build on it
    ("methods/jest.py", {"jest"}),
    ("methods/drawing.py", {"jest"}),
    ("methods/uniform.py", {"uniform"}),
    ("methods/base.py", EVERY),
    ("methods/combined.py", EVERY),
    ("methods/pairs.py", OF_PAIRS),
    ("tasks/base.py", EVERY),
    ("tasks/classification.py", OF_CLASSES),
    ("tasks/image_text.py", OF_PAIRS),
    ("tasks/causal_lm.py", OF_TEXT),
    ("training/loop.py", EVERY),
    ("training/session.py", EVERY),
    ("training/proxy.py", EVERY),
    ("training/contrast.py", OF_PAIRS),
    ("training/losses.py", OF_PAIRS),
    ("training/reference.py", OF_PAIRS),
    ("stages/run.py", EVERY),
    ("stages/fit.py", EVERY),
    ("models/vision.py", OF_CLASSES | OF_PAIRS),  # the towers are built of its blocks
    ("models/contrastive.py", OF_PAIRS),
    ("models/language.py", OF_TEXT),
    ("data/loading.py", OF_CLASSES | OF_PAIRS),
    ("data/pairs.py", OF_PAIRS),
    ("data/text.py", OF_TEXT),
    ("flops.py", EVERY),
    ("measure/retrieval.py", OF_PAIRS),
    ("config/training.py", EVERY),
    # An edited kernel, its CUDA source included, re-runs what uses it.
    ("kernels/prune.py", {"infobatch", "both"}),
    ("kernels/prune.cu", {"infobatch", "both"}),
    ("kernels/cross_entropy.py", OF_TEXT),
    ("kernels/sigmoid.py", OF_PAIRS),
    ("kernels/learnability.py", OF_PAIRS),
    ("kernels/numbers.cuh", OF_PAIRS | OF_TEXT | {"prototypes", "semdedup"}),  # whose distances are an op of ours
    # What comes after a run, or beside it, changes no run.
    ("kernels/check.py", set()),
    ("kernels/bench.py", set()),
    ("methods/dropin.py", set()),
    ("config/claims.py", set()),
    ("claims/judge.py", set()),
    ("claims/rules/ratio.py", set()),
    ("runs.py", set()),
    ("studies/infobatch/probes.py", set()),
    ("studies/infobatch/study.yaml", set()),
    ("studies/jest/claims.yaml", set()),
    ("report/page.py", set()),
    ("report/page.css", set()),
    ("data/icons.py", set()),
    ("data/sources.py", set()),
    ("stages/tune.py", set()),
    ("stages/reference.py", set()),
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
    program = (
        "from scrimp.stages import training_code\n"
        f"for name, (task, methods) in {RUNS}.items(): print(name, training_code('run', task, methods))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert dict(line.split() for line in done.stdout.splitlines()) == digests()


def test_runs_of_different_methods_have_different_digests(package: Path) -> None:
    assert len(set(digests().values())) == len(EVERY)


def test_a_users_task_counts_with_what_it_imports_beside_it(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("from layers import Layer\nfrom scrimp.tasks.base import Task\n")
    (tmp_path / "layers.py").write_text("Layer = 1\n")

    def digest() -> str:
        return training_code("run", "task.py", [], tmp_path)

    before = digest()
    (tmp_path / "layers.py").write_text("Layer = 22\n")
    assert digest() != before


def names(*starts: str | Path) -> set[str]:
    return {Path(file).name for file in code.files_of(*starts)}


def test_imports_are_followed_through_a_package_to_where_a_name_comes_from(package: Path) -> None:
    (package / "one").mkdir()
    (package / "one" / "__init__.py").write_text(
        '"""Re-exports."""\nfrom scrimp.one.left import a\nfrom scrimp.one.right import b\n'
    )
    (package / "one" / "left.py").write_text("a = 1\n")
    (package / "one" / "right.py").write_text("b = 1\n")
    (package / "two.py").write_text("from scrimp.one import a\n")
    (package / "three.py").write_text("import scrimp.one\n")
    assert names("scrimp.two") == {"two.py", "left.py"}
    assert names("scrimp.three") == {"three.py", "__init__.py", "left.py", "right.py"}


def test_what_never_runs_or_says_so_does_not_count_and_circles_end(package: Path) -> None:
    (package / "one.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from scrimp.two import x\n"
        "def inside():\n    import scrimp.three\n    import scrimp.four as four  # not in digests: a check\n"
    )
    for name in ("two", "four"):
        (package / f"{name}.py").write_text("x = 1\n")
    (package / "three.py").write_text("from scrimp.one import inside\n")
    assert names("scrimp.one") == {"one.py", "three.py"}
    with pytest.raises(ValueError, match=r"scrimp\.five is not a module of scrimp"):
        code.files_of("scrimp.five")


def test_a_file_that_a_module_names_belongs_to_it_with_what_it_includes(package: Path) -> None:
    (package / "one.py").write_text('SOURCE = "one.cu"\nPATTERN = "*.cu"\n')
    (package / "one.cu").write_text('#include "one.cuh"\n#include <math.h>\n')
    (package / "one.cuh").write_text("// a header\n")
    assert names("scrimp.one") == {"one.py", "one.cu", "one.cuh"}
    before = code.code_digest("scrimp.one")
    (package / "one.cuh").write_text("// another header\n")
    assert code.code_digest("scrimp.one") != before
