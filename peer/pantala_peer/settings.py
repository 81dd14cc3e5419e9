"""The settings of a peer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pantala_peer.mirror.deadlines import Deadlines
from pantala_pieces import scrub
from pantala_process import settings
from pantala_process.settings import ListenAddress, SettingsError, flag
from pantala_process.tls.settings import TLSFlags

_NO_GROUP = 2**32 - 1
"""The number that Linux reserves for "no group"."""


def _folder(text: str) -> Path:
    folder = Path(text).absolute()
    if folder.resolve() == Path("/"):
        raise ValueError("is the root of the filesystem. Give a folder for Pantala alone, such as /var/lib/pantala.")
    return folder


def _files_access(text: str) -> str:
    if text not in ("group", "everyone"):
        raise ValueError("is not valid. Give group or everyone.")
    return text


def _group(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) >= _NO_GROUP:
        raise ValueError("is not the number of a group. Give a number like 1000.")
    return int(text)


def _helper_socket(text: str) -> Path | None:
    return None if text == "none" else settings.unix_socket(text)


@dataclass(frozen=True, slots=True)
class Settings(TLSFlags):
    """One peer's settings."""

    supernode: str = flag(settings.http_url, "URL", "base URL of the supernode's API")
    listen: ListenAddress = flag(settings.address, "HOST:PORT", "where pieces are served to other peers")
    """With port 0 the system chooses a free port."""
    root: Path = flag(_folder, "DIR", "the directory for the cache and the published files")
    """The only directory that the peer writes, on one filesystem: pieces in ``cache``, published files in ``files``."""
    name: str = flag(str, "NODE", "the node's name, which the token must confirm")
    files_access: str = flag(
        _files_access, "group|everyone", "which programs of the node may read published files (group)", default="group"
    )
    """With ``group``, folders have mode 0750 and files 0440. With ``everyone``, they have 0755 and 0444."""
    files_group: int | None = flag(
        _group, "GID", "the group of published files and their folders (the peer's)", default=None
    )
    """The peer must be a member of this group."""
    zone: str = flag(str, "ZONE", "the node's zone; peers of this zone are preferred", default="")
    token_file: Path | None = flag(Path, "FILE", "the bearer token for the supernode", default=None)
    """The peer reads the file again for each exchange, because the kubelet rotates the token."""
    health_listen: ListenAddress | None = flag(
        settings.address, "HOST:PORT", "where to serve /healthz, /readyz and /metrics (default: nowhere)", default=None
    )
    mirror_listen: ListenAddress | None = flag(
        settings.address, "HOST:PORT", "where containerd finds the registry mirror (default: no mirror)", default=None
    )
    """A loopback address."""
    mirror_token_file: Path | None = flag(
        Path,
        "FILE",
        "file with the token that containerd sends to the mirror (default: no token is required)",
        default=None,
    )
    mirror_resolve: bool = flag(settings.yes_or_no, "yes|no", "also resolve tags at the mirror (no)", default=False)
    """If false, containerd asks the registry for tags, so that the registry authorizes each pull by tag."""
    mirror_deadlines: Deadlines = field(default_factory=Deadlines)
    """How long containerd's requests to the mirror may wait."""
    mirror_address: str = flag(
        settings.http_url,
        "URL",
        "how containerd reaches the mirror (http://127.0.0.1 and the mirror's port)",
        default="",
    )
    runtime_socket: Path | None = flag(
        _helper_socket, "unix:/PATH|none", "the runtime helper's socket (unix:/run/pantala/runtime.sock)", default=None
    )
    """``None``: this node has no helper, and cannot carry out orders to pull images."""
    blob_cache: int | None = flag(
        settings.size,
        "SIZE",
        "most bytes of images' blobs on the disk (10Gi, or a tenth of the disk if that is less)",
        default=None,
    )
    disk_headroom: float = flag(
        settings.whole(0, 90, "percent"), "PERCENT", "part of the disk that Pantala leaves free (10)", default=10
    )
    """A full disk makes the kubelet evict pods, by default at 10 % or less of free space."""
    downloads: int = flag(settings.whole(1, 64, "pieces"), "N", "pieces fetched at once (8)", default=8)
    """With a lower number, the link is sometimes idle, because requests take time, and some providers are slow. With a
    higher number, each piece takes longer to arrive, so other peers get it later."""
    uploads: int = flag(settings.whole(1, 64, "pieces"), "N", "pieces sent at once (8)", default=8)
    """Further requests wait in a queue. The default is equal to the default of ``downloads``."""
    log_level: int = settings.log_level_flag()
    connect_timeout: float = 3.0
    """Seconds to connect to a provider. The kernel repeats a lost SYN after 1 s and 3 s."""
    head_timeout: float = 5.0
    """Seconds until the head of a provider's answer. For another peer, the limit is at most 3 s."""
    stall_timeout: float = 2.0
    """Seconds without a byte within a piece until the download fails. The limit is at least four usual piece times."""
    slow_timeout: float = 5.0
    """Seconds for which a provider may send less than 32 KiB/s. The limit is at least eight usual piece times, and 15 s
    while the usual time is not known."""
    exchange_timeout: float = 20.0
    """Seconds until the answer of an exchange. The supernode may delay its answer for up to 10 s."""
    recheck_interval: float = 30.0
    """Seconds between two checks of the published files. A check is one ``stat`` for each file."""
    scrub_interval: float = scrub.INTERVAL
    """Seconds between two verifications of a published file."""
    grace: float = 22.0
    """Seconds in which uploads may end after SIGTERM. The last report to the supernodes may take 3 s more."""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read flags and environment. Raises :class:`pantala_process.settings.SettingsError`."""
    values = settings.parse(
        settings.flags(Settings),
        arguments,
        environment,
        program="pantala-peer",
        description="Downloads files from Pantala's supernodes and from other peers, and serves them to peers. "
        "`pantala-peer configure` adds the mirror to this node's containerd, `pantala-peer watch` restores it when "
        "another program changes the files, `pantala-peer cleanup` removes it; "
        "each has its own --help.",
    )
    found = Settings(**{"runtime_socket": Path("/run/pantala/runtime.sock")} | values)
    found.check_tls()
    if (found.tls_dir is not None) != found.supernode.startswith("https:"):
        raise SettingsError("--supernode must be an https URL with --tls-dir, and an http URL without it.")
    return found
