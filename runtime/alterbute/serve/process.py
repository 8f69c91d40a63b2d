"""The server as a process: sockets, signals, warm-up and drain. Used by the command only; the library sets no signal handler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import uvicorn

from alterbute.errors import InputError
from alterbute.serve.allocator import return_large_blocks
from alterbute.serve.app import make_app
from alterbute.serve.context import Context, make_context
from alterbute.serve.http.auth import read_keys
from alterbute.serve.http.connections import ConnectionTable
from alterbute.serve.http.protocol import make_protocol
from alterbute.serve.warmup import warm_up

if TYPE_CHECKING:
    from alterbute.serve.settings import ServerSettings

_logger = logging.getLogger(__name__)

EXIT_DEVICE: Final = 70
"""Exit code of a broken device: a supervisor should restart the process."""
_TICK_S: Final = 0.1
_BACKLOG: Final = 2048
_HEADER_BYTES: Final = 32 << 10
_CLOSE_S: Final = 1.5


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, because draining needs others."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: ServerSettings) -> int:
    """Serve until a signal, and drain.

    Returns:
        The exit code: 0, or `EXIT_DEVICE`.
    """
    return_large_blocks()
    sockets = [_bind(settings.host, settings.port, "port")]
    if settings.admin_port is not None:
        sockets.append(_bind("127.0.0.1", settings.admin_port, "admin_port"))
    return asyncio.run(_serve(settings, sockets))


def _bind(host: str, port: int, param: str) -> socket.socket:
    """Bind a port before anything is loaded, because a port in use is the commonest mistake."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as fault:
        raise InputError(
            f"{host}:{port} cannot be listened on ({fault.strerror or fault})",
            "a free port",
            f"choose another {param}",
            param,
            "port_taken",
        ) from None


async def _serve(settings: ServerSettings, sockets: list[socket.socket]) -> int:
    stop, stop_now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        # A second signal stops without draining.
        (stop_now if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # Before the bundle is opened: without a handler the signal would end the process.
    reload = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    context = make_context(settings)
    servers = [make_server(context, is_admin=bool(number)) for number in range(len(sockets))]
    tasks = [asyncio.create_task(server.serve([listener])) for server, listener in zip(servers, sockets, strict=True)]
    for listener, message in zip(sockets, ("listening", "listening for the administrator"), strict=False):
        host, port = listener.getsockname()[:2]
        _logger.info(message, extra={"host": host, "port": port, "model": context.model})
    warming = asyncio.create_task(_warm_up(context))
    reloading = asyncio.create_task(_reload_keys(context, reload))
    try:
        code = await _until_stop(context, stop, tasks)
        if code == 0 and stop.is_set():
            await _drain(context, stop_now)
    finally:
        warming.cancel()
        reloading.cancel()
        context.service.drain()
        context.decoders.close()
        context.service.cancel_all()
        for server in servers:
            server.should_exit = True
        await asyncio.wait(tasks, timeout=_CLOSE_S)
        for server in servers:
            server.force_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)
        if exit_code(context) == 0:
            await asyncio.to_thread(context.close)
    _logger.info("stopped")
    for number in (signal.SIGTERM, signal.SIGINT):
        # Another signal must not change the exit code while the interpreter ends.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    return code


async def _warm_up(context: Context) -> None:
    start = time.perf_counter()
    await asyncio.to_thread(warm_up, context)
    context.is_ready = True
    _logger.info(
        "ready",
        extra={
            "seconds": round(time.perf_counter() - start, 2),
            "backend": context.backend,
            "device": context.device,
            "precision": context.precision,
        },
    )


async def _reload_keys(context: Context, reload: asyncio.Event) -> None:
    """Read the key file again whenever the event is set; requests in flight keep what they have."""
    settings = context.settings
    while True:
        await reload.wait()
        reload.clear()
        if settings.api_key_file is None:
            _logger.warning("SIGHUP is ignored: there is no api_key_file to read again")
            continue
        try:
            keys = await asyncio.to_thread(read_keys, settings.api_key, settings.api_key_file)
        except Exception as fault:
            _logger.error("the API keys were not reloaded, the old ones stay", extra={"reason": str(fault)})
            continue
        added, removed = context.keyring.replace(keys)
        _logger.info("API keys reloaded", extra={"keys": len(keys), "added": added, "removed": removed})


async def _until_stop(context: Context, stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> int:
    """Wait for a signal, a broken device, or a server task that ended; returns the exit code."""
    while not stop.is_set():
        if any(task.done() for task in tasks):
            return 1
        if exit_code(context) != 0:
            _logger.error("the device is broken: the process must be restarted")
            return EXIT_DEVICE
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _TICK_S)
    return 0


def exit_code(context: Context) -> int:
    """`EXIT_DEVICE` when a worker's device is broken, else 0."""
    return EXIT_DEVICE if any(worker.fatal is not None for worker in context.service.workers) else 0


async def _drain(context: Context, stop_now: asyncio.Event) -> None:
    """Report "not ready", accept requests until load balancers have noticed, then finish the accepted ones."""
    settings = context.settings
    _logger.info("draining", extra={"accepted": context.service.num_accepted})
    context.is_stopping = True
    await _sleep(settings.drain_delay_s, stop_now)
    context.service.drain()
    until = time.monotonic() + settings.drain_timeout_s
    while context.num_open > 0 and time.monotonic() < until and not stop_now.is_set():
        await asyncio.sleep(_TICK_S / 2)
    num_left = context.service.num_accepted
    if num_left:
        _logger.warning("gave up requests", extra={"requests": num_left})


async def _sleep(seconds: float, stop_now: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop_now.wait(), seconds)


def make_server(context: Context, *, is_admin: bool = False) -> _Server:
    """Build a uvicorn server of the application; its `serve` is passed the listening sockets."""
    header_timeout_s = context.settings.header_timeout_s
    table = ConnectionTable(context.settings.max_connections, context.settings.max_connections_per_address)
    protocol = make_protocol(header_timeout_s, table, lambda: context.metrics.on_reject("connections"))
    config = uvicorn.Config(
        make_app(context, is_admin=is_admin),
        http=protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=max(int(header_timeout_s), 1),
        timeout_graceful_shutdown=1,
    )
    return _Server(config)
