"""Limits of the WebSockets of one client address, counted when ``rate_limits`` is on.

The number of connections and of users is disputed and so a switch. Source: Hyperliquid docs, rate limits and user
limits. Where the venue's words for a refusal are not known, they are ours.
"""

from __future__ import annotations

from collections import deque

CONNECTIONS_A_MINUTE = 30
SUBSCRIPTIONS_MAX = 1_000
MESSAGES_A_MINUTE = 2_000
POSTS_UNDER_WAY_MAX = 100
MINUTE_MS = 60_000

TOO_MANY_SUBSCRIPTIONS = f"Cannot track more than {SUBSCRIPTIONS_MAX} total subscriptions."
TOO_MANY_MESSAGES = f"Cannot send more than {MESSAGES_A_MINUTE} messages per minute."
TOO_MANY_POSTS = f"429 Cannot have more than {POSTS_UNDER_WAY_MAX} inflight post messages."


class LastMinute:
    """How often something happened in the last minute of venue time, per client address."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: dict[str, deque[int]] = {}

    def allows(self, client: str, now_ms: int) -> bool:
        """Count one more, unless that would be too many."""
        times = self._times.setdefault(client, deque())
        while times and times[0] <= now_ms - MINUTE_MS:
            times.popleft()
        if len(times) >= self._most:
            return False
        times.append(now_ms)
        return True
