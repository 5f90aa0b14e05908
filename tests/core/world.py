"""
A `TokenState`, with a model of everything around it.

The model plays the part of `TokenSource`: it has the callers that wait, the fetch that runs, and the time. It also keeps its
own account of what the library promises. Each event changes both, and then the two are compared. So a broken rule is
found at the event that breaks it.

The walk in `explorer` goes from world to world.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

from dolby_auth_plugin._core.credentials import AppCredentials
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.token import AccessToken, Instant

from ..internals import copy_of_fetch, copy_of_state, memory_of

# Seconds. A token of this life is fresh for 80 s and good for 95 s.
LIFE, FRESH, GOOD, TIMEOUT = 100, 80.0, 95.0, 6.0

# What the endpoint asks for with its retryable failure, and how long any other failure is remembered.
RETRY_AFTER, MEMORY = 8.0, 3.0

# Fetches may be overdue and alive; from this number on, one fetch begins in so many seconds.
MAX_OVERDUE, OVERDUE_PAUSE = 4, 30.0

# The allowance for refusals: replacements in a row, and seconds for each further one.
REPLACEMENTS, SECONDS_EACH = 4, 20.0

NEVER, ALWAYS = float("inf"), float("-inf")

KEYS = (AppCredentials("first-key", "secret"), AppCredentials("second-key", "secret"))
HOSTS = ("A", "B")
# The two ways to number them. A caller may need the token for no host.
NAMES: tuple[dict[str | None, int], ...] = ({"A": 1, "B": 2, None: 3}, {"B": 1, "A": 2, None: 3})

# A name in words, and a method of `World` with its argument.
Event: TypeAlias = tuple[str, Any, Any]


class BrokenRuleError(AssertionError):
    """A rule does not hold."""


def require(holds: bool, rule: str) -> None:
    """Stop the walk if a rule does not hold."""
    if not holds:
        raise BrokenRuleError(rule)


class Caller(NamedTuple):
    """
    A caller that waits.

    Attributes:
        host: The host that its token is for, or None.
        awaited: The fetch whose end it waits for.
        joined: The fetch whose outcome is for it.
        is_woken: The fetch has ended, and the caller was told.
        give_up_at: When it stops waiting.
        came: How many times `invalidate` had been called when it came.
    """

    host: str | None
    awaited: Any
    joined: Any
    is_woken: bool
    give_up_at: float
    came: int


class World:
    """
    A state, the callers around it, and what they were promised.

    Args:
        module: The module whose `TokenState` is explored.
        asks: Whether a callable gives the credentials. Such a world also asks for a scope that is never granted.
        shares: Whether other processes share the token.
        room: How many callers may wait at a time.

    Attributes:
        callers: The callers that wait.
        running: The fetch that runs.
        key: The credentials that it uses, once it has asked for them.
        has_asked: Whether it has asked the endpoint. One that shares the token looks into the cache first.
        is_by_refusal: Whether a refusal is the only reason for it.
        discarded: If `invalidate` has discarded it: which call of `invalidate`.
        late: The overdue fetches, whose threads still run.
        begun_at: When the last fetch began.
        ask_again_at: While a failure is remembered: when a callable may be asked again.
        present: The token that the state should have.
        opens, ends: When its renewal opens, and when it expires.
        earlier: A token that was replaced or dropped.
        dropped: The token that `invalidate` dropped last.
        dead: The call of `invalidate` that ended the use of a token, by the token's value.
        failure_until: When the last failure is forgotten.
        failed_key: The credentials that failed.
        pause_until: When the next renewal may begin.
        marked: The hosts that refused the present token and wait for its replacement.
        is_paid: Whether the allowance has paid for the replacement.
        full_at: When the allowance is full again.
        next_look_at: When a refusal may cause the next look into the cache.
        may_replace_at: From when a refusal may cause a fetch. A payment is for one fetch. If that fetch fails, there may be
            another one once the failure is forgotten.
    """

    def __init__(self, module: ModuleType, *, asks: bool, shares: bool, room: int) -> None:
        scopes = ("comms:*",) if asks else ()
        self.state: Any = module.TokenState(scopes, TIMEOUT, asks_credentials=asks, is_shared=shares)
        self.asks, self.shares, self.room = asks, shares, room
        self.now = Instant(1000.0, 1000.0)
        self.callers: tuple[Caller, ...] = ()
        self.running: Any = None
        self.key: AppCredentials | None = None
        self.has_asked = False
        self.is_by_refusal = False
        self.discarded: int | None = None
        self.late: tuple[Any, ...] = ()
        self.begun_at = self.ask_again_at = ALWAYS
        self.present: AccessToken | None = None
        self.opens = self.ends = self.now
        self.earlier: AccessToken | None = None
        self.dropped: AccessToken | None = None
        self.dead: dict[str, int] = {}
        self.tokens = self.invalidated = self.warnings = 0
        self.failure_until = ALWAYS
        self.failed_key: AppCredentials | None = None
        self.pause_until, self.failed_renewals = ALWAYS, 0
        self.marked: frozenset[str] = frozenset()
        self.is_paid = False
        self.full_at, self.next_look_at, self.may_replace_at = ALWAYS, ALWAYS, NEVER

    def copy(self) -> World:
        """A world that goes its own way."""
        new = World.__new__(World)
        new.__dict__.update(self.__dict__)
        new.state = copy_of_state(self.state)
        old = self.running
        if old is None:
            return new
        new.running = fetch = copy_of_fetch(old)
        if self.state.fetch is old:
            new.state.fetch = fetch
        new.callers = tuple(
            Caller(
                host, fetch if awaited is old else awaited, fetch if joined is old else joined, woken, give_up_at, came
            )
            for host, awaited, joined, woken, give_up_at, came in self.callers
        )
        return new

    # What the model knows

    def is_good(self) -> bool:
        """Whether there is a token that has not expired."""
        now, ends = self.now, self.ends
        return self.present is not None and now.monotonic < ends.monotonic and now.wall < ends.wall

    def is_fresh(self) -> bool:
        """Whether its renewal has not opened."""
        now, opens = self.now, self.opens
        return self.present is not None and now.monotonic < opens.monotonic and now.wall < opens.wall

    def is_refused(self, host: str | None) -> bool:
        """Whether the present token is not for this host, or not for a caller that names none."""
        return bool(self.marked) if host is None else host in self.marked

    def is_failing(self) -> bool:
        """Whether a failure is remembered."""
        return self.now.monotonic < self.failure_until

    def may_ask(self) -> bool:
        """Whether a callable may be asked for other credentials than those that have failed. Only a fetch can ask it."""
        return self.asks and self.failed_key is not None and self.now.monotonic >= self.ask_again_at

    def is_blocked(self) -> bool:
        """Whether too many overdue fetches are alive."""
        return len(self.late) >= MAX_OVERDUE and self.now.monotonic < self.begun_at + OVERDUE_PAUSE

    # Which events can come

    def events(self) -> Iterator[Event]:
        """All that can happen next."""
        if len(self.callers) < self.room:
            for host in (*HOSTS, None):
                yield f"a caller for {host or 'no host'} comes", World.call, host
        for number, caller in enumerate(self.callers):
            if caller.is_woken or self.now.monotonic >= min(caller.give_up_at, caller.awaited.deadline):
                yield f"the waiting caller for {caller.host or 'no host'} asks again", World.ask_again, number
        if self.running is not None:
            yield from self._ends_of_fetch()
        if self.late:
            yield "the overdue fetch brings a token", World.bring_late, None
        yield from self._moves_of_time()
        for host in HOSTS:
            if self.present is not None:
                yield f"{host} refuses the present token", World.refuse, host
            if self.earlier is not None:
                yield f"{host} refuses an earlier token", World.refuse_earlier, host
        yield "invalidate", World.invalidate, None
        if self.running is not None or self.marked or self.late:
            yield "a fork, and the child goes on", World.fork, None

    def _ends_of_fetch(self) -> Iterator[Event]:
        if self.key is None:
            yield "the fetch uses the first key", World.use_key, KEYS[0]
            yield "the fetch uses the second key", World.use_key, KEYS[1]
            yield "the fetch gets no credentials", World.end, Failure("no credentials", reason="")
        elif self.shares and not self.has_asked:
            yield "the fetch asks the endpoint", World.ask_endpoint, None
            yield "the fetch finds the token of another process", World.find, None
            yield "the fetch finds the failure of another process", World.end, Failure("shared", reason="", memory=2.0)
        else:
            yield "the fetch brings a token", World.bring, self.now
            yield "the fetch brings an expired token", World.bring, self.now.after(-LIFE)
            yield "the fetch ends with a final failure", World.end, Failure("final", reason="")
            yield (
                "the fetch ends with a retryable failure",
                World.end,
                Failure("retryable", reason="", retry_after=RETRY_AFTER),
            )
            if self.is_good() and not self.shares:
                yield "the fetch ends, and the token stays", World.end, self.present
        yield "the fetch is given up", World.end, None
        if self.running.is_renewal:
            yield "the renewal can't be started", World.fail_to_start, None

    def _moves_of_time(self) -> Iterator[Event]:
        now = self.now.monotonic
        moves = {"a second passes": 1.0, "20 s pass": SECONDS_EACH}
        if self.is_fresh():
            moves["time moves to the renewal"] = self.opens.monotonic - now
            yield "the wall clock jumps to the renewal", World.jump, self.opens.wall
        if self.is_good():
            moves["time moves to the expiry"] = self.ends.monotonic - now
            yield "the wall clock jumps past the expiry", World.jump, self.ends.wall
        if self.running is not None:
            moves["time moves to the fetch's deadline"] = self.running.deadline - now
        moves["time moves until the failure is forgotten"] = self.failure_until - now
        moves["time moves to the end of the pause"] = self.pause_until - now
        for name, seconds in moves.items():
            if 0 < seconds < NEVER:
                yield name, World.move, seconds

    # Callers

    def call(self, host: str | None) -> None:
        """A caller comes."""
        self._ask(Caller(host, None, None, False, self.now.monotonic + TIMEOUT, self.invalidated))

    def ask_again(self, number: int) -> None:
        """A caller that has waited asks again."""
        caller = self.callers[number]
        self.callers = self.callers[:number] + self.callers[number + 1 :]
        self._ask(caller)

    def _ask(self, caller: Caller) -> None:
        """The step of a caller, as `TokenSource` does it."""
        state = self.state
        self._end_overdue()
        had_fetch = self.running is not None
        step = state.decide(caller.host, caller.joined, self.now)
        if isinstance(step, AccessToken) and state.take_unreported_scopes():
            self.warnings += 1
        begun = state.fetch if state.fetch is not None and state.fetch.runner is None else None
        self._compare_with_joined(step, caller)
        if isinstance(step, AccessToken):
            self._gets_token(step, caller)
            is_due = step is self.present and not self.is_fresh() and not self.is_paused() and not self.is_blocked()
            require(had_fetch or begun is not None or not is_due, "a token in renewal is renewed")
        elif isinstance(step, Failure):
            self._gets_failure(step, caller)
        if begun is not None:
            self._begin(begun, caller.host)
        if not isinstance(step, AccessToken | Failure):
            self._waits(step, caller)
        if begun is not None and not self.asks:
            self.use_key(KEYS[0])

    def is_paused(self) -> bool:
        """Whether no renewal may begin: the last one failed, or the endpoint has just failed any other fetch."""
        return self.now.monotonic < self.pause_until or self.is_failing()

    def _compare_with_joined(self, step: Any, caller: Caller) -> None:
        joined = caller.joined
        if joined is None or not joined.ended or joined.outcome is None:
            return
        if isinstance(joined.outcome, Failure):
            require(step is joined.outcome, "a caller gets the failure of the fetch that it joined")
        elif joined.is_discarded and joined.outcome.is_good(self.now):
            require(
                step is joined.outcome, "a caller from before `invalidate` gets the token of the fetch that it joined"
            )

    def _gets_token(self, token: AccessToken, caller: Caller) -> None:
        joined = caller.joined
        is_own = joined is not None and joined.is_discarded and joined.outcome is token
        require(token is self.present or is_own, "a caller gets the present token")
        require(self.is_good() if token is self.present else token.is_good(self.now), "no caller gets an expired token")
        # Two exceptions. Nobody notes who refuses the token of a discarded fetch: each caller that joined the fetch gets it
        # once. And `marked` has no host whose refusal was not paid for: such a host gets the token again: the token stays.
        require(is_own or not self.is_refused(caller.host), "no caller gets a token that its host refused")
        died = self.dead.get(token.value, NEVER)
        require(died > caller.came, "no caller gets a token that was invalidated before it came")

    def _gets_failure(self, failure: Failure, caller: Caller) -> None:
        if caller.joined is not None and caller.joined.outcome is failure:
            return
        require(not self.is_good() or self.is_refused(caller.host), "nobody fails while the token is good for its host")
        if self.is_blocked():
            return
        require(self.is_failing(), "no caller gets a failure that was forgotten")
        require(not self.may_ask(), "other credentials are asked for while a failure is remembered")

    def _waits(self, fetch: Any, caller: Caller) -> None:
        now = self.now.monotonic
        require(fetch is self.running, "a caller waits for the fetch that runs")
        require(now < fetch.deadline, "no caller waits for an overdue fetch")
        if now >= caller.give_up_at:
            return
        joined = fetch if self.discarded is None else caller.joined
        self.callers += (Caller(caller.host, fetch, joined, False, caller.give_up_at, caller.came),)

    # Fetches

    def _begin(self, fetch: Any, host: str | None) -> None:
        fetch.runner = 1
        require(self.running is None, "at most one fetch runs")
        require(not self.is_blocked(), "while four overdue fetches are alive, one fetch begins in 30 seconds")
        self.begun_at = self.now.monotonic
        if fetch.is_renewal:
            require(self.is_good() and not self.is_fresh(), "a renewal begins in the time for renewals")
            require(not self.is_paused(), "no renewal begins during a pause")
        else:
            require(not self.is_good() or self.is_refused(host), "nobody waits while the token is good for its host")
            require(not self.is_failing() or self.may_ask(), "no fetch begins while a failure is remembered")
            if self.is_failing():
                self.ask_again_at = self.now.monotonic + 1
        self.running, self.key, self.discarded, self.has_asked = fetch, None, None, False
        self.is_by_refusal = not fetch.is_renewal and self.is_good()

    def use_key(self, key: AppCredentials) -> None:
        """The fetch has got its credentials, and sends its token request if it may."""
        fetch = self.running
        failure = self.state.use_credentials(fetch, key, self.now)
        is_known = self.is_failing() and self.failed_key is key
        require((failure is not None) == is_known, "credentials that have just failed are not sent again, others are")
        self.key = key
        if failure is not None:
            self.end(failure, is_known=True)
        elif self.is_by_refusal and self.discarded is None and not self.shares:
            # While a failure is remembered, these are other credentials than those that failed. They may ask at any time: the
            # state does not limit how often.
            is_due = self.now.monotonic >= self.may_replace_at or self.is_failing()
            require(is_due, "refusals cause one fetch for each charge, and one more after each failure was forgotten")
            self.may_replace_at = NEVER

    def ask_endpoint(self, _: None) -> None:
        """The entry in the cache has no other token. The fetch sends its token request if it may."""
        is_replacing = self.state.is_replacing(self.running, self.now)
        is_due = bool(self.marked) and not self.running.is_renewal and self.is_good()
        require(is_replacing == is_due, "the allowance pays for a good token that was refused, and for nothing else")
        self.has_asked = True
        if is_replacing:
            is_paid = self._pay()
            require(self.state.charge(self.now) == is_paid, "each replaced token is charged once")
            if not is_paid:
                self.end(self.present)

    def find(self, _: None) -> None:
        """The fetch finds a token in the cache that another process has obtained."""
        token = self._issue(self.now)
        require(self.state.accepts(token, self.now), "another token is taken from the cache")
        self.end(token)

    def _pay(self) -> bool:
        """Whether the allowance pays for the replacement of the present token, or has paid already."""
        now = self.now.monotonic
        full_at = max(self.full_at, now) + SECONDS_EACH
        if not self.is_paid and full_at - now <= REPLACEMENTS * SECONDS_EACH:
            self.is_paid, self.full_at, self.may_replace_at = True, full_at, now
        return self.is_paid

    def bring(self, asked_at: Instant) -> None:
        """The fetch ends with a new token."""
        self.end(self._issue(asked_at))

    def _issue(self, asked_at: Instant) -> AccessToken:
        self.tokens += 1
        scope = frozenset[str]() if self.asks else None
        return AccessToken.issued(f"token-{self.tokens}", scope, LIFE, asked_at, 0.0)

    def end(self, outcome: AccessToken | Failure | None, *, is_known: bool = False) -> None:
        """The fetch ends. A known failure has come from memory."""
        fetch, now = self.running, self.now
        self.state.settle(fetch, outcome, now)
        require(fetch.ended, "a fetch ends when it has an outcome")
        if isinstance(outcome, AccessToken) and not outcome.is_good(now):
            require(isinstance(fetch.outcome, Failure), "an expired token is a failure")
        else:
            require(fetch.outcome is outcome, "the callers get what the fetch has brought")
        self._wake(fetch)
        outcome, discarded = fetch.outcome, self.discarded
        self.running = self.discarded = None
        if discarded is not None:
            if isinstance(outcome, AccessToken):
                self.earlier, self.dead = outcome, {**self.dead, outcome.value: discarded}
        elif isinstance(outcome, AccessToken):
            self._keep(outcome, fetch)
            return
        elif outcome is None:
            self._pay_back(now.monotonic)
        elif not is_known:
            self._remember(fetch, outcome.memory or min(max(MEMORY, outcome.retry_after or 0), 10.0))
        self._is_without_token()

    def _end_overdue(self) -> None:
        fetch = self.running
        is_overdue = fetch is not None and self.now.monotonic >= fetch.deadline
        if (ended := self.state.end_overdue(self.now)) is not None:
            self._wake(ended)
        if fetch is None:
            return
        require(fetch.ended == is_overdue, "a fetch is given up at its deadline, and not before")
        if not is_overdue:
            return
        self.late, self.running = (*self.late, fetch), None
        if self.discarded is None:
            if fetch.is_renewal:
                self._pause(MEMORY)
            else:
                self._remember(fetch, MEMORY)
        self.discarded = None
        self._is_without_token()

    def fail_to_start(self, _: None) -> None:
        """No thread can be started for a renewal."""
        self.state.postpone_renewal(self.now)
        if self.discarded is None:
            self._pause(MEMORY)
        self.end(None)

    def bring_late(self, _: None) -> None:
        """A fetch that was given up brings a token after all."""
        token, late = self._issue(self.now), self.late[0]
        self.late = self.late[1:]
        before = self._inside()
        self.state.settle(late, token, self.now)
        require(before == self._inside() and late.outcome is not token, "the token of an overdue fetch is dropped")

    def _wake(self, fetch: Any) -> None:
        self.callers = tuple(
            Caller(c.host, c.awaited, c.joined, True, c.give_up_at, c.came) if c.awaited is fetch else c
            for c in self.callers
        )

    def _keep(self, token: AccessToken, fetch: Any) -> None:
        if token is self.present:
            self.next_look_at = self.now.monotonic + 1
        elif self.shares and self.marked:
            # Whoever has replaced the token: it counts here too.
            self._pay()
        self.marked, self.is_paid, self.may_replace_at = frozenset(), False, NEVER
        if token is not self.present:
            self.earlier = self.present or self.earlier
            # A token that is good was asked for in this moment.
            self.present, self.opens, self.ends = token, self.now.after(FRESH), self.now.after(GOOD)
            self._forget_failures()
        elif fetch.is_renewal:
            # A renewal that leaves the token must not be repeated by the next caller.
            self._pause(MEMORY)

    def _start_afresh(self) -> None:
        self.marked, self.is_paid, self.may_replace_at = frozenset(), False, NEVER
        self._forget_failures()

    def _forget_failures(self) -> None:
        self.failure_until, self.failed_key = ALWAYS, None
        self.pause_until, self.failed_renewals = ALWAYS, 0

    def _remember(self, fetch: Any, seconds: float) -> None:
        self.failure_until, self.failed_key = self.now.monotonic + seconds, self.key
        if fetch.is_renewal:
            self._pause(seconds)
        self._pay_back(self.now.monotonic + MEMORY)

    def _pay_back(self, when: float) -> None:
        """A fetch that brings no token leaves its payment to the next one."""
        if self.is_by_refusal and self.may_replace_at == NEVER:
            self.may_replace_at = when

    def _pause(self, seconds: float) -> None:
        self.pause_until = self.now.monotonic + seconds * 2 ** min(self.failed_renewals, 4)
        self.failed_renewals += 1

    def _is_without_token(self) -> None:
        """A fetch is gone without a new token. Hosts get the present one again if no replacement is paid for."""
        if not self.is_paid and not self.shares:
            self.marked = frozenset()

    # Time, refusals, and what ends all

    def move(self, seconds: float) -> None:
        """Time passes."""
        self.now = self.now.after(seconds)

    def jump(self, wall: float) -> None:
        """The machine slept: the monotonic clock has not seen it."""
        self.now = Instant(self.now.monotonic, wall)

    def refuse(self, host: str) -> None:
        """A host answers 401 to the present token."""
        assert self.present is not None
        resend = self.state.refuse(self.present.fingerprint, host, self.now)
        may_replace = self.now.monotonic >= self.next_look_at if self.shares else self._pay()
        is_replaced = may_replace or self.running is not None
        require(
            resend == is_replaced, "a refused token is replaced if, and only if, the allowance or a fetch allows it"
        )
        if is_replaced:
            self.marked |= {host}

    def refuse_earlier(self, host: str) -> None:
        """A host answers 401 to a token that is not the present one."""
        assert self.earlier is not None
        before = self._inside()
        resend = self.state.refuse(self.earlier.fingerprint, host, self.now)
        require(resend and before == self._inside(), "the refusal of an earlier token costs nothing")

    def invalidate(self, _: None) -> None:
        """The user drops the token."""
        self.state.invalidate(self.now)
        self.invalidated += 1
        if self.present is not None:
            self.earlier, self.dead = self.present, {**self.dead, self.present.value: self.invalidated}
        self.dropped = self.present
        self.present = None
        if self.running is not None and self.discarded is None:
            self.discarded = self.invalidated
        self._start_afresh()

    def fork(self, _: None) -> None:
        """The walk goes on in a child, which has no other thread: no caller waits, and no fetch runs."""
        self.state.reset_after_fork()
        self.callers, self.late = (), ()
        if self.running is not None:
            self._pay_back(self.now.monotonic)
        self.running = self.discarded = None
        self._is_without_token()

    # What holds at all times

    def check(self) -> None:
        """Compare the state with the model."""
        fetch, token = self.state.fetch, self.state.token
        require(fetch is None or not fetch.ended, "an ended fetch is not the running one")
        require(fetch is self.running, "the state knows the fetch that runs")
        require(token is self.present, "a new token is kept unless its fetch was discarded, and no other token is")
        require(self.warnings <= 1, "missing scopes are reported once")
        require(memory_of(self.state)[0][0] == self.full_at, "the allowance has paid for each replaced token once")
        for caller in self.callers:
            require(caller.is_woken or not caller.awaited.ended, "every waiting caller is woken")
            require(caller.is_woken or caller.awaited is fetch, "every waiting caller's fetch ends")
            is_needless = not caller.is_woken and self.is_good() and not self.is_refused(caller.host)
            require(not is_needless, "nobody waits while the token is good for its host")
        for known in (self.present, self.dropped):
            require(
                known is None or not self.state.accepts(known, self.now), "a known token is not taken from the cache"
            )
        self._check_ready()

    def _check_ready(self) -> None:
        ready, monotonic, wall = self.state.ready
        # Such a world gets no scope that it asks for. The warning waits for the first caller.
        is_silent = self.asks and not self.warnings
        if ready is None or self.now.monotonic >= monotonic or self.now.wall >= wall:
            require(not self.is_fresh() or bool(self.marked) or is_silent, "a fresh token is ready")
            return
        require(not is_silent, "no token is ready before its missing scopes are reported")
        require(ready is self.present, "only the present token is ready")
        require(self.is_fresh(), "no token is ready after its renewal has opened")
        require(not self.marked, "no token is ready that a host refused")

    def _inside(self) -> tuple[Any, ...]:
        state = self.state
        return (*memory_of(state), state.token, state.fetch, state.ready)

    # Which states are the same

    def fingerprint(self) -> int:
        """The same for two worlds that differ in nothing that matters."""
        now = self.now.monotonic
        running = self.running
        times, others, refused_by = memory_of(self.state)
        return hash(
            (
                (self.asks, self.shares, self.has_asked, self.dropped is None, self._to_wait(self.next_look_at)),
                self._life(),
                running
                and (
                    max(0.0, running.deadline - now),
                    running.is_renewal,
                    self.is_by_refusal,
                    self._age(self.discarded),
                ),
                self.key,
                (min(len(self.late), MAX_OVERDUE + 1), self.earlier is None, self.warnings, self.is_paid),
                (self._to_wait(self.begun_at + OVERDUE_PAUSE) if self.late else 0, self._to_wait(self.ask_again_at)),
                (self._roughly(self.full_at - now), self._roughly(times[0] - now)),
                tuple(map(self._to_wait, (self.may_replace_at, self.failure_until, self.pause_until))),
                (self._to_wait(times[1]), self._to_wait(times[2]), min(5, self.failed_renewals), self.failed_key),
                others,
                self._hosts(refused_by) if self.callers or self.marked else (),
            )
        )

    def _life(self) -> tuple[float, float] | None:
        """How long the token is fresh, and how long it is good."""
        if self.present is None:
            return None
        (now, wall), opens, ends = self.now, self.opens, self.ends
        fresh = min(opens.monotonic - now, opens.wall - wall)
        return self._roughly(fresh), self._roughly(min(ends.monotonic - now, ends.wall - wall))

    def _to_wait(self, until: float) -> float:
        return max(0.0, until - self.now.monotonic)

    def _roughly(self, seconds: float) -> float:
        """Which of the long moves would end a long time."""
        return max(0.0, -(-seconds // SECONDS_EACH))

    def _age(self, number: int | None) -> int:
        return -9 if number is None else min(2, self.invalidated - number)

    def _hosts(self, refused_by: frozenset[str]) -> tuple[Any, ...]:
        """The facts about the hosts. They do not tell which of the two is which."""
        callers = [(caller.host, self._caller(caller)) for caller in self.callers]
        return min(
            (
                tuple(sorted([names[host] for host in self.marked])),
                tuple(sorted([names[host] for host in refused_by])),
                tuple(sorted([(names[host], caller) for host, caller in callers])),
            )
            for names in NAMES
        )

    def _caller(self, caller: Caller) -> tuple[Any, ...]:
        patience = caller.give_up_at > self.now.monotonic
        joined = self._fetch(caller.joined)
        return self._fetch(caller.awaited), joined, caller.is_woken, patience, self._age(caller.came)

    def _fetch(self, fetch: Any) -> tuple[int, ...]:
        """What matters of a fetch that a caller knows."""
        if fetch is None or fetch is self.running:
            return (int(fetch is None),)
        if not isinstance(fetch.outcome, AccessToken):
            return (2, int(fetch.outcome is None))
        died = self.dead.get(fetch.outcome.value)
        return (3, fetch.is_discarded, fetch.outcome is self.present, fetch.outcome.is_good(self.now), self._age(died))
