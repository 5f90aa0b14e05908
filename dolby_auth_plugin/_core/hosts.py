"""
Which requests may have the token, decided by the scheme, host and port that the HTTP library will dial.

How a library reads a URL is its adapter's knowledge; nothing here parses a URL but the token endpoint's own.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

logger = logging.getLogger("dolby_auth_plugin")

OriginT = TypeVar("OriginT", bound=Hashable)

# The hosts that take a Dolby.io API token; `*.comms.api.dolby.io` are the regions. `api.millicast.com` is
# not among them (it takes another credential), nor is any storage host (they change, and take none).
DOLBY_HOSTS = ("api.dolby.com", "api.dolby.io", "comms.api.dolby.io", "*.comms.api.dolby.io")

_DEFAULT_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_SECURE = frozenset({"https", "wss"})
_OPENED_AS = {"wss": "https", "ws": "http"}

# A host as it is dialled: whole labels, nothing but letters, digits, hyphens and underscores in them.
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_PORT = re.compile(r"[0-9]{1,5}")

# The token endpoint's host and port. What else `urlsplit` lets through, the libraries refuse or read each in its own way.
_NETLOC = re.compile(rf"(?:{_NAME.pattern}|\[[0-9a-f:.]+\])(?::[0-9]*)?", re.IGNORECASE)

# Characters of a URL; past that servers, and httpx, refuse it.
_MAX_URL = 8_000


class HostPolicy:
    """
    May this request have the token?

    Args:
        allowed_hosts: Names (https's own port; for loopback any port), `name:port`, or `*.name` for one or
            more whole labels before *name*. IPv6 addresses stand in brackets.
        token_url: The token endpoint, to which no token ever goes.

    Raises:
        ValueError: If an entry or *token_url* is not of that form; the message says what is.
        TypeError: If *allowed_hosts* is a bare string, or something in it is no string.
    """

    __slots__ = ("_exact", "_token_origin", "_token_path", "_token_word", "_wildcards")

    def __init__(self, allowed_hosts: Iterable[str], token_url: str) -> None:
        if isinstance(allowed_hosts, str):
            raise TypeError(
                f"allowed_hosts must be an iterable of names, got the bare string {_shown(allowed_hosts)!r}"
            )
        exact: set[tuple[str, int | None]] = set()
        wildcards: set[tuple[str, int | None]] = set()
        for entry in allowed_hosts:
            name, port = _read_entry(entry)
            if name.startswith("*."):
                wildcards.add((name[1:], port))
            else:
                exact.add((name, port))
        self._exact = frozenset(exact)
        self._wildcards = tuple(sorted(wildcards, key=str))
        parts = check_token_url(token_url)
        self._token_origin = (parts.scheme, _canonical(parts.hostname or ""), _port_of(parts))
        self._token_path = _comparable_path(parts.path)
        self._token_word = self._token_path.rpartition("/")[2]

    def authority(self, scheme: str, host: str, port: int | None) -> str | None:
        """
        The `host:port` that a token may go to, or None where it may not.

        Args:
            scheme: In lower case; `ws` and `wss` count as `http` and `https`.
            host: As dialled, without brackets around an IPv6 address.
            port: None for the scheme's own.
        """
        default = _DEFAULT_PORTS.get(scheme)
        if default is None:
            return None
        host = _canonical(host)
        dialled = port if port is not None else default
        # Of what is no port a resolver may make another: cut to 16 bits, 65,616 is 80.
        if not 0 < dialled <= 65_535:
            return None
        loopback = is_loopback(host)
        if scheme not in _SECURE and not loopback:
            return None
        if (host, dialled) in self._exact or ((host, None) in self._exact and (loopback or dialled == 443)):
            return f"{host}:{dialled}"
        if _NAME.fullmatch(host):
            for suffix, wanted in self._wildcards:
                if host.endswith(suffix) and dialled == (443 if wanted is None else wanted):
                    return f"{host}:{dialled}"
        return None

    def shares_origin(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether this is the token endpoint's scheme, host and port: only there does a path matter."""
        dialled = port if port is not None else _DEFAULT_PORTS.get(scheme)
        return (_OPENED_AS.get(scheme, scheme), _canonical(host), dialled) == self._token_origin

    def resembles_token_path(self, text: str) -> bool:
        """
        Whether the path in *text* has to be looked at closely: cheap, and never wrong about a no.

        A path of other characters than it shows (encoded ones, or a tab that is dropped) may be the token endpoint's.
        """
        return self._token_word in text or "%" in text or not text.isprintable()

    def is_token_path(self, path: str) -> bool:
        """Whether *path* is the token endpoint's; it is without the query, and as it is sent."""
        return _comparable_path(path) == self._token_path


# What the policy says of an origin: the `host:port` that a token may go to, or None where it may not; and whether
# the token endpoint is there too, so that the path must be looked at. A plain tuple, since each request opens one.
Verdict: TypeAlias = tuple[str | None, bool]


class Verdicts(dict[OriginT, Verdict]):
    """
    The policy's answers, remembered per origin: `verdicts[origin]` is what every request pays.

    Args:
        policy: Asked once for each origin.
        read: An adapter's way from its origin to the (scheme, host, port) that will be dialled; a
            ValueError where it can't be read.
    """

    # Origins kept: a crawler that meets many must not grow a list without end.
    LIMIT = 256

    __slots__ = ("_read", "policy")

    def __init__(self, policy: HostPolicy, read: Callable[[OriginT], tuple[str, str, int | None]]) -> None:
        super().__init__()
        self.policy = policy
        self._read = read

    def __missing__(self, origin: OriginT) -> Verdict:
        try:
            dialled = self._read(origin)
        except ValueError:
            return None, False
        authority = self.policy.authority(*dialled)
        if authority is None:
            logger.debug("no token for %s: not one of allowed_hosts", printable(f"{dialled[0]}://{dialled[1]}"))
        if len(self) >= self.LIMIT:
            self.clear()
        verdict = self[origin] = (authority, self.policy.shares_origin(*dialled))
        return verdict

    def __reduce__(self) -> tuple[Any, ...]:
        # Which origins were met, by whichever auth object that has the same hosts, is nobody else's business.
        return Verdicts, (self.policy, self._read)


@functools.lru_cache(maxsize=16)
def _shared(
    hosts: tuple[str, ...] | str, token_url: str, read: Callable[[OriginT], tuple[str, str, int | None]]
) -> Verdicts[OriginT]:
    return Verdicts(HostPolicy(hosts, token_url), read)


def verdicts_for(
    allowed_hosts: Iterable[str], token_url: str, read: Callable[[OriginT], tuple[str, str, int | None]]
) -> Verdicts[OriginT]:
    """The verdicts of the policy for these, kept once for all auth objects that have the same."""
    hosts = allowed_hosts if isinstance(allowed_hosts, str) else tuple(allowed_hosts)
    # What can't be hashed is no string either: the policy itself complains of it in better words.
    with suppress(TypeError):
        return _shared(hosts, token_url, read)
    return Verdicts(HostPolicy(hosts, token_url), read)


def printable(text: str, limit: int = 200) -> str:
    """*text* cut to *limit* characters, what could forge a log line replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:limit])


def check_token_url(token_url: str) -> SplitResult:
    """
    *token_url* in its parts.

    Raises:
        ValueError: If it is not an absolute https URL (http for loopback only), is too long, or has userinfo or
            a fragment.
        TypeError: If it is no `str`.
    """
    if not isinstance(token_url, str):
        raise TypeError(f"token_url must be a str, got {type(token_url).__name__}")
    if len(token_url) > _MAX_URL:
        raise ValueError(f"token_url must have at most {_MAX_URL:,} characters, got {len(token_url):,}")
    if re.search(r"[^\x21-\x7e]|\\", token_url):
        raise ValueError("token_url must be printable ASCII without spaces and backslashes")
    try:
        parts = urlsplit(token_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # Without Python's own words, which quote what stands for the port: it may be a password.
        raise ValueError("token_url can't be read: its host or port is malformed") from None
    if "@" in parts.netloc:
        # Not shown: it may hold a password.
        raise ValueError("token_url must not contain userinfo: the app key and secret are sent as Basic credentials")
    if not host or parts.scheme not in ("https", "http"):
        raise ValueError(f"token_url must be an absolute https URL, got {_shown(token_url)!r}")
    if not _NETLOC.fullmatch(parts.netloc):
        raise ValueError(f"token_url must have a plain host name or address, got {_shown(token_url)!r}")
    if parts.scheme == "http" and not is_loopback(_canonical(host)):
        raise ValueError(f"token_url must be https (http is for loopback only), got {_shown(token_url)!r}")
    if parts.fragment:
        raise ValueError(f"token_url must not contain a fragment, got {_shown(token_url)!r}")
    return parts


def is_loopback(host: str) -> bool:
    """Whether *host* is `localhost`, in 127.0.0.0/8 in plain dotted form, or `::1`."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address == ipaddress.IPv6Address("::1") or address in ipaddress.IPv4Network("127.0.0.0/8")


def _canonical(host: str) -> str:
    """Lower case, and one spelling for each IPv6 address."""
    host = host.lower()
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host).compressed
        except ValueError:
            return host
    return host


def _port_of(parts: SplitResult) -> int:
    return parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]


def _comparable_path(path: str) -> str:
    # A server may decode and fold what the client's library does not: the more spellings count as the token
    # endpoint, the fewer can carry a token there.
    steps: list[str] = []
    for part in re.split(r"[/\\]", unquote(path)):
        step = part.partition(";")[0]
        if step == "..":
            del steps[-1:]
        elif step not in ("", "."):
            steps.append(step)
    return "/".join(steps)


def _read_entry(entry: str) -> tuple[str, int | None]:
    """An entry of allowed_hosts as a canonical name (a wildcard keeps its `*.`) and a port, None if not given."""
    if not isinstance(entry, str):
        raise TypeError(f"a host in allowed_hosts must be a str, got {type(entry).__name__}")

    def bad(why: str) -> ValueError:
        return ValueError(f"bad host {_shown(entry)!r} in allowed_hosts: {why}")

    if not entry.isascii():
        raise bad("give an internationalised name in its xn-- form")
    if "@" in entry:
        raise bad("give a host name without userinfo")
    if "/" in entry:
        raise bad("give a host name without scheme and path")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", entry)
    name, colon, port_text = entry.partition(":")
    if bracketed:
        name, port_text = bracketed[1], bracketed[2]
        colon = ":" if port_text is not None else ""
        try:
            name = ipaddress.IPv6Address(name).compressed
        except ValueError:
            raise bad("brackets are for an IPv6 address") from None
        if "%" in name:
            raise bad("an address with a scope id can't be listed")
    else:
        name = name.lower()
        if ":" in port_text:
            raise bad("put an IPv6 address in brackets, and give no scheme")
        labels = name.removeprefix("*.")
        if "*" in labels:
            raise bad("a wildcard stands for whole labels in front, as in '*.example.com'")
        if not _NAME.fullmatch(labels):
            raise bad("give a name such as 'api.dolby.com', '*.example.com' or 'localhost:8000'")
        last = labels.rpartition(".")[2]
        if last.isdigit() and (labels != name or not _is_ipv4(labels)):
            raise bad("an IPv4 address is four decimal numbers, and takes no wildcard")
    if not colon:
        return name, None
    if not _PORT.fullmatch(port_text) or not 0 < int(port_text) <= 65_535:
        raise bad("a port is a number from 1 to 65,535")
    return name, int(port_text)


def _shown(address: str) -> str:
    """*address* without userinfo, which may hold a password, and without query and fragment, which may hold a key."""
    return re.split(r"[?#]", address, maxsplit=1)[0].rpartition("@")[2]


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
