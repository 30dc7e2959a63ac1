"""The folder that Scrimp works in, and the user's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from scrimp.config.base import Closed, load_model, load_yaml, parse_model, unknown
from scrimp.config.datasets import DatasetConfig
from scrimp.config.study import StudyConfig
from scrimp.errors import ScrimpError


class Settings(Closed):
    """`config/config.yaml`: what a user edits first."""

    scale: str = "mini"
    studies: list[str]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seeds: list[int] | None = Field(None, description="overrides every study's seeds; null keeps them")


class Workspace:
    """The folder that Scrimp works in: `config/`, `resources/` and `results/` under one root."""

    def __init__(self, root: Path | str = ".") -> None:
        self.root = Path(root)

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

    def branch_states(self, scale: str, study: str, arm: str, seed: int) -> Path:
        """Where a run leaves what its branches go on from."""
        return self.results(scale, study) / "branches" / arm / f"seed{seed}"

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
        return {name: parse_model(value, DatasetConfig, f"{path}: {name}") for name, value in raw.items()}

    def dataset(self, name: str) -> DatasetConfig:
        known = self.datasets()
        if name not in known:
            raise ScrimpError(unknown("dataset", name, known, str(self.root / "config" / "datasets.yaml")))
        return known[name]

    def study_names(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "config" / "studies").glob("*.yaml"))

    def study(self, name: str) -> StudyConfig:
        return load_model(self.root / "config" / "studies" / f"{name}.yaml", StudyConfig)
