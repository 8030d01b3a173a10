"""Downloads from public services: patient, at a polite rate, and bounded."""

import time
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

_TRY_AGAIN = (429, 500, 502, 503, 504)  # states of a service that pass
_LONGEST_WAIT = 600  # s, whatever a service asks for
_PIECE = 2**16


class ServiceError(OSError):
    """A service failed every time it was asked."""


class Downloader:
    """Asks one thing at a time, and again where a service is busy, broken or cut off.

    Waits between tries grow twofold, or are what `Retry-After` says.

    Args:
        rate: Requests per second at most.
        attempts: How often the same thing is asked for.
        timeout: Seconds without an answer after which a try has failed.
        deadline: Seconds after which an answer must be whole.
        backoff: Seconds before the second retry; there is none before the first.
    """

    def __init__(
        self,
        rate: float = 1.0,
        *,
        attempts: int = 6,
        timeout: float = 60.0,
        deadline: float = 300.0,
        backoff: float = 2.0,
    ) -> None:
        if not rate > 0:
            raise ValueError(f"rate is {rate}; expected requests per second above 0")
        self._interval, self._next, self._deadline = 1 / rate, 0.0, deadline
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=timeout, read=timeout),
            headers={"User-Agent": "appulse"},
        )
        self._retries = urllib3.Retry(
            attempts - 1,
            status_forcelist=_TRY_AGAIN,
            allowed_methods=None,  # any: what we POST are questions
            backoff_factor=backoff,
            backoff_jitter=backoff / 4,
            retry_after_max=_LONGEST_WAIT,
        )

    def get(self, url: str, limit: int) -> bytes:
        """The body at `url`.

        Raises:
            ServiceError: If the service fails every time.
            ValueError: If it refuses, or the body is larger than `limit` bytes.
        """
        return self._ask("GET", url, limit)

    def post(self, url: str, question: Any, limit: int) -> bytes:
        """The body of the answer to a question in JSON; raises as `get` does."""
        return self._ask("POST", url, limit, json=question)

    def _ask(self, method: str, url: str, limit: int, **request: Any) -> bytes:
        retries = self._retries
        try:
            while True:
                self._wait()
                response = self._pool.request(
                    method, url, preload_content=False, retries=retries, **request
                )
                try:
                    return self._body(response, url, limit)
                except (HTTPError, TimeoutError) as error:  # cut off: urllib3 retries no bodies
                    retries = (response.retries or retries).increment(method, url, error=error)
                    retries.sleep()
                finally:
                    response.close()
        except MaxRetryError as error:
            raise ServiceError(f"{url} failed every time, at last with: {error.reason}") from error

    def _wait(self) -> None:
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + self._interval

    def _body(self, response: urllib3.BaseHTTPResponse, url: str, limit: int) -> bytes:
        if response.status != 200:
            raise ValueError(f"{url} answered {response.status} {response.reason}")
        body, end = bytearray(), time.monotonic() + self._deadline
        while piece := response.read1(_PIECE):
            body += piece
            if len(body) > limit:
                raise ValueError(f"{url} sends more than {limit:,} bytes, which is too much")
            if time.monotonic() > end:
                raise TimeoutError(f"not whole after {self._deadline:.0f} s")
        return bytes(body)
