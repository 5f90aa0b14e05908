"""
Which requests may have the token. The scheme, host and port that the HTTP library will dial decide.

Each adapter knows how its library reads a URL. Only the token endpoint's own URL is parsed here.
"""

from __future__ import annotations

import ipaddress
import re
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

# Scheme in lower case; host as it is dialled, without brackets around an IPv6 address; port, or None for the scheme's own.
Origin: TypeAlias = tuple[str, str, int | None]

# `api.millicast.com` takes another credential. Storage hosts take none, and they change.
DOLBY_HOSTS = ("api.dolby.com", "api.dolby.io", "comms.api.dolby.io", "*.comms.api.dolby.io")
"""The hosts that take a Dolby.io API token, the default of `allowed_hosts`. `*.comms.api.dolby.io` are the regions."""

DEFAULT_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}
_SECURE = frozenset({"https", "wss"})
_OPENED_AS = {"wss": "https", "ws": "http"}

# A host name as it is dialled: whole labels of letters, digits, hyphens and underscores.
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_PORT = r"[0-9]{1,5}"

# Characters of a host name (RFC 1035 §2.3.4). No resolver accepts more.
_MAX_HOST = 253

# Host and port of the token endpoint. `urlsplit` accepts more. The libraries reject the rest, or each reads it differently. It is
# compiled when it is first used, because that takes as long as importing two modules.
_NETLOC = rf"(?:{_NAME.pattern}|\[[0-9a-f:.]+\])(?::[0-9]*)?"

# Characters of a URL. Servers, and httpx, refuse more.
_MAX_URL = 8_000

# A request line has a path, or a whole URL, as for a proxy. `urlsplit` skips these leading characters too.
_BEFORE_PATH = re.compile(r"[\x00-\x20]*[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class HostPolicy:
    """
    Decides whether a request may have the token. It is immutable.

    Args:
        allowed_hosts: Names (the port of https; for loopback any port), `name:port`, or `*.name` for one or more whole labels
            before *name*. IPv6 addresses stand in brackets. They are kept as `entries`.
        token_url: The token endpoint. No token ever goes there.

    Raises:
        ValueError: If an entry or *token_url* is malformed. The message says what is accepted.
        TypeError: If *allowed_hosts* is a bare string, or an entry is not a string.
    """

    __slots__ = ("__weakref__", "_exact", "_token_origin", "_token_path", "_token_word", "_wildcards", "entries")

    def __init__(self, allowed_hosts: Iterable[str], token_url: str) -> None:
        if isinstance(allowed_hosts, str):
            raise TypeError(
                f"allowed_hosts must be an iterable of names, got the bare string {_shown(allowed_hosts)!r}"
            )
        self.entries = tuple(allowed_hosts)
        exact: set[tuple[str, int | None]] = set()
        wildcards: set[tuple[str, int | None]] = set()
        for entry in self.entries:
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

    def allowed_host(self, origin: Origin) -> str | None:
        """The `host:port` of *origin* if it may have the token, whatever the path; else None."""
        scheme, host, port = origin
        default = DEFAULT_PORTS.get(scheme)
        if default is None or len(host) > _MAX_HOST:
            return None
        host = _canonical(host)
        dialled = default if port is None else port
        # A resolver may truncate an invalid port to 16 bits: 65,616 becomes 80. Reject it here.
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

    def why_not(self, origin: Origin) -> tuple[str, str | None]:
        """Why *origin* may not have the token, as the end of a sentence; and the entry that would allow it, if there is one."""
        scheme, host, port = origin
        host = _canonical(host)
        dialled = DEFAULT_PORTS.get(scheme) if port is None else port
        loopback = is_loopback(host)
        if scheme not in DEFAULT_PORTS:
            return "its scheme is not https", None
        if scheme not in _SECURE and not loopback:
            return "plain http never carries the token", None
        entry = f"[{host}]" if ":" in host else host
        if dialled != 443 or loopback:
            entry = f"{entry}:{dialled}"
        try:
            _read_entry(entry)
        except ValueError:
            return "allowed_hosts can't name it", None
        is_named = any(host == name for name, _ in self._exact) or any(host.endswith(end) for end, _ in self._wildcards)
        if is_named:
            return "allowed_hosts names this host for another port", entry
        return "it is not one of allowed_hosts", entry

    def has_token_endpoint(self, origin: Origin) -> bool:
        """Whether the token endpoint has this origin: only there does the path of a request matter."""
        scheme, host, port = origin
        dialled = DEFAULT_PORTS.get(scheme) if port is None else port
        return (_OPENED_AS.get(scheme, scheme), _canonical(host), dialled) == self._token_origin

    def is_token_path(self, target: str) -> bool:
        """Whether *target*, a whole URL or the text on a request line, has the path of the token endpoint."""
        # A cheap check first. A path can equal that of the token endpoint only if it contains its last segment, or characters that
        # are decoded or dropped below.
        if self._token_word not in target and "%" not in target and target.isprintable():
            return False
        target = re.sub(r"[\t\r\n]", "", target)
        before = _BEFORE_PATH.match(target)
        path = re.split("[?#]", target[before.end() :] if before else target)[0]
        return _comparable_path(path) == self._token_path


# Auth objects with the same arguments share one policy: it is the largest part of their memory. The entry disappears with the
# last of them, so a long list of hosts is not kept.
_policies: weakref.WeakValueDictionary[tuple[tuple[str, ...] | str, str], HostPolicy] = weakref.WeakValueDictionary()


def policy_for(allowed_hosts: Iterable[str], token_url: str) -> HostPolicy:
    """
    The policy for these arguments, shared by all auth objects that have the same arguments.

    Raises:
        ValueError, TypeError: As `HostPolicy` does.
    """
    hosts = allowed_hosts if isinstance(allowed_hosts, str) else tuple(allowed_hosts)
    # An entry that can't be hashed is not a string. `HostPolicy` complains in better words.
    with suppress(TypeError):
        policy = _policies.get((hosts, token_url))
        if policy is not None:
            return policy
    policy = HostPolicy(hosts, token_url)
    _policies[(hosts, token_url)] = policy
    return policy


def check_token_url(token_url: str) -> SplitResult:
    """
    *token_url* in its parts.

    Raises:
        ValueError: If it is not an absolute https URL (http for loopback only), is too long, or has userinfo or
            a fragment.
        TypeError: If it is not a `str`.
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
        # Python's own message quotes the text in the port's place, which may be a password.
        raise ValueError("token_url has a malformed host or port") from None
    if "@" in parts.netloc:
        # The URL is not shown: it may hold a password.
        raise ValueError("token_url must not contain userinfo: the app key and secret are sent as Basic credentials")
    if not host or parts.scheme not in ("https", "http"):
        raise ValueError(f"token_url must be an absolute https URL, got {_shown(token_url)!r}")
    if not re.fullmatch(_NETLOC, parts.netloc, re.IGNORECASE):
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
    return parts.port if parts.port is not None else DEFAULT_PORTS[parts.scheme]


def _comparable_path(path: str) -> str:
    # A server may decode and simplify a path further than the client's library does. So every spelling that a server may take for
    # the token endpoint counts as the token endpoint.
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
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", entry)
    if bracketed:
        name, port = bracketed[1], bracketed[2]
    else:
        name, colon, after = entry.lower().partition(":")
        port = after if colon else None
    complaint = _entry_complaint(entry, name, port, in_brackets=bracketed is not None)
    if complaint is not None:
        raise ValueError(f"bad host {_shown(entry)!r} in allowed_hosts: {complaint}")
    return _canonical(name), None if port is None else int(port)


def _entry_complaint(entry: str, name: str, port: str | None, *, in_brackets: bool) -> str | None:
    """What is wrong with an entry, as the end of a sentence."""
    if not entry.isascii():
        return "give an internationalised name in its xn-- form"
    if "@" in entry:
        return "give a host name without userinfo"
    if "/" in entry:
        return "give a host name without scheme and path"
    complaint = _address_complaint(name) if in_brackets else _name_complaint(name, port)
    if complaint is None and port is not None and not (re.fullmatch(_PORT, port) and 0 < int(port) <= 65_535):
        return "a port is a number from 1 to 65,535"
    return complaint


def _address_complaint(address: str) -> str | None:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return "brackets are for an IPv6 address"
    return "an address with a scope id can't be listed" if "%" in address else None


def _name_complaint(name: str, port: str | None) -> str | None:
    if port is not None and ":" in port:
        return "put an IPv6 address in brackets, and give no scheme"
    labels = name.removeprefix("*.")
    if "*" in labels:
        return "a wildcard stands for whole labels in front, as in '*.example.com'"
    if not _NAME.fullmatch(labels):
        return "give a name such as 'api.dolby.com', '*.example.com' or 'localhost:8000'"
    if labels.rpartition(".")[2].isdigit() and (labels != name or not _is_ipv4(labels)):
        return "an IPv4 address is four decimal numbers, and takes no wildcard"
    return None


def _shown(address: str) -> str:
    """*address* without userinfo, query and fragment: they may hold a password or a key."""
    return re.split(r"[?#]", address, maxsplit=1)[0].rpartition("@")[2]


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
