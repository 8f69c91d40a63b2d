"""The table of the server's settings: one name gives the TOML key, the flag and the environment variable."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

from alterbute.errors import InputError
from alterbute.plain_file import read_plain_file
from alterbute.serve.edge.hosts import is_loopback, parse_host_rules
from alterbute.serve.edge.origins import parse_allowed_origins
from alterbute.serve.edge.root_path import check_root_path

Value: TypeAlias = str | int | float | bool | tuple[str, ...] | None
ENV_PREFIX: Final = "ALTERBUTE_SERVE_"
CONFIG_VARIABLE: Final = "ALTERBUTE_SERVE_CONFIG"
_MAX_CONFIG_BYTES: Final = 1 << 20
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
SECRETS: Final = frozenset({"api_key"})


def _setting(
    default: Value, help: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The server's settings: `--max-queue`, `ALTERBUTE_SERVE_MAX_QUEUE` and the TOML key `max_queue` set the same one."""

    bundle: str | None = _setting(None, "Bundle folder; else the demo bundle.")
    backend: str = _setting(
        "auto", "auto (the fastest that fits), tensorrt, tensorrt_rtx, onnxruntime-cuda or onnxruntime."
    )
    trust_key: str | None = _setting(None, "Public key file; it must have signed the bundle.")
    allow_unsigned: bool = _setting(False, "Load engines that no trusted key signed. They are executable code.")
    exact: bool = _setting(
        False, "On a GPU, too: the same bytes for the same request, alone and beside others. Slower there."
    )
    lanes: int = _setting(1, "Lanes, each with its own engines and thread: one per device.", low=1, high=64)
    slots: int = _setting(4, "Images that one lane denoises together at most.", low=1, high=64)
    threads: int | None = _setting(
        None, "CPU threads of the engines; else as many as keep results exact.", low=1, high=256
    )

    host: str = _setting("127.0.0.1", "Address to listen on; any but loopback needs an API key.")
    port: int = _setting(8000, "Port; 0 takes a free one.", low=0, high=65535)
    admin_port: int | None = _setting(
        None, "A second port on loopback for /metrics and /health, without a key.", low=0, high=65535
    )
    root_path: str = _setting(
        "", "Prefix of all paths, such as /edit, behind a proxy that keeps or removes it; empty is none."
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        "Host names that requests may name beside loopback: names, *.names, addresses, networks, each with :port or "
        "without; * is any. None: any with an API key or insecure, else loopback only. A list: commas between entries.",
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        "Origins of web pages of other sites that may use the server (CORS), such as https://edit.example.com; * is any. "
        "A list: commas between entries.",
    )
    insecure: bool = _setting(False, "Listen on other addresses without an API key.")
    api_key: str | None = _setting(None, "One API key; prefer api_key_file, which holds hashes only.")
    api_key_file: str | None = _setting(None, "File of API keys, a line each: SHA-256 of the key in hex, then a name.")

    max_queue: int = _setting(4, "Images that may wait; more are refused with 429.", low=0, high=100_000)
    timeout_s: float = _setting(
        60.0, "Deadline of a request without timeout_s; also the longest that a request may set.", low=0.1, high=3600
    )
    stretch: float = _setting(
        1.5,
        "How long shorter requests may pass a waiting one, in multiples of its own work.",
        low=0,
        high=1000,
    )
    max_count: int = _setting(4, "Images per request at most (n).", low=1, high=64)
    max_steps: int = _setting(100, "Steps per image at most.", low=1, high=1000)
    max_megapixel_steps: float = _setting(4000.0, "Megapixels x steps x n of one request at most.", low=0.001)
    rate: float = _setting(
        0.0, "Megapixel-steps per second that one API key may use in the long run; 0 is no limit.", low=0
    )
    rate_burst: float = _setting(4000.0, "Megapixel-steps that one API key may use at once.", low=0.001)

    max_file_mb: float = _setting(40.0, "MiB per picture at most.", low=0.001, high=400)
    max_request_mb: float = _setting(64.0, "MiB per request body at most.", low=0.001, high=1600)
    max_megapixels: float = _setting(50.0, "Megapixels per picture at most.", low=0.001, high=100)
    memory_mb: float = _setting(
        2048.0, "MiB that bodies and decoded pictures of all requests together may take.", low=1
    )
    memory_share: float = _setting(
        0.75, "Part of memory_mb that one API key, or without keys one address, may hold at once.", low=0.01, high=1
    )
    decode_timeout_s: float = _setting(
        5.0,
        "CPU seconds that decoding a picture of 12 megapixels may take; larger ones in proportion, smaller ones at least a fifth.",
        low=0.01,
    )
    decoders: int | None = _setting(
        None,
        "Processes that decode pictures; else one per CPU and one more. One client takes all but one at most.",
        low=1,
        high=256,
    )

    header_timeout_s: float = _setting(10.0, "Seconds that a client has to send its headers.", low=0.1)
    min_body_rate: float = _setting(16384.0, "Bytes per second that a client must send of its body.", low=1)
    body_silence_s: float = _setting(10.0, "Seconds that a client may send nothing of its body.", low=0.1)
    max_connections: int = _setting(512, "Open connections at most; more are closed with 503.", low=1, high=1_000_000)
    max_connections_per_address: int = _setting(
        256, "Open connections at most of one IPv4 address or IPv6 /64.", low=1, high=1_000_000
    )
    write_timeout_s: float = _setting(30.0, "Seconds that a client has to take a part of its response.", low=0.1)
    drain_delay_s: float = _setting(
        3.0, "After SIGTERM: seconds to go on accepting, until the balancer has seen 'not ready'.", low=0
    )
    drain_timeout_s: float = _setting(30.0, "After that: seconds that requests in flight have to finish.", low=0)
    log_level: str = _setting("info", "Least level that is logged.", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        """Check ranges, and refuse combinations that cannot work or are not safe."""
        for setting in fields(self):
            _check_range(setting, getattr(self, setting.name))
        parse_host_rules(self.allowed_hosts)
        parse_allowed_origins(self.allowed_origins)
        check_root_path(self.root_path)
        if not self.insecure and not is_loopback(self.host) and not (self.api_key or self.api_key_file):
            raise InputError(
                f"host is {self.host!r} and there is no API key",
                "a loopback address, or a key",
                "set api_key_file, or --insecure if something else guards the port",
                "host",
                "host_without_key",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSettings:
    """Settings with the origin of each value: `default`, `file`, `variable` or `flag`."""

    settings: ServerSettings
    source: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        """The settings as lines of TOML with their origins, secrets hidden."""
        for setting in fields(self.settings):
            value: Value = getattr(self.settings, setting.name)
            key = setting.name if value is not None else f"# {setting.name}"
            text = '"(hidden)"' if setting.name in SECRETS and value is not None else _toml(value)
            yield f"{key} = {text}  # {self.source[setting.name]}"


def merge(
    *, flags: Mapping[str, Value], environment: Mapping[str, str], file: str | Path | None = None
) -> EffectiveSettings:
    """Merge settings: a flag overrides a variable, a variable the file, the file the default.

    Args:
        flags: Settings given on the command line; None is "not given".
        environment: Environment variables; `ALTERBUTE_SERVE_CONFIG` names the file when `file` is None.
        file: A TOML file of settings.

    Raises:
        InputError: an unknown key or variable, a wrong type, a value out of range, or an unreadable file.
    """
    table = {setting.name: setting for setting in fields(ServerSettings)}
    values: dict[str, Value] = {}
    source = dict.fromkeys(table, "default")

    def set_value(name: str, value: Value, origin: str) -> None:
        values[name], source[name] = value, origin

    path = file or environment.get(CONFIG_VARIABLE)
    for key, value in (_read_toml(Path(path)) if path else {}).items():
        if key not in table:
            raise _unknown_error("the key", key, table)
        set_value(key, _check_type(table[key], value), "file")
    for variable, text in environment.items():
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        key = variable.removeprefix(ENV_PREFIX).lower()
        if key not in table:
            raise _unknown_error("the variable", variable, [ENV_PREFIX + name.upper() for name in table])
        set_value(key, _parse_variable(table[key], text), "variable")
    for key, value in flags.items():
        if value is not None:
            set_value(key, _check_type(table[key], value), "flag")
    arguments: dict[str, Any] = dict(values)
    return EffectiveSettings(settings=ServerSettings(**arguments), source=source)


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(read_plain_file(path, _MAX_CONFIG_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise InputError(
            f"the config file {str(path)!r} cannot be read ({getattr(fault, 'strerror', None) or fault})",
            "a TOML file of settings",
            "correct it",
            "config",
            "config_unreadable",
        ) from None


def _parse_variable(setting: Field[Any], text: str) -> Value:
    """Convert a variable's text to the setting's type."""
    type_name = str(setting.type)
    if "tuple" in type_name:
        return _split_list(text)
    try:
        if "bool" in type_name:
            return {"1": True, "true": True, "0": False, "false": False}[text.strip().lower()]
        if "int" in type_name:
            return int(text)
        if "float" in type_name:
            return float(text)
    except (KeyError, ValueError):
        raise _type_error(setting, text) from None
    return text


def _check_type(setting: Field[Any], value: object) -> Value:
    """Return a value of the setting's type; whole numbers become floats where the setting is one."""
    type_name = str(setting.type)
    if "tuple" in type_name:
        return _check_list(setting, value)
    if isinstance(value, bool):
        is_right = "bool" in type_name
    elif isinstance(value, int) and "float" in type_name and abs(value) < 2**63:
        return float(value)
    else:
        is_right = type(value).__name__ in type_name
    if not is_right or not isinstance(value, str | int | float | bool):
        raise _type_error(setting, value)
    return value


def _check_list(setting: Field[Any], value: object) -> tuple[str, ...]:
    """Return a list of texts: one text with commas, as in flags and variables, or a list in TOML."""
    if isinstance(value, str):
        return _split_list(value)
    if isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    raise _type_error(setting, value)


def _split_list(text: str) -> tuple[str, ...]:
    entries = (entry.strip() for entry in text.split(","))
    return tuple(entry for entry in entries if entry)


def _check_range(setting: Field[Any], value: Value) -> None:
    low, high, choices = setting.metadata["low"], setting.metadata["high"], setting.metadata["choices"]
    if choices and value not in choices:
        raise _range_error(setting.name, value, f"one of {', '.join(choices)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    # Written so that NaN fails.
    if not ((low is None or value >= low) and (high is None or value <= high)):
        raise _range_error(
            setting.name,
            value,
            f"{low if low is not None else 'anything'} to {high if high is not None else 'anything'}",
        )


def _unknown_error(what: str, name: str, names: Iterable[str]) -> InputError:
    return InputError(
        f"{what} {name!r} is no setting", f"one of {', '.join(names)}", "correct or remove it", name, "setting_unknown"
    )


def _type_error(setting: Field[Any], value: object) -> InputError:
    type_name = str(setting.type).removesuffix(" | None")
    expected = "a list of texts, or one with commas" if "tuple" in type_name else f"a value of type {type_name}"
    return InputError(f"{setting.name} is {value!r}", expected, "correct it", setting.name, "setting_type")


def _range_error(name: str, value: object, expected: str) -> InputError:
    return InputError(
        f"{name} is {value!r:.80}", expected, f"choose {name} in that range", name, "setting_out_of_range"
    )


def _toml(value: Value) -> str:
    if value is None:
        return "(unset)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + _CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", escaped) + '"'
    return str(value)
