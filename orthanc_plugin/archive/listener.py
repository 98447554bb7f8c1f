"""The port on which an archive connects to us: for C-MOVE, and for the report of a storage commitment.

It is open only while something is expected. The service and the workers of one computer take turns on it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pynetdicom import AE
from pynetdicom.events import EventHandlerType
from pynetdicom.presentation import PresentationContext

from orthanc_plugin.archive.association import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, Node
from orthanc_plugin.archive.tls import server_context
from orthanc_plugin.config.base import is_loopback

LONGEST_TURN_S = 600.0
_SLEEP_S = 0.5
_MOST_ASSOCIATIONS = 4


@contextmanager
def listening(
    node: Node,
    contexts: Sequence[PresentationContext],
    handlers: Sequence[EventHandlerType],
    turn_s: float = LONGEST_TURN_S,
    awaited: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Listen as the AE title to which the node sends; other calling AE titles are rejected.

    An archive on this computer is awaited on the loopback interface only. While another process has the port,
    `awaited` is asked twice a second whether the wait still makes sense.

    Raises
    ------
    TransientError
        If another process keeps the port for longer than `turn_s`.
    ConfigError
        If TLS is asked for, and there is no certificate of ours.
    """
    dimse = node.dimse
    ae = AE(ae_title=dimse.destination_aet)
    ae.require_calling_aet, ae.require_called_aet = [dimse.aet], True
    ae.maximum_associations = _MOST_ASSOCIATIONS
    ae.acse_timeout = CONNECT_TIMEOUT_S
    ae.dimse_timeout = ae.network_timeout = ANSWER_TIMEOUT_S
    host = "127.0.0.1" if is_loopback(dimse.host) else ""
    tls = server_context(node.name, node.settings) if dimse.tls else None
    until = time.monotonic() + turn_s
    while True:
        try:
            server = ae.start_server(
                (host, dimse.listen_port),
                block=False,
                ssl_context=tls,
                contexts=list(contexts),
                evt_handlers=list(handlers),
            )
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise node.away(f"Dimse.ListenPort {dimse.listen_port} cannot be opened: {error.strerror}") from None
            if time.monotonic() > until or not awaited():
                raise node.away(f"Dimse.ListenPort {dimse.listen_port} is in use by another program") from None
            time.sleep(_SLEEP_S)
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()
        ae.shutdown()
