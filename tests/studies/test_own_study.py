"""A study in a folder of one's own, outside the package, works in every verb and in the workflow like a built-in one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from scrimp import cli
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.listing import check_code, check_config
from scrimp.records import read_summary
from scrimp.studies.loading import offered, study_code

PROJECT = Path(__file__).parents[2]
POINTS = "FACTOR = 3\n"
PROBES = """
import pandas as pd

from scrimp.studies import probe

from .points import FACTOR


@probe("threefold")
def threefold(workspace, scale, options):
    return pd.DataFrame({"value": [FACTOR * options["of"]]})
"""
FIGURES = """
from matplotlib.figure import Figure

from scrimp.studies import figure, table
from scrimp.studies.outputs import read_probe

from . import points


@figure("square")
def square(workspace, scale):
    drawn = Figure()
    drawn.subplots().plot([0, points.FACTOR], [0, 1])
    return drawn


@table("doubled")
def doubled(workspace, scale):
    return 2 * read_probe(workspace, "my-study", "threefold", scale)
"""
CLAIMS = """
claims:
  - {id: nine, number: "1", statement: Three threes are nine., source: arithmetic, metric: value, published: 9,
     published_unit: pieces, direction: higher, rule: {kind: exact, probe: threefold, column: value, tolerance: 0.01}}
"""


@pytest.fixture
def own(tiny: Workspace) -> Workspace:
    """The tests' workspace, and beside it a folder `my-study` with two arms, a probe, a figure and a table of its own."""
    folder = tiny.root.parent / "my-study"
    shutil.copytree(tiny.study_folder("tiny"), folder)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    smoke = study["scales"]["smoke"]
    smoke["workloads"] = {"colours": {**smoke["workloads"]["colours"], "arms": ["full", "rs2-50"], "epochs": 1}}
    study = {**study, "baseline_sweep": ["full"], "tuning": {}, "scales": {"smoke": {**smoke, "seeds": [0]}}}
    study["scales"]["smoke"]["probes"] = {"threefold": {"of": 3, "reads": "published"}}
    study |= {"figures": {"square": "A line."}, "tables": {"doubled": "Twice it.", "threefold": "It."}}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    for name, text in (("points", POINTS), ("probes", PROBES), ("figures", FIGURES)):
        (folder / f"{name}.py").write_text(text)
    (folder / "claims.yaml").write_text(CLAIMS)
    return tiny


def scrimp(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["scrimp", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code


def list_it(workspace: Workspace) -> None:
    (workspace.root / "config" / "config.yaml").write_text(
        "scale: smoke\nstudies: [config/studies/tiny, ../my-study]\ndevice: cpu\nseeds: null\n"
    )


@pytest.mark.parametrize("listed", [False, True], ids=["by its path", "by its name"])
def test_every_verb_takes_it(own: Workspace, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    told = "../my-study"
    if listed:
        list_it(own)
        told = "my-study"
        scrimp(monkeypatch, "check")
    scrimp(monkeypatch, "run", told, "rs2-50")
    scrimp(monkeypatch, "probe", told, "threefold")
    scrimp(monkeypatch, "claims", told)
    scrimp(monkeypatch, "figures", told)
    results = own.root / "results" / "smoke" / "my-study"
    assert read_summary(results / "runs" / "rs2-50" / "seed0").key == "smoke/my-study/rs2-50/seed0"
    assert pd.read_csv(results / "claims.csv")[["claim", "measured", "verdict"]].to_numpy().tolist() == [
        ["nine", 9.0, "supported"]
    ]
    assert (results / "figures" / "square.svg").stat().st_size > 1000
    assert pd.read_csv(results / "tables" / "doubled.csv")["value"].tolist() == [18]
    assert pd.read_csv(results / "tables" / "threefold.csv")["value"].tolist() == [9]  # a probe's table, as it is
    scrimp(monkeypatch, "report", "--study", told)
    assert "Three threes are nine." in (own.root / "results" / "smoke" / "report" / "index.html").read_text()


def test_what_it_offers_and_does_not_name_is_told(own: Workspace) -> None:
    list_it(own)
    check_config(own)
    check_code(own)
    path = own.root.parent / "my-study" / "study.yaml"
    path.write_text(path.read_text().replace("square: A line.", "squares: A line."))
    with pytest.raises(ScrimpError, match=r"my-study/study.yaml: figures: the study's code offers 'square': give it a"):
        check_code(own)


def test_a_folder_is_a_study_of_its_own_whatever_its_name(own: Workspace) -> None:
    other = own.root.parent / "elsewhere" / "my-study"
    shutil.copytree(own.root.parent / "my-study", other)
    (other / "points.py").write_text("FACTOR = 4\n")
    makers = [offered(folder, "probe")["threefold"] for folder in (own.root.parent / "my-study", other)]
    assert [maker(own, "smoke", {"of": 1})["value"].tolist() for maker in makers] == [[3], [4]]
    with pytest.raises(ScrimpError, match="two studies are called 'my-study'"):
        own.studies(["../my-study", "../elsewhere/my-study"])
    with pytest.raises(ScrimpError, match=r"a study is called after its folder, in small letters, digits and dashes"):
        own.study_name("../My Study")


def test_a_card_lacks_no_section_and_the_file_says_nothing_twice(own: Workspace) -> None:
    folder = own.root.parent / "my-study"
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("## Reading", "## Remarks"))
    with pytest.raises(
        ScrimpError, match=r"my-study/README.md: no section `## Reading`; the card has `## Question`, `## Me"
    ):
        own.study("../my-study")
    (folder / "README.md").unlink()
    with pytest.raises(ScrimpError, match=r"my-study/README.md does not exist; it is the study's card: `## Question`, "):
        own.study("../my-study")
    (folder / "README.md").write_text(card)
    study = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(f"study: mine\n{study}")
    with pytest.raises(ScrimpError, match=r"study.yaml: study: leave it out; the study is called after its folder"):
        own.study("../my-study")


def test_its_digest_covers_its_own_files_by_part(own: Workspace) -> None:
    folder = own.root.parent / "my-study"

    def digests() -> tuple[str, str]:
        return study_code(folder, "probes"), study_code(folder, "figures")

    before = digests()
    (folder / "notes.py").write_text("# nothing imports it\n")
    (folder / "study.yaml").write_text((folder / "study.yaml").read_text() + "\n# a comment\n")
    assert digests() == before
    (folder / "figures.py").write_text(FIGURES + "\n# a change\n")
    assert [now == then for now, then in zip(digests(), before, strict=True)] == [True, False]
    (folder / "points.py").write_text("FACTOR = 5\n")  # both import it, one by name and one as a module
    assert [now == then for now, then in zip(digests(), before, strict=True)] == [False, False]


@pytest.mark.slow
@pytest.mark.parametrize("listed", [False, True], ids=["--config studies=../my-study", "config.yaml"])
def test_the_workflow_plans_it(own: Workspace, listed: bool) -> None:
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(PROJECT / name, own.root / name)
    shutil.copy(PROJECT / "Snakefile", own.root)
    (own.root / "resources").mkdir(exist_ok=True)
    if listed:
        list_it(own)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "-n", "-p", "--cores", "1"]
    command += ["my-study"] if listed else ["--config", "studies=../my-study"]
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(command, cwd=own.root, env=environment, capture_output=True, text=True, timeout=200)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert set(re.findall(r"results/smoke/my-study/runs/([^/]+/seed\d+)/summary\.json", told)) == {
        "full/seed0",
        "rs2-50/seed0",
    }
    for made in ("probes/threefold.parquet", "figures/square.svg", "tables/doubled.csv", "claims.json"):
        assert f"results/smoke/my-study/{made}" in told
    name = "my-study" if listed else "../my-study"
    assert f"scrimp run {name} rs2-50 --seed 0 --scale smoke" in told
    assert f"scrimp figures {name} --scale smoke" in told
