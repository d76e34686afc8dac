"""Sections of a configuration: frozen values, checked together, that tell all that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from fabricsim.fabrics.parameters import UNITS, split_unit, unknown_key

__all__ = ["Issue", "Section", "issues_of", "raise_issues", "show"]

#: A place inside a section, what is wrong there, and the value found.
Issue = tuple[tuple[str | int, ...], str, Any]

_CUSTOM = "fabricsim"

# What pydantic's own checks would allow, by their type; the braces are filled from the error's context.
_ALLOWED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "greater_than": "more than {gt}",
    "greater_than_equal": ">= {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "<= {le}",
    "literal_error": "{expected}",
    "string_too_short": "a text of at least {min_length} characters",
    "too_short": "at least {min_length} entries",
}


def show(value: Any) -> str:
    """Write a found value so that it fits a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def issues_of(error: ValidationError) -> list[Issue]:
    """Turn pydantic's errors into issues that say what was found and what is allowed."""
    issues: list[Issue] = []
    for e in error.errors(include_url=False):
        kind, ctx, found = e["type"], e.get("ctx", {}), e["input"]
        if kind == _CUSTOM:
            message = ctx["text"]
        elif kind == "missing":
            message = "missing"
        elif kind == "value_error":
            message = str(ctx["error"])
        elif kind in _ALLOWED:
            message = f"found {show(found)}, allowed: {_ALLOWED[kind].format(**ctx)}"
        else:
            message = f"found {show(found)}: {e['msg']}"
        issues.append((tuple(e["loc"]), message, found))
    return issues


def raise_issues(title: str, issues: Iterable[Issue]) -> None:
    """Raise all issues as one ``pydantic.ValidationError``; do nothing when there are none."""
    details = [
        InitErrorDetails(type=PydanticCustomError(_CUSTOM, "{text}", {"text": text}), loc=loc, input=found)
        for loc, text, found in issues
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)


class Section(BaseModel):
    """A frozen table of a configuration whose fields carry their unit in the name.

    The fields can be given by full name with an integer or by the short name with a human unit; what is
    unknown, missing or out of range is collected and raised together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    #: Short names beyond those that the units give: short name -> (field, parser).
    extra_short_names: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {}

    @classmethod
    def short_fields(cls) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        """Return short name -> (field name, parser) for the fields that have one."""
        short = dict(cls.extra_short_names)
        for name in cls.model_fields:
            stem, unit = split_unit(name)
            if unit and stem not in cls.model_fields:
                short.setdefault(stem, (name, UNITS[unit].parse))
        return short

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping):
            if not isinstance(data, cls):
                raise_issues(cls.__name__, [((), f"found {show(data)}, allowed: a table", data)])
            return handler(data)
        values, issues, places = cls._by_field(data)
        failed = {places.get(str(loc[0]), loc[0]) for loc, _, _ in issues if loc}
        made = None
        try:
            made = handler(values)
        except ValidationError as error:
            # Fields are told under the name that was given; those that were not given under the short one.
            shown = {field: key for key, (field, _) in cls.short_fields().items()}
            shown |= {field: field for field in values if field not in places.values()}
            for loc, message, found in issues_of(error):
                if len(loc) == 1 and message == "missing":
                    if loc[0] in failed:
                        continue
                    message = cls._missing(str(loc[0]))
                if loc:
                    loc = (shown.get(str(loc[0]), loc[0]), *loc[1:])
                issues.append((loc, message, found))
        raise_issues(cls.__name__, issues)
        assert made is not None
        return made

    @classmethod
    def _by_field(cls, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Issue], dict[str, str]]:
        """Return the values by field, what is wrong with the keys, and short key -> field."""
        short = cls.short_fields()
        values: dict[str, Any] = {}
        issues: list[Issue] = []
        places: dict[str, str] = {}
        given_as: dict[str, str] = {}
        for key, value in data.items():
            field, parser = (key, None) if key in cls.model_fields else short.get(key, (None, None))
            if field is None:
                issues.append(((key,), unknown_key(key, cls._known_keys()), value))
                continue
            if field in given_as:
                other = given_as[field]
                issues.append(((key,), f"given twice, also as {other!r}; allowed: one of the two", value))
                continue
            given_as[field] = key
            if parser is not None:
                places[key] = field
                try:
                    value = parser(value)
                except ValueError as error:
                    issues.append(((key,), str(error), value))
                    continue
            values[field] = value
        return values, issues, places

    @classmethod
    def _known_keys(cls) -> list[str]:
        short = cls.short_fields()
        long = {field for field, _ in short.values()}
        return [*short, *(name for name in cls.model_fields if name not in long)]

    @classmethod
    def _missing(cls, field: str) -> str:
        """Say how a missing field is given."""
        unit = split_unit(field)[1]
        for short, (name, _) in cls.short_fields().items():
            if name == field and unit:
                return f"missing, allowed: {short} = {UNITS[unit].example}"
        return "missing"

    def toml_table(self) -> dict[str, Any]:
        """Return the section as the plain table that reads back to it."""
        return self.model_dump(exclude_none=True)
