"""Loaded by Schemathesis: the client's part beside the API, and what no schema can say."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from typing import Any

import requests
import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import Failure

from tests.openapi.errors import assert_error_as_described

PART_SIZE = 5 * 1024**2
TWO_PARTS = PART_SIZE + 1  # the least that is sent in parts
LARGEST = 10_000 * 5 * 1024**3
LARGEST_SENT = TWO_PARTS
MAX_CONTEXT_BYTES = 1024
DESTINATIONS = ("albums", "documents", "photos")
ALGORITHMS = {44: "SHA256", 8: "CRC32", 12: "CRC64NVME"}  # by the length of the value
# What the schema says in prose, or what depends on the upload or the destination: field and code.
NOT_IN_THE_SCHEMA = {
    ("destination", "unknown"),
    ("size", "multipart_required"),
    ("checksum", "malformed"),
    ("checksum", "not_for_multipart"),
    ("part_numbers", "out_of_range"),
    ("disposition", "not_inline"),
}
KNOWN_IDS = json.loads(os.environ["KNOWN_IDS"])
turns = itertools.count()
id_turns: dict[str, itertools.cycle[str]] = {}


@schemathesis.hook
def map_path_parameters(context: HookContext, path_parameters: Any) -> Any:
    """Each call meets each of the known uploads: by chance, it would meet the first ones."""
    if not isinstance(path_parameters, dict) or path_parameters.get("id") not in KNOWN_IDS:
        return path_parameters
    call = context.operation.label if context.operation else ""
    ids = id_turns.setdefault(call, itertools.cycle(KNOWN_IDS))
    return {**path_parameters, "id": next(ids)}


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Made up, hardly any upload in parts could be sent. What is wrong stays so."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("uploads"), list):
        return {**body, "uploads": [map_body(context, each) for each in body["uploads"]]}
    ids = body.get("ids")
    if isinstance(ids, list) and 0 < len(ids) <= 100 and all(isinstance(id, str) for id in ids):
        return {**body, "ids": [*ids[1:], *KNOWN_IDS][:100]}
    body = made_likelier(body)
    size, numbers = body.get("size"), body.get("part_numbers")
    if body.get("multipart") is True and type(size) is int and PART_SIZE < size <= LARGEST:
        return {**body, "size": size if size % 4 == 0 else TWO_PARTS}
    if isinstance(numbers, list) and all(type(n) is int and 0 < n <= 10_000 for n in numbers):
        return {**body, "part_numbers": [n if n % 4 == 0 else n % 2 + 1 for n in numbers]}
    return body


def made_likelier(body: dict[str, Any]) -> dict[str, Any]:
    """Any string is a destination, and any checksum goes with any algorithm: most are mended."""
    chance = zlib.crc32(json.dumps(body, sort_keys=True).encode()) % 8
    destination, checksum = body.get("destination"), body.get("checksum")
    if isinstance(destination, str) and destination and chance:
        body = {**body, "destination": DESTINATIONS[chance % 3]}
    if isinstance(checksum, dict) and checksum.get("algorithm") in ALGORITHMS.values() and chance:
        value = checksum.get("value")
        algorithm = ALGORITHMS.get(len(value)) if isinstance(value, str) else None
        body = {**body, "checksum": {**checksum, "algorithm": algorithm or checksum["algorithm"]}}
    return body


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    """The client's part. Two in four send all, one a header that nobody signed, or one part."""
    if case.method != "POST" or response.status_code not in (200, 201):
        return
    for answer in answers_in(response.json()):
        send(answer)


def answers_in(body: Any) -> list[dict[str, Any]]:
    """What is said of each upload: the answer itself, or those of a batch."""
    if isinstance(body, dict) and "results" in body:
        return [each["upload"] for each in body["results"] if each.get("upload")]
    return [body] if isinstance(body, dict) else []


def send(answer: dict[str, Any]) -> None:
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
    if isinstance(body, dict) and isinstance(body.get("uploads"), list):
        return all(filter_body(context, each) for each in body["uploads"])
    note = json.dumps(body.get("context") if isinstance(body, dict) else None)
    return "\\u0000" not in note and len(note) <= MAX_CONTEXT_BYTES


@schemathesis.hook
def filter_query(context: HookContext, query: Any) -> bool:
    """An empty parameter is as good as none, which an enum cannot say."""
    return "" not in ((query or {}).get("disposition"), (query or {}).get("status"))


@schemathesis.check
def one_way_to_send(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Begin and renew say one of the two for what is pending; nobody else says either."""
    if response.status_code not in (200, 201, 202):
        return
    signs = case.method == "POST" and not case.path.endswith("/confirm/")
    for answer in answers_in(response.json()):
        if "multipart" in answer:
            expected = 1 if signs and answer["status"] == "pending" else 0
            assert (answer["request"], answer["multipart"]).count(None) == 2 - expected


@schemathesis.check
def each_as_described(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Each result of a batch is an upload or an error, and there is one for each that was asked."""
    if response.status_code != 200 or not case.path.endswith(("/batch/", "/batch/confirm/")):
        return
    body: Any = case.body
    asked = body.get("uploads", body.get("ids"))
    results = response.json()["results"]
    assert len(results) == len(asked)
    for each in results:
        assert (each["upload"] is None) == (each["status"] >= 300) != (each["error"] is None)
        assert each["status"] < 500 or each["error"]["retry_after"]


@schemathesis.check
def error_as_described(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """All errors have one schema. The description of the status says which codes it has."""
    if response.status_code >= 400 and response.content:
        described = case.operation.definition.raw["responses"].get(str(response.status_code))
        if described:  # if not, another check fails
            assert_error_as_described(
                described["description"], response.status_code, response.json()
            )


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """What is refused, or given, for the state that the upload is in."""
    answer = response.json()
    if type(failure).__name__ == "AcceptedNegativeData" and case.path.endswith("/batch/"):
        # What is wrong with one declaration refuses no other: its own result says so.
        return not any(each["status"] == 400 for each in answer["results"])
    if type(failure).__name__ == "RejectedPositiveData":
        said = {(error["field"], error["code"]) for error in answer["errors"]}
        return not said <= NOT_IN_THE_SCHEMA
    if type(failure).__name__ == "UseAfterFree":
        # Its object is deleted. The upload can be looked at still, and says so.
        return answer["status"] not in ("cancelled", "deleted")
    return True
