"""A statement that writes names of files, and its changes of uploads, run in one transaction.

Django opens no transaction if one statement is enough, as in ``save()``. And when a field prepares
its value, it cannot know whether the statement will be sent. So the value is a ``Name``, which has
a function ``write``. A wrapper of the database cursor calls it when the statement is sent. The old
file is released after the statement, because then the database shows which rows still name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

from django.db import router, transaction

from s3direct_uploads import lifecycle
from s3direct_uploads.models import Upload, write_first


class Written(NamedTuple):
    """What is written for a ``Name``, and what is called later."""

    text: str
    afterwards: Callable[[], None] | None  # after the statement, in its transaction
    committed: Callable[[], None]  # after the transaction


class Name(str):
    """A parameter of a statement. ``write`` takes the database's alias."""

    write: Callable[[str], Written] | None = None

    # Two rows may have equal names. Each is written by its own function.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class AsItIs:
    """Stands for the column itself in an UPDATE, so that the column keeps its value.

    ``as_sql`` is all that Django needs. It is not an F(), because then the instance would get the
    value that the database returns.
    """

    def __init__(self, column: str) -> None:
        self.column = column

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        return connection.ops.quote_name(self.column), []


def on_its_way(name: Name, connection: Any) -> None:
    """Remember ``name``: this connection may send a statement that has it as a parameter."""
    for wrapper in connection.execute_wrappers:
        if isinstance(wrapper, _Wrapper):
            break
    else:
        wrapper = _Wrapper()
        # It becomes the first one, because ``connection.execute_wrapper()`` removes the last one.
        connection.execute_wrappers.insert(0, wrapper)
    wrapper.names.add(name)


class _Wrapper:
    def __init__(self) -> None:
        # A weak set, so that the names of a statement that was never sent disappear.
        self.names: WeakSet[Name] = WeakSet()

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        connection = context["connection"]
        names = list(_names_in(params)) if self.names else []
        self.names -= set(names)
        if not self.names and self in connection.execute_wrappers:
            connection.execute_wrappers.remove(self)
        if not names:
            return execute(sql, params, many, context)
        is_outermost = not connection.in_atomic_block
        with transaction.atomic(using=connection.alias, savepoint=False):
            if is_outermost:
                write_first_in(connection.alias)
            done: list[Written] = []
            answer = execute(sql, _written(params, connection.alias, done), many, context)
            if is_outermost and _rows_written(context["cursor"]) == 0:
                # The row does not exist. Django's next statement inserts it.
                transaction.set_rollback(True, using=connection.alias)
            else:
                for each in done:
                    if each.afterwards is not None:
                        each.afterwards()
                    transaction.on_commit(each.committed, using=connection.alias)
        # A TestCase has a transaction around each test, and is never committed. So call them now.
        if not is_outermost and not lifecycle.in_transaction():
            for each in done:
                each.committed()
        return answer


def _names_in(params: Any) -> Iterator[Name]:
    for each in params or ():
        if isinstance(each, Name):
            if each.write is not None:
                yield each
        elif isinstance(each, list | tuple):  # a column of many rows, on PostgreSQL
            yield from _names_in(each)


def _written(params: Any, using: str, done: list[Written]) -> Any:
    if isinstance(params, Name):
        if params.write is None:
            return str(params)
        done.append(params.write(using))
        return done[-1].text
    if isinstance(params, list | tuple):
        return type(params)(_written(each, using, done) for each in params)
    return params


def _rows_written(cursor: Any) -> int:
    """How many rows were written. Rows of a RETURNING are fetched, so that SQLite can commit."""
    raw = cursor.cursor
    if raw.description is None:
        count: int = raw.rowcount
        return count
    rows = raw.fetchall()
    cursor.cursor = _Fetched(raw, rows)
    return len(rows)


class _Fetched:
    """A database cursor whose rows were fetched before."""

    def __init__(self, cursor: Any, rows: Sequence[Any]) -> None:
        self._cursor, self._rows = cursor, iter(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[Any]:
        return [row for _, row in zip(range(size), self._rows, strict=False)]

    def fetchall(self) -> list[Any]:
        return list(self._rows)


def write_first_in(using: str) -> None:
    if using == router.db_for_write(Upload):
        write_first(using)
