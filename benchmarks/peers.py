"""What Uppy and django-s3-file-field ask of a server: boto3 signs, as their documentation has it.

Nobody signs in, nothing is recorded: whatever a server of theirs does more is not counted.
"""

from __future__ import annotations

import json
from uuid import uuid4

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from s3direct_uploads.bucket import get_bucket

PART_SIZE = 16 * 1024**2
EXPIRES = 3600  # seconds
# Uppy names a request by its method, and by whether it is of a multipart upload.
UPPY_OPERATIONS = {
    ("POST", False): "create_multipart_upload",
    ("PUT", True): "upload_part",
    ("GET", True): "list_parts",
    ("POST", True): "complete_multipart_upload",
    ("DELETE", True): "abort_multipart_upload",
}


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        '<!doctype html><meta charset="utf-8"><title>bench</title><input type="file">'
        '<script type="module" src="/static/page.js"></script>'
    )


def _presign(operation: str, **parameters: object) -> str:
    bucket = get_bucket("default")
    url: str = bucket._client.generate_presigned_url(
        operation, Params={"Bucket": bucket.name, **parameters}, ExpiresIn=EXPIRES
    )
    return url


@csrf_exempt
def uppy_sign(request: HttpRequest) -> JsonResponse:
    wanted = json.loads(request.body)
    names = {"key": "Key", "uploadId": "UploadId", "partNumber": "PartNumber"}
    parameters = {member: wanted[name] for name, member in names.items() if name in wanted}
    operation = UPPY_OPERATIONS[wanted["method"], "uploadId" in wanted]
    return JsonResponse({"url": _presign(operation, **parameters)})


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
        url = _presign(
            "upload_part", Key=key, UploadId=upload_id, PartNumber=number, ContentLength=size
        )
        parts.append({"part_number": number, "size": size, "upload_url": url})
    return JsonResponse(
        {"object_key": key, "upload_id": upload_id, "parts": parts, "upload_signature": key}
    )


@csrf_exempt
def s3ff_complete(request: HttpRequest) -> JsonResponse:
    done = json.loads(request.body)
    url = _presign(
        "complete_multipart_upload", Key=done["upload_signature"], UploadId=done["upload_id"]
    )
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
