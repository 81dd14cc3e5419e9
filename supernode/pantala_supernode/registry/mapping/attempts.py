"""Tries the endpoints of a registry in order."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cachetools import TTLCache

from pantala_protocol.image import ImageRepository
from pantala_supernode import errors
from pantala_supernode.errors import SourceError
from pantala_supernode.registry.endpoint import RegistryEndpoint, RegistryEndpoints, RepositoryLocation
from pantala_supernode.registry.errors import (
    ImageNotFoundError,
    RateLimitedError,
    RegistryFailedError,
    RegistryUnreachableError,
)

_T = TypeVar("_T")
_LACKING = (ImageNotFoundError, errors.SourceNotFoundError)
_AWAY = (
    RegistryUnreachableError,
    errors.SourceHostUnknownError,
    errors.SourceInterruptedError,
    errors.SourceRefusedError,
    errors.SourceTimeoutError,
    errors.SourceUnreachableError,
)
_FAILING = (RateLimitedError, RegistryFailedError)
_AWAY_SECONDS: Final = 30.0
"""Seconds for which an unreachable endpoint is tried last, because each failure may take 10 s."""
_LIMIT: Final = 1000


class EndpointAttempts:
    """Tries the endpoints of a registry in order, until one has the content.

    After a failure to connect, 5xx, 429 or 404, it tries the next endpoint. A refusal (401, 403), an invalid answer or
    an invalid certificate ends the attempts, so that an administrator sees the problem.
    """

    def __init__(self, endpoints: RegistryEndpoints, clock: Callable[[], float]) -> None:
        self.endpoints = endpoints
        self._away: TTLCache[RegistryEndpoint, bool] = TTLCache(_LIMIT, _AWAY_SECONDS, timer=clock)

    async def first(self, repository: ImageRepository, attempt: Callable[[RepositoryLocation], Awaitable[_T]]) -> _T:
        """The result of ``attempt`` at the first endpoint that gives a result.

        Otherwise raises the first failure other than "not found". If all are "not found", raises the first.
        """
        failures: list[SourceError] = []
        locations = self.endpoints.locations(repository)
        for location in sorted(locations, key=lambda each: each.endpoint in self._away):
            try:
                return await attempt(location)
            except SourceError as error:
                if not _leads_on(error):
                    raise
                if isinstance(error, _AWAY):
                    self._away[location.endpoint] = True
                failures.append(error)
        raise next((error for error in failures if not isinstance(error, _LACKING)), failures[0])


def _leads_on(error: SourceError) -> bool:
    """True if another endpoint may have the content after this error."""
    if type(error) is errors.SourceAnswerError:
        return True
    return isinstance(error, (*_LACKING, *_AWAY, *_FAILING))
