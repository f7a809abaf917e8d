"""Times where USE_TZ may be False, and those of the rows are local times without an offset.

Where the clock on the wall goes back, one hour has its times twice, and a row cannot tell which of
the two it means. A deadline is therefore late by up to an hour there, and nowhere early.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc(moment: datetime) -> datetime:
    """The same moment, with its offset, in UTC. One without an offset is local time.

    Not Django's ``make_aware``, which reads TIME_ZONE: ``timezone.now()`` is the system's local
    time where USE_TZ is False.
    """
    return moment.astimezone(UTC)


def later(moment: datetime, by: timedelta) -> datetime:
    """When ``by`` has passed since ``moment``: not earlier, whatever the clock does meanwhile."""
    on_the_clock = moment + by
    if moment.tzinfo is not None:
        return on_the_clock
    # Where the clock goes forward, it shows the sum an hour early; where it goes back, it may show
    # what is right an hour early as well, for the first time of two.
    return max(on_the_clock, (utc(moment) + by).astimezone().replace(tzinfo=None))


def clock_changes() -> bool:
    """Whether the local clock changes in the course of a year."""
    weeks = (datetime(datetime.now().year, 1, 1) + timedelta(weeks=week) for week in range(53))
    return len({week.astimezone().utcoffset() for week in weeks}) > 1
