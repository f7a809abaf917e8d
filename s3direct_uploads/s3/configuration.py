"""The configuration of a bucket, for setup_bucket and check_bucket. The methods raise Refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from storages.backends.s3 import S3Storage

from .failures import Refusal, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class BucketConfiguration:
    """The part of a bucket that reads and changes its configuration, in S3's own format."""

    name: str
    _storage: S3Storage
    _client: S3Client
    _signer: S3Client
    _credentials: Any

    @property
    def region(self) -> str:
        """The region for which requests are signed."""
        named = self._client.meta.region_name
        return "us-east-1" if named == "aws-global" else named  # older versions of botocore

    @property
    def partition(self) -> str:
        """The AWS partition of the region, such as "aws-cn"."""
        return self._client.meta.partition

    @property
    def access_key(self) -> str:
        """The access key of the credentials; "" if there are none."""
        try:
            return self._credentials.get_frozen_credentials().access_key or ""
        except (AttributeError, BotoCoreError):  # there are none, or they cannot be fetched
            return ""

    @property
    def is_lent(self) -> bool:
        """Whether a role lends the credentials. Its URLs expire with them, within hours."""
        return bool(self._credentials.get_frozen_credentials().token)

    @property
    def endpoints(self) -> tuple[str, str]:
        """The URLs of the bucket: the one for the server, and the one for clients."""
        server, clients = (
            each.generate_presigned_url("list_objects_v2", Params={"Bucket": self.name})
            for each in (self._client, self._signer)
        )
        return server.partition("?")[0], clients.partition("?")[0]

    @property
    def verify(self) -> bool | str | None:
        """Which certificates are trusted, in botocore's form."""
        return self._storage.verify  # type: ignore[no-any-return]

    def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call one of boto3's operations on this bucket, such as "get_bucket_cors"."""
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(
                Bucket=self.name, **parameters
            )
        except ClientError as error:
            said = error.response["ResponseMetadata"]
            told: Mapping[str, Any] = error.response["Error"]
            raise Refusal(
                status_of(error),
                told.get("Code", ""),
                said.get("HTTPHeaders", {}),
                str(told.get("Region") or told.get("Message") or ""),
            ) from None
        except (BotoCoreError, ResponseParserError) as error:
            raise Refusal(0, type(error).__name__, {}, "") from None
        return answer

    def create(self) -> None:
        """Make the bucket. It may exist already."""
        # S3 refuses a request that names us-east-1; every other region must be named.
        where = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        try:
            self.ask("create_bucket", **({"CreateBucketConfiguration": where} if where else {}))
        except Refusal as refusal:
            if refusal.code != "BucketAlreadyOwnedByYou":  # us-east-1 answers 200 instead
                raise

    def is_missing(self) -> bool:
        """Whether the bucket does not exist."""
        try:
            self.ask("head_bucket")
        except Refusal as refusal:
            if refusal.status != 404:
                raise
            return True
        return False

    def knows_us(self) -> bool:
        """Whether S3 knows these credentials, even if they may not use this bucket."""
        try:
            self._client.list_buckets()
        except (ClientError, BotoCoreError):
            return False
        return True

    def cors_rules(self) -> list[dict[str, Any]]:
        return self._configuration("get_bucket_cors", "CORSRules", "NoSuchCORSConfiguration")

    def set_cors_rules(self, rules: list[dict[str, Any]]) -> None:
        self.ask("put_bucket_cors", CORSConfiguration={"CORSRules": rules})

    def lifecycle_rules(self) -> list[dict[str, Any]]:
        return self._configuration(
            "get_bucket_lifecycle_configuration", "Rules", "NoSuchLifecycleConfiguration"
        )

    def set_lifecycle_rules(self, rules: list[dict[str, Any]]) -> None:
        # This setting is sent with the rules. If it is missing, S3 resets it to its default.
        name = "TransitionDefaultMinimumObjectSize"
        try:
            there = self.ask("get_bucket_lifecycle_configuration")
        except Refusal:
            there = {}
        kept = {name: there[name]} if name in there else {}
        self.ask(
            "put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": rules}, **kept
        )

    def _configuration(self, operation: str, member: str, missing: str) -> list[dict[str, Any]]:
        try:
            rules: list[dict[str, Any]] = self.ask(operation).get(member, [])
        except Refusal as refusal:
            if refusal.code != missing:
                raise
            return []
        return rules
