"""The token endpoint's wire format: bytes out, bytes in, no server."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from dolby_auth_plugin import AccessToken, AppCredentials
from dolby_auth_plugin._core.endpoint import MAX_BODY, TokenEndpoint, read_retry_after
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.token import Instant

from ..fakes import EPOCH, TOKEN_URL, answer

CREDENTIALS = AppCredentials("an-app-key==", "canary-s3cret")
NOW = Instant(1000.0, EPOCH)


def endpoint(scope: Any = None, expires_in: Any = 1800) -> TokenEndpoint:
    return TokenEndpoint(TOKEN_URL, scope, expires_in, "host/1.0")


def read(response: Any, subject: TokenEndpoint | None = None) -> AccessToken | Failure:
    return (subject or endpoint()).read(response, CREDENTIALS, NOW, lambda: 0.5)


def token_of(response: Any, subject: TokenEndpoint | None = None) -> AccessToken:
    outcome = read(response, subject)
    assert isinstance(outcome, AccessToken), outcome
    return outcome


def failure_of(response: Any) -> Failure:
    outcome = read(response)
    assert isinstance(outcome, Failure), outcome
    return outcome


def life_of(token: AccessToken) -> float:
    return token.expires_at.timestamp() - EPOCH


# The request


def test_credentials_are_basic_in_utf8_without_percent_encoding() -> None:
    """RFC 7617 with UTF-8. The form encoding of RFC 6749 is left out."""
    request = endpoint().request(AppCredentials("k-_=", "gehe%m : ß€"))

    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    assert (scheme, "k-_=:gehe%m : ß€".encode()) == ("Basic", base64.b64decode(encoded))


def test_repr_of_a_request_shows_no_credentials() -> None:
    request = endpoint().request(CREDENTIALS)

    assert request.headers["Authorization"].split()[1] not in repr(request)


@pytest.mark.parametrize(("given", "asked"), [(1, 1), (86_400, 86_400), (timedelta(minutes=30), 1800)])
def test_expires_in_is_seconds_or_a_timedelta(given: Any, asked: int) -> None:
    assert asked == endpoint(expires_in=given).expires_in


@pytest.mark.parametrize("given", [0, -1, 86_401, timedelta(0), timedelta(days=2), timedelta(seconds=1.5)])
def test_expires_in_out_of_range_is_a_value_error(given: Any) -> None:
    with pytest.raises(ValueError, match="expires_in must be"):
        endpoint(expires_in=given)


@pytest.mark.parametrize("given", [True, 1800.0, "1800", None])
def test_expires_in_of_another_type_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="expires_in must be"):
        endpoint(expires_in=given)


# Answers that are tokens


def test_an_answer_becomes_a_token() -> None:
    token = token_of(answer(access_token="abc", token_type="Bearer", expires_in=600, scope="a b"))

    assert ("abc", frozenset({"a", "b"}), "Bearer", 600.0) == (
        token.value,
        token.scope,
        token.token_type,
        life_of(token),
    )


@pytest.mark.parametrize("status", [200, 201, 299])
def test_any_2xx_is_accepted(status: int) -> None:
    assert token_of(answer(status, access_token="abc")).value == "abc"


def test_a_byte_order_mark_is_ignored() -> None:
    assert token_of(answer(body=b'\xef\xbb\xbf{"access_token":"abc"}')).value == "abc"


@pytest.mark.parametrize("member", ['"error":null', '"scope":null', '"more":{"error":"no"}'])
def test_members_without_meaning_are_ignored(member: str) -> None:
    assert token_of(answer(body=f'{{"access_token":"abc",{member}}}')).value == "abc"


@pytest.mark.parametrize("value", ["a", "AZaz09-._~+/", "abc=", "abc==", "a" * 10_000])
def test_a_token_may_have_any_character_of_rfc_6750(value: str) -> None:
    assert value == token_of(answer(access_token=value)).value


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None])
def test_token_type_is_bearer_in_any_case_or_missing(kind: str | None) -> None:
    assert token_of(answer(access_token="abc", token_type=kind)).token_type == "Bearer"


def test_a_missing_token_type_is_bearer() -> None:
    assert token_of(answer(access_token="abc")).token_type == "Bearer"


@pytest.mark.parametrize(
    ("given", "life"),
    [
        *((given, 600) for given in ("600", "600.9", '"600"', '"600.9"')),
        *((given, 1) for given in ("1", "1.999", '"1"')),
        *((given, 86_400) for given in ("86400", "86400.5", "86401", "1e400", "Infinity", "9" * 400)),
        *((given, 86_400) for given in ('"1e400"', '"Infinity"', '"' + "9" * 20 + '"')),
        ('"1e3"', 1000),
        ("null", 1234),
    ],
)
def test_expires_in_of_the_answer_is_used(given: str, life: int) -> None:
    """A number, or a text with one, is cut to whole seconds and to a day. Null means the lifetime that was asked for."""
    body = f'{{"access_token":"abc","expires_in":{given}}}'

    assert life == life_of(token_of(answer(body=body), endpoint(expires_in=1234)))


def test_a_missing_expires_in_is_the_one_asked_for() -> None:
    assert life_of(token_of(answer(access_token="abc"), endpoint(expires_in=77))) == 77


@pytest.mark.parametrize(
    "given",
    [
        *("0", "-0.0", "-1", "0.5", "1e-400", "NaN", "-Infinity", "-1e400", "-" + "9" * 400),
        *("true", "false", "[]", "[600]", "{}"),
        *('"1_800"', '"١٨٠٠"', '""', '" "', '"0"', '"0.9"', '"soon"', '"nan"', '"-5"', '"-Infinity"'),
        *('"true"', '"0x10"', '"PT30M"'),
        *('"' + "9" * 21 + '"', '"0.' + "9" * 21 + '"', '"' + "9" * 5000 + '"'),
    ],
    ids=lambda given: given[:20],
)
def test_an_invalid_expires_in_is_a_failure(given: str) -> None:
    failure = failure_of(answer(body=f'{{"access_token":"abc","expires_in":{given}}}'))

    assert "expires_in" in failure.message
    assert (200, "not a token", False) == (failure.status_code, failure.reason, failure.retryable)


@pytest.mark.parametrize(
    ("given", "scope"),
    [
        (None, None),
        ("", frozenset()),
        ("a", frozenset({"a"})),
        ("a  b", frozenset({"a", "b"})),
        (["a", "b"], frozenset({"a", "b"})),
        (5, None),
        ([5], None),
    ],
)
def test_granted_scopes_are_read_and_missing_ones_are_none(given: Any, scope: frozenset[str] | None) -> None:
    assert scope == token_of(answer(access_token="abc", scope=given)).scope


# Answers that are not tokens


NO_OBJECTS: list[str | bytes] = [
    *("", " ", "\0", "true", "null", "NaN", "1e400", '"abc"', "[]", '[{"access_token":"abc"}]', "<html>Sign in</html>"),
    *('{"access_token":"abc"', '{"access_token":"abc"}{}', '{"access_token":"abc"}<!-- -->', "{'access_token':'abc'}"),
    *("access_token=abc&token_type=Bearer", '{"access_token":"abc","expires_in":' + "9" * 5000 + "}"),
    *(
        b'{"access_token":"\xff"}',
        b'\xef\xbb\xbf\xef\xbb\xbf{"access_token":"abc"}',
        '{"access_token":"abc"}'.encode("utf-16"),
    ),
    *("[" * 200_000, '{"access_token":"abc","more":' + "[" * 200_000),
]
# The value of `access_token` in JSON.
BAD_TOKENS = [
    *('"a b"', '"a\\n"', '"a\\r\\nX: y"', '"ä"', '"=abc"', '"a=c"', '"="', '" "', '" abc"', '"abc=\\n"'),
    *('"abc\\u2028"', '"a\\u0000c"', '"a\\ud800"', '"Bearer abc"'),
]
BAD_TYPES = ['"mac"', "5", '""', '"Bearer "', '["Bearer"]', "false"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        *((body, "not a JSON object") for body in NO_OBJECTS),
        *(("{}", "no access_token"), ('{"Access_Token":"abc"}', "no access_token")),
        *((f'{{"access_token":{value}}}', "no access_token") for value in ("null", '""', "5", "true", '["abc"]')),
        *((f'{{"access_token":{value}}}', "RFC 6750") for value in BAD_TOKENS),
        *((f'{{"access_token":"abc","token_type":{kind}}}', "token_type") for kind in BAD_TYPES),
        ('{"access_token":"abc","error":"invalid_client"}', "reports an error (invalid_client)"),
        ('{"access_token":"abc","error":"bad","error_description":"No."}', "reports an error (bad: No.)"),
        *(
            (f'{{"access_token":"abc","error":{error}}}', "reports an error.")
            for error in ('""', '{"code":5}', "false")
        ),
        (b" " * (MAX_BODY + 1), "longer than"),
        (b'{"access_token":"abc"}'.ljust(MAX_BODY + 1), "longer than"),
    ],
    ids=lambda given: str(given[:40]),
)
def test_an_answer_that_is_not_a_token_is_a_failure_that_says_why(body: str | bytes, why: str) -> None:
    failure = failure_of(answer(body=body))

    assert why in failure.message
    assert (200, "not a token", False) == (failure.status_code, failure.reason, failure.retryable)


@pytest.mark.parametrize(
    "body",
    [
        "CANARY",
        "<html>CANARY</html>",
        '{"access_token":"CANARY',
        '["CANARY"]',
        '{"token":"CANARY"}',
        '{"access_token":"CANARY\\r\\n"}',
        '{"access_token":"CANARY","token_type":"CANARY"}',
        '{"access_token":"CANARY","expires_in":"CANARY"}',
        '{"access_token":"CANARY","error":"CANARY","error_description":"CANARY","error_uri":"CANARY"}',
        '{"access_token":"CANARY","error":{"CANARY":"CANARY"}}',
    ],
)
def test_a_failure_shows_no_part_of_the_answer_that_could_be_a_token(body: str) -> None:
    canary = "canary.0123456789.0123456789"

    failure = failure_of(answer(body=body.replace("CANARY", canary)))

    assert "canary" not in repr(failure)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = b'{"access_token":"abc"}'

    assert token_of(answer(body=body.ljust(MAX_BODY))).value == "abc"


@pytest.mark.parametrize(
    ("body", "reason", "description"),
    [
        (
            {"type": "ErrorResponse", "error_code": 89, "error_reason": "Invalid_token", "error_description": "Bad."},
            "Invalid_token",
            "Bad.",
        ),
        ({"type": "/problems/x", "title": "Unauthorized", "status": 401, "detail": "No."}, "Unauthorized", "No."),
        ({"error": "invalid_client", "error_description": "Unknown."}, "invalid_client", "Unknown."),
        ({"message": "Unauthorized"}, "Unauthorized", "Unauthorized"),
        ({"error": {"code": 5}, "error_description": None}, "Unauthorized", None),
        ("Go away", "Unauthorized", None),
        ("", "Unauthorized", None),
    ],
)
def test_error_bodies_of_every_shape_are_read(body: Any, reason: str, description: str | None) -> None:
    """Both forms of Dolby.io, that of RFC 6749, that of a gateway, plain text, and an empty body."""
    failure = failure_of(answer(401, body=body if isinstance(body, str) else json.dumps(body)))

    assert (reason, description) == (failure.reason, failure.description)


def test_a_401_names_the_start_of_the_app_key_and_the_dashboard() -> None:
    """A user who swaps the two must not find the secret in a log."""
    message = failure_of(answer(401, body="")).message

    assert "app key 'an-a…'" in message
    assert "swapped?" in message
    assert "dashboard" in message


@pytest.mark.parametrize(
    ("status", "says", "retryable"),
    [
        *((status, "redirect", False) for status in (301, 302, 308)),
        (400, "Check scope, expires_in and token_url", False),
        (401, "dashboard", False),
        (403, "HTTP 403", False),
        (404, "token_url", False),
        (429, "too many requests", True),
        *((status, "try again later", True) for status in (500, 503, 599)),
        (999, "HTTP 999", True),
    ],
)
def test_each_status_says_what_to_do_and_only_429_and_5xx_may_succeed_later(
    status: int, says: str, retryable: bool
) -> None:
    failure = failure_of(answer(status, body=""))

    assert says in failure.message
    assert (status, retryable) == (failure.status_code, failure.retryable)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("31536000", 31_536_000),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tue, 14 Nov 2023 22:13:50 -0000", 30),
        ("Tue, 14 Nov 2023 22:12:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 11, None),
        ("", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert seconds == read_retry_after(value, NOW)


def test_an_error_text_shows_no_secret_that_it_echoes() -> None:
    """A long unbroken text may be a secret in another encoding. Control characters could forge log lines."""
    basic = endpoint().request(CREDENTIALS).headers["Authorization"].split()[1]
    text = f"no \x1b[31m{CREDENTIALS.app_secret}\r\n{basic} {basic[3:30]} end"

    failure = failure_of(answer(400, error="bad", error_description=text))

    shown = failure.message + str(failure.description)
    assert not any(secret in shown for secret in (CREDENTIALS.app_secret, basic, basic[3:30], "\x1b", "\r", "\n"))
    assert "end" in shown


@pytest.mark.parametrize(
    "form",
    ["azpzLyA8bw==", "s%2f%20%3co", "s%2F+%3Co", "s%252F%2520%253Co", "S/ <O"],
    ids=["Basic header", "percent-encoded in small letters", "form-encoded", "encoded twice", "in capitals"],
)
def test_an_error_text_shows_no_short_secret_in_another_form(form: str) -> None:
    """A long secret is also hidden because it is a long run of characters. A short one is hidden only in a known form."""
    failure = endpoint().read(
        answer(401, error="bad", error_description=f"no {form}!"), AppCredentials("k", "s/ <o"), NOW
    )

    assert isinstance(failure, Failure)
    assert failure.description == "no [hidden]!"


@pytest.mark.parametrize(
    ("secret", "form"),
    [
        *((secret, secret) for secret in ("a\\\\b", "a%25b", "a&amp;b")),
        ("a%25b/", "a%2525b%2F"),
        ("a%25b/", "a%2525b/"),
        ("aba", "ababa"),
        ("ab\\", "ab\\\\"),
        ("a'\\\\b", "a&#039;\\\\b"),
        ("a'b", "a&#039;b"),
        ("a'b", "a&apos;b"),
        ("a&b", "a\\u0026b"),
        ("a&b", "a\\x26b"),
        ("a\U0001f600b", "a\\ud83d\\ude00b"),
        ("a\U0001f600b", "a\\U0001f600b"),
    ],
)
def test_an_error_text_shows_no_secret_that_holds_an_escape_or_is_escaped(secret: str, form: str) -> None:
    """A secret may look as if it were encoded. Encoders of PHP, XML, Go and .NET escape other characters than Python's."""
    failure = endpoint().read(
        answer(401, error="bad", error_description=f"no {form}!"), AppCredentials("k", secret), NOW
    )

    assert isinstance(failure, Failure)
    assert failure.description == "no [hidden]!"


def test_an_error_text_is_cut() -> None:
    failure = failure_of(answer(400, error="bad", error_description="no " * 1000))

    assert len(failure.description or "") <= 200


@pytest.mark.parametrize("secret", ["Zq3vT8yLw1Rk6Pm9Xc2Hd5JbN7", "canary with spaces"])
@pytest.mark.parametrize("part", [1, 8, 15, 17])
def test_an_error_text_that_is_cut_within_a_secret_shows_no_part_of_it(secret: str, part: int) -> None:
    """What stands before it becomes short when it is hidden, and would leave room for the rest."""
    text = "A" * (8191 - part) + " " + secret

    failure = endpoint().read(answer(400, error="bad", error_description=text), AppCredentials("k", secret), NOW)

    assert isinstance(failure, Failure)
    assert failure.description == "[hidden]"


def test_an_error_text_is_hidden_if_it_could_hold_a_secret_that_is_too_long_to_search_for() -> None:
    """Words of few characters, which are no secret by their length alone."""
    credentials = AppCredentials("an-app-key", "canary " * 60)

    failure = endpoint().read(answer(400, error="bad", error_description="no canary " * 60), credentials, NOW)

    assert isinstance(failure, Failure)
    assert (failure.reason, failure.description) == ("bad", "[hidden]")
