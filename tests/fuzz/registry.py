"""Parsers of what registries, token servers, clouds, origins and administrators send."""

import msgspec
from multidict import CIMultiDict

from pantala_operator.plan import secrets
from pantala_operator.resources import cron
from pantala_operator.resources.api import Metadata, Secret
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.rules import foreign, quantity
from pantala_runtime.translation import translate
from pantala_supernode.errors import SourceError
from pantala_supernode.origin import freshness, refusal
from pantala_supernode.origin.http import _answer
from pantala_supernode.origin.source import Resume
from pantala_supernode.outbound.errors import OutboundError
from pantala_supernode.outbound.request import Head
from pantala_supernode.registry import challenge, manifest, platform
from pantala_supernode.registry.clouds import aws, exchange
from pantala_supernode.registry.clouds.azure import AzureIdentity
from pantala_supernode.registry.credentials import Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.errors import CloudIdentityError, InvalidManifestError
from pantala_supernode.registry.manifest import ManifestDocument
from pantala_supernode.registry.mapping import grammar
from pantala_supernode.tasks.copy import FileSource
from tests.fuzz.parser import FuzzParser, header, text

DIGEST = "sha256:" + "a" * 64
BLOB = {"digest": DIGEST, "size": 9}
MANIFEST = msgspec.json.encode(
    {
        "schemaVersion": 2,
        "mediaType": manifest.OCI_MANIFEST,
        "config": BLOB,
        "layers": [BLOB, {**BLOB, "annotations": {}}],
    }
)
INDEX = msgspec.json.encode(
    {"schemaVersion": 2, "manifests": [{**BLOB, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]}
)
CHALLENGES = (
    b'Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull"',
    b'Basic realm="a\\"b", Negotiate dG9rZW4=, Digest qop="auth", nonce=abc',
)
TOKENS = (b'{"token":"abc","expires_in":300}', b'{"access_token":"abc","expires_in":"1e3","token":null}')
PULL_SECRET = b'{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"r:5/a*":{"username":"u","password":"p"}}}'
ANSWERS = tuple(
    "\r\n".join(lines).encode()
    for lines in (
        (
            "Content-Length: 5",
            'ETag: "v1"',
            "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
            "Date: Fri, 02 Jan 2026 00:00:00 GMT",
            'Cache-Control: max-age=60, s-maxage="5"',
            "Expires: 0",
            "Retry-After: 5",
        ),
        (
            "Content-Range: bytes 5-9/10",
            "Content-Length: 5",
            "Age: 5",
            "Expires: Thu, 01 Jan 2026 00:00:00 GMT",
            "Content-Encoding: gzip",
            "Retry-After: Fri, 02 Jan 2026 00:00:00 GMT",
        ),
    )
)
REFUSALS = tuple(b"X%d: y" % number for number in range(7))
SOURCE = FileSource("https://h/x", {"Authorization": "Bearer secret-token"})
SHOWN = RedactedURL(SOURCE.url)
ENDPOINTS = RegistryEndpoints()


def _fields(data: bytes) -> CIMultiDict[str]:
    lines = (line.partition(":") for line in header(data).split("\r\n"))
    return CIMultiDict((name.strip(), value.strip()) for name, colon, value in lines if colon)


def _challenge(data: bytes) -> None:
    for offered in challenge.parse([header(data)]):
        if offered.scheme == "bearer":
            _ = challenge.token_request(offered, "a/b", plain_http=True).url


def _manifest(data: bytes) -> None:
    found = ManifestDocument.checked(data, "", None, "r/a:1").parse("r/a:1")
    if isinstance(found, manifest.ImageIndex):
        found.choose(platform.parse("linux/arm/v7"))


def _platform(data: bytes) -> None:
    platform.acceptable(platform.parse(text(data)))


def _whole(data: bytes) -> None:
    fields = _fields(data)
    freshness.lifetime(fields)
    _answer(Head(200, fields, same_origin=True), SOURCE, SHOWN, None, None)  # type: ignore[arg-type]


def _part(data: bytes) -> None:
    resume = Resume(5, 10, '"v1"')
    _answer(Head(206, _fields(data), same_origin=True), SOURCE, SHOWN, resume, None)  # type: ignore[arg-type]


def _refusal(data: bytes) -> None:
    statuses = (206, 301, 403, 404, 416, 429, 503)
    refusal.raise_for_status(statuses[sum(data[:8]) % len(statuses)], _fields(data), SHOWN)


def _secret(data: bytes) -> None:
    encoded = {".dockerconfigjson": text(data)}
    secrets.pull_secret("s", Secret(Metadata("s", "ns"), encoded))
    secrets.headers("s", Secret(Metadata("s", "ns"), {"Authorization": text(data)}))


def _seconds(data: bytes) -> None:
    azure = AzureIdentity.__new__(AzureIdentity)
    azure._wall = lambda: 0.0
    assert -(10.0**20) < azure._seconds(text(data)) < 10.0**20


_VALUE = (ValueError,)
_MAPPINGS = (b"docker.io=https://harbor.corp/v2/hub, http://r:5000,ghcr.io", b"https://a.b:443")
_JWT = (b"e30.eyJleHAiOiA1MDAwfQ.x", b"a.b.c")

PARSERS = (
    FuzzParser("challenge", _challenge, CHALLENGES, challenge.parse, _VALUE),
    FuzzParser("token", challenge.read_token, TOKENS, challenge.read_token, _VALUE),
    FuzzParser("manifest", _manifest, (MANIFEST, INDEX), ManifestDocument.checked, (InvalidManifestError,)),
    FuzzParser("kind of a manifest", lambda data: manifest.parse("", data), (MANIFEST, INDEX), manifest.parse, _VALUE),
    FuzzParser("platform", _platform, (b"linux/amd64", b"linux/arm/v7", b"windows/amd64"), platform.parse, _VALUE),
    FuzzParser("list of registries", lambda data: grammar.listed(text(data), "", only=False), _MAPPINGS, grammar.listed,
               _VALUE),
    FuzzParser("list of authorities", lambda data: grammar.listed("", text(data), only=False), (b"a.b=/x",),
               grammar.listed, _VALUE),
    FuzzParser("pull secret", lambda data: Keyring.read(data).find("r:5/a/b"), (PULL_SECRET,), Keyring.read, _VALUE),
    FuzzParser("Authorization", lambda data: RegistryAccount.read(header(data)).authorization,
               (b"Basic dTpw", b"Bearer abc"), RegistryAccount.read, _VALUE),
    FuzzParser("URL of a blob", lambda data: ENDPOINTS.repository_of(text(data)),
               (b"https://r/v2/a/blobs/" + DIGEST.encode(),), RegistryEndpoints.repository_of),
    FuzzParser("host of AWS", lambda data: aws.parse(text(data)), (b"1.dkr.ecr.eu-west-1.amazonaws.com",), aws.parse),
    FuzzParser("token of Azure", _seconds, _JWT, AzureIdentity._seconds),
    FuzzParser("URL of a cloud", lambda data: exchange.check_url(text(data), "r"), (b"https://a/b",),
               exchange.check_url, (CloudIdentityError,)),
    FuzzParser("foreign JSON", lambda data: foreign.read(data, dict), (MANIFEST, b'{"a":null,"b":[{"c":null}]}'),
               foreign.read, _VALUE),
    FuzzParser("head of an origin", lambda data: Head.read(data.split(b"\r\n"), same_origin=True, url="http://h/f"),
               (b"HTTP/1.1 200 OK\r\n" + ANSWERS[0],), Head.read, (OutboundError,)),
    FuzzParser("answer of an origin", _whole, ANSWERS, _answer, (SourceError,)),
    FuzzParser("part of an origin's answer", _part, ANSWERS, _answer, (SourceError,)),
    FuzzParser("refusal of an origin", _refusal, (*ANSWERS, *REFUSALS), refusal.raise_for_status, (SourceError,)),
    FuzzParser("error of containerd", lambda data: translate("UNKNOWN", text(data), "r/a:1"),
               (b"failed to pull: GET https://r/v2/: 401 Unauthorized",), translate),
    FuzzParser("Secret", _secret, (b"e30=", b"eyJhdXRocyI6e319"), secrets.pull_secret),
    FuzzParser("schedule", lambda data: cron.standard(text(data)), (b"30 2 * * *", b"*/5 1-4 1,2 jan mon"),
               cron.standard, _VALUE),
    FuzzParser("quantity", lambda data: quantity.parse(text(data)), (b"20Gi", b"5"), quantity.parse, _VALUE),
)  # fmt: skip
