"""
The answers of a host policy for one auth object: remembered, and explained in the log.
"""

from __future__ import annotations

import logging

from .errors import printable
from .hosts import DEFAULT_PORTS, HostPolicy, Origin
from .records import log

# Characters of the parts of an origin: more than any that can be dialled has. The libraries accept a scheme, a host and a port of
# any length. A longer origin is neither remembered nor logged.
_MAX_ORIGIN = 300

_TOKEN_ENDPOINT = "it is the token endpoint, which gets no token"  # noqa: S105 - a reason, not a password


class KnownOrigins:
    """
    The answers of a policy for one auth object, remembered per origin. A request to a known origin costs one look-up.

    It also keeps the log short: an origin that gets no token is reported once, and a 401 from there is explained once. And a log
    handler that sends requests of its own through the same auth object does not cause a record for each of its requests.
    """

    # Origins remembered. A limit, because a crawler may visit any number of them.
    LIMIT = 64

    __slots__ = ("_answers", "_endpoint_is_logged", "_explained", "policy")

    def __init__(self, policy: HostPolicy) -> None:
        self.policy = policy
        # Per origin the `host:port`, or None; and whether the path of the request matters.
        self._answers: dict[Origin, tuple[str | None, bool]] = {}
        self._endpoint_is_logged = False
        # The origins whose 401 was explained.
        self._explained: tuple[Origin, ...] = ()

    def allowed_host(self, origin: Origin, target: str) -> str | None:
        """
        The `host:port` to which a request may carry the token, or None.

        Args:
            origin: As the HTTP library will dial it.
            target: The text on the request line, or the whole URL.
        """
        answer = self._answers.get(origin)
        host, path_matters = self._ask(origin) if answer is None else answer
        if path_matters and self.policy.is_token_path(target):
            if not self._endpoint_is_logged:
                # Remember first: the log handler may send a request.
                self._endpoint_is_logged = True
                _log_no_token(origin, _TOKEN_ENDPOINT)
            return None
        return host

    def path_matters(self, origin: Origin) -> bool:
        """Whether two requests to *origin* can get different answers, as far as is remembered."""
        answer = self._answers.get(origin)
        return answer is None or answer[1]

    def _ask(self, origin: Origin) -> tuple[str | None, bool]:
        host = self.policy.allowed_host(origin)
        answer = (host, host is not None and self.policy.has_token_endpoint(origin))
        if len(self._answers) >= self.LIMIT:
            self._answers.clear()
        if _is_too_long(origin):
            return answer
        # Remember first: the log handler may send a request.
        self._answers[origin] = answer
        if host is None:
            _log_no_token(origin, self.policy.why_not(origin)[0])
        return answer

    @property
    def may_explain(self) -> bool:
        """Whether `explain` would still log."""
        return len(self._explained) < self.LIMIT

    def explain(self, origin: Origin, target: str) -> None:
        """Log, once per origin, why *origin* got no token for this request, which it answered with 401."""
        if origin in self._explained or not self.may_explain or _is_too_long(origin):
            return
        # Remember first: the log handler may send a request.
        self._explained += (origin,)
        if self.policy.has_token_endpoint(origin) and self.policy.is_token_path(target):
            why, entry = _TOKEN_ENDPOINT, None
        else:
            why, entry = self.policy.why_not(origin)
        advice = f" If it takes Dolby.io tokens, add {entry!r} to allowed_hosts." if entry else ""
        reason = f"{why}.{advice}"
        message = "401 from %s://%s for a request without a token: %s"
        scheme, host = _texts_of(origin)
        log(logging.WARNING, "refused_without_token", message, scheme, host, reason, host=host, reason=reason)

    def __reduce__(self) -> tuple[type[KnownOrigins], tuple[HostPolicy]]:
        # The remembered origins are not part of the configuration.
        return KnownOrigins, (self.policy,)


def _is_too_long(origin: Origin) -> bool:
    return sum(len(str(part)) for part in origin) > _MAX_ORIGIN


def _log_no_token(origin: Origin, why: str) -> None:
    scheme, host = _texts_of(origin)
    log(logging.DEBUG, "host_not_allowed", "no token for %s://%s: %s", scheme, host, why, host=host, reason=why)


def _texts_of(origin: Origin) -> tuple[str, str]:
    """The scheme and the `host:port` of *origin*, for a record."""
    scheme, host, port = origin
    shown = f"[{host}]" if ":" in host else host
    return printable(scheme), printable(f"{shown}:{DEFAULT_PORTS.get(scheme, '') if port is None else port}")
