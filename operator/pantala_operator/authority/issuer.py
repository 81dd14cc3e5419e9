"""A certificate authority, and the certificates that it signs."""

import datetime
from collections.abc import Sequence
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pantala_process.tls import certificates
from pantala_process.tls.certificates import CertificateError

_SKEW = 3600.0
"""A certificate is valid from this many seconds before its issue, because clocks differ."""

_USAGE = dict.fromkeys(
    (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    ),
    False,
)  # fmt: skip
_BOTH_ENDS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


class CertificateIssuer:
    """An authority: its certificate and its key, as PEM. Raises :class:`CertificateError` if they cannot be used."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate = certificate
        self.key = key
        self.facts = certificates.facts(certificate)
        try:
            self._certificate = x509.load_pem_x509_certificates(certificate)[0]
            loaded = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificateError("the authority's key cannot be read") from error
        if loaded.public_key() != self._certificate.public_key():
            raise CertificateError("the authority's key does not belong to its certificate")
        self._key = loaded

    @classmethod
    def new(cls, *, now: float, lifetime: float) -> Self:
        """A new authority with a new key."""
        key = certificates.new_key()
        loaded = serialization.load_pem_private_key(key, None)
        serial = x509.random_serial_number()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Pantala authority {serial & 0xFFFFFFFF:08x}")])
        public = loaded.public_key()
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or not isinstance(public, ec.EllipticCurvePublicKey):
            raise TypeError("new_key() makes EC keys")
        usage = x509.KeyUsage(**_USAGE | {"key_cert_sign": True, "crl_sign": True})
        certificate = (
            _builder(name, name, public, _begin(now, lifetime), now + lifetime)
            .serial_number(serial)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(loaded, hashes.SHA256())
        )
        return cls(certificate.public_bytes(serialization.Encoding.PEM), key)

    def sign(self, request: bytes, names: Sequence[str], *, now: float, lifetime: float) -> bytes:
        """Sign a request. Its own names are ignored: the certificate has exactly ``names``.

        Raises :class:`CertificateError`.
        """
        public = _public_key(request)
        usage = x509.KeyUsage(**_USAGE | {"digital_signature": True})
        issuer = self._certificate
        certificate = (
            _builder(x509.Name([]), issuer.subject, public, _begin(now, lifetime), min(now + lifetime, self.facts.ends))
            .serial_number(x509.random_serial_number())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(_BOTH_ENDS, critical=False)
            .add_extension(_authority_key(issuer), critical=False)
            .sign(self._key, hashes.SHA256())  # type: ignore[arg-type] # any key that signs certificates
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificateIssuer) and self.certificate == other.certificate

    def __hash__(self) -> int:
        return hash(self.certificate)


def _begin(now: float, lifetime: float) -> float:
    return now - min(_SKEW, lifetime / 2)


def _public_key(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        loaded = x509.load_pem_x509_csr(request)
        valid, key = loaded.is_signature_valid, loaded.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise CertificateError("the request for a certificate cannot be read") from error
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("the request for a certificate is not signed with its own P-256 key")
    return key


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        known = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        raise CertificateError("the authority's certificate has no subject key identifier") from None
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(datetime.datetime.fromtimestamp(begins, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(ends, datetime.UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
