"""The server: lanes as a service behind the APIs that image clients already speak. Needs the extra `serve`.

`alterbute serve` runs it; `make_context` and `make_app` give an ASGI application to mount elsewhere.
"""

from __future__ import annotations
