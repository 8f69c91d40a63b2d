"""The HTTP server: OpenAI's image-edits API and KServe v2 over one or more lanes. Needs the extra `serve`.

`alterbute serve` runs it; `make_context` and `make_app` return an ASGI application to mount in another one.
"""

from __future__ import annotations
