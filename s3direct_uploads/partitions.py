"""AWS's partitions: the names of their regions, and the hosts of their services."""

from __future__ import annotations

import re

# For each partition, the beginning of its regions' names, and the end of its hosts, from botocore's
# data. A text that only looks like a region may belong to somebody else:
# sns.s3-us-west-2.amazonaws.com is the host of a bucket with the name "sns".
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
    """Scheme and host of the SNS that sends the messages of this topic. The ARN must be valid."""
    _, partition, service, region, *_ = topic.split(":")
    return f"https://{service}.{region}.{PARTITIONS[partition][1]}"


def region_of_queue(url: str) -> str | None:
    """The region in the URL of an SQS queue, also in the older form; None if there is none."""
    for name, (_, suffix) in PARTITIONS.items():
        region, end = REGIONS[name], re.escape(suffix)
        found = re.match(rf"https://(?:sqs\.({region})|({region})\.queue)\.{end}/", url)
        if found:
            return found[1] or found[2]
    return None
