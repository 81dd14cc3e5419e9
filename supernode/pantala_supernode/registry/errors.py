"""What can go wrong with a registry, as a branch of the supernode's tree.

::

    SourceError
    └── RegistryError                    Failed           any other error status, such as 5xx
        ├── ImageNotFoundError           NotFound         no such tag, digest or repository
        ├── RegistryUnauthorizedError    Unauthorized     no credentials, or wrong ones
        ├── RegistryForbiddenError       Forbidden        credentials that may not read the repository
        ├── RateLimitedError             RateLimited      ``retry_after`` says for how long
        ├── RegistryUnreachableError     Unreachable      DNS, no route, refused, too slow, cut
        ├── RegistryCertificateError     CertificateInvalid
        ├── RegistryDeniedError          Denied           an address, redirect or registry that is not allowed
        ├── InvalidManifestError         InvalidManifest  malformed, too large, or another digest
        ├── InvalidAnswerError           InvalidAnswer    an answer that breaks the registry's protocol
        └── PlatformMissingError         PlatformMissing  the image has no variant for that platform
"""

from __future__ import annotations

from typing import ClassVar

from pantala_protocol.reasons import Reason
from pantala_supernode.errors import SourceError


class RegistryError(SourceError):
    """The registry did not do what it was asked for."""

    name: ClassVar[str] = "Failed"
    """The reason that is told."""
    action: ClassVar[str] = "Check the registry: it answered with an error. It is tried again."
    """What to do, as a sentence."""

    @classmethod
    def of(cls, what: str, happened: str, *, retry_after: float | None = None) -> RegistryError:
        """The error that ``happened`` to ``what``, with what to do next."""
        return cls(f"{what}: {happened}. {cls.action}", retry_after=retry_after)


class ImageNotFoundError(RegistryError):
    """The registry knows no such thing."""

    reason = Reason.SOURCE_NOT_FOUND
    name = "NotFound"
    action = "Check the image's name, and its tag or digest; some registries say so of private images, too."


class RegistryUnauthorizedError(RegistryError):
    """The registry wants credentials, or other ones."""

    reason = Reason.SOURCE_UNAUTHORIZED
    name = "Unauthorized"
    action = (
        "Give valid credentials for it in a Secret of type kubernetes.io/dockerconfigjson, and check the image's name: "
        "some registries say so of images that do not exist."
    )


class RegistryForbiddenError(RegistryError):
    """The registry knows who asks and says no."""

    reason = Reason.SOURCE_FORBIDDEN
    name = "Forbidden"
    action = "Check that the credentials in the pull secret may read this repository."


class RateLimitedError(RegistryError):
    """The registry was asked too often."""

    name = "RateLimited"
    action = "It is asked again when the registry allows it; with credentials most registries allow more."


class RegistryUnreachableError(RegistryError):
    """There is no way to the registry, or it does not answer."""

    reason = Reason.SOURCE_UNREACHABLE
    name = "Unreachable"
    action = "Check the registry's name, that it is up, and the network between the supernode and it."


class RegistryCertificateError(RegistryError):
    """The registry could not prove who it is."""

    reason = Reason.SOURCE_TLS
    name = "CertificateInvalid"
    action = (
        "Check its certificate; give the supernode its authority if that is a private one, or list it as plain http."
    )


class RegistryDeniedError(RegistryError):
    """The supernode does not go there."""

    reason = Reason.SOURCE_DENIED
    name = "Denied"
    action = "Ask the cluster's administrator to allow it."


class InvalidManifestError(RegistryError):
    """What the registry gave is no manifest, or not the one that was asked for."""

    reason = Reason.SOURCE_PROTOCOL
    name = "InvalidManifest"
    action = "Check the image in the registry, and push it again."


class InvalidAnswerError(RegistryError):
    """The registry, or its token server, answered what cannot be understood."""

    reason = Reason.SOURCE_PROTOCOL
    name = "InvalidAnswer"
    action = "Check that a registry answers there (OCI distribution or Docker v2), and its proxy."


class PlatformMissingError(RegistryError):
    """The image is not made for the platform."""

    reason = Reason.SOURCE_NOT_FOUND
    name = "PlatformMissing"
    action = "Choose nodes of another platform, or push the image for this one."
