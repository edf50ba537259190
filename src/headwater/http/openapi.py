"""Makes `openapi.json` from the table of endpoints, so it cannot differ from what is served (OpenAPI 3.1)."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from headwater.http.authentication import Authentication
from headwater.http.endpoints import JSON, Endpoint
from headwater.http.errors import ErrorBody

PARAMETER = re.compile(r"{(\w+)(?::(\w+))?}")  # Starlette's: {name} or {name:convertor}
REF_TEMPLATE = "#/components/schemas/{name}"


def document(
    title: str, version: str, endpoints: Sequence[Endpoint], authentication: Authentication | None
) -> dict[str, object]:
    """The description of an API."""
    types = [kind for endpoint in endpoints for kind in (endpoint.body, endpoint.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components([ErrorBody, *types], ref_template=REF_TEMPLATE)
    error, found = schemas[0], iter(schemas[1:])
    paths: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        body = next(found) if endpoint.body is not None else None
        answer = next(found) if endpoint.answer is not None else None
        path = PARAMETER.sub(r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = operation(endpoint, body, answer, error)
    described: dict[str, object] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }
    if authentication is not None:
        scheme = authentication.scheme
        described["components"] = {
            "schemas": components,
            "securitySchemes": {scheme: {"type": "http", "scheme": scheme}},
        }
        described["security"] = [{scheme: []}]
    return described


def operation(endpoint: Endpoint, body: Any, answer: Any, error: Any) -> dict[str, object]:
    """One method of one path."""
    success: dict[str, object] = {"description": "Success"}
    has_content = answer is not None or endpoint.media_type != JSON
    if has_content:
        success["content"] = {endpoint.media_type: {"schema": answer if answer is not None else {"type": "string"}}}
    described: dict[str, object] = {
        "summary": endpoint.summary,
        "responses": {
            str(endpoint.status if has_content else 204): success,
            "default": {"description": "An error", "content": {JSON: {"schema": error}}},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer" if kind == "int" else "string"}}
        for name, kind in PARAMETER.findall(endpoint.path)
    ]
    if parameters:
        described["parameters"] = parameters
    if body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return described
