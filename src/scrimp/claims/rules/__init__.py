"""Rules by their kind: `kind: non-inferiority` is the class `RULE` of the file `non_inferiority.py` in this folder.

A rule says how a claim's number is measured, which verdict it gives, and both in a sentence; `Rule` in `config/claims.py`
is the contract. Files without a `RULE` hold what rules share.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scrimp.config.base import unknown
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.config.claims import Rule


@cache
def rule_kinds() -> list[str]:
    """The kinds that a claim's `rule` may be of."""
    files = [path for folder in __path__ for path in Path(folder).glob("*.py")]
    has = [path.stem for path in files if re.search(r"(?m)^RULE = ", path.read_text(encoding="utf-8"))]
    return sorted(stem.replace("_", "-") for stem in has)


def rule_modules() -> list[str]:
    """The modules of all rules: a verdict's digest counts them in."""
    return [f"{__name__}.{kind.replace('-', '_')}" for kind in rule_kinds()]


def rule_class(kind: str, where: str = "a claim's rule") -> type[Rule]:
    """The class of a kind of rule; an unknown kind is an error that lists the known."""
    if kind not in rule_kinds():
        raise ScrimpError(unknown("kind of rule", kind, rule_kinds(), where))
    chosen: type[Rule] = importlib.import_module(f"{__name__}.{kind.replace('-', '_')}").RULE
    return chosen
