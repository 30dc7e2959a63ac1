"""`claims.yaml` of a study, and all that its claims and its `study.yaml` must agree on. Training imports none of it.

A file is a group: `claims`, a list, and `defaults`, what they share and need not say. An entry of the list may be a group
itself, with defaults of its own.
"""

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
    return [parse_model(entry, Claim, f"{path}: claims.{name}") for name, entry in _entries(load_yaml(path), {}, str(path))]


def _entries(group: Any, shared: dict[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    """The claims of a group with what they share put in, each with the name that messages call it by."""
    if not isinstance(group, dict) or not isinstance(group.get("claims"), list) or set(group) - {"defaults", "claims"}:
        raise ScrimpError(f"{where} must hold `claims`, a list, and may hold `defaults`, what they share")
    defaults = group.get("defaults") or {}
    if not isinstance(defaults, dict) or set(defaults) - set(Claim.model_fields):
        known = ", ".join(sorted(Claim.model_fields))
        raise ScrimpError(f"{where}: defaults: must map a claim's keys to values; known here: {known}")
    shared, entries = _joined(shared, defaults), []
    for place, entry in enumerate(group["claims"]):
        if isinstance(entry, dict) and "claims" in entry:
            entries += _entries(entry, shared, f"{where}: claims.{place}")
        elif isinstance(entry, dict):
            entries.append((str(entry.get("id", place)), _joined(shared, entry)))
        else:
            raise ScrimpError(f"{where}: claims.{place}: must be a claim or a group of claims (got {entry!r})")
    return entries


def _joined(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What is shared, and what a claim or a group says itself, which goes first.

    `deviations`, `at` and `rule` are joined key by key. But a rule of another kind stands alone, `deviations: null` (or null
    at a scale) takes shared ones away, and a claim that is `not_run` takes no rule, workload or deviation from others.
    """
    if own.get("not_run") is not None:
        shared = {key: value for key, value in shared.items() if key not in ("rule", "at", "deviations")}
    joined = {**shared, **own}
    for key in ("deviations", "at", "rule"):
        before, after = shared.get(key), own.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            alone = key == "rule" and after.get("kind", before.get("kind")) != before.get("kind")
            joined[key] = after if alone else {**before, **after}
    if "deviations" in joined:
        joined["deviations"] = {scale: words for scale, words in (joined["deviations"] or {}).items() if words is not None}
    return joined


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
        for arm in arms_of(claim.rule):
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


def arms_of(rule: Any) -> list[str]:
    """Every arm a rule names."""
    named: list[str] = []
    for key in ("method", "baseline", "arms"):
        value = getattr(rule, key, None)
        named += [value] if isinstance(value, str) else list(value or [])
    return named
