"""Builds test images from layers of random bytes, as an OCI layout, and pushes them.

::

    image = build(tmp_path / "image", [Layer(200 << 20), Layer(1024)], platforms=["linux/amd64", "linux/arm64"])
    digest = push(image, "127.0.0.1:5079", "team/app", "1.0", account=("ann", "secret"))
"""

import gzip
import hashlib
import io
import json
import random
import shutil
import ssl
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from testbed.binaries import assets
from testbed.pusher import Pusher

_BLOCK = 1024 * 1024
_TYPES = {
    "oci": {
        "index": "application/vnd.oci.image.index.v1+json",
        "manifest": "application/vnd.oci.image.manifest.v1+json",
        "config": "application/vnd.oci.image.config.v1+json",
        "tar": "application/vnd.oci.image.layer.v1.tar",
        "tar+gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    },
    "docker": {
        "index": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        "config": "application/vnd.docker.container.image.v1+json",
        "tar": "application/vnd.docker.image.rootfs.diff.tar",
        "tar+gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
}

Format = Literal["oci", "docker"]


@dataclass(frozen=True)
class Layer:
    """The content of one layer."""

    size: int = 0
    """The number of random bytes in the file ``/payload/<seed>``. They depend on ``seed`` only."""
    seed: int = 0
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    """Further files by path. All are executable."""
    compressed: bool = False
    """True to compress the layer with gzip. Compression does not make random bytes smaller."""
    tar: Path | None = None
    """An archive to use as the layer. The other fields are then ignored."""


@dataclass(frozen=True)
class Image:
    """An image in an OCI layout."""

    folder: Path
    digest: str
    """The digest of the index. Without an index: the digest of the only manifest."""
    manifests: Mapping[str, str]
    """The manifests' digests, by platform."""
    blobs: Mapping[str, int]
    """Sizes of configs and layers, by digest."""

    def read(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def path(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def build(
    folder: Path,
    layers: Sequence[Layer],
    *,
    platforms: Sequence[str] = ("linux/amd64",),
    index: bool | None = None,
    format: Format = "oci",  # noqa: A002 - the usual name
    entrypoint: Sequence[str] = (),
) -> Image:
    """Write an image whose ``layers`` are the same on all platforms, with an index if there are several."""
    builder = _Builder(folder, format)
    written = [builder.layer(layer) for layer in layers]
    manifests = {platform: builder.manifest(platform, written, entrypoint) for platform in platforms}
    top = next(iter(manifests.values()))
    if len(platforms) > 1 if index is None else index:
        top = builder.index(manifests)
    document = {"schemaVersion": 2, "manifests": [top]}
    (folder / "index.json").write_text(json.dumps(document))
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    digests = {platform: str(found["digest"]) for platform, found in manifests.items()}
    return Image(folder, str(top["digest"]), digests, builder.blobs)


def runnable(layers: Sequence[Layer], folder: Path, **arguments: object) -> Image:
    """:func:`build` with a program that waits, so that pods of the image run."""
    program = Layer(files={"pause": assets(["pause"])["pause"]})
    return build(folder, [program, *layers], entrypoint=["/pause"], **arguments)  # type: ignore[arg-type]


def load(folder: Path) -> Image:
    """Read an image that :func:`build` wrote to the folder."""
    [top] = json.loads((folder / "index.json").read_text())["manifests"]
    image = Image(folder, top["digest"], {}, {})
    document = json.loads(image.read(top["digest"]))
    manifests: dict[str, str] = {}
    blobs: dict[str, int] = {}
    for each in document.get("manifests", [top]):
        manifests["/".join(each["platform"].values())] = each["digest"]
        listed = json.loads(image.read(each["digest"]))
        blobs |= {blob["digest"]: blob["size"] for blob in (listed["config"], *listed["layers"])}
    return Image(folder, top["digest"], manifests, blobs)


def push(
    image: Image,
    registry: str,
    repository: str,
    tag: str,
    *,
    account: tuple[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> str:
    """Push an image and return its digest. Skips blobs that the registry has. Uses plain http without ``tls``."""
    pusher = Pusher(registry, repository, account, tls)
    with pusher:
        for digest in image.blobs:
            pusher.blob(digest, image.path(digest))
        for digest in image.manifests.values():
            pusher.manifest(digest, image.read(digest))
        pusher.manifest(tag, image.read(image.digest))
    return image.digest


class _Builder:
    def __init__(self, folder: Path, format: Format) -> None:  # noqa: A002
        self._folder = folder / "blobs" / "sha256"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._types = _TYPES[format]
        self.blobs: dict[str, int] = {}

    def layer(self, layer: Layer) -> tuple[dict[str, object], str]:
        """Write the layer. Returns its descriptor and the digest of its uncompressed tar."""
        partial = self._folder / ".partial"
        with partial.open("wb") as file:
            outer = _Hashing(file)
            if layer.compressed:
                with gzip.GzipFile(fileobj=outer, mode="wb", compresslevel=1, mtime=0) as squeezed:
                    inner = _Hashing(squeezed)
                    _write_tar(inner, layer)
            else:
                inner = outer
                _write_tar(inner, layer)
        partial.rename(self._folder / outer.hex)
        self.blobs[f"sha256:{outer.hex}"] = outer.size
        kind = "tar+gzip" if layer.compressed else "tar"
        return self._descriptor(kind, outer.hex, outer.size), f"sha256:{inner.hex}"

    def manifest(
        self, platform: str, layers: Sequence[tuple[dict[str, object], str]], entrypoint: Sequence[str]
    ) -> dict[str, object]:
        """Write the platform's manifest and return its descriptor."""
        os, architecture, *variant = platform.split("/")
        stated = {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        run = {"config": {"Entrypoint": list(entrypoint)}} if entrypoint else {}
        rootfs = {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]}
        config = self._write("config", {**stated, **run, "rootfs": rootfs})
        self.blobs[str(config["digest"])] = int(str(config["size"]))
        listed = {"config": config, "layers": [descriptor for descriptor, _ in layers]}
        document = {"schemaVersion": 2, "mediaType": self._types["manifest"], **listed}
        return {**self._write("manifest", document), "platform": stated}

    def index(self, manifests: Mapping[str, dict[str, object]]) -> dict[str, object]:
        """Write the index of these manifests and return its descriptor."""
        document = {"schemaVersion": 2, "mediaType": self._types["index"], "manifests": list(manifests.values())}
        return self._write("index", document)

    def _write(self, kind: str, document: Mapping[str, object]) -> dict[str, object]:
        body = json.dumps(document).encode()
        name = hashlib.sha256(body).hexdigest()
        (self._folder / name).write_bytes(body)
        return self._descriptor(kind, name, len(body))

    def _descriptor(self, kind: str, name: str, size: int) -> dict[str, object]:
        return {"mediaType": self._types[kind], "digest": f"sha256:{name}", "size": size}


class _Hashing(io.RawIOBase):
    """A writer that passes all bytes on, and computes their digest and size."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def hex(self) -> str:
        return self._digest.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._digest.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)


class _Random(io.RawIOBase):
    """A reader of pseudo-random bytes, which are generated on demand."""

    def __init__(self, size: int, seed: int) -> None:
        self._left = size
        self._random = random.Random(seed)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        self._left -= wanted
        return b"".join(self._random.randbytes(min(_BLOCK, wanted - at)) for at in range(0, wanted, _BLOCK))


def _write_tar(output: _Hashing, layer: Layer) -> None:
    if layer.tar is not None:
        with layer.tar.open("rb") as archive:
            shutil.copyfileobj(archive, output, _BLOCK)
        return
    with tarfile.open(fileobj=output, mode="w|", bufsize=_BLOCK) as tar:
        for name, content in layer.files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            tar.addfile(_entry(name, len(data)), io.BytesIO(data))
        if layer.size:
            tar.addfile(_entry(f"payload/{layer.seed}", layer.size), _Random(layer.size, layer.seed))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o755
    return entry
