"""Waits for a condition that no event announces."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Value = TypeVar("Value")
Description = str | Callable[[], str]
Errors = type[Exception] | tuple[type[Exception], ...]


@overload
async def eventually(
    check: Callable[[], Awaitable[Value | None]],
    *,
    within: float = ...,
    every: float = ...,
    what: Description = ...,
    ignoring: Errors = ...,
) -> Value: ...
@overload
async def eventually(
    check: Callable[[], Value | None],
    *,
    within: float = ...,
    every: float = ...,
    what: Description = ...,
    ignoring: Errors = ...,
) -> Value: ...
async def eventually(
    check: Callable[[], object],
    *,
    within: float = 20.0,
    every: float = 0.01,
    what: Description = "",
    ignoring: Errors = AssertionError,
) -> object:
    """Call ``check`` until its result is true, and return that result. ``check`` may be a coroutine function.

    An error that ``ignoring`` lists counts as "not yet". The pauses grow to 2 % of the wait, because virtual time
    passes faster than the checks.
    After ``within`` seconds the wait fails. The failure names ``what`` and the last result or error.
    """
    last: object = None
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    last = check()
                    if inspect.isawaitable(last):
                        last = await last
                    if last:
                        return last
                except ignoring as error:
                    last = error
                await asyncio.sleep(max(every, (loop.time() - begun) / 50))
    except TimeoutError:
        raise _failure(what, within, last) from None


def eventually_blocking(
    check: Callable[[], Value | None],
    *,
    within: float = 20.0,
    every: float = 0.05,
    what: Description = "",
    ignoring: Errors = AssertionError,
) -> Value:
    """Wait like :func:`eventually`, but block the thread."""
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            if last := check():
                return last
        except ignoring as error:
            last = error
        if time.monotonic() > deadline:
            raise _failure(what, within, last)
        time.sleep(every)


def _failure(what: Description, within: float, last: object) -> AssertionError:
    described = what() if callable(what) else what
    return AssertionError(f"Not within {within:g} s: {described or 'the condition'}. Last: {last!r}")
