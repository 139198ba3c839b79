"""Error messages for settings, one line each: the key, the rule, the value, what to do.

Pydantic finds the mistakes, but words them for programmers. This module rewords each for the author
of the file. The rule comes from the schema: it is the description of the key's type.
"""

import difflib
import types
from collections.abc import Iterable
from typing import Annotated, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo

ANY_NAME = "any other name"  # the tag of the one section in a union that has no fixed name


MAX_MESSAGE, MAX_MISTAKES = 2000, 10


class ConfigError(ValueError):
    """Invalid settings; the message is one line of bounded length."""

    def __init__(self, message: str) -> None:
        super().__init__(cut(" ".join(message.split()), MAX_MESSAGE))


class OutOfRange(ValueError):
    """A number that is of the right kind, and outside of the range that its rule gives."""


def cut(text: str, limit: int = 60) -> str:
    """Returns the text, cut off if it is longer than the limit."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown(value: object) -> str:
    """Returns the value as written in the file, cut off if it is long."""
    plain = {None: "null", True: "true", False: "false"}
    return cut(plain[value] if value is None or isinstance(value, bool) else repr(value))


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `, did you mean 'x'?`, or an empty string if no known word is similar."""
    found = difflib.get_close_matches(cut(word), list(known), n=1)
    return f", did you mean {found[0]!r}?" if found else ""


def explain(error: ValidationError, schema: type[BaseModel], raw: object) -> str:
    """Returns all mistakes in one line, each key once."""
    messages: dict[str, str] = {}
    mistakes = sorted(error.errors(include_url=False), key=lambda m: m["type"] == "missing")
    suggested: set[str] = set()
    more: set[str] = set()
    for mistake in mistakes:
        path, section, field = _resolve(mistake["loc"], schema)
        name = ".".join(path)
        if name in messages or name in suggested:
            continue
        if len(messages) == MAX_MISTAKES:
            more.add(name)
            continue
        match mistake["type"]:
            case "extra_forbidden" | "invalid_key":
                messages[name] = _unknown_key(path, section, schema)
                close = difflib.get_close_matches(cut(path[-1]), section.model_fields, n=1)
                suggested.update(".".join([*path[:-1], key]) for key in close)
            case "missing" | "union_tag_not_found" if _value(raw, path) is _ABSENT or (
                isinstance(_value(raw, path), dict)
            ):
                messages[name] = _missing(name, field)
            case "value_error" if isinstance(mistake["ctx"]["error"], OutOfRange):
                rule = mistake["ctx"]["error"]
                messages[name] = f"{name!r} must be {rule}, got {shown(_value(raw, path))}"
            case "value_error" if field is None or _is_section(field):
                messages[name] = str(mistake["ctx"]["error"])
            case _:
                messages[name] = _wrong_value(name, field, _value(raw, path))
    rest = [f"and {len(more)} more"] if more else []
    return "; ".join([*messages.values(), *rest])


_ABSENT = object()


def _resolve(
    loc: tuple[int | str, ...], schema: type[BaseModel]
) -> tuple[list[str], type[BaseModel], FieldInfo | None]:
    """Returns the key of a mistake: its path in the file, its section, and its field."""
    path: list[str] = []
    section, field = schema, None
    choices: dict[str, type[BaseModel]] = {}
    for part in loc:
        if isinstance(part, str) and part in choices:  # pydantic names the chosen member of a union
            section, choices = choices[part], {}
            continue
        if field is not None and not _is_section(field):
            break  # inside a value: the message is about the whole key
        path.append(str(part))
        field = section.model_fields.get(str(part))
        if field is None:
            break
        if (only := _only_section(field)) is not None:
            section = only
        else:
            choices = _choices(field)
    return path, section, field


def _choices(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """Returns the sections that a key with a `name` chooses from: {name: section}."""
    found = _sections(field.annotation)
    if len(found) < 2:
        return {}
    return {tag or _own_name(section) or ANY_NAME: section for section, tag in found}


def _sections(annotation: object) -> list[tuple[type[BaseModel], str | None]]:
    """Returns all sections that a type allows, each with its tag."""
    if _is_model(annotation):
        return [(annotation, None)]
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        tag = next((m.tag for m in metadata if isinstance(m, Tag)), None)
        return [(section, tag or own) for section, own in _sections(inner)]
    if get_origin(annotation) in (Union, types.UnionType):
        return [found for a in get_args(annotation) for found in _sections(a)]
    return []


def _only_section(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the section of a key that holds one kind of section, or nothing."""
    found = _sections(field.annotation)
    return found[0][0] if len(found) == 1 else None


def _own_name(section: type[BaseModel]) -> str | None:
    """Returns the value of its key `name`, if only one is allowed."""
    name = section.model_fields.get("name")
    words = get_args(name.annotation) if name is not None else ()
    return words[0] if len(words) == 1 else None


def _is_model(x: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(x, type) and issubclass(x, BaseModel)


def _is_section(field: FieldInfo) -> bool:
    return bool(_sections(field.annotation))


def _main_section(field: FieldInfo | None) -> type[BaseModel] | None:
    """Returns the section that a key holds; of a union, the one that has no fixed name."""
    if field is None:
        return None
    return _only_section(field) or _choices(field).get(ANY_NAME)


def _value(raw: object, path: list[str]) -> object:
    for part in path:
        if not isinstance(raw, dict) or part not in raw:
            return _ABSENT
        raw = raw[part]
    return raw


def _unknown_key(path: list[str], section: type[BaseModel], schema: type[BaseModel]) -> str:
    *parents, key = path
    known = [field.alias or key for key, field in section.model_fields.items()]
    place = f"section {'.'.join(parents)!r}" if parents else "the file"
    name = _own_name(section)
    if name is not None:  # one of several sections, chosen by its name
        hint, place = nearest(key, known), f"{place} with name {name}"
    else:
        hint = nearest(key, known) or _elsewhere(path, schema)
    return f"unknown key {shown('.'.join(path))}{hint} ({place} has the keys {', '.join(known)})"


def _elsewhere(path: list[str], schema: type[BaseModel]) -> str:
    *_, key = path
    for name, field in schema.model_fields.items():
        section = _main_section(field)
        if section is not None and key in section.model_fields and path != [name, key]:
            return f", did you mean '{name}.{key}'?"
    return ""


def _missing(name: str, field: FieldInfo | None) -> str:
    section = _main_section(field)
    if section is not None:
        return f"section {name!r} is missing: add it with the keys {', '.join(_required(section))}"
    if field is not None and _choices(field):
        return f"'{name}.name' is missing: set it to one of {', '.join(_choices(field))}"
    return f"{name!r} is missing: set it to {_rule_of(field)}"


def _required(section: type[BaseModel]) -> list[str]:
    fields = section.model_fields
    return [key for key in fields if fields[key].is_required()] or list(fields)


def _wrong_value(name: str, field: FieldInfo | None, value: object) -> str:
    if isinstance(value, dict) and "format" in value and field is not None:
        formats = [tag for tag, s in _choices(field).items() if "format" in s.model_fields]
        given = value["format"]
        hint = nearest(str(given), formats)
        return f"'{name}.format' must be one of {', '.join(formats)}, got {shown(given)}{hint}"
    section = _main_section(field)
    if section is not None:
        keys = ", ".join(section.model_fields)
        return f"{name!r} must be a section with the keys {keys}, got {shown(value)}"
    if field is not None and (choices := _choices(field)):
        if not isinstance(value, dict):
            first = next(iter(choices))
            return f"{name!r} must be a section such as {{name: {first}, ...}}, got {shown(value)}"
        tag = value.get("name")
        hint = nearest(str(tag), choices)
        return f"'{name}.name' must be one of {', '.join(choices)}, got {shown(tag)}{hint}"
    words = _literals(field.annotation) if field is not None else []
    hint = nearest(value, words) if isinstance(value, str) else ""
    return f"{name!r} must be {_rule_of(field)}, got {shown(value)}{hint}"


def _rule_of(field: FieldInfo | None) -> str:
    if field is None:
        return "a value that the schema knows"
    return field.description or _rule(field.annotation)


def _rule(annotation: object) -> str:
    """Returns the values that a type allows, in words."""
    arguments = get_args(annotation)
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Annotated:
        described = [m.description for m in arguments[1:] if getattr(m, "description", None)]
        return described[0] if described else _rule(arguments[0])
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(arguments) if len(arguments) > 1 else str(arguments[0])
    if get_origin(annotation) is tuple:
        return f"a list, each {_rule(arguments[0])}"
    return ", or ".join(_rule(a) for a in arguments) if arguments else str(annotation)


def _literals(annotation: object) -> list[str]:
    """Returns every word that a type allows."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for a in get_args(annotation) for word in _literals(a)]
