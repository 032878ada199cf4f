"""Files that people write: strict models, quantities with units, errors in one sentence.

A quantity in a file is a number in SI or a text with its unit, such as "0.8 V". An unknown
key is an error that names the nearest known one; a wrong value is an error that names the
file, the key, what stood there and what belongs there.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from rramhil.units import parse
from rramhil.words import nearest


class FileError(ValueError):
    """What somebody wrote in a file is wrong; the message is one sentence with a remedy."""


class Strict(BaseModel):
    """Base of all file models: an unknown key is an error, no number is inf or nan, and nothing
    changes afterwards.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


def _quantity(unit: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        return parse(value, unit) if isinstance(value, str) else value

    return read


_Finite = Field(allow_inf_nan=False)
Volts = Annotated[float, _Finite, BeforeValidator(_quantity("V"))]
Siemens = Annotated[float, _Finite, BeforeValidator(_quantity("S"))]
Seconds = Annotated[float, _Finite, BeforeValidator(_quantity("s"))]
Amps = Annotated[float, _Finite, BeforeValidator(_quantity("A"))]

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises `FileError` when it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")])
        raise FileError(f"there is no file {path}{near}") from None
    except IsADirectoryError:
        raise FileError(f"{path} is a folder; name a .toml file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{path} is not valid TOML: {error}") from None


def load_toml(path: Path, model: type[Model]) -> Model:
    """A validated `model` from a TOML file. Raises `FileError` in one sentence."""
    return check(read_toml(path), model, str(path))


def toml_of(table: Mapping[str, Any]) -> str:
    """`table` as TOML: its values, then its tables, then its lists of tables, in their order.

    What lies deeper is written in line. A value that is None is left out.
    """
    values, tables = [], []
    for key, value in table.items():
        if isinstance(value, Mapping):
            tables.append(f"[{_key(key)}]\n{_lines(value)}")
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            tables += [f"[[{_key(key)}]]\n{_lines(each)}" for each in value]
        else:
            values.append((key, value))
    return "\n".join([_lines(dict(values)), *tables])


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(k)} = {_inline(v)}\n" for k, v in table.items() if v is not None)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items() if v is not None)
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_inline, value))}]"
    return repr(value) if isinstance(value, float) else _text(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: Any) -> str:
    """As JSON, which TOML shares but for the DEL that it wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def check(table: Any, model: type[Model], source: str) -> Model:
    """A validated `model` from a table that came from `source`. Raises `FileError`."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise FileError(_one_sentence(error, model, source)) from None


def _one_sentence(error: ValidationError, model: type[BaseModel], source: str) -> str:
    problems = error.errors()
    # An unknown key explains a missing one, so it is told first.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, first["loc"][:-1])
        return f"{source}: unknown key {where!r}{nearest(str(first['loc'][-1]), known)}{more}"
    if first["type"] == "missing":
        return f"{source}: the key {where!r} is missing; add it{more}"
    if first["type"].startswith("union_tag_"):
        return f"{source}: {where}: {_unknown_tag(first)}{more}"
    reason = first["msg"].removeprefix("Value error, ")
    shown = first["input"]
    told = isinstance(shown, (dict, list)) or repr(shown) in reason
    given = "" if told else f" (it is {shown!r})"
    if first["type"] == "literal_error" and isinstance(shown, str):
        near = nearest(shown, re.findall(r"'([^']+)'", first["ctx"]["expected"]))
        given += near if "did you mean" in near else ""
    place = f"{where}: " if where else ""
    return f"{source}: {place}{reason[:1].lower()}{reason[1:]}{given}{more}"


def _unknown_tag(problem: ErrorDetails) -> str:
    """What is wrong with the key that tells which model of a union is meant, in plain words."""
    context = problem["ctx"]
    key = context["discriminator"].strip("'")
    if problem["type"] == "union_tag_not_found":
        return f"the key {key!r} is missing; add it"
    what = "step" if key == "do" else key
    known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
    return f"unknown {what} {context['tag']!r}{nearest(context['tag'], known)}"


def _keys_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Known keys of the (sub-)model that `path` leads to; union tags count as steps."""
    models: list[type[BaseModel]] = [model]
    for part in path:
        found: list[type[BaseModel]] = []
        for candidate in models:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                found += _models_in(field.annotation)
        models = found or models
    tag = str(path[-1]) if path else ""
    tagged = [m for m in models if tag in _literals(m)]
    return sorted({key for m in (tagged or models) for key in m.model_fields})


def _literals(model: type[BaseModel]) -> set[str]:
    return {str(a) for f in model.model_fields.values() for a in get_args(f.annotation)}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in get_args(annotation) for m in _models_in(part)]
