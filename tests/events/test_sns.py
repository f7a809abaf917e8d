"""Messages from SNS, signed with a key and a certificate that the tests make."""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import botocore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from s3direct_uploads.events import sns
from s3direct_uploads.exceptions import SNSUnavailable
from tests.conftest import App
from tests.events.conftest import (
    BEARER,
    TOPIC,
    Dialect,
    Post,
    aws,
    eventbridge,
    refused,
    said,
    sent,
    sns_message,
)
from tests.settings import free_port

KEY = rsa.generate_private_key(65537, 2048)
CERT_URL = sns_message("")["SigningCertURL"]


def certificate(key: rsa.RSAPrivateKey, *, days: int = 1) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=9))
    made = builder.not_valid_after(now + timedelta(days=days)).sign(key, SHA256())
    return made.public_bytes(Encoding.PEM)


def signed(body: dict[str, Any], key: rsa.RSAPrivateKey = KEY, version: str = "1") -> Any:
    fields = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if body["Type"] != "Notification":
        fields = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{body[name]}\n" for name in fields if name in body)
    algorithm = {"1": SHA1, "2": SHA256}[version]()
    signature = base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), algorithm)).decode()
    return {**body, "SignatureVersion": version, "Signature": signature}


def subscription(kind: str = "SubscriptionConfirmation", **changes: Any) -> dict[str, Any]:
    """docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html"""
    topic = changes.get("TopicArn", TOPIC)
    body = sns_message("You have chosen to subscribe to the topic.", kind)
    del body["Subject"], body["UnsubscribeURL"]
    host = "https://sns.eu-central-1.amazonaws.com"
    body["Token"] = "2336412f37"
    body["SubscribeURL"] = f"{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token=2336412f37"
    return {**body, **changes}


@pytest.fixture
def sns_says(
    configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Answers to GET requests, by URL. ``asked`` has the requested URLs, in order."""
    answers: dict[str, Any] = {CERT_URL: certificate(KEY), "asked": []}

    def fetch(url: str) -> bytes:
        answers["asked"].append(url)
        if url not in answers:
            raise SNSUnavailable("SNS cannot be reached; send it again.")
        answer: bytes = answers[url]
        return answer

    monkeypatch.setattr(sns, "fetch", fetch)
    sns._certificate_at.cache_clear()
    configure(SNS_TOPICS=[TOPIC])
    yield answers
    sns._certificate_at.cache_clear()


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("inner", [aws, eventbridge])
@pytest.mark.parametrize("subject", ["Amazon S3 Notification", None])
def test_a_message_that_sns_signed_is_read(
    alice: App,
    post: Post,
    sns_says: dict[str, Any],
    version: str,
    inner: Dialect,
    subject: str | None,
) -> None:
    upload = sent(alice)
    body = sns_message(inner(upload.bucket, upload.key))
    if subject is None:
        del body["Subject"]

    for _ in range(2):
        assert said(post(signed(body, version=version))) == (200, 1, 0)
    upload.refresh_from_db()
    assert upload.status == "completed"
    assert sns_says["asked"] == [CERT_URL], "once"


def test_raw_delivery_has_no_envelope(alice: App, post: Post, sns_says: dict[str, Any]) -> None:
    upload = sent(alice)
    headers = {**BEARER, "x-amz-sns-message-type": "Notification", "x-amz-sns-rawdelivery": "true"}
    assert said(post(aws(upload.bucket, upload.key), headers)) == (200, 1, 0)
    assert sns_says["asked"] == []


OTHER_KEY = rsa.generate_private_key(65537, 2048)
FORGED = {
    "unsigned": lambda body: body,
    "no signature": lambda body: {**signed(body), "Signature": None},
    "no base64": lambda body: {**signed(body), "Signature": "!"},
    "another's key": lambda body: signed(body, OTHER_KEY),
    "changed": lambda body: {**signed(body), "Message": body["Message"] + " "},
    "a subject added": lambda body: {
        **signed({k: v for k, v in body.items() if k != "Subject"}),
        "Subject": "x",
    },
    "another version": lambda body: {**signed(body), "SignatureVersion": "2"},
    "an unknown version": lambda body: {**signed(body), "SignatureVersion": "3"},
    "a version that is a list": lambda body: {**signed(body), "SignatureVersion": ["1"]},
    "a field that is no text": lambda body: {**signed(body), "MessageId": 5},
    "a lone surrogate": lambda body: {**signed(body), "MessageId": "\ud800"},
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_message_that_sns_did_not_sign_is_refused(
    alice: App, post: Post, sns_says: dict[str, Any], forge: Callable[[Any], Any]
) -> None:
    upload = sent(alice)
    answer = post(forge(sns_message(aws(upload.bucket, upload.key))))
    assert refused(answer) == (403, "sns_signature_wrong")
    upload.refresh_from_db()
    assert upload.status == "pending"


@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        "",
        CERT_URL.replace("https", "http"),
        CERT_URL.replace("https", "file"),
        "https://sns.evil.amazonaws.com.evil.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com.evil.com/SimpleNotificationService-f3ec.pem",
        "https://evil.com/sns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com@evil.com/SimpleNotificationService-f3ec.pem",
        "https://a:b@sns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com:444/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com\\@evil.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1xamazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.evil.com/x.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.a.b.amazonaws.com/SimpleNotificationService-f3ec.pem",
        # Hosts of S3 in their older form, for a bucket that is named "sns".
        "https://sns.s3.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-accelerate.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3-website-us-west-2.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.s3.amazonaws.com.cn/SimpleNotificationService-f3ec.pem",
        # Hosts of other services, or of a region that is not the topic's.
        "https://sns.elb.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        CERT_URL.replace("amazonaws.com", "amazonaws.com.cn"),
        CERT_URL.replace("amazonaws.com", "amazonaws.com."),
        CERT_URL.replace("amazonaws.com", "amazonaws.com:443"),
        CERT_URL.replace("amazonaws", "AMAZONAWS"),
        CERT_URL.replace("amazonaws", "\u0430mazonaws"),
        CERT_URL.replace("sns.", "sns\u3002"),
        CERT_URL.replace("https:", "HTTPS:"),
        "https://s3.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://evil.s3.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://xsns.eu-central-1.amazonaws.com/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com/evil/SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com/../SimpleNotificationService-f3ec.pem",
        "https://sns.eu-central-1.amazonaws.com/?x=/SimpleNotificationService-f3ec.pem",
        CERT_URL + "?x",
        CERT_URL + "#x",
        CERT_URL + "\n",
        CERT_URL + "/../x.pem",
        " " + CERT_URL,
        CERT_URL.replace("sns.", "SNS."),
        CERT_URL.replace("f3ec", "\u0661"),
    ],
)
def test_a_certificate_from_elsewhere_is_not_even_asked_for(
    post: Post, sns_says: dict[str, Any], url: Any
) -> None:
    sns_says[str(url)] = certificate(OTHER_KEY)
    body = {**signed(sns_message(aws("media", "k")), OTHER_KEY), "SigningCertURL": url}
    assert refused(post(body)) == (403, "sns_signature_wrong")
    assert sns_says["asked"] == []


@pytest.mark.parametrize(
    "topics",
    [[], None, "uploads", TOPIC, [TOPIC + "s"], [TOPIC.replace("123456789012", "210987654321")]],
)
def test_another_topic_is_refused_though_sns_signed_it(
    post: Post, sns_says: dict[str, Any], configure: Callable[..., None], topics: Any
) -> None:
    configure(SNS_TOPICS=topics)
    for body in (sns_message(aws("media", "k")), subscription()):
        assert refused(post(signed(body))) == (403, "sns_topic_not_allowed")
    assert sns_says["asked"] == []


PARTITIONS = json.loads((Path(botocore.__path__[0]) / "data" / "partitions.json").read_text())


@pytest.mark.parametrize(
    ("region", "partition", "suffix"),
    [
        (region, partition["id"], partition["outputs"]["dnsSuffix"])
        for partition in PARTITIONS["partitions"]
        for region in partition["regions"]
        if not region.endswith("-global")
    ],
)
def test_each_region_of_aws_signs_at_its_own_host(
    post: Post,
    sns_says: dict[str, Any],
    configure: Callable[..., None],
    region: str,
    partition: str,
    suffix: str,
) -> None:
    """The regions are those that botocore lists."""
    topic = f"arn:{partition}:sns:{region}:123456789012:uploads"
    configure(SNS_TOPICS=[topic])
    url = f"https://sns.{region}.{suffix}/SimpleNotificationService-f3ec.pem"
    sns_says[url] = certificate(KEY)
    body = sns_message({"Records": []}, TopicArn=topic, SigningCertURL=url)
    assert said(post(signed(body))) == (200, 0, 0)
    assert sns_says["asked"] == [url]


@pytest.mark.parametrize("topic", [5, None, [], {}, [TOPIC]])
def test_a_topic_that_is_no_text_is_malformed(
    post: Post, sns_says: dict[str, Any], topic: Any
) -> None:
    body = {**signed(sns_message(aws("media", "k"))), "TopicArn": topic}
    assert refused(post(body)) == (400, "malformed")
    assert sns_says["asked"] == []


def test_an_expired_certificate_is_refused(post: Post, sns_says: dict[str, Any]) -> None:
    sns_says[CERT_URL] = certificate(KEY, days=-1)
    assert refused(post(signed(sns_message({})))) == (403, "sns_signature_wrong")


def test_while_sns_is_away_the_answer_is_503(
    alice: App, post: Post, sns_says: dict[str, Any]
) -> None:
    upload = sent(alice)
    body = signed(sns_message(aws(upload.bucket, upload.key)))
    right = sns_says.pop(CERT_URL)
    answer = post(body)
    assert refused(answer) == (503, "sns_unavailable")
    assert answer.headers["Retry-After"] == "5"

    sns_says[CERT_URL] = b"no certificate"
    assert refused(post(body)) == (503, "sns_unavailable")

    sns_says[CERT_URL] = right
    assert said(post(body)) == (200, 1, 0), "a failure was not kept"


def test_without_cryptography_the_log_says_what_to_install(
    post: Post,
    sns_says: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing: dict[str, Any] = {"cryptography.exceptions": None}
    for name, module in missing.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert refused(post(signed(sns_message({})))) == (503, "sns_unavailable")
    assert "pip install 's3direct-uploads[sns]'" in caplog.text
    assert said(post({"Records": []})) == (200, 0, 0), "nothing else needs it"


def test_a_subscription_is_confirmed_where_sns_is(
    post: Post, sns_says: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "s3direct_uploads")
    body = subscription()
    sns_says[body["SubscribeURL"]] = b"<ConfirmSubscriptionResponse/>"

    assert said(post(signed(body))) == (200, 0, 1)
    assert sns_says["asked"] == [CERT_URL, body["SubscribeURL"]]
    assert f"Subscribed to {TOPIC}" in caplog.text
    assert body["Token"] not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        None,
        "http://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://evil.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com.evil.com/?Action=ConfirmSubscription&TopicArn="
        + TOPIC,
        "https://sns.eu-central-1.amazonaws.com@evil.com/?Action=ConfirmSubscription&TopicArn="
        + TOPIC,
        "https://sns.s3.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.s3-us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com.cn/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com./?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://SNS.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com/?Action=DeleteTopic&TopicArn=" + TOPIC,
        "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC[:-1],
        "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-central-1.amazonaws.com/x?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        f"https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}\n",
    ],
)
def test_a_subscription_is_confirmed_nowhere_else(
    post: Post, sns_says: dict[str, Any], url: Any
) -> None:
    sns_says[str(url)] = b""
    body = subscription(SubscribeURL=url)
    body = signed(body) if url else {**signed(subscription()), "SubscribeURL": None}
    assert refused(post(body)) == (403, "sns_signature_wrong")
    assert sns_says["asked"] == [CERT_URL]


def test_the_end_of_a_subscription_is_logged(
    post: Post, sns_says: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    body = signed(subscription("UnsubscribeConfirmation"))
    assert said(post(body)) == (200, 0, 1)
    assert sns_says["asked"] == [CERT_URL], "which would subscribe us again"
    assert TOPIC in caplog.text


def test_a_fetch_follows_no_redirect_and_reads_at_most_64_kib(
    caplog: pytest.LogCaptureFixture,
) -> None:
    visited = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visited.append(self.path)
            if self.path == "/hang":
                time.sleep(0.5)
                return
            self.send_response({"/moved": 302, "/error": 500}.get(self.path, 200))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(b"x" * {"/large": 2**16 + 1, "/full": 2**16}.get(self.path, 1))

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert (sns.fetch(f"{url}/"), len(sns.fetch(f"{url}/full"))) == (b"x", 2**16)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sns, "TIMEOUT", 0.2)
            for path in ("/moved", "/error", "/large", "/hang"):
                with pytest.raises(SNSUnavailable) as raised:
                    sns.fetch(url + path)
                answer = raised.value.__context__
                # An HTTPError holds the answer and its connection.
                assert not isinstance(answer, HTTPError) or answer.closed
        with pytest.raises(SNSUnavailable):
            sns.fetch(f"http://127.0.0.1:{free_port()}/?Token=abc")
    finally:
        server.shutdown()
        server.server_close()
    assert visited == ["/", "/full", "/moved", "/error", "/large", "/hang"]
    assert "Token" not in caplog.text
