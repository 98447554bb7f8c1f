"""What follows wrong logins: who fails too often from one address is refused for a while, even with the right password.

A right login forgets the failures of the same user at the same address. Who tries many users from one address is
refused there for every user.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_REMEMBERED = 10_000
USERS_PER_ADDRESS = 20
"""Users with a wrong login at one address, until all of it is refused."""


@dataclass(slots=True)
class _Failures:
    count: int
    until: float


class Lockout:
    """Counts failures.

    Parameters
    ----------
    most : int
        Failures of one user at one address until both are refused.
    for_s : float
        How long failures count, and how long a refusal lasts.
    clock : callable
        Monotonic seconds.
    """

    def __init__(self, most: int, for_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._for_s, self._clock = most, for_s, clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._users: OrderedDict[str, dict[str, float]] = OrderedDict()

    def wait_s(self, address: str, user: str) -> float:
        """Return for how long a login is refused now; 0 if it may be tried."""
        now = self._clock()
        failures = self._failures.get((address, user))
        own = failures.until - now if failures and failures.count >= self._most else 0.0
        users = sorted(until for until in self._users.get(address, {}).values() if until > now)
        crowd = users[-USERS_PER_ADDRESS] - now if len(users) >= USERS_PER_ADDRESS else 0.0
        return max(0.0, own, crowd)

    def failed(self, address: str, user: str) -> bool:
        """Count a wrong login; tell whether this one was one too many."""
        now = self._clock()
        failures = self._failures.pop((address, user), None)
        count = failures.count + 1 if failures and failures.until > now else 1
        self._failures[(address, user)] = _Failures(count, now + self._for_s)
        users = {name: until for name, until in self._users.pop(address, {}).items() if until > now}
        self._users[address] = dict([*users.items(), (user, now + self._for_s)][-MOST_REMEMBERED:])
        for memory in (self._failures, self._users):
            while len(memory) > MOST_REMEMBERED:
                memory.popitem(last=False)
        return count == self._most

    def passed(self, address: str, user: str) -> None:
        """Forget the failures of a user who logged in."""
        self._failures.pop((address, user), None)
        if users := self._users.get(address):
            users.pop(user, None)
