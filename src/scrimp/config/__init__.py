"""Typed, closed models of everything under `config/`: a typo is an error that names the file and the key."""

from scrimp.config.base import Closed, load_model, load_yaml, parse_model, unknown
from scrimp.config.claims import Axis, Claim, Rule
from scrimp.config.datasets import DatasetConfig, FolderSource, NpmSource, TarsSource, UrlFile, UrlSource
from scrimp.config.study import MAIN_SEPARATOR, Card, Scale, StudyConfig, Tuning, arm_id
from scrimp.config.training import Arm, Augmentation, Horizon, ModelSpec, Recipe, ReferenceSpec, Schedule, Workload
from scrimp.config.workspace import Settings, Workspace

__all__ = [
    "MAIN_SEPARATOR",
    "Arm",
    "Augmentation",
    "Axis",
    "Card",
    "Claim",
    "Closed",
    "DatasetConfig",
    "FolderSource",
    "Horizon",
    "ModelSpec",
    "NpmSource",
    "Recipe",
    "ReferenceSpec",
    "Rule",
    "Scale",
    "Schedule",
    "Settings",
    "StudyConfig",
    "TarsSource",
    "Tuning",
    "UrlFile",
    "UrlSource",
    "Workload",
    "Workspace",
    "arm_id",
    "load_model",
    "load_yaml",
    "parse_model",
    "unknown",
]
