"""Loaded by Schemathesis: the client's part beside the API, and what no schema can say."""

from __future__ import annotations

import itertools
import json
from typing import Any

import requests
import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import Failure

PART_SIZE = 5 * 1024**2
TWO_PARTS = PART_SIZE + 1  # the least that is sent in parts
LARGEST = 10_000 * 5 * 1024**3
LARGEST_SENT = TWO_PARTS
MAX_CONTEXT_BYTES = 1024
# What is wrong with a good request, for this upload or this destination.
NOT_IN_THE_SCHEMA = {"not_inline", "not_for_multipart", "out_of_range"}
turns = itertools.count()


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Made up, hardly any upload in parts could be sent. What is wrong stays so."""
    if not isinstance(body, dict):
        return body
    size, numbers = body.get("size"), body.get("part_numbers")
    if body.get("multipart") is True and type(size) is int and PART_SIZE < size <= LARGEST:
        return {**body, "size": size if size % 4 == 0 else TWO_PARTS}
    if isinstance(numbers, list) and all(type(n) is int and 0 < n <= 10_000 for n in numbers):
        return {**body, "part_numbers": [n if n % 4 == 0 else n % 2 + 1 for n in numbers]}
    return body


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    """The client's part. Two in four send all, one a header that nobody signed, or one part."""
    if case.method != "POST" or response.status_code not in (200, 201):
        return
    answer = response.json()
    parts = (answer.get("multipart") or answer).get("parts", [])
    if answer.get("request"):
        sent = [{**answer["request"], "size": answer["size"]}]
    else:
        sent = [{**part, "method": "PUT"} for part in parts]
    if not sent or sum(each["size"] for each in sent) > LARGEST_SENT:
        return
    turn = next(turns) % 4
    if turn == 3:
        return
    unsigned = {"Content-Encoding": "gzip"} if turn == 2 and not parts else {}
    for each in sent[-1:] if turn == 2 else sent:
        requests.request(
            each["method"],
            each["url"],
            headers={**each["headers"], **unsigned},
            data=b"\0" * each["size"],
            timeout=10,
        )


@schemathesis.hook
def filter_body(context: HookContext, body: Any) -> bool:
    """A context is at most 1 KiB as JSON, and has no NUL anywhere."""
    note = json.dumps(body.get("context") if isinstance(body, dict) else None)
    return "\\u0000" not in note and len(note) <= MAX_CONTEXT_BYTES


@schemathesis.check
def one_way_to_send(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Begin and renew say one of the two for what is pending; nobody else says either."""
    if response.status_code not in (200, 201, 202):
        return
    answer = response.json()
    if not isinstance(answer, dict) or "multipart" not in answer:
        return
    signs = case.method == "POST" and not case.path.endswith("/confirm/")
    expected = 1 if signs and answer["status"] == "pending" else 0
    assert (answer["request"], answer["multipart"]).count(None) == 2 - expected


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """What is refused, or given, for the state that the upload is in."""
    answer = response.json()
    if type(failure).__name__ == "RejectedPositiveData":
        return not {error["code"] for error in answer["errors"]} <= NOT_IN_THE_SCHEMA
    if type(failure).__name__ == "UseAfterFree":
        # Its object is deleted. The upload can be looked at still, and says so.
        return answer["status"] not in ("cancelled", "deleted")
    return True
