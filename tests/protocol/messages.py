"""All generated message classes, and values for them."""

import pkgutil
from functools import cache
from importlib import import_module
from typing import Any

from hypothesis import strategies as st

from headwater.protocol import messages
from headwater.protocol.schema import in_version

INTEGER_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}


@cache
def message_classes() -> dict[str, Any]:
    modules = [import_module(f"headwater.protocol.messages.{m.name}") for m in pkgutil.iter_modules(messages.__path__)]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if hasattr(value, "SCHEMA") and hasattr(value, "VERSIONS")
    }


def scalars(type_: str) -> st.SearchStrategy[Any]:
    if type_ in INTEGER_BITS:
        bits = INTEGER_BITS[type_]
        return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
    return {
        "boolean": st.booleans(),
        "uint16": st.integers(0, 0xFFFF),
        "uint32": st.integers(0, 0xFFFFFFFF),
        "float64": st.floats(allow_nan=False),
        "uuid": st.binary(min_size=16, max_size=16),
        "string": st.text(max_size=200),
        "bytes": st.binary(max_size=200),
        "records": st.binary(max_size=200),
    }[type_]


def values(root: Any, class_: Any, version: int) -> st.SearchStrategy[Any]:
    """Messages with anything in the fields that the version has."""
    fields = {}
    for field in class_.SCHEMA:
        if not in_version(field, version):
            continue
        type_ = field.element if field.is_array else field.type
        nested = getattr(root, type_, None)
        strategy = values(root, nested, version) if nested is not None else scalars(type_)
        if field.is_array:
            strategy = st.lists(strategy, max_size=3)
        if field.nullable <= version or (field.tag >= 0 and nested is not None and not field.is_array):
            strategy = st.none() | strategy
        fields[field.name] = strategy
    return st.builds(class_, **fields)
