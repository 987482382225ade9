"""How often a JSON Schema judges one and the same value: references may double it with each of them, or with each level.

A schema of 3 kB may refer to itself so that one small event takes hours. Judging cannot be stopped once it has begun, so
such a document is refused before it is published. The bound is from above: what may apply counts as applied.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import unquote

from pipeline.core.errors import ConfigProblem

MAX_APPLIED = 200  # subschemas on one value, of any depth; ours have below ten
MAX_SUBSCHEMAS = 4_000
_LEVELS = 64  # of an event; deeper ones are refused before they are judged (events.max_depth)
_LISTS = ("allOf", "anyOf", "oneOf")
_SAME = ("not", "if", "then", "else")
_ANY_MEMBER = ("unevaluatedProperties", "propertyNames")
_ANY_ITEM = ("items", "contains", "unevaluatedItems")


@dataclass
class _Node:
    """One subschema: what it applies to the same value, and to values inside of it."""

    same: list[int] = field(default_factory=list)
    named: list[tuple[str, int]] = field(default_factory=list)
    members: list[int] = field(default_factory=list)  # any member of an object
    further: list[int] = field(default_factory=list)  # members that are not in `named`
    places: list[tuple[int, int]] = field(default_factory=list)
    items: list[int] = field(default_factory=list)


class _Graph:
    """All subschemas of a document by number, references followed."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document, self.nodes = document, list[_Node]()
        self._numbers: dict[int, int] = {}
        self._anchors, self._waiting = _anchors(document), list[tuple[_Node, Mapping[str, Any]]]()
        self.number(document)
        while self._waiting:
            self._fill(*self._waiting.pop())

    def number(self, schema: Any) -> int:
        """Return the number of a subschema; what it applies is looked at later, once."""
        known = self._numbers.get(id(schema)) if isinstance(schema, Mapping) else None
        if known is not None:
            return known
        node, number = _Node(), len(self.nodes)
        self.nodes.append(node)
        if number == MAX_SUBSCHEMAS:
            raise ConfigProblem(f"more than {MAX_SUBSCHEMAS} subschemas")
        if isinstance(schema, Mapping):
            self._numbers[id(schema)] = number
            self._waiting.append((node, schema))
        return number

    def _fill(self, node: _Node, schema: Mapping[str, Any]) -> None:
        if "$id" in schema and schema is not self._document:
            raise ConfigProblem("$id stands below the top: references would mean something else there")
        for name in ("$ref", "$dynamicRef"):
            if isinstance(schema.get(name), str):
                node.same += [self.number(one) for one in self._targets(schema[name])]
        node.same += [self.number(one) for name in _LISTS for one in schema.get(name, ())]
        node.same += [self.number(schema[name]) for name in _SAME if name in schema]
        for name in ("dependentSchemas", "dependencies"):
            node.same += [self.number(one) for one in schema.get(name, {}).values()]
        node.named += [(name, self.number(one)) for name, one in schema.get("properties", {}).items()]
        node.members += [self.number(one) for one in schema.get("patternProperties", {}).values()]
        node.members += [self.number(schema[name]) for name in _ANY_MEMBER if name in schema]
        if "additionalProperties" in schema:
            node.further.append(self.number(schema["additionalProperties"]))
        node.places += [(at, self.number(one)) for at, one in enumerate(schema.get("prefixItems", ()))]
        node.items += [self.number(schema[name]) for name in _ANY_ITEM if name in schema]

    def _targets(self, reference: str) -> list[Any]:
        """Return what a reference may lead to."""
        pointer = unquote(reference[1:])
        if pointer and not pointer.startswith("/"):
            return self._anchors[pointer] if pointer in self._anchors else _nowhere(reference)
        found: Any = self._document
        for step in pointer[1:].split("/") if pointer else ():
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
                found = found[int(key)]
            else:
                return _nowhere(reference)
        return [found]


def _nowhere(reference: str) -> NoReturn:
    raise ConfigProblem(f"{reference} leads nowhere")


def _anchors(value: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            for name in ("$anchor", "$dynamicAnchor"):
                if isinstance(one.get(name), str):
                    found.setdefault(one[name], []).append(one)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


def check_cost(document: Mapping[str, Any]) -> None:
    """Refuse a schema that judges one value too often.

    Raises:
        ConfigProblem: it does, or it refers to itself on the same value.
    """
    graph = _Graph(document)
    applied = _applied(graph)
    worst = [sum(one.values()) for one in applied]
    for _ in range(_LEVELS):
        _refuse_more(max(worst))
        deeper = [max(sum(one.values()), _inside(graph, one, worst)) for one in applied]
        if deeper == worst:
            return
        worst = deeper


def _refuse_more(times: int) -> None:
    if times > MAX_APPLIED:
        raise ConfigProblem(
            f"references and combinations judge one value more than {MAX_APPLIED} times: refer to a schema once for each value"
        )


def _applied(graph: _Graph) -> list[dict[int, int]]:
    """Return for each subschema how often it has others judge the very value that it is asked about, itself included."""
    known, under_way = dict[int, dict[int, int]](), set[int]()

    def at(number: int) -> dict[int, int]:
        if number in known:
            return known[number]
        if number in under_way:
            raise ConfigProblem("a subschema refers to itself for the same value, without end")
        under_way.add(number)
        _refuse_more(len(under_way))
        found = {number: 1}
        for inner in graph.nodes[number].same:
            for one, times in at(inner).items():
                found[one] = found.get(one, 0) + times
        _refuse_more(sum(found.values()))
        under_way.discard(number)
        known[number] = found
        return found

    return [at(number) for number in range(len(graph.nodes))]


def _inside(graph: _Graph, applied: Mapping[int, int], worst: list[int]) -> int:
    """Return how often the worst value inside is judged: a member of one name, or an item at one place."""
    named, exempt, anywhere = dict[str, int](), dict[str, int](), 0
    places, items = dict[int, int](), 0
    for number, times in applied.items():
        node = graph.nodes[number]
        for name, child in node.named:
            named[name] = named.get(name, 0) + times * worst[child]
        anywhere += times * sum(worst[child] for child in node.members)
        further = times * sum(worst[child] for child in node.further)
        anywhere += further
        for name in {name for name, _ in node.named}:
            exempt[name] = exempt.get(name, 0) + further
        for at, child in node.places:
            places[at] = places.get(at, 0) + times * worst[child]
        items += times * sum(worst[child] for child in node.items)
    members = max((count - exempt.get(name, 0) for name, count in named.items()), default=0)
    return max(anywhere + max(members, 0), items + max(places.values(), default=0))
