"""What follows wrong logins: who fails too often from one address is refused for a while, even with the right password.

A right login forgets the failures of the same user at the same address. Who tries many users from one address is
refused there for every user. One computer may use any address of its IPv6 network, so that whole network counts as one.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_REMEMBERED = 10_000
USERS_PER_ADDRESS = 20
"""Users with a wrong login at one address, until all of it is refused."""


def network_of(address: str) -> str:
    """Return what stands for one computer: an IPv4 address, or the /64 of an IPv6 address; without the port."""
    host = address
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        host = address.partition(":")[0]
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


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
        now, address = self._clock(), network_of(address)
        failures = self._failures.get((address, user))
        own = failures.until - now if failures and failures.count >= self._most else 0.0
        users = sorted(until for until in self._users.get(address, {}).values() if until > now)
        crowd = users[-USERS_PER_ADDRESS] - now if len(users) >= USERS_PER_ADDRESS else 0.0
        return max(0.0, own, crowd)

    def failed(self, address: str, user: str) -> bool:
        """Count a wrong login; tell whether this one was one too many."""
        now, address = self._clock(), network_of(address)
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
        address = network_of(address)
        self._failures.pop((address, user), None)
        if users := self._users.get(address):
            users.pop(user, None)
