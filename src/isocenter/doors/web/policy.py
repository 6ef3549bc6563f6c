"""What browsers are told about the viewer's pages: where their parts may come from, how long they are kept.

OHIF's page runs scripts and WebAssembly of this server and speaks to it alone. It makes workers and pictures
of blobs, and styles itself inline. Its decoders' glue (Emscripten) makes functions of text; they run in
workers, which have a policy of their own: the one of the script that they begin with (CSP 3 §4.2.3).
"""

from __future__ import annotations

_COMMON = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"

PAGE = "; ".join(
    (
        _COMMON,
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "connect-src 'self' blob: data:",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "font-src 'self' data:",
        "manifest-src 'self'",
        # PDF of a study is shown in a frame, from a blob.
        "frame-src blob:",
        "form-action 'none'",
    )
)
SCRIPT = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' blob: 'unsafe-eval'",
        "worker-src 'self' blob:",
        "connect-src 'self' blob: data:",
    )
)
LOGIN = "; ".join(
    (
        _COMMON,
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
    )
)

FOR_EVER = "public, max-age=31536000, immutable"
EVERY_TIME = "no-cache"
