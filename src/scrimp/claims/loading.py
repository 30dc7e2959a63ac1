"""`claims.yaml` of a study, and all that its claims and its `study.yaml` must agree on. Training imports none of it."""

from __future__ import annotations

from typing import Any

from scrimp.config.base import load_yaml, must_know, parse_model
from scrimp.config.claims import Claim
from scrimp.config.study import MAIN_SEPARATOR, StudyConfig
from scrimp.config.workspace import Workspace
from scrimp.errors import ScrimpError


def load_claims(workspace: Workspace, study: str) -> list[Claim]:
    """The claims of a study in the order of its file; none where there is no file. Problems name the file and the claim."""
    path = workspace.study_folder(study) / "claims.yaml"
    if not path.exists():
        return []
    raw = load_yaml(path)
    if not isinstance(raw, dict) or not set(raw) <= {"claims", "defaults"} or not isinstance(raw.get("claims"), list):
        raise ScrimpError(f"{path} must hold `claims`, a list, and may hold `defaults` for them")
    defaults = raw.get("defaults", {})
    if not isinstance(defaults, dict) or "id" in defaults:
        raise ScrimpError(f"{path}: defaults: what claims have where they say nothing; no `id`")
    return [
        parse_model(
            {**defaults, **entry} if isinstance(entry, dict) else entry, Claim, f"{path}: claims.{_name(entry, place)}"
        )
        for place, entry in enumerate(raw["claims"])
    ]


def _name(entry: Any, place: int) -> str:
    """How messages call a claim: by its id, or by its place in the file."""
    return str(entry["id"]) if isinstance(entry, dict) and "id" in entry else str(place)


def check_claims(study: StudyConfig, claims: list[Claim]) -> None:
    """Refuse claims that name arms, workloads, scales, probes or figures that their study does not have."""
    try:
        _check(study, claims)
    except ValueError as error:
        raise ScrimpError(f"{study.file('claims.yaml')}: {error}") from error


def _check(study: StudyConfig, claims: list[Claim]) -> None:
    ids = [claim.id for claim in claims]
    if len(set(ids)) != len(ids):
        raise ValueError(f"claims: ids must be unique, but {sorted({i for i in ids if ids.count(i) > 1})} repeat")
    probes = {probe for scale in study.scales.values() for probe in scale.probes}
    for claim in claims:
        for arm in _arms_of(claim.rule):
            must_know(arm.partition(MAIN_SEPARATOR)[0], study.arms, f"claims.{claim.id}.rule", "arm")
        if (probe := getattr(claim.rule, "probe", None)) is not None:
            must_know(probe, probes, f"claims.{claim.id}.rule", "probe")
        for scale_name in [*claim.at, *claim.deviations]:
            must_know(scale_name, study.scales, f"claims.{claim.id}", "scale")
        for scale_name, at in claim.at.items():
            if at is not None:
                must_know(at, study.scales[scale_name].workloads, f"claims.{claim.id}.at.{scale_name}", "workload")
        if claim.figure is not None:
            must_know(claim.figure, study.figures, f"claims.{claim.id}.figure", "figure")


def _arms_of(rule: Any) -> list[str]:
    """Every arm a rule names."""
    named: list[str] = []
    for key in ("method", "baseline", "arms"):
        value = getattr(rule, key, None)
        named += [value] if isinstance(value, str) else list(value or [])
    return named
