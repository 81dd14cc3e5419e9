"""Paths of files that every side accepts, and paths that every side refuses."""

from typing import Final

ACCEPTED: Final = (
    "a", "models/v1..2/.hidden/...x", "Screenshot 2026-01-02 at 3.04.05\u202fPM.png", "資料\u3000その一.txt",
    "prix\u00a0net.csv", "नमस्\u200dते.txt", "\u0645\u06cc\u200c\u062e.txt",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467.png", "\u200eleft\u200fright", "soft\u00adhyphen", "\ufeffbom",
    "thin\u2009space\u2003and\u205fmore", "ogham\u1680space", "private\ue000use", "unassigned\u0378here",
    "noncharacter\ufffe", "replacement\ufffd", "combining e\u0301", "\U0010fffd", "ü" * 127, "a" * 255, "三" * 85,
    "dir/" + "😀" * 63, "a b", "~/x", "-rf", "$(x)", "%2e%2e/x", "..\\x", "a'b\"c", "a|b:c*d?e<f>g", ".pantala",
    "a.pantala-x", "a/" * 511 + "b",
)  # fmt: skip

REFUSED: Final = (
    "..", ".", "../x", "a/..", "a/../b", "./a", "a/./b", "a//b", "a/", "a\0b", "a\nb", "a\n", "a\tb", "a\rb", "a\x1bb",
    "a\x7fb", "a\x80b", "a\x85b", "a\x9fb", "a\u2028b", "a\u2029b", "\u202aa", "a\u202eb", "a\u2066b\u2069",
    ".pantala-0123", "a/.pantala-x/b", "a" * 256, "ü" * 128, "三" * 86, "a/" + "😀" * 64, "a/" * 512 + "b",
)  # fmt: skip
