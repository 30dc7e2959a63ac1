"""The folder that Scrimp works in, and the user's own settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from scrimp.config.base import Closed, Seeds, load_model, load_yaml, named, parse_model, unknown
from scrimp.config.datasets import DatasetConfig
from scrimp.config.study import StudyConfig, load_study, name_of
from scrimp.errors import ScrimpError

BUILT_IN = Path(__file__).parents[1] / "studies"


class Settings(Closed):
    """`config/config.yaml`: what a user edits first."""

    scale: str = "mini"
    studies: list[str] = Field(
        min_length=1, description="names of built-in studies, or paths of folders, from the workspace's root"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seeds: Seeds | None = Field(None, description="overrides every study's seeds; null keeps them")


class Workspace:
    """The folder that Scrimp works in: `config/`, `resources/` and `results/` under one root."""

    def __init__(self, root: Path | str = ".") -> None:
        self.root = Path(root)
        self._told: dict[str, Path] = {}  # studies that a path was given of

    @property
    def downloads(self) -> Path:
        return self.root / "resources" / "downloads"

    def shards(self, dataset: str) -> Path:
        return self.root / "resources" / "shards" / dataset

    def results(self, scale: str, study: str | None = None) -> Path:
        base = self.root / "results" / scale
        return base if study is None else base / study

    def run_folder(self, scale: str, study: str, arm: str, seed: int) -> Path:
        return self.results(scale, study) / "runs" / arm / f"seed{seed}"

    def reference_folder(self, scale: str, study: str, name: str) -> Path:
        return self.results(scale, study) / "references" / name

    def cooldown_states(self, scale: str, study: str, arm: str, seed: int) -> Path:
        """Where a constant-LR run leaves the states that its cooldowns start from."""
        return self.results(scale, study) / "cooldowns" / arm / f"seed{seed}"

    def checkpoint(self, scale: str, study: str, arm: str, seed: int) -> Path:
        # Not below the run's folder: Snakemake deletes a rule's outputs before it runs the rule again.
        return self.root / "results" / "checkpoints" / scale / study / arm / f"seed{seed}.safetensors"

    def settings(self) -> Settings:
        return load_model(self.root / "config" / "config.yaml", Settings)

    def datasets(self) -> dict[str, DatasetConfig]:
        path = self.root / "config" / "datasets.yaml"
        raw = load_yaml(path)
        if not isinstance(raw, dict):
            raise ScrimpError(f"{path} must map names to datasets, but holds {type(raw).__name__}")
        for name in raw:
            try:
                named(str(name))
            except ValueError as error:
                raise ScrimpError(f"{path}: {error}") from error
        return {str(name): parse_model(value, DatasetConfig, f"{path}: {name}") for name, value in raw.items()}

    def dataset(self, name: str) -> DatasetConfig:
        known = self.datasets()
        if name not in known:
            raise ScrimpError(unknown("dataset", name, known, str(self.root / "config" / "datasets.yaml")))
        return known[name]

    # ------------------------------------------------------------------------------------------------------- studies
    def studies(self, told: Iterable[str] | None = None) -> list[str]:
        """Names of studies told by name or by path, by default those of config/config.yaml; each must be there."""
        names = [self.study_name(entry) for entry in (self.settings().studies if told is None else told)]
        for name in names:
            self.study_folder(name)
            if names.count(name) > 1:
                raise ScrimpError(f"two studies are called {name!r} among {', '.join(names)}: rename one's folder")
        return names

    def study_name(self, told: str) -> str:
        """The name of a study that is told by its name or by the path of its folder; the folder is known from now on."""
        if not _is_path(told):
            return told
        folder = self.root / told
        self._told[name_of(folder)] = folder
        return name_of(folder)

    def study_folders(self) -> dict[str, Path]:
        """Every study's folder by name: built-in ones, those of config/config.yaml, those told by a path, the last first."""
        folders = {name_of(path.parent): path.parent for path in BUILT_IN.glob("*/study.yaml")}
        if (self.root / "config" / "config.yaml").exists():
            listed = [self.root / entry for entry in self.settings().studies if _is_path(entry)]
            folders |= {name_of(folder): folder for folder in listed}
        return {**folders, **self._told}

    def study_names(self) -> list[str]:
        return sorted(self.study_folders())

    def study_folder(self, name: str) -> Path:
        """Where a study's files lie; an unknown one is an error that lists the known."""
        name, known = self.study_name(name), self.study_folders()
        if name not in known:
            told = unknown("study", name, known, "config/config.yaml and the package")
            raise ScrimpError(f"{told}; a folder of your own is told by its path, ./{name}")
        return known[name]

    def study(self, name: str) -> StudyConfig:
        """A study by its name, or by its folder's path."""
        return load_study(self.study_folder(name))


def _is_path(told: str) -> bool:
    return "/" in told or "\\" in told or told.startswith(".")
