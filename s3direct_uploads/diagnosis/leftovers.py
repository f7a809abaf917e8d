"""Does S3 delete multipart uploads that nobody completes?"""

from __future__ import annotations

from datetime import timedelta

from s3direct_uploads import conf, provisioning
from s3direct_uploads.s3 import Refusal

from .findings import PASS, WARN, Finding, Question
from .probe import Probe


def lifecycle(probe: Probe, setup: str) -> Question[None]:
    """Whether a lifecycle rule aborts unfinished uploads, and not too soon.

    ``setup`` is the command that writes such a rule.
    """
    try:
        rules = probe.bucket.lifecycle_rules()
    except Refusal as refusal:
        unknown = refusal.is_unknown_operation
        yield Finding(
            "lifecycle.unknown",
            WARN,
            "It is not known whether unfinished uploads are ever deleted "
            f"({'this server has no such rules' if unknown else refusal}).",
            "See in docs/providers.md how this server ends them."
            if unknown
            else "Grant s3:GetLifecycleConfiguration to whoever runs this command.",
        )
        return
    aborting = provisioning.aborting_rules(rules, probe.needs)
    days = sorted(provisioning.abort_days(each) for each in aborting)
    if not days:
        yield Finding(
            "lifecycle.none",
            WARN,
            "No lifecycle rule deletes unfinished uploads. Their parts are invisible, and cost "
            "money for ever.",
            f"Run {setup}.",
        )
    elif timedelta(days=days[0]) < conf.multipart_expires():
        yield Finding(
            "lifecycle.too_soon",
            WARN,
            f"A lifecycle rule deletes unfinished uploads after {days[0]} days. A client may "
            f"resume them for {conf.multipart_expires().days} days.",
            f"Let the rule wait {probe.needs.abort_days} days, or lower MULTIPART_EXPIRES.",
        )
    else:
        yield Finding("lifecycle", PASS, f"Unfinished uploads are deleted after {days[0]} days.")
