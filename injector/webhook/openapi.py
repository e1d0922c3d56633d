"""The admission endpoints in OpenAPI: their schemas are made from the very types that decode and encode.

The endpoints stand in front of FastAPI's router, which therefore knows nothing of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi.openapi.utils import get_openapi

from injector.core.model import AdmissionReview, AnsweredReview, Endpoint, Pod, Workload

if TYPE_CHECKING:
    from fastapi import FastAPI

_REF: Final = "#/components/schemas/{name}"

_SUMMARIES: Final = {
    Endpoint.MUTATE: "Puts token references into a Pod that asks for them.",
    Endpoint.MUTATE_DEFAULT: "The same; the Policy's default Secret stands in for a missing annotation.",
    Endpoint.WARN: "Warns of a workload's Pod template; allows always, patches never.",
}
_ERRORS: Final = {
    "400": "The body is not a review that can be answered.",
    "405": "Not a POST.",
    "413": "The body is too large; the connection is closed.",
    "415": "The content type is not application/json.",
    "500": "The review could not be decided; the registration's failurePolicy decides.",
    "503": "Too busy to answer in time; Retry-After says when to come again.",
}
_ERROR: Final = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "description": "Stable word, also a label of the metric of errors."},
        "message": {"type": "string", "description": "One sentence for people."},
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """The app's OpenAPI document with the admission endpoints in it."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    (pod, workload, answer), components = msgspec.json.schema_components(
        (AdmissionReview[Pod | None], AdmissionReview[Workload | None], AnsweredReview), ref_template=_REF
    )
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {**components, "Error": _ERROR}
    for endpoint in Endpoint:
        question = workload if endpoint is Endpoint.WARN else pod
        schema["paths"][endpoint.value] = {"post": _operation(endpoint, question, answer)}
    return schema


def _operation(endpoint: Endpoint, question: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    errors = {
        status: {"description": text, "content": _json({"$ref": _REF.format(name="Error")})}
        for status, text in _ERRORS.items()
    }
    errors["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        "tags": ["admission"],
        "summary": _SUMMARIES[endpoint],
        "operationId": endpoint.name.lower(),
        "parameters": [
            {
                "name": "timeout",
                "in": "query",
                "description": "How long the caller waits, as a Go duration such as 5s; the API server sets it.",
                "schema": {"type": "string", "default": "10s"},
            }
        ],
        "requestBody": {"required": True, "content": _json(question)},
        "responses": {"200": {"description": "The review, answered.", "content": _json(answer)}, **errors},
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
