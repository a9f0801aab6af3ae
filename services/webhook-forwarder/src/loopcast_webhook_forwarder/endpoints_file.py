"""
Reading the endpoints file: YAML whose every complaint names its line. Pure: text in, endpoints out.

YAML is composed to nodes first, because the nodes know their lines; the values are plain strings, numbers, lists and
mappings only (no tags that make objects).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from loopcast.errors import ConfigurationError
from loopcast_webhook_forwarder.endpoints import Endpoint

__all__ = ["Endpoints", "parse_endpoints"]

Path = tuple[str | int, ...]

_PLAIN_TAGS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A whole file, and where in it each endpoint begins."""

    endpoints: tuple[Endpoint, ...]
    lines: dict[str, int] = field(default_factory=dict)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    endpoints: tuple[Endpoint, ...] = ()


@lru_cache(maxsize=4)
def parse_endpoints(text: str, name: str) -> Endpoints:
    """
    The endpoints of a file called `name`. An empty file has none.

    A text that was read before is not read again: most looks at the file find it as it was.

    Raises:
        ConfigurationError: something in it is wrong; one line for each fault, as `<name>:<line>: <what>`.
    """
    lines: dict[Path, int] = {}
    try:
        parsed = _File.model_validate(_mapping(text, lines))
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        raise ConfigurationError(f"{name}:{line}: {error.problem or error}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name}:1: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{name}:1: too deeply nested") from None
    except _Fault as fault:
        raise ConfigurationError(f"{name}:{fault.line}: {fault}") from None
    except ValidationError as error:
        raise ConfigurationError("\n".join(_sentences(error, name, lines))) from None
    found = {e.name: lines[("endpoints", i)] for i, e in enumerate(parsed.endpoints)}
    if len(found) < len(parsed.endpoints):
        raise ConfigurationError(_twice(parsed.endpoints, name, lines))
    return Endpoints(parsed.endpoints, found)


class _Fault(Exception):
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def _mapping(text: str, lines: dict[Path, int]) -> dict[str, object]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    value = {} if root is None else _plain(root, (), lines)
    if not isinstance(value, dict):
        raise _Fault(1, "the file must be a mapping with the key endpoints")
    return value


def _plain(node: yaml.Node, path: Path, lines: dict[Path, int]) -> object:
    """The value of a node; the line of every value goes into `lines`."""
    line = node.start_mark.line + 1
    lines[path] = line
    if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
        raise _Fault(line, f"{node.tag} is no plain YAML")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, i), lines) for i, child in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, line)
    made: dict[str, object] = {}
    for key_node, child in node.value:
        key = _scalar(key_node, key_node.start_mark.line + 1)
        if not isinstance(key, str):
            raise _Fault(key_node.start_mark.line + 1, f"{key!r} must be a name; put quotes around it")
        if key in made:
            raise _Fault(key_node.start_mark.line + 1, f"{key!r} stands here twice")
        made[key] = _plain(child, (*path, key), lines)
        # A block's own value begins on the next line; what a person looks for is the key.
        lines[(*path, key)] = key_node.start_mark.line + 1
    return made


def _scalar(node: yaml.Node, line: int) -> Hashable:
    loader = yaml.SafeLoader("")
    try:
        value: Hashable = loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or error
        raise _Fault(line, str(problem)) from None
    finally:
        loader.dispose()
    return value


def _sentences(error: ValidationError, name: str, lines: dict[Path, int]) -> list[str]:
    """One line for each place: of a value that may be one of several kinds, the first complaint is enough."""
    said: dict[Path, str] = {}
    for wrong in error.errors(include_url=False):
        place = _place(wrong, lines)
        label = ".".join(str(p) for p in place if isinstance(p, str) and p != "endpoints") or "endpoints"
        message = wrong["msg"].removeprefix("Value error, ")
        said.setdefault(place, f"{name}:{lines.get(place, 1)}: {label}: {message}")
    return [said[place] for place in sorted(said, key=lambda place: lines.get(place, 1))]


def _place(wrong: ErrorDetails, lines: dict[Path, int]) -> Path:
    """The nearest place in the file: of a missing key, the mapping that lacks it; of a kind of union, the value."""
    place: Path = ()
    for part in wrong["loc"]:
        if (*place, part) not in lines:
            break
        place = (*place, part)
    if wrong["type"] == "missing":
        wrong["msg"] = f"{wrong['loc'][-1]} is missing"
    elif wrong["type"] == "extra_forbidden":
        wrong["msg"] = "there is no such key"
    return place


def _twice(endpoints: tuple[Endpoint, ...], name: str, lines: dict[Path, int]) -> str:
    first: dict[str, int] = {}
    for i, endpoint in enumerate(endpoints):
        line = lines[("endpoints", i)]
        if endpoint.name in first:
            return f"{name}:{line}: the name {endpoint.name!r} is taken by the endpoint of line {first[endpoint.name]}"
        first[endpoint.name] = line
    raise AssertionError("called where no name stands twice")
