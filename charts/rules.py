"""Rules of the code for the CRDs: each block between ``# begin NAME`` and ``# end`` is written from here."""

import json
import re
from collections.abc import Callable, Mapping

from pantala_operator.resources import cron
from pantala_protocol.rules import names, sources

_BLOCK = re.compile(r"^( *)# begin (\w+)[^\n]*\n.*?^ *# end\n", re.MULTILINE | re.DOTALL)


def filled(crd: str) -> str:
    """The CRD with all blocks as the code has them."""
    return _BLOCK.sub(_block, crd)


def _block(match: re.Match[str]) -> str:
    indent, name = match[1], match[2]
    lines = [f"# begin {name}, written by charts/generate.py", *BLOCKS[name](), "# end"]
    return "".join(f"{indent}{line}\n" for line in lines)


def _url() -> list[str]:
    return [f"maxLength: {names.MAX_URL}"]


def _path() -> list[str]:
    rules = [(f"!self.matches({_cel(part.pattern)})", part.message) for part in names.FORBIDDEN]
    sizes = f"self.split('/').all(name, size(bytes(name)) <= {names.MAX_NAME})"
    return ["minLength: 1", f"maxLength: {names.MAX_PATH}", *_validations(*rules, (sizes, names.LONG_NAME))]


def _cron() -> list[str]:
    message = (
        "must have the form of a CronJob's schedule: five fields (minute, hour, day of month, month, day of week), "
        "such as 30 2 * * *, or @hourly, @daily, @weekly, @monthly or @yearly"
    )
    return _validations((f"self.matches({_cel(cron.PATTERN)})", message))


def _host() -> list[str]:
    message = "must be a host name in lower case, such as files.corp or *.corp, and not an address"
    pattern = f"self.matches({_cel(f'^{sources.HOST}$')})"
    return [
        f"maxLength: {sources.MAX_HOST}",
        *_validations((f"{pattern} && !self.matches({_cel(sources.ADDRESS)})", message)),
    ]


def _secret() -> list[str]:
    message = "must be a Secret's name: lower-case letters, digits, '-' and '.', such as registry-login"
    return [
        "minLength: 1",
        f"maxLength: {names.MAX_OBJECT}",
        *_validations((f"self.matches({_cel(f'^({names.OBJECT})$')})", message)),
    ]


BLOCKS: Mapping[str, Callable[[], list[str]]] = {
    "url": _url,
    "path": _path,
    "cron": _cron,
    "host": _host,
    "secret": _secret,
}


def _validations(*rules: tuple[str, str]) -> list[str]:
    lines = [(f"  - rule: {json.dumps(rule)}", f"    message: {json.dumps(message)}") for rule, message in rules]
    return ["x-kubernetes-validations:", *(line for pair in lines for line in pair)]


def _cel(pattern: str) -> str:
    """The pattern as a raw string of CEL, in the syntax of RE2."""
    pattern = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", pattern)
    return f"r'{pattern}'"
