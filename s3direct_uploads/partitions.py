"""AWS's partitions: what their regions are called, and where a service has its host."""

from __future__ import annotations

import re

# How the names of a partition's regions begin, and how its hosts end, as botocore has them. What
# looks like a region and is none may be somebody's own: sns.s3-us-west-2.amazonaws.com is the host
# of a bucket that is called "sns".
PARTITIONS = {
    "aws": ("(?!cn)[a-z]{2}", "amazonaws.com"),
    "aws-cn": ("cn", "amazonaws.com.cn"),
    "aws-eusc": ("eusc-[a-z]{2}", "amazonaws.eu"),
    "aws-iso": ("us-iso", "c2s.ic.gov"),
    "aws-iso-b": ("us-isob", "sc2s.sgov.gov"),
    "aws-iso-e": ("eu-isoe", "cloud.adc-e.uk"),
    "aws-iso-f": ("us-isof", "csp.hci.ic.gov"),
    "aws-us-gov": ("us-gov", "amazonaws.com"),
}
REGIONS = {name: rf"{area}-[a-z]+-[0-9]{{1,2}}" for name, (area, _) in PARTITIONS.items()}
TOPIC_ARN = re.compile(
    f"arn:({'|'.join(f'{name}:sns:{region}' for name, region in REGIONS.items())})"
    r":[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?"
)


def sns_url(topic: str) -> str:
    """Where SNS is that sends for this topic, whose ARN is well formed: scheme and host."""
    _, partition, service, region, *_ = topic.split(":")
    return f"https://{service}.{region}.{PARTITIONS[partition][1]}"


def region_of_queue(url: str) -> str | None:
    """The region that is in the URL of an SQS queue, in its older form too; None: it names none."""
    for name, (_, suffix) in PARTITIONS.items():
        region, end = REGIONS[name], re.escape(suffix)
        found = re.match(rf"https://(?:sqs\.({region})|({region})\.queue)\.{end}/", url)
        if found:
            return found[1] or found[2]
    return None
