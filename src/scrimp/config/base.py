"""What every config model shares: closed fields, and errors that name the file and the key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scrimp.errors import ScrimpError

Model = TypeVar("Model", bound=BaseModel)
# Names become parts of paths and of command lines: arms, workloads, references, probes, datasets, scales, figures, tables.
NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"


def named(name: str) -> str:
    """A name as it is; ValueError, for a validator to report, where it does not have the pattern NAME."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"{name!r} is no name: take up to 100 letters, digits and . _ + -, a letter or digit first")
    return name


def distinct(values: list[Any]) -> list[Any]:
    """A list as it is; ValueError, for a validator to report, where a value is in it twice."""
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice")
    return values


Name = Annotated[str, AfterValidator(named)]
LARGEST_SEED = 2**32 - 1  # what every library that draws takes
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]


class Closed(BaseModel):
    """A config model: unknown keys are errors, numbers are finite, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def prepared(cls, value: Any, where: str) -> Any:
        """A plain value before it is validated, for models some of whose parts depend on others; errors say `where`."""
        return value


def unknown(what: str, name: str, known: Any, where: str) -> str:
    """An error sentence: what is unknown, where, what was probably meant, what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {what} {name!r} in {where}: {hint}known: {', '.join(names)}"


def must_know(name: str, known: Any, where: str, what: str) -> None:
    """Raise ValueError, for a validator to report, if `name` is not among the `known`."""
    if name not in known:
        raise ValueError(unknown(what, name, known, where))


def load_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a closed model; every problem names the file and the key."""
    return parse_model(load_yaml(path), model, str(path))


def load_yaml(path: Path) -> Any:
    """Read a YAML file; keys that start with `x-` hold anchors and are dropped."""
    import yaml  # the drop-ins do without it

    from scrimp.config.reading import plain

    try:
        value = plain(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "nothing"
        raise ScrimpError(f"{path} does not exist; its folder has: {known}") from error
    except OSError as error:
        raise ScrimpError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScrimpError(f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}") from error
    except yaml.YAMLError as error:
        raise ScrimpError(f"{path} is not valid YAML: {error}") from error
    except ValueError as error:  # what is refused, and what Python's own numbers and dates do not hold
        raise ScrimpError(f"{path}: {error}") from error
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not str(key).startswith("x-")}
    return value


def parse_model(value: Any, model: type[Model], where: str) -> Model:
    """Validate a plain value against a closed model; `where` (a file, a key) leads every message."""
    if issubclass(model, Closed):
        value = model.prepared(value, where)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            key = ".".join(str(part) for part in problem["loc"] if part != "[key]") or "(top level)"
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                message = f"unknown key; known here: {', '.join(_fields_at(model, problem['loc'][:-1])) or 'see docs'}"
            elif not isinstance(problem["input"], dict):
                message += f" (got {problem['input']!r})"
            lines.append(f"{where}: {key}: {message}")
        raise ScrimpError("\n".join(lines)) from error


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The field names valid at an error's location, as far as plain nesting of models tells."""
    current: Any = model
    for place, part in enumerate(location):
        field = current.model_fields.get(str(part))
        if field is None:
            continue
        models = _models_in(field.annotation)
        # Where a field takes one of several models, the location goes on with the `kind` that was chosen.
        tag = location[place + 1] if place + 1 < len(location) else None
        chosen = [m for m in models if "kind" in m.model_fields and tag in get_args(m.model_fields["kind"].annotation)]
        if len(chosen or models) != 1:
            return []
        current = (chosen or models)[0]
    return sorted(current.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation such as `dict[str, Scale]` or `Source | None` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
