"""How many requests run at once, and how long a refused one waits."""

import asyncio
import contextlib
import email.utils
import random
import re
from collections import deque
from datetime import datetime

_SECONDS = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,6})?)s)?", re.ASCII)
# Clients that were refused together must not come back together.
SPREAD = 0.1


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number, an HTTP date, or "1m30s"; None where it says nothing."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    if text and (parts := _DURATION.fullmatch(text)):
        hours, minutes, seconds = (float(part or 0) for part in parts.groups())
        return 3600 * hours + 60 * minutes + seconds
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, or one with numbers that no date has
        return None
    return None if date.tzinfo is None else max(0.0, (date - now).total_seconds())


def wait(asked: float | None, failures: int, first: float, cap: float, draws: random.Random) -> float:
    """Seconds to wait after `failures` failures in a row.

    What the server asked for, at most `cap`, and up to a tenth more; else `first` doubled with each failure, at most
    `cap`, of which at least half.
    """
    if asked is not None:
        return min(asked, cap) * draws.uniform(1, 1 + SPREAD)
    return min(cap, first * 2.0 ** min(failures - 1, 30)) * draws.uniform(0.5, 1)


class Pace:
    """Lets at most `limit` requests run at once: half as many after a refusal, then up again by one per round.

    Refusals of requests that were sent before the last cut do not cut again: they are the same crowding.
    """

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.active = most, float(most), 0
        self._cut_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, again: bool = False) -> None:
        """Return when it is this request's turn; one that comes `again` goes before those not yet sent."""
        if self.active < int(self.limit) and (again or not self._waiting):
            self.active += 1
            return
        turn = asyncio.get_running_loop().create_future()
        if again:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """The request is over."""
        self.active -= 1
        self._let_in()

    def refused(self, sent_at: float, now: float) -> None:
        """The server had no room for a request sent at `sent_at`."""
        if sent_at > self._cut_at:
            self._cut_at = now
            self.limit = max(1.0, self.limit / 2)

    def served(self) -> None:
        """The server answered."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.active < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.active += 1
                turn.set_result(None)
