"""JSON over HTTP for sources: in its own thread, with patience and within the vendor's limits.

A load asks page by page; each page is asked for again after a fault that may pass (429, 5xx, a
connection that breaks, an answer that is no JSON), later and later, and a few times only.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from streams.errors import SourceError

__all__ = ["Reply", "Rest", "Site"]

ATTEMPTS = 5
BACKOFF_S = 0.5
LONGEST_WAIT_S = 60.0
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The JSON of an answer, and its headers."""

    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a vendor answers, and how it wants to be asked.

    Attributes
    ----------
    url
        Scheme, host and port.
    headers
        Sent with each question: credentials stand here, and nowhere else.
    spacing_s
        Seconds between two questions, at least.
    sleep, now, share
        Wait some seconds; tell seconds of a clock that only goes forward; a number in [0, 1).
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    spacing_s: float = 0.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    now: Callable[[], float] = field(default=time.monotonic, repr=False)
    share: Callable[[], float] = field(default=random.random, repr=False)


class Rest:
    """A conversation with one site, for one thread, in a ``with`` block."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession | None = None
        self._free_s = float("-inf")

    def __enter__(self) -> Self:
        """Open it."""
        self._session = self._runner.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        if self._session is not None:
            self._runner.run(self._session.close())
        self._runner.close()

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Reply | None:
        """Return what stands at ``path``; None where the vendor says that there is no such thing.

        Raises
        ------
        SourceError
            It refuses us, or does not answer after some attempts.
        """
        if self._session is None:
            msg = "the conversation is not open: use it in a with block"
            raise RuntimeError(msg)
        site, session, reason = self._site, self._session, ""
        for attempt in range(ATTEMPTS):
            self._wait_for_turn()
            try:
                status, headers, text = self._runner.run(
                    _ask(session, f"{site.url}{path}", parameters or {})
                )
                if status == 404:
                    return None
                if status < 300:
                    return Reply(json.loads(text), headers)
            except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                reason, wait_s = f"it can't be reached: {str(exc) or type(exc).__name__}", None
            except ValueError:
                reason, wait_s = "it answers with what is no JSON", None
            else:
                reason = f"it answers {status}: {_message(text)}"
                if status != 429 and status < 500:
                    break
                wait_s = _asked_wait_s(headers)
            if attempt + 1 < ATTEMPTS:
                longest = BACKOFF_S * 2**attempt
                wait_s = site.share() * longest if wait_s is None else wait_s
                site.sleep(min(wait_s, LONGEST_WAIT_S))
        raise SourceError(reason, path=f"{site.url}{path}")

    def _wait_for_turn(self) -> None:
        now_s = self._site.now()
        if now_s < self._free_s:
            self._site.sleep(self._free_s - now_s)
        self._free_s = max(now_s, self._free_s) + self._site.spacing_s

    async def _open(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        return aiohttp.ClientSession(headers=self._site.headers, timeout=timeout)


async def _ask(
    session: aiohttp.ClientSession, url: str, parameters: Mapping[str, str]
) -> tuple[int, Mapping[str, str], str]:
    # Redirects would carry the credentials to who knows where.
    async with session.get(url, params=parameters, allow_redirects=False) as answer:
        return answer.status, answer.headers, await answer.text()


def _asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a vendor asks us to wait, None if it does not say."""
    try:
        if "Retry-After" in headers:
            return max(0.0, float(headers["Retry-After"]))
        if "X-RateLimit-Reset" in headers:
            return max(0.0, float(headers["X-RateLimit-Reset"]) - time.time())
    except ValueError:
        pass
    return None


def _message(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    said = found.get("message", found) if isinstance(found, dict) else found
    return " ".join(str(said).split())[:200] or "nothing more"
