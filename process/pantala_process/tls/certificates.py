"""Keys, certificates and requests for certificates, as PEM."""

from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_CURVE = ec.SECP256R1()


class CertificateError(Exception):
    """A certificate, a key or a request cannot be used."""


class CertificateFacts(NamedTuple):
    """The names and the validity of a certificate."""

    names: tuple[str, ...]
    """Its DNS names."""
    begins: float
    """When it becomes valid, in seconds since the epoch."""
    ends: float
    """When it expires."""

    def renewal(self) -> float:
        """When to get the next certificate: after two thirds of its life."""
        return self.begins + (self.ends - self.begins) * 2 / 3


def new_key() -> bytes:
    key = ec.generate_private_key(_CURVE)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_request(key: bytes) -> bytes:
    """A request for a certificate of ``key``. It has no names: the operator takes them from the client's token."""
    loaded = _private(key)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(loaded, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def facts(certificate: bytes) -> CertificateFacts:
    """Read the first certificate of a chain. Raises :class:`CertificateError`."""
    try:
        loaded = x509.load_pem_x509_certificates(certificate)[0]
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = tuple(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        found = ()
    except (ValueError, IndexError, x509.InvalidVersion) as error:
        raise CertificateError(f"the certificate cannot be read: {error}") from error
    return CertificateFacts(found, loaded.not_valid_before_utc.timestamp(), loaded.not_valid_after_utc.timestamp())


def first(chain: bytes) -> bytes:
    """The first certificate of a chain. Raises :class:`CertificateError`."""
    try:
        return x509.load_pem_x509_certificates(chain)[0].public_bytes(serialization.Encoding.PEM)
    except ValueError as error:
        raise CertificateError(f"the certificate cannot be read: {error}") from error


def check(identity: bytes, authorities: bytes, *, now: float) -> CertificateFacts:
    """Check a key and its certificate: the certificate is valid now, and one of the authorities signed it.

    Raises :class:`CertificateError`.
    """
    found = facts(identity)
    chain = x509.load_pem_x509_certificates(identity)
    if not found.names:
        raise CertificateError("the certificate has no name")
    if not found.begins <= now < found.ends:
        raise CertificateError("the certificate is not valid at this time; check the clock")
    if chain[0].public_key() != _private(identity).public_key():
        raise CertificateError("the certificate belongs to another key")
    if not any(_signed(chain[-1], authority) for authority in trusted(authorities)):
        raise CertificateError("no trusted authority has signed the certificate")
    return found


def trusted(authorities: bytes) -> list[x509.Certificate]:
    """The certificates of a bundle. Raises :class:`CertificateError`."""
    try:
        return x509.load_pem_x509_certificates(authorities) if authorities.strip() else []
    except ValueError as error:
        raise CertificateError(f"the certificates of the authorities cannot be read: {error}") from error


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        loaded = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise CertificateError("the private key cannot be read") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise CertificateError("the private key is not an EC key")
    return loaded
