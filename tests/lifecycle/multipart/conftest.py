"""A film that is sent in parts, and the faults between Django and S3."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

from s3direct_uploads.models import Upload
from s3direct_uploads.s3 import Bucket as OurBucket
from s3direct_uploads.s3 import get_bucket
from tests.conftest import FILM, App, Bucket, made_up_answer, row

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4
LARGEST = 10_000 * 5 * GIB  # "48.8 TiB"
KEY = {"Idempotency-Key": "one"}
CRC32 = {"algorithm": "CRC32", "value": base64.b64encode(zlib.crc32(FILM).to_bytes(4)).decode()}


class Line:
    """The connection from Django to S3. A fault happens once, at the next request of its kind."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, Callable[[AWSPreparedRequest], AWSResponse | None]]] = []

    def lose_answer(self, operation: str, status: int | None = None) -> None:
        """S3 does the operation; its answer is lost, or replaced by a gateway's."""

        def lose(request: AWSPreparedRequest) -> AWSResponse:
            URLLib3Session().send(request)
            if status is None:
                raise ReadTimeoutError(endpoint_url=request.url)
            return made_up_answer(request, status, "<html>Some gateway</html>")

        self.faults.append((operation, lose))

    def lose(self, operation: str) -> None:
        """The request is lost, which looks the same as a lost answer."""

        def lose(request: AWSPreparedRequest) -> None:
            raise ReadTimeoutError(endpoint_url=request.url)

        self.faults.append((operation, lose))

    def cut(self, operation: str) -> None:
        """No connection is made."""

        def cut(request: AWSPreparedRequest) -> None:
            raise EndpointConnectionError(endpoint_url=request.url)

        self.faults.append((operation, cut))

    def answer(self, operation: str, status: int, body: str) -> None:
        """This answer replaces S3's; the request is not sent."""

        self.faults.append((operation, lambda request: made_up_answer(request, status, body)))

    def refuse(self, operation: str, status: int, code: str) -> None:
        self.answer(operation, status, f"<Error><Code>{code}</Code></Error>")

    def meanwhile(self, operation: str, act: Callable[[], object]) -> None:
        """Somebody else calls ``act`` just before the request is sent."""

        def meanwhile(request: AWSPreparedRequest) -> None:
            act()

        self.faults.append((operation, meanwhile))

    def send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        for fault in self.faults:
            if fault[0] == event_name.rpartition(".")[2]:
                self.faults.remove(fault)
                return fault[1](request)
        return None


def clients_of(bucket: OurBucket) -> list[Any]:
    return [bucket._client, bucket._creator, bucket._completer]


@pytest.fixture
def line(s3: Bucket) -> Iterator[Line]:
    line = Line()
    clients = clients_of(get_bucket("default"))
    for client in clients:
        client.meta.events.register("before-send.s3", line.send, unique_id="line")
    yield line
    for client in clients:
        client.meta.events.unregister("before-send.s3", unique_id="line")
    assert line.faults == [], "what was to fail was asked for"


@pytest.fixture
def told(s3: Bucket) -> Iterator[dict[str, dict[str, Any]]]:
    """The last parameters of each operation, in boto3's terms."""
    told: dict[str, dict[str, Any]] = {}

    def record(params: dict[str, Any], event_name: str, **_: Any) -> None:
        told[event_name.rpartition(".")[2]] = dict(params)

    clients = clients_of(get_bucket("default"))
    for client in clients:
        client.meta.events.register("provide-client-params.s3", record, unique_id="told")
    yield told
    for client in clients:
        client.meta.events.unregister("provide-client-params.s3", unique_id="told")


def sent(app: App, **declaration: Any) -> Upload:
    """An upload whose parts were sent, and that is not confirmed."""
    begun = app.begin_film(**declaration)
    assert app.send_parts(begun.json()["multipart"]["parts"]) == [200, 200]
    return row(begun)


def complete_behind_our_back(s3: Bucket, upload: Upload) -> None:
    at = {"Bucket": s3.name, "Key": upload.key, "UploadId": upload.multipart_upload_id}
    parts = [
        {"PartNumber": each["PartNumber"], "ETag": each["ETag"]}
        for each in s3.client.list_parts(**at)["Parts"]
    ]
    s3.client.complete_multipart_upload(**at, MultipartUpload={"Parts": parts})


def abort_behind_our_back(s3: Bucket, upload: Upload) -> None:
    for upload_id in s3.open_multiparts(upload):
        s3.client.abort_multipart_upload(Bucket=s3.name, Key=upload.key, UploadId=upload_id)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.fixture(autouse=True)
def films_in_every_test(films: None) -> None:
    """Each test of this folder has the destination ``films``."""
