"""Keys and certificates for test clusters. They are valid for 30 days."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=30)
_SKEW = datetime.timedelta(hours=1)


class Authority:
    """A certificate authority. Its folder has ``ca.crt``, ``ca.key`` and all issued files; missing files are made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate_file = folder / "ca.crt"
        key_file = folder / "ca.key"
        if not self.certificate_file.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make(key_file)
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key_file} is not a key of this testbed. Remove {folder}.")
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def issue(
        self, name: str, common_name: str, organization: str = "", names: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Make ``name.crt`` and ``name.key`` for servers and clients. ``names`` are DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_subject(common_name, organization), self._certificate.subject, key.public_key())
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([_general(each) for each in names or (common_name,)]), False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        certificate_file, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(key_file, key)
        return certificate_file, key_file

    def token_key(self) -> Path:
        """An RSA key for service account tokens, made once."""
        path = self._folder / "service-account.key"
        if not path.exists():
            _write_key(path, rsa.generate_private_key(public_exponent=65537, key_size=2048))
        return path

    def kubeconfig(self, path: Path, server: str, credentials: tuple[Path, Path]) -> Path:
        """Write a kubeconfig for ``server`` with a certificate of this authority."""
        certificate, key = credentials
        path.write_text(
            "apiVersion: v1\nkind: Config\n"
            f'clusters: [{{name: pantala, cluster: {{server: "{server}", '
            f'certificate-authority: "{self.certificate_file}"}}}}]\n'
            f'users: [{{name: pantala, user: {{client-certificate: "{certificate}", client-key: "{key}"}}}}]\n'
            "contexts: [{name: pantala, context: {cluster: pantala, user: pantala}}]\ncurrent-context: pantala\n"
        )
        return path

    def _make(self, key_file: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject("pantala testbed", "")
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_key(key_file, key)
        self.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _subject(common_name: str, organization: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
