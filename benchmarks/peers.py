"""What Uppy and django-s3-file-field ask of a server, which botocore signs.

Nobody signs in, nothing is recorded: whatever a server of theirs does more is not counted. Ceph
refuses a Content-Type that is sent and not signed, as AWS does not: each one's own is signed.
"""

from __future__ import annotations

import json
from urllib.parse import quote
from uuid import uuid4

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from s3direct_uploads.s3 import get_bucket

from .report import PART_SIZE

EXPIRES = 3600  # seconds
# What axios and the browser make up where django-s3-file-field names none.
AXIOS_TYPE = "application/x-www-form-urlencoded"
TEXT_TYPE = "text/plain;charset=UTF-8"


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        '<!doctype html><meta charset="utf-8"><title>bench</title><input type="file">'
        '<script type="module" src="/static/page.js"></script>'
    )


def _presign(method: str, key: str, content_type: str = "", **query: str) -> str:
    bucket = get_bucket("default")
    url = f"{bucket.endpoint_url}/{bucket.name}/{quote(key)}"
    headers = {"Content-Type": content_type} if content_type else {}
    request = AWSRequest(method, url, params=query, headers=headers)
    region = bucket._client.meta.region_name
    S3SigV4QueryAuth(bucket._credentials, "s3", region, expires=EXPIRES).add_auth(request)
    assert request.url
    return request.url


@csrf_exempt
def uppy_sign(request: HttpRequest) -> JsonResponse:
    wanted = json.loads(request.body)
    method, key, content_type = wanted["method"], wanted["key"], ""
    if "uploadId" not in wanted:
        query, content_type = {"uploads": ""}, wanted["type"]
    else:
        query = {name: str(wanted[name]) for name in ("uploadId", "partNumber") if name in wanted}
        content_type = "application/xml" if method == "POST" else ""
    return JsonResponse({"url": _presign(method, key, content_type, **query)})


@csrf_exempt
def s3ff_initialize(request: HttpRequest) -> JsonResponse:
    wanted = json.loads(request.body)
    bucket, key = get_bucket("default"), f"s3ff/{uuid4()}"
    upload_id = bucket._client.create_multipart_upload(
        Bucket=bucket.name, Key=key, ContentType=wanted["content_type"]
    )["UploadId"]
    parts = []
    for number, start in enumerate(range(0, wanted["file_size"], PART_SIZE), start=1):
        size = min(PART_SIZE, wanted["file_size"] - start)
        url = _presign("PUT", key, AXIOS_TYPE, uploadId=upload_id, partNumber=str(number))
        parts.append({"part_number": number, "size": size, "upload_url": url})
    return JsonResponse(
        {"object_key": key, "upload_id": upload_id, "parts": parts, "upload_signature": key}
    )


@csrf_exempt
def s3ff_complete(request: HttpRequest) -> JsonResponse:
    done = json.loads(request.body)
    url = _presign("POST", done["upload_signature"], TEXT_TYPE, uploadId=done["upload_id"])
    parts = "".join(
        f"<Part><PartNumber>{part['part_number']}</PartNumber><ETag>{part['etag']}</ETag></Part>"
        for part in done["parts"]
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
    return JsonResponse({"complete_url": url, "body": body})


@csrf_exempt
def s3ff_finalize(request: HttpRequest) -> JsonResponse:
    bucket, key = get_bucket("default"), json.loads(request.body)["upload_signature"]
    bucket._client.head_object(Bucket=bucket.name, Key=key)
    return JsonResponse({"field_value": key})
