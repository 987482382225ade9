"""The table of routes: what the server, the document and the tests are made from."""

import re

import msgspec

from pipeline.core.caller import Scope
from pipeline.web.asked import Asked
from pipeline.web.route import AnyOf, Open
from pipeline.web.routes import ROUTES


def test_no_route_is_there_twice() -> None:
    """Neither method and path, nor a handler's name, which the document knows a route by."""
    assert len({(one.method, one.path) for one in ROUTES}) == len(ROUTES)
    assert len({one.handler.__name__ for one in ROUTES}) == len(ROUTES)


def test_every_parameter_of_a_path_is_declared() -> None:
    """By name and as needed; those of a query have a schema, what is allowed and an example."""
    for one in ROUTES:
        declared = {each.name for each in one.parameters if each.where == "path"}
        assert declared == set(re.findall(r"{(\w+)}", one.plain_path)), one.path
        for each in one.parameters:
            assert each.says
            assert not isinstance(each, Asked) or (each.allowed and each.example and each.schema.get("type"))


def test_answers_have_a_schema() -> None:
    """Every struct of an answer or a body can be written into the document."""
    structs = [
        each
        for one in ROUTES
        for each in (*one.answers.values(), *one.body.values())
        if isinstance(each, type)
    ]
    shapes, _ = msgspec.json.schema_components(list(dict.fromkeys(structs)))
    assert shapes


def test_a_route_lets_in_what_it_needs() -> None:
    """One scope, or one of several; a credential without scopes passes open routes only."""
    for one in ROUTES:
        wanted = one.needs.scopes if isinstance(one.needs, AnyOf) else {one.needs}
        for scope in Scope:
            assert one.lets_in(frozenset({scope})) == (isinstance(one.needs, Open) or scope in wanted)
    assert str(AnyOf(frozenset({Scope.REPLAY, Scope.READ}))) == "read or replay"
