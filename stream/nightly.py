"""Topics that are named by the night: ``ztf_{night}_programid1``.

A pattern over all nights would grow without bound, since brokers go on naming expired topics. So
exactly two are joined: yesterday's, which may still hold alerts, and today's, which may not exist
before the first alert of the night does.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

NIGHT = "{night}"


def topics_on(templates: Iterable[str], now: datetime) -> tuple[str, ...]:
    """Topics to be joined at a time.

    Parameters
    ----------
    templates : iterable of str
        Names; ``{night}`` in one stands for a UT date, ``YYYYMMDD``, as in ZTF's topics.
    now : datetime
        UTC.

    Returns
    -------
    tuple of str
        Names without ``{night}`` as they are; of each other one yesterday's and today's.
    """
    dates = [(now - timedelta(days=days)).strftime("%Y%m%d") for days in (1, 0)]
    return tuple(
        name.replace(NIGHT, date) for name in templates for date in (dates if NIGHT in name else dates[:1])
    )
