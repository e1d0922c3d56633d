"""OpenAPI description of the admission endpoints. Schemas are generated from the types that decode and encode reviews.

FastAPI's router does not serve these endpoints, so FastAPI cannot describe them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi.openapi.utils import get_openapi

from injector.core.model import AdmissionReview, AnsweredReview, Endpoint, Pod, ReviewedWorkload

if TYPE_CHECKING:
    from fastapi import FastAPI

_REF: Final = "#/components/schemas/{name}"

_SUMMARIES: Final = {
    Endpoint.MUTATE: "Adds token references to a Pod that requests them.",
    Endpoint.MUTATE_DEFAULT: "Like /mutate; uses the Policy's default Secret if the annotation is missing.",
    Endpoint.WARN: "Returns warnings about a workload's Pod template; always allows and never patches.",
}
_ERRORS: Final = {
    "400": "The body is not a valid review.",
    "405": "The method is not POST.",
    "413": "The body is too large; the connection is closed.",
    "415": "The content type is not application/json.",
    "500": "The webhook could not decide the review; the failurePolicy of its registration applies.",
    "503": "The webhook is too busy to respond in time; retry after the seconds in Retry-After, if it is set.",
}
_ERROR: Final = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {
            "type": "string",
            "description": "Error class, stable; also the value of the label `error` of the error metric.",
        },
        "message": {"type": "string", "description": "Description of the error, one sentence."},
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the app's OpenAPI document, with the admission endpoints added."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    (pod, workload, answer), components = msgspec.json.schema_components(
        (AdmissionReview[Pod | None], AdmissionReview[ReviewedWorkload | None], AnsweredReview), ref_template=_REF
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
                "description": "Time that the client waits, as a Go duration such as 5s; the API server sets it.",
                "schema": {"type": "string", "default": "10s"},
            }
        ],
        "requestBody": {"required": True, "content": _json(question)},
        "responses": {"200": {"description": "The review with its response.", "content": _json(answer)}, **errors},
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
