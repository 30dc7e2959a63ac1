"""Config files: a typo is an error that names the file and the key and says what is known."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scrimp.claims.loading import load_claims
from scrimp.config import Augmentation, Closed, Horizon, Workspace, arm_id, parse_model, unknown
from scrimp.data import icon_classes, icon_pairs, icons
from scrimp.data.cifar import CifarOptions
from scrimp.errors import ScrimpError
from scrimp.listing import check_code, check_config
from scrimp.models import vision
from scrimp.models.contrastive import build_two_towers
from scrimp.models.language import build as build_transformer

SHIPPED = Workspace(Path(__file__).parents[1])
Change = Callable[[dict[str, Any]], object]


def edit(workspace: Workspace, file: str, change: Change) -> None:
    path = workspace.root / "config" / file
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def copied(root: Path, study: str) -> Workspace:
    """A workspace with the shipped config and a copy of a built-in study in a folder of its own, `config/studies/STUDY`."""
    shutil.copytree(SHIPPED.root / "config", root / "config")
    shutil.copytree(SHIPPED.study_folder(study), root / "config" / "studies" / study)
    workspace = Workspace(root)
    edit(workspace, "config.yaml", lambda c: c.update(studies=[f"config/studies/{study}"]))
    return workspace


# ------------------------------------------------------------------------------------------------------- what is shipped
def test_every_shipped_file_is_valid() -> None:
    check_config(SHIPPED)
    # One that has no reference results yet would be left out of the default run.
    assert set(SHIPPED.study_names()) == set(SHIPPED.settings().studies)
    assert set(SHIPPED.study_names()) == {
        "batch",
        "cascade",
        "cascade-text",
        "combined",
        "combined-text",
        "cramming",
        "infobatch",
        "jest",
        "prototypes",
        "prototypes-pairs",
        "scaling",
        "sparse",
    }
    assert all(load_claims(SHIPPED, name) for name in SHIPPED.study_names())


@pytest.mark.parametrize("study", SHIPPED.study_names())
def test_every_shipped_workload_names_a_model_that_can_be_built(study: str) -> None:
    specs = {
        (workload.model.name, yaml.safe_dump(workload.model.options))
        for scale in SHIPPED.study(study).scales.values()
        for workload in scale.workloads.values()
    }
    for name, options in specs:
        if name == "two-towers":
            build_two_towers(10, 0, yaml.safe_load(options))
        elif name in ("transformer", "encoder"):
            sizes = yaml.safe_load(options)
            if sizes["width"] <= 512:  # the largest would fill the memory
                build_transformer(10, sizes.pop("context", 16), 0, sizes)
        else:
            vision.build(name, 10, 0, yaml.safe_load(options))
    assert specs


def test_every_shipped_dataset_has_options_that_its_builder_takes() -> None:
    models = {
        "icons": icons.Options,
        "icon_classes": icon_classes.Options,
        "icon_pairs": icon_pairs.Options,
        "emoji_labels": Closed,
        "cifar": CifarOptions,
    }
    datasets = SHIPPED.datasets()
    for name, dataset in datasets.items():
        if dataset.builder in models:
            parse_model(dataset.options, models[dataset.builder], name)
        assert set(dataset.needs) <= set(datasets)
    assert set(models) <= {dataset.builder for dataset in datasets.values()}


def test_the_code_has_all_that_the_shipped_files_name() -> None:
    check_code(SHIPPED)


CODE_MISTAKES: list[tuple[str, str, Change, str]] = [
    (
        "figure",
        "study.yaml",
        lambda c: c["figures"].update(speedup="A typo."),
        "unknown figure 'speedup' in .*: figures: did you mean 'speedups'",
    ),
    (
        "table",
        "study.yaml",
        lambda c: c["tables"].update(arm="A typo."),
        "unknown table 'arm' in .*: tables: did you mean 'arms'",
    ),
    (
        "probe",
        "study.yaml",
        lambda c: c["scales"]["mini"]["probes"].update(overheads={}),
        "unknown probe 'overheads' in .*mini.probes: did",
    ),
    (
        "model",
        "study.yaml",
        lambda c: c["scales"]["mini"]["workloads"]["vit"]["model"].update(name="vti"),
        "unknown model 'vti' in .*scales.mini.workloads.vit.model: did you mean 'vit'",
    ),
    (
        "claim",
        "claims.yaml",
        lambda c: c["claims"][0]["claims"][1].update(direction="lower"),
        "claims.beats-random-50: direction 'lower' puts the measured difference below 0, but published is 6",
    ),
]


@pytest.mark.parametrize(("file", "change", "message"), [m[1:] for m in CODE_MISTAKES], ids=[m[0] for m in CODE_MISTAKES])
def test_what_the_code_does_not_have_is_named(tmp_path: Path, file: str, change: Change, message: str) -> None:
    workspace = copied(tmp_path, "infobatch")
    check_code(workspace)
    edit(workspace, f"studies/infobatch/{file}", change)
    check_config(workspace)
    with pytest.raises(ScrimpError, match=message):
        check_code(workspace)


PAIR_MISTAKES: list[tuple[str, Change, str]] = [
    (
        "reference",
        lambda c: c["arms"]["jest-80-plus"]["methods"][0].update(reference="curated+"),
        r"unknown reference 'curated\+' in arms.jest-80-plus.methods, scale smoke: did you mean 'curated\+\+'\? known:",
    ),
    (
        "method without a reference",
        lambda c: c["arms"]["jest-{ratio:%}"]["methods"][0].pop("reference"),
        "arms.jest-50.methods: .*learnability needs a `reference`",
    ),
    (
        "keys of another task",
        lambda c: c.update(task="classification"),
        "scales.smoke.workloads.icon-pairs-few.zero_shot: unknown key; known here: arms, dataset, epochs, evaluations,",
    ),
    (
        "length",
        lambda c: c["scales"]["mini"]["workloads"]["icon-pairs"].update(epochs=3),
        "scales.mini.workloads.icon-pairs.*give exactly one of `epochs`, `steps` and `flops`",
    ),
    (
        "recipe of an arm",
        lambda c: c["arms"]["uniform-softmax"]["recipe"].update(los="softmax"),
        "arms.uniform-softmax.recipe: los: unknown key; known here: augmentation",
    ),
    (
        "zero-shot data",
        lambda c: c["scales"]["mini"]["workloads"]["icon-pairs"].update(zero_shot="icons-1000"),
        "unknown dataset 'icons-1000' in .*workloads.icon-pairs.zero_shot: did you mean 'icons-100'",
    ),
    (
        "captioned data",
        lambda c: c["scales"]["mini"]["workloads"]["icon-pairs"].update(coco="coco-caption"),
        "unknown dataset 'coco-caption' in .*workloads.icon-pairs.coco: did you mean 'coco-captions'",
    ),
    (
        "a prompt without a place",
        lambda c: c["scales"]["mini"]["workloads"]["icon-pairs"].update(templates=["a photo of {}", "a photo"]),
        "templates: 'a photo' must hold {} once",
    ),
]


@pytest.mark.parametrize(("change", "message"), [m[1:] for m in PAIR_MISTAKES], ids=[m[0] for m in PAIR_MISTAKES])
def test_a_mistake_in_an_image_text_study_is_named(tmp_path: Path, change: Change, message: str) -> None:
    workspace = copied(tmp_path, "jest")
    edit(workspace, "studies/jest/study.yaml", change)
    with pytest.raises(ScrimpError, match=message):
        check_config(workspace)


def test_defaults_shape_no_run_and_an_arms_own_recipe_does() -> None:
    config = SHIPPED.study("jest")
    told = config.run_spec("mini", "uniform")
    assert "ema_decay" not in told["workload"]["recipe"]
    assert told["arm"] == {"methods": [{"name": "uniform"}]}
    soft = config.run_spec("mini", "uniform-softmax")
    assert soft["workload"]["recipe"] == {**told["workload"]["recipe"], "loss": "softmax"}
    assert config.resolve("mini", "flexi-jest-80")[1].recipe.patches == [8, 16]
    assert config.resolve("mini", "jest-80")[1].recipe.patches == []


@pytest.mark.parametrize("study", SHIPPED.study_names())
def test_every_baseline_sweep_of_a_shipped_study_is_trained_in_one_workload(study: str) -> None:
    config = SHIPPED.study(study)
    for name, scale in config.scales.items():
        assert any(set(config.baseline_sweep) <= set(workload.arms) for workload in scale.workloads.values()), name
        assert all(seed >= 0 for seed in scale.seeds)
        assert len(set(scale.seeds)) == len(scale.seeds)


def test_the_tests_own_study_is_valid(tiny: Workspace) -> None:
    check_config(tiny)


# ------------------------------------------------------------------------------------------------------------- mistakes
def at(content: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        content = content[key]
    return content


STUDY, CLAIMS = "studies/tiny/study.yaml", "studies/tiny/claims.yaml"
FULL = ("arms", "full")
COLOURS = ("scales", "smoke", "workloads", "colours")
MISTAKES: list[tuple[str, str, Change, str]] = [
    (
        "unknown key of a recipe",
        STUDY,
        lambda c: at(c, *COLOURS, "recipe").update(learning_rat=1),
        "tiny/study.yaml: scales.smoke.workloads.colours.recipe.learning_rat: unknown key; known here: augmentation, "
        "batch_size, betas, ema_decay, eps, gradient_clip, label_smoothing, learning_rate, micro_batch, momentum,",
    ),
    (
        "unknown key at the top",
        STUDY,
        lambda c: c.update(titel="x"),
        "tiny/study.yaml: titel: unknown key; known here: arms, baseline_sweep, card, figures, folder, metric, paper,",
    ),
    (
        "unknown key of a claim's rule",
        CLAIMS,
        lambda c: c["claims"][0]["rule"].update(no_effect=0.1),
        "claims.lossless: rule.no_effect: unknown key; known here: baseline, kind, margin, method",
    ),
    (
        "unknown kind of rule",
        CLAIMS,
        lambda c: c["claims"][0]["rule"].update(kind="better"),
        "claims.lossless: rule.kind: known: difference, estimate, exact, non-inferiority, ordering, ratio, reduction, slope",
    ),
    (
        "no horizon",
        STUDY,
        lambda c: at(c, *FULL).update(horizon={}),
        "arms.full.horizon: a horizon is exactly one of epochs, examples, steps, flops, seconds; got none",
    ),
    (
        "two horizons",
        STUDY,
        lambda c: at(c, *FULL).update(horizon={"epochs": 1, "flops": 0.5}),
        "arms.full.horizon: a horizon is exactly one of epochs, examples, steps, flops, seconds; got ['epochs', 'flops']",
    ),
    (
        "a horizon of nothing",
        STUDY,
        lambda c: at(c, *FULL).update(horizon={"epochs": 0}),
        "arms.full.horizon.epochs: Input should be greater than 0 (got 0)",
    ),
    (
        "no selector name",
        STUDY,
        lambda c: at(c, *FULL).update(methods=[{"ratio": 0.5}]),
        "arms.full: each of `methods` needs a `name`",
    ),
    (
        "unknown arm of a workload",
        STUDY,
        lambda c: at(c, *COLOURS)["arms"].append("infobatch-5"),
        "unknown arm 'infobatch-5' in scales.smoke.workloads.colours.arms: did you mean 'infobatch-50'? known: ccs-50,",
    ),
    (
        "unknown arm of the sweep",
        STUDY,
        lambda c: c["baseline_sweep"].append("full-x9"),
        "unknown arm 'full-x9' in baseline_sweep: did you mean 'full-x0.5'?",
    ),
    (
        "unknown arm of a claim",
        CLAIMS,
        lambda c: c["claims"][0]["rule"].update(method="infobatch-60"),
        "unknown arm 'infobatch-60' in claims.lossless.rule: did you mean",
    ),
    (
        "unknown figure of a claim",
        CLAIMS,
        lambda c: c["claims"][0].update(figure="speedup"),
        "unknown figure 'speedup' in claims.lossless.figure: did you mean 'speedups'?",
    ),
    (
        "unknown scale of a claim",
        CLAIMS,
        lambda c: c["claims"][0].update(deviations={"smok": "x"}),
        "unknown scale 'smok' in claims.lossless: did you mean 'smoke'? known: mini, smoke",
    ),
    (
        "a claim twice",
        CLAIMS,
        lambda c: c["claims"].append(c["claims"][0]),
        "claims: ids must be unique, but ['lossless'] repeat",
    ),
    (
        "a claim neither judged nor excused",
        CLAIMS,
        lambda c: c["claims"][0].pop("rule"),
        "claims.lossless: (top level): give exactly one of `rule` and `not_run` (a reason)",
    ),
    (
        "unknown arm of the tuning",
        STUDY,
        lambda c: c["tuning"]["smoke"][0].update(arms=["rs2-5"]),
        "unknown arm 'rs2-5' in tuning.smoke.colours.arms: did you mean 'rs2-50'?",
    ),
    (
        "unknown workload of the tuning",
        STUDY,
        lambda c: c["tuning"]["smoke"][0].update(workload="colors"),
        "unknown workload 'colors' in tuning.smoke: did you mean 'colours'? known: colours, vit",
    ),
    (
        "unknown scale of the tuning",
        STUDY,
        lambda c: c.update(tuning={"large": []}),
        "unknown scale 'large' in tuning: known: mini, smoke",
    ),
    (
        "negative learning rate",
        STUDY,
        lambda c: at(c, *COLOURS, "recipe").update(learning_rate=-0.1),
        "scales.smoke.workloads.colours.recipe.learning_rate: Input should be greater than 0 (got -0.1)",
    ),
    (
        "unknown optimizer",
        STUDY,
        lambda c: at(c, *COLOURS, "recipe").update(optimizer="adam"),
        "recipe.optimizer: Input should be 'sgd', 'adamw', 'lars', 'lamb' or 'muon' (got 'adam')",
    ),
    (
        "unknown selector",
        STUDY,
        lambda c: at(c, *FULL)["methods"][0].update(name="infobach"),
        "unknown method 'infobach' in studies/tiny/study.yaml: arms.full.methods: did you mean 'infobatch'? known: ",
    ),
    (
        "negative ratio",
        STUDY,
        lambda c: at(c, "arms", "rs2-50")["methods"][0].update(ratio=-0.5),
        "studies/tiny/study.yaml: arms.rs2-50.methods: ratio: Input should be greater than or equal to 0 (got -0.5)",
    ),
    (
        "a ratio of all",
        STUDY,
        lambda c: at(c, "arms", "infobatch-50")["methods"][0].update(ratio=1),
        "arms.infobatch-50.methods: ratio: Input should be less than 1 (got 1)",
    ),
    (
        "unknown key of a selector",
        STUDY,
        lambda c: at(c, "arms", "infobatch-50")["methods"][0].update(rato=0.5),
        "arms.infobatch-50.methods: rato: unknown key; known here: anneal, delta, ratio, rescale, threshold",
    ),
    (
        "unknown data set",
        STUDY,
        lambda c: at(c, *COLOURS).update(dataset="colors"),
        "unknown dataset 'colors' in studies/tiny/study.yaml: scales.smoke.workloads.colours.dataset: "
        "did you mean 'colours'? known: colours, icons, icons-2",
    ),
    (
        "unknown study",
        "config.yaml",
        lambda c: c.update(studies=["jset"]),
        "unknown study 'jset' in config/config.yaml and the package: did you mean 'jest'? known: "
        f"{', '.join(sorted(SHIPPED.study_names()))}; a folder of your own is told by its path, ./jset",
    ),
    (
        "unknown scale",
        "config.yaml",
        lambda c: c.update(scale="smke"),
        "unknown scale 'smke' in studies/tiny/study.yaml: did you mean 'smoke'? known: mini, smoke",
    ),
    (
        "a selector changed for no arm",
        "studies/tiny/study.yaml",
        lambda c: c["scales"]["smoke"]["workloads"]["vit"].update(methods={"rs2-50": {"ratio": 0.6}}),
        "unknown arm 'rs2-50' in scales.smoke.workloads.vit.methods: known: full, infobatch-50",
    ),
    (
        "a selector changed to what it does not take",
        "studies/tiny/study.yaml",
        lambda c: c["scales"]["smoke"]["workloads"]["vit"].update(methods={"infobatch-50": {"period": 2}}),
        "scales.smoke.workloads.vit.methods.infobatch-50: period: unknown key",
    ),
    (
        "a method changed of an arm that has none",
        "studies/tiny/study.yaml",
        lambda c: (
            c["arms"].update(bare={"label": "bare"}),
            c["scales"]["smoke"]["workloads"]["vit"].update(arms=["full", "bare"], methods={"bare": {"ratio": 0.6}}),
        ),
        "scales.smoke.workloads.vit.methods: bare has no method to change",
    ),
    (
        "a later method of an arm changed to what it does not take",
        "studies/tiny/study.yaml",
        lambda c: (
            c["arms"]["full"]["methods"].append({"name": "large-batch", "times": 4}),
            c["scales"]["smoke"]["workloads"]["vit"].update(methods={"full": {"large-batch": {"tmies": 2}}}),
        ),
        "scales.smoke.workloads.vit.methods.full: tmies: unknown key",
    ),
    (
        "no seeds",
        "studies/tiny/study.yaml",
        lambda c: c["scales"]["smoke"].update(seeds=[]),
        "scales.smoke.seeds: List should have at least 1 item",
    ),
    (
        "a claim for a workload that is not there",
        CLAIMS,
        lambda c: c["claims"][0].update(at={"smoke": "vti"}),
        ".at.smoke: did you mean 'vit'?",
    ),
    (
        "unknown device",
        "config.yaml",
        lambda c: c.update(device="tpu"),
        "config/config.yaml: device: Input should be 'auto',",
    ),
    (
        "unknown key of a source",
        "datasets.yaml",
        lambda c: c["icons"]["source"].update(tag="latest"),
        "config/datasets.yaml: icons: source.npm.tag: unknown key; known here: integrity, kind, package, version",
    ),
    (
        "a digest that is none",
        "datasets.yaml",
        lambda c: c["icons"]["source"].update(integrity="sha1-abc"),
        "config/datasets.yaml: icons: source.npm.integrity: String should match pattern",
    ),
    (
        "a view with a source",
        "datasets.yaml",
        lambda c: c["icons"].update(view_of="colours"),
        "config/datasets.yaml: icons: (top level): give exactly one of `source` and `view_of`",
    ),
]


@pytest.mark.parametrize(("file", "change", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place_and_what_is_known(
    tiny: Workspace, file: str, change: Change, message: str
) -> None:
    edit(tiny, file, change)
    with pytest.raises(ScrimpError, match=re.escape(message)):
        check_config(tiny)


def test_all_mistakes_of_a_file_are_told_at_once(tiny: Workspace) -> None:
    def change(content: dict[str, Any]) -> None:
        content["arms"]["full"]["horizont"] = 1
        content["scales"]["smoke"]["threads"] = 0

    edit(tiny, STUDY, change)
    with pytest.raises(ScrimpError) as caught:
        tiny.study("tiny")
    assert [line.partition(".yaml: ")[2].partition(":")[0] for line in str(caught.value).splitlines()] == [
        "arms.full.horizont",
        "scales.smoke.threads",
    ]


def test_broken_yaml_and_other_shapes_are_named(tiny: Workspace) -> None:
    path = tiny.root / "config" / STUDY
    path.write_text("arms: {full: [}")
    with pytest.raises(ScrimpError, match=r"(?s)studies/tiny/study\.yaml is not valid YAML: .*line 1"):
        tiny.study("tiny")
    path.write_text("- a list\n")
    with pytest.raises(ScrimpError, match=r"studies/tiny/study\.yaml: \(top level\): "):
        tiny.study("tiny")
    for content in ("", "- a list\n"):
        (tiny.root / "config" / "datasets.yaml").write_text(content)
        with pytest.raises(ScrimpError, match=r"datasets\.yaml must map names to datasets"):
            tiny.datasets()


def test_a_missing_file_says_what_its_folder_has(tiny: Workspace) -> None:
    shutil.move(tiny.study_folder("tiny") / "study.yaml", tiny.study_folder("tiny") / "studie.yaml")
    with pytest.raises(ScrimpError, match=r"tiny/study\.yaml does not exist; its folder has: claims, studie"):
        tiny.study("tiny")
    with pytest.raises(ScrimpError, match=r"config/config\.yaml does not exist; its folder has: nothing"):
        Workspace(tiny.root / "elsewhere").settings()


def test_keys_that_hold_anchors_are_dropped(tiny: Workspace) -> None:
    path = tiny.root / "config" / "config.yaml"
    path.write_text("x-shared: &scale smoke\nscale: *scale\nstudies: [tiny]\n")
    assert tiny.settings().scale == "smoke"


# ---------------------------------------------------------------------------------------------------------- resolving
def test_arm_ids_and_what_they_stand_for(tiny: Workspace) -> None:
    study = tiny.study("tiny")
    ids = study.arm_ids("smoke")
    assert ids[0] == "full"
    assert ids[-2:] == ["full@vit", "infobatch-50@vit"]  # the main workload has no suffix
    assert study.scale("smoke").main == "colours"
    arm, workload = study.resolve("smoke", "infobatch-50@vit")
    assert (arm, workload.model.name) == (study.arms["infobatch-50"], "vit")
    assert study.resolve("smoke", "full")[1].model.name == "resnet-narrow"
    assert arm_id("full", None) == "full"
    for wrong in ("full@colours", "rs2-50@vit", "full@"):
        with pytest.raises(ScrimpError, match=f"unknown arm '{wrong}' in studies/tiny/study.yaml, scale smoke"):
            study.resolve("smoke", wrong)


def test_a_workload_changes_an_arms_selector_there_only(tiny: Workspace) -> None:
    edit(
        tiny,
        "studies/tiny/study.yaml",
        lambda c: c["scales"]["smoke"]["workloads"]["vit"].update(methods={"infobatch-50": {"ratio": 0.6, "delta": 0.5}}),
    )
    study = tiny.study("tiny")
    assert study.resolve("smoke", "infobatch-50@vit")[0].leading == {"name": "infobatch", "ratio": 0.6, "delta": 0.5}
    assert study.resolve("smoke", "infobatch-50")[0].leading == {"name": "infobatch", "ratio": 0.5}
    assert study.resolve("smoke", "full@vit")[0].leading == {"name": "full"}
    # What a run in the workload depends on does not change with what another arm is told there.
    assert "methods" not in study.resolve("smoke", "full@vit")[1].spec()


def test_a_workload_changes_a_later_method_of_an_arm_by_its_name(tiny: Workspace) -> None:
    def two_methods(config: dict[str, Any]) -> None:
        config["arms"]["infobatch-50"]["methods"].append({"name": "large-batch", "times": 4})
        changed = {"infobatch-50": {"ratio": 0.6, "infobatch": {"delta": 0.5}, "large-batch": {"times": 2}}}
        config["scales"]["smoke"]["workloads"]["vit"].update(methods=changed)

    edit(tiny, "studies/tiny/study.yaml", two_methods)
    methods = tiny.study("tiny").resolve("smoke", "infobatch-50@vit")[0].methods
    assert methods == [{"name": "infobatch", "ratio": 0.6, "delta": 0.5}, {"name": "large-batch", "times": 2}]
    assert tiny.study("tiny").resolve("smoke", "infobatch-50")[0].methods[1] == {"name": "large-batch", "times": 4}


def test_places_of_a_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = workspace.run_folder("mini", "s", "full@vit", 3)
    assert run == tmp_path / "results" / "mini" / "s" / "runs" / "full@vit" / "seed3"
    # Snakemake deletes a rule's outputs before it runs the rule: a checkpoint must lie elsewhere.
    assert run not in workspace.checkpoint("mini", "s", "full@vit", 3).parents


def test_a_horizon_knows_its_axis() -> None:
    assert (Horizon(flops=0.5).axis, Horizon(flops=0.5).amount) == ("flops", 0.5)


def test_loaded_configs_cannot_be_changed(tiny: Workspace) -> None:
    study = tiny.study("tiny")
    with pytest.raises(ValueError, match="frozen"):
        study.title = "other"  # type: ignore[misc]


def test_an_unknown_name_with_nothing_like_it_gets_no_hint() -> None:
    assert unknown("arm", "zzz", {"b": 1, "a": 2}, "there") == "unknown arm 'zzz' in there: known: a, b"
    with pytest.raises(ScrimpError, match=r"^here: shift: Input should be greater than or equal to 0 \(got -1\)$"):
        parse_model({"shift": -1}, Augmentation, "here")


def test_an_arm_and_a_workload_may_ask_for_fewer_seeds(tiny: Workspace) -> None:
    path = tiny.study_folder("tiny") / "study.yaml"
    content = yaml.safe_load(path.read_text())
    scale = next(iter(content["scales"]))
    sizes = content["scales"][scale]
    sizes["seeds"] = [3, 4, 5]
    workload = sizes["workloads"][next(iter(sizes["workloads"]))]
    arm = workload["arms"][0]
    before = Workspace(tiny.root).study("tiny").run_spec(scale, arm)
    path.write_text(yaml.safe_dump(content))
    assert Workspace(tiny.root).study("tiny").seeds(scale, arm) == [3, 4, 5]
    workload["seeds"] = 2
    path.write_text(yaml.safe_dump(content))
    study = Workspace(tiny.root).study("tiny")
    assert study.seeds(scale, arm) == [3, 4]
    assert study.seeds(scale, arm, planned=[7, 8, 9]) == [7, 8]
    assert study.run_spec(scale, arm) == before  # how many seeds there are changes none of the runs
    content["arms"][arm]["seeds"] = 1
    path.write_text(yaml.safe_dump(content))
    assert Workspace(tiny.root).study("tiny").seeds(scale, arm) == [3]
