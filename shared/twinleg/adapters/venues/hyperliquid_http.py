"""Hyperliquid over HTTP: one pool of kept-alive connections, a timeout on every call, and no hidden retry."""

from __future__ import annotations

from typing import Literal, Protocol

import certifi
import urllib3
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util import parse_url

from twinleg.domain.errors import BadInput

Network = Literal["paper", "testnet", "mainnet"]

LIVE_URLS = {"testnet": "https://api.hyperliquid-testnet.xyz", "mainnet": "https://api.hyperliquid.xyz"}
"""Source: Hyperliquid docs, API servers."""
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost"})
CONNECTIONS = 8


def base_url(network: Network, url: str | None) -> str:
    """Where a network answers. Paper must be told, and only on this machine; the live ones cannot be redirected."""
    if network == "paper":
        return local_url(url)
    if network not in LIVE_URLS:
        raise BadInput(f"network must be paper, testnet or mainnet, was {network!r}")
    if url is not None:
        raise BadInput(f"url must not be set for {network} (it is {LIVE_URLS[network]}), was {url!r}")
    return LIVE_URLS[network]


def local_url(url: str | None) -> str:
    """The paper venue's address without a trailing slash; BadInput unless it is on this machine."""
    parts = parse_url((url or "").strip().rstrip("/"))
    if parts.scheme != "http" or parts.host not in LOCAL_HOSTS or parts.auth or parts.query or parts.path:
        raise BadInput(f"url of the paper venue must be http://127.0.0.1:PORT or http://localhost:PORT, was {url!r}")
    return parts.url


class NetworkFault(Exception):
    """No answer. *dropped* means that a connection broke (it may have been an idle one the venue had closed)."""

    def __init__(self, reason: str, *, dropped: bool) -> None:
        super().__init__(reason)
        self.dropped = dropped


class Wire(Protocol):
    """What carries requests: a Channel, or whatever stands between us and a venue in the same process."""

    def post(self, path: str, body: bytes) -> tuple[int, str]: ...


class Channel:
    """POSTs bytes and returns what came back, once per call. Safe for several threads."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = parse_url(url)
        timeout = urllib3.Timeout(total=timeout_seconds)
        self._pool: urllib3.HTTPConnectionPool
        if parts.scheme == "https":
            self._pool = urllib3.HTTPSConnectionPool(
                parts.host or "", parts.port, timeout=timeout, maxsize=CONNECTIONS, ca_certs=certifi.where()
            )
        else:
            self._pool = urllib3.HTTPConnectionPool(parts.host or "", parts.port, timeout=timeout, maxsize=CONNECTIONS)

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        """(status, text) of one POST. Raises NetworkFault; redirects are answers, not followed."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: bytes | None) -> tuple[int, str]:
        """(status, text) of one call of any method."""
        try:
            answer = self._pool.urlopen(
                method,
                path,
                body=body,
                headers={"Content-Type": "application/json"},
                retries=False,
                redirect=False,
            )
            return answer.status, answer.data.decode("utf-8", "replace")
        except ProtocolError as error:
            raise NetworkFault(f"connection dropped: {error}", dropped=True) from error
        except (HTTPError, OSError) as error:
            raise NetworkFault(f"{type(error).__name__}: {error}", dropped=False) from error
