"""Which partitions a query can need: the conditions on `dt` and `event_type` that hold for every row of a scan.

Conditions are taken from WHERE and ON, split at AND, and carried down through subqueries and common table expressions
as far as they name plain columns, and across inner joins on equal columns. What is not understood is left out, so a
scan may read too much and never too little. Nothing is evaluated here: DuckDB does that over the list of partitions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, build_scope

KEYS = frozenset({"dt", "event_type"})
MAX_USES = 32  # of one scan, by expressions that are used many times; beyond, it is read whole
_OPAQUE = (exp.Query, exp.AggFunc, exp.Window, exp.Anonymous, exp.Rand, exp.Uuid, exp.Placeholder, exp.Lambda)
_STRICT = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Like)
_STRICT_PARTS = (
    *_STRICT,
    *(exp.Column, exp.Identifier, exp.Literal, exp.Cast, exp.DataType),
    *(exp.Interval, exp.Var, exp.Add, exp.Sub, exp.CurrentDate),
)

Condition = exp.Expr


@dataclass
class Uses:
    """For each scan (by identity of its table node) the ways it is used: conditions that hold together."""

    found: dict[int, list[list[Condition]]] = field(default_factory=dict)

    def add(self, table: exp.Table, conditions: list[Condition]) -> None:
        """Note one use: the scan needs the rows for which all of these hold."""
        self.found.setdefault(id(table), []).append(conditions)

    def of(self, table: exp.Table) -> list[list[Condition]]:
        """Return the uses of a scan: it needs the rows of any; `[[]]` when all rows are needed."""
        uses = self.found.get(id(table), [[]])
        return uses if len(uses) <= MAX_USES and all(uses) else [[]]


def partition_uses(query: exp.Expr) -> Uses:
    """Collect what each scan of a bound query needs.

    Columns of the conditions are bare `dt` and `event_type`, ready to be put into SQL over the partitions.
    """
    uses = Uses()
    root = build_scope(query)
    if (
        root is not None
        and query.find(exp.With) is not None
        and any(one.args.get("recursive") for one in query.find_all(exp.With))
    ):
        return uses
    if root is not None:
        _visit(root, [], uses)
    return uses


def _visit(scope: Scope, inherited: Sequence[Condition], uses: Uses) -> None:
    """Walk one query; `inherited` conditions are in terms of its output columns."""
    inherited = [] if _is_cut(scope.expression) else inherited
    if scope.set_operation_scopes:
        names = _outputs(scope)
        for branch in scope.set_operation_scopes:
            renamed = dict(zip(names, _outputs(branch), strict=False))
            _visit(branch, list(_renamed(inherited, renamed)), uses)
        return
    conditions = [*_pushed(scope, inherited), *_own(scope)]
    conditions += _across_equalities(scope, conditions)
    for name, (_, source) in scope.selected_sources.items():
        about = [_bare(one) for one in conditions if _tables(one) == {name}]
        if isinstance(source, Scope):
            _visit(source, about, uses)
        else:
            uses.add(source, [one for one in about if column_names(one) <= KEYS])
    for inner in (*scope.subquery_scopes, *scope.udtf_scopes):
        _visit(inner, [], uses)


def _outputs(scope: Scope) -> list[str]:
    query = scope.expression
    return query.named_selects if isinstance(query, exp.Query) else []


def _pushed(scope: Scope, inherited: Sequence[Condition]) -> Iterator[Condition]:
    """Say inherited conditions in terms of this query's own sources, where they may be asked earlier."""
    select = scope.expression
    if not isinstance(select, exp.Select) or _is_barrier(select):
        return
    plain = {one.alias_or_name: one.unalias() for one in select.selects}
    nullable = _nullable(select)
    for condition in inherited:
        columns = {column.name: plain.get(column.name) for column in condition.find_all(exp.Column)}
        if columns and all(isinstance(one, exp.Column) for one in columns.values()):
            moved = _replaced(condition, cast(dict[str, exp.Expr], columns))
            if not (_tables(moved) & nullable) or _is_strict(moved):
                yield moved


def _is_barrier(select: exp.Select) -> bool:
    group = select.args.get("group")
    if group is not None and any(group.args.get(kind) for kind in ("grouping_sets", "cube", "rollup")):
        return True
    distinct = select.args.get("distinct")
    return bool(distinct is not None and distinct.args.get("on")) or select.find(exp.Window) is not None


def _is_cut(query: exp.Expr) -> bool:
    """True when a condition asked before the query is not one asked after: it takes only some of its rows."""
    if any(query.args.get(part) for part in ("limit", "offset", "qualify", "match", "sample", "pivots")):
        return True
    return isinstance(query.parent, exp.Subquery) and _is_cut(query.parent)


def _own(scope: Scope) -> Iterator[Condition]:
    """Yield the query's own usable conditions: they hold for every row of their source that can matter."""
    select = scope.expression
    if not isinstance(select, exp.Select):
        return
    nullable = _nullable(select)
    where = select.args.get("where")
    for one in _conjuncts(where.this if where else None):
        if _is_usable(one) and (not (_tables(one) & nullable) or _is_strict(one)):
            yield one
    for join in select.args.get("joins") or ():
        side, right = str(join.side), join.this.alias_or_name
        for one in _conjuncts(join.args.get("on")):
            tables = _tables(one)
            kept = {"": True, "LEFT": tables == {right}, "RIGHT": right not in tables}.get(side, False)
            if (
                _is_plain_join(join)
                and kept
                and _is_usable(one)
                and (not tables & nullable or _is_strict(one))
            ):
                yield one


def _is_plain_join(join: exp.Join) -> bool:
    return str(join.kind) in {"", "INNER", "OUTER", "CROSS"} and not join.args.get("method")


def _nullable(select: exp.Select) -> set[str]:
    """Return the sources whose columns an outer join may turn into nulls."""
    start = select.args.get("from_") or select.args.get("from")
    seen = {start.this.alias_or_name} if start else set()
    found: set[str] = set()
    for join in select.args.get("joins") or ():
        right = join.this.alias_or_name
        if not _is_plain_join(join) or join.side in {"RIGHT", "FULL"}:
            found |= seen
        if not _is_plain_join(join) or join.side in {"LEFT", "FULL"}:
            found.add(right)
        seen.add(right)
    return found


def _across_equalities(scope: Scope, conditions: Iterable[Condition]) -> list[Condition]:
    """Carry a condition on one column over to columns that an inner join holds equal to it."""
    select = scope.expression
    if not isinstance(select, exp.Select) or _nullable(select):
        return []
    known = list(conditions)
    equal = [
        (one.this, one.expression)
        for one in known
        if isinstance(one, exp.EQ)
        and isinstance(one.this, exp.Column)
        and isinstance(one.expression, exp.Column)
    ]
    found = []
    for left, right in [*equal, *((b, a) for a, b in equal)]:
        for one in known:
            columns = list(one.find_all(exp.Column))
            if columns and all(column.sql() == left.sql() for column in columns):
                found.append(_replaced(one, {left.name: right}))
    return found


def _conjuncts(condition: exp.Expr | None) -> Iterator[Condition]:
    if condition is None:
        return
    if isinstance(condition, exp.Paren):
        yield from _conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from _conjuncts(condition.left)
        yield from _conjuncts(condition.right)
    else:
        yield condition


def _is_usable(condition: Condition) -> bool:
    columns = list(condition.find_all(exp.Column))
    return bool(columns) and all(column.table for column in columns) and condition.find(*_OPAQUE) is None


def _is_strict(condition: Condition) -> bool:
    """True when the condition is surely not true of nulls: a comparison with a column bare on one side."""
    sides = (condition.args.get("this"), condition.args.get("expression"))
    return (
        isinstance(condition, _STRICT)
        and any(isinstance(side, exp.Column) for side in sides)
        and all(isinstance(node, _STRICT_PARTS) for node in condition.walk())
    )


def _tables(condition: Condition) -> set[str]:
    return {column.table for column in condition.find_all(exp.Column)}


def column_names(condition: Condition) -> set[str]:
    """Return the names of the columns in a condition."""
    return {column.name for column in condition.find_all(exp.Column)}


def _bare(condition: Condition) -> Condition:
    return _replaced(condition, {name: exp.column(name) for name in column_names(condition)})


def _renamed(conditions: Iterable[Condition], names: dict[str, str]) -> Iterator[Condition]:
    for one in conditions:
        if column_names(one) <= names.keys():
            yield _replaced(one, {name: exp.column(names[name]) for name in column_names(one)})


def _replaced(condition: Condition, columns: dict[str, Any]) -> Condition:
    def replace(node: exp.Expr) -> exp.Expr:
        return cast(exp.Expr, columns[node.name].copy()) if isinstance(node, exp.Column) else node

    return condition.copy().transform(replace)
