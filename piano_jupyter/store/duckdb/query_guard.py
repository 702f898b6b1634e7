"""Decide from its parse tree whether a query may run, before DuckDB looks anything up.

DuckDB's own settings are not enough. A SELECT may hold an INSERT or a COPY; even with external access off it can read
and overwrite the database's own file (a read drops the lock on it); `pandas_scan(1)` reads any address. So a query
is allowed only if every node of its tree is known to be harmless.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import queries

ALLOWED_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}

#: Table functions that only compute, or describe the tables.
ALLOWED_TABLE_FUNCTIONS = {
    "duckdb_columns",
    "duckdb_constraints",
    "duckdb_databases",
    "duckdb_functions",
    "duckdb_indexes",
    "duckdb_keywords",
    "duckdb_memory",
    "duckdb_schemas",
    "duckdb_settings",
    "duckdb_tables",
    "duckdb_types",
    "duckdb_views",
    "generate_series",
    "json_each",
    "json_tree",
    "pragma_database_size",
    "pragma_storage_info",
    "pragma_table_info",
    "pragma_version",
    "range",
    "repeat",
    "repeat_row",
    "unnest",
}

#: Functions that run a query given as text, which the tree does not show, or that wait and cannot be interrupted.
FORBIDDEN_FUNCTIONS = {"json_serialize_plan", "pg_sleep", "sleep_ms"}

FILE_LIKE = re.compile(r"[./\\:]")


def parse_allowed(connection: Any, query: str, readable: str) -> dict[str, Any]:
    """Return the parse tree of an allowed query. Raises StoreError for a forbidden one, and DuckDB's own errors.

    `readable` tells people what a query can read: "Piano's own tables".
    """
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in query):
        raise StoreError("the query holds a NUL or half of a surrogate pair, which no SQL has")
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise StoreError(f"one SELECT at a time: these are {len(statements)} statements")
    kind = statements[0].type.name
    if kind != "SELECT":
        raise StoreError(f"only SELECT may run here, not {kind}: nothing can be changed by a query")
    ((parsed,),) = connection.execute(queries.PARSE, {"query": query}).fetchall()
    try:
        tree: dict[str, Any] = json.loads(parsed)
        why = refusal(tree, readable)
    except RecursionError:
        why = "this query is nested too deeply"
    if why:
        raise StoreError(why)
    return tree


def tables_in(tree: dict[str, Any]) -> set[str]:
    """Return the names of the tables that a query reads, those that it makes itself included."""
    return {str(node["table_name"]) for node in nodes(tree) if node.get("type") == "BASE_TABLE"}


def refusal(tree: dict[str, Any], readable: str) -> str | None:
    """Return why a query with this parse tree may not run; None if it may."""
    if tree.get("error", True):
        return f"this query cannot be checked, so it may not run: {tree.get('error_message', 'no reason given')}"
    for node in nodes(tree):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in ALLOWED_NODES:
            word = kind.removesuffix("_NODE").removesuffix("_QUERY")
            return f"only SELECT may run here, and there is {word} inside: nothing can be changed by a query"
        if kind == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name not in ALLOWED_TABLE_FUNCTIONS:
                return f"{name}() may not run here: a query can read {readable}, no files and nothing else"
        elif str(node.get("function_name", "")).lower() in FORBIDDEN_FUNCTIONS:
            return f"{node['function_name']}() may not run here"
        if kind in {"BASE_TABLE", "SHOW_REF"}:
            names = [str(node.get(part) or "") for part in ("catalog_name", "schema_name", "table_name")]
            forbidden = next((name for name in names if FILE_LIKE.search(name)), None)
            if forbidden is not None:
                return f"{forbidden!r} is none of {readable}, and no file can be read here"
    return None


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in a parse tree."""
    waiting = [tree]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, dict):
            yield thing
            waiting.extend(thing.values())
        elif isinstance(thing, list):
            waiting.extend(thing)
