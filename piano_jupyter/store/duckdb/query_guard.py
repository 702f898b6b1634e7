"""May this query run? Decided on its parse tree, before DuckDB looks anything up.

DuckDB's own settings are not enough. A SELECT may hold an INSERT or a COPY; even with external access off it can read
and overwrite the database's own file (a read drops the lock on it); `pandas_scan(1)` reads any address. So a tree is
let through only where it is known to be harmless.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import queries

NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}

#: Table functions that only reckon, or tell about the tables.
TABLE_FUNCTIONS = {
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

#: Functions that look up what a string says, behind the tree's back, or only wait, which no interrupt ends.
NO_FUNCTIONS = {"json_serialize_plan", "pg_sleep", "sleep_ms"}

FILE_LIKE = re.compile(r"[./\\:]")


def checked(connection: Any, query: str, sees: str) -> dict[str, Any]:
    """Return the parse tree of a query that may run. Raises StoreError where it may not, and DuckDB's own errors.

    `sees` says what a query reads, for people: "Piano's own tables".
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
        why = refusal(tree, sees)
    except RecursionError:
        why = "this query is nested too deeply"
    if why:
        raise StoreError(why)
    return tree


def tables_in(tree: dict[str, Any]) -> set[str]:
    """Return the names of the tables that a query reads, those that it makes itself included."""
    return {str(node["table_name"]) for node in objects(tree) if node.get("type") == "BASE_TABLE"}


def refusal(tree: dict[str, Any], sees: str) -> str | None:
    """Return why a query with this parse tree may not run, or None where it may."""
    if tree.get("error", True):
        return f"this query cannot be looked into, so it may not run: {tree.get('error_message', 'no reason given')}"
    for node in objects(tree):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in NODES:
            word = kind.removesuffix("_NODE").removesuffix("_QUERY")
            return f"only SELECT may run here, and there is {word} inside: nothing can be changed by a query"
        if kind == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                return f"{name}() may not run here: a query sees {sees}, no files and nothing else"
        elif str(node.get("function_name", "")).lower() in NO_FUNCTIONS:
            return f"{node['function_name']}() may not run here"
        if kind in {"BASE_TABLE", "SHOW_REF"}:
            names = [str(node.get(part) or "") for part in ("catalog_name", "schema_name", "table_name")]
            strange = next((name for name in names if FILE_LIKE.search(name)), None)
            if strange is not None:
                return f"{strange!r} is none of {sees}, and no file can be read here"
    return None


def objects(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in a parse tree."""
    waiting = [tree]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, dict):
            yield thing
            waiting.extend(thing.values())
        elif isinstance(thing, list):
            waiting.extend(thing)
