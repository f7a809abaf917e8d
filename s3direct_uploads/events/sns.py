"""Messages of Amazon SNS: whether SNS signed them, and whether the topic is one of the host's.

docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. A valid signature proves
only that SNS sent the message. Anybody can subscribe your URL to a topic of their own, so
SNS_TOPICS names those that are accepted.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

from s3direct_uploads import conf, partitions
from s3direct_uploads.exceptions import SNSSignatureWrong, SNSTopicNotAllowed, SNSUnavailable

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

logger = logging.getLogger("s3direct_uploads")

CERTIFICATE = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,64}\.pem")
SUBSCRIPTION = re.compile(r"/\?[\x21-\x7e]{1,2048}")
TIMEOUT = 5  # seconds; SNS itself waits 15 for us
MAX_ANSWER_BYTES = 64 * 1024  # a certificate is 2 KiB

NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED = {  # these fields, in this order
    "Notification": NOTIFICATION,
    "SubscriptionConfirmation": CONFIRMATION,
    "UnsubscribeConfirmation": CONFIRMATION,
}


def is_from_sns(said: Mapping[str, Any]) -> bool:
    """Whether the message claims to be SNS's. Raw delivery has neither envelope nor signature."""
    kind, topic = said.get("Type"), said.get("TopicArn")
    return isinstance(kind, str) and kind in SIGNED and isinstance(topic, str)


def accept(said: Mapping[str, Any]) -> bool:
    """Verify the message, and confirm a subscription. True if it is a notification to be read.

    Raises SNSTopicNotAllowed, SNSSignatureWrong, SNSUnavailable.
    """
    if said["TopicArn"] not in conf.sns_topics():
        raise SNSTopicNotAllowed("This topic is not in SNS_TOPICS.")
    _verify(said)
    if said["Type"] == "SubscriptionConfirmation":
        _confirm_subscription(said)
    elif said["Type"] == "UnsubscribeConfirmation":
        logger.warning("SNS no longer sends us messages of %s", said["TopicArn"])
    return bool(said["Type"] == "Notification")


def _verify(said: Mapping[str, Any]) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA1, SHA256
    except ImportError:
        logger.error("SNS's signatures need cryptography: pip install 's3direct-uploads[sns]'")
        raise SNSUnavailable("SNS's signatures cannot be verified here.") from None
    algorithm = {"1": SHA1, "2": SHA256}.get(str(said.get("SignatureVersion")))
    url = said.get("SigningCertURL")
    if algorithm is None:
        _refuse("its version is unknown")
    if not isinstance(url, str) or not _belongs_to_sns(url, CERTIFICATE, said["TopicArn"]):
        _refuse("the certificate is not SNS's")
    certificate = _certificate_at(url)
    if not certificate.not_valid_before_utc <= datetime.now(UTC) < certificate.not_valid_after_utc:
        _refuse("the certificate is not valid now")
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        _refuse("the certificate is of another kind")
    try:
        signature = base64.b64decode(said.get("Signature", ""), validate=True)
        key.verify(signature, signed_text(said), padding.PKCS1v15(), algorithm())
    except (InvalidSignature, binascii.Error, TypeError, ValueError):
        _refuse("it is wrong")


def _belongs_to_sns(url: str, path: re.Pattern[str], topic: str) -> bool:
    """Whether this URL is one of SNS, in the region of the topic.

    The whole URL is compared. So no user, port, path or query in it can lead to another server, or
    to another call of SNS's API.
    """
    host = partitions.sns_url(topic)
    return url.startswith(host) and path.fullmatch(url, len(host)) is not None


def signed_text(said: Mapping[str, Any]) -> bytes:
    """The text that SNS signs: the name and the value of each field, one per line.

    Raises ValueError for a field that is missing or no text.
    """
    lines = []
    for name in SIGNED[said["Type"]]:
        value = said.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str):
            raise ValueError(name)
        lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode()


def _confirm_subscription(said: Mapping[str, Any]) -> None:
    url = said["SubscribeURL"]
    is_theirs = _belongs_to_sns(url, SUBSCRIPTION, said["TopicArn"])
    asked = parse_qs(urlsplit(url).query) if is_theirs else {}
    if (asked.get("Action"), asked.get("TopicArn")) != (
        ["ConfirmSubscription"],
        [said["TopicArn"]],
    ):
        _refuse("its SubscribeURL is not SNS's")
    fetch(url)
    logger.info("Subscribed to %s", said["TopicArn"])


@lru_cache(maxsize=16)  # a certificate's name changes with its content
def _certificate_at(url: str) -> Certificate:
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(fetch(url))
    except ValueError:
        raise SNSUnavailable("The answer of SNS is no certificate.") from None


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def fetch(url: str) -> bytes:
    """GET the URL once, without following a redirect, and return at most MAX_ANSWER_BYTES bytes.

    Raises SNSUnavailable.
    """
    try:
        with build_opener(_NoRedirects).open(url, timeout=TIMEOUT) as answer:
            body: bytes = answer.read(MAX_ANSWER_BYTES + 1)
    except (URLError, OSError, http.client.HTTPException) as error:
        if isinstance(error, HTTPError):  # the error is the answer itself, and holds its connection
            error.close()
        # Its message may quote the URL, which contains a token.
        logger.error("SNS did not answer: %s", type(error).__name__)
        raise SNSUnavailable("SNS cannot be reached; send it again.") from None
    if len(body) > MAX_ANSWER_BYTES:
        raise SNSUnavailable("SNS answered more than it should.")
    return body


def _refuse(why: str) -> NoReturn:
    raise SNSSignatureWrong(f"This is not signed by SNS: {why}.")
