"""Times that are also right if USE_TZ is False. Rows then have local times without an offset.

When the clock goes back, an hour of local times occurs twice, and a row cannot say which of the two
it means. So a deadline may be up to an hour late then. It is never early.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc(moment: datetime) -> datetime:
    """The same moment in UTC, with its offset. A time without an offset is local time.

    Local is what the system's clock shows, as ``timezone.now()`` does if USE_TZ is False.
    """
    return moment.astimezone(UTC)


def later(moment: datetime, by: timedelta) -> datetime:
    """When ``by`` has passed since ``moment``; never earlier, though the clock is changed."""
    on_the_clock = moment + by
    if moment.tzinfo is not None:
        return on_the_clock
    # When the clock goes forward, it shows the first of these an hour too early. When it goes back,
    # it may show the second one twice, and the first of the two times is too early.
    return max(on_the_clock, (utc(moment) + by).astimezone().replace(tzinfo=None))


def clock_changes() -> bool:
    """Whether the local clock is changed in the course of a year."""
    weeks = (datetime(datetime.now().year, 1, 1) + timedelta(weeks=week) for week in range(53))
    return len({week.astimezone().utcoffset() for week in weeks}) > 1
