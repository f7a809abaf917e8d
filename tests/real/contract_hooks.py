"""Loaded by Schemathesis: the client's part beside the API, and what no schema can say."""

from __future__ import annotations

import itertools
import json
from typing import Any

import requests
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

LARGEST_SENT = 1024**2
MAX_CONTEXT_BYTES = 1024
turns = itertools.count()


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    """The client's part. Two in four send what they declared, one a header that nobody signed."""
    if case.method != "POST" or response.status_code not in (200, 201):
        return
    upload = response.json()
    request = upload["request"]
    if request is None or upload["size"] > LARGEST_SENT:
        return
    turn = next(turns) % 4
    if turn == 3:
        return
    unsigned = {"Content-Encoding": "gzip"} if turn == 2 else {}
    requests.request(
        request["method"],
        request["url"],
        headers={**request["headers"], **unsigned},
        data=b"\0" * upload["size"],
        timeout=10,
    )


@schemathesis.hook
def filter_body(context: HookContext, body: Any) -> bool:
    """A context is at most 1 KiB as JSON, and has no NUL anywhere."""
    note = json.dumps(body.get("context") if isinstance(body, dict) else None)
    return "\\u0000" not in note and len(note) <= MAX_CONTEXT_BYTES


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """What is refused, or given, for the state that the upload is in."""
    answer = response.json()
    if type(failure).__name__ == "RejectedPositiveData":
        # A good query, and yet not for an upload of this type.
        return [error["code"] for error in answer["errors"]] != ["not_inline"]
    if type(failure).__name__ == "UseAfterFree":
        # Its object is deleted. The upload can be looked at still, and says so.
        return answer["status"] not in ("cancelled", "deleted")
    return True
