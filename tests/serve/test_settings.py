"""Settings: a flag overrides a variable, a variable the file, the file the default; unknown names are errors."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import pytest
from alterbute.cli import main
from alterbute.errors import InputError
from alterbute.serve.http.auth import open_keyring
from alterbute.serve.settings import ServerSettings, merge


def test_a_flag_overrides_a_variable_overrides_the_file_overrides_the_default(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('slots = 2\nport = 9000\nlog_level = "debug"\ntimeout_s = 5\ninsecure = true\n')
    environment = {
        "ALTERBUTE_SERVE_PORT": "9001",
        "ALTERBUTE_SERVE_SLOTS": "3",
        "ALTERBUTE_SERVE_INSECURE": "false",
        "HOME": "/",
    }
    merged = merge(flags={"slots": 8, "lanes": None}, environment=environment, file=file)
    settings = merged.settings
    assert (settings.slots, settings.port, settings.log_level, settings.timeout_s, settings.lanes) == (
        8,
        9001,
        "debug",
        5.0,
        1,
    )
    assert settings.insecure is False
    assert [merged.source[name] for name in ("slots", "port", "log_level", "lanes")] == [
        "flag",
        "variable",
        "file",
        "default",
    ]


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("slots = 7\n")
    assert merge(flags={}, environment={"ALTERBUTE_SERVE_CONFIG": str(file)}).settings.slots == 7


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("slot = 3", "'slot' is no setting"),
        ("[serve]\nslots = 3", "'serve' is no setting"),
        ("slots = '3'", "slots is '3'; expected a value of type int"),
        ("slots = true", "slots is True"),
        ("slots = 0", "slots is 0; expected 1 to 64"),
        ("slots = 2.5", "slots is 2.5"),
        ("insecure = 1", "insecure is 1"),
        ("timeout_s = nan", "timeout_s is nan"),
        ("log_level = 'loud'", "log_level is 'loud'; expected one of debug"),
        ("slots = ", "cannot be read"),
    ],
)
def test_a_wrong_file_is_an_error(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=match):
        merge(flags={}, environment={}, file=file)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALTERBUTE_SERVE_SLOT", "3"),
        ("ALTERBUTE_SERVE_SLOTS", "three"),
        ("ALTERBUTE_SERVE_INSECURE", "maybe"),
        ("ALTERBUTE_SERVE_PORT", "70000"),
    ],
)
def test_a_wrong_variable_is_an_error(variable: str, value: str) -> None:
    with pytest.raises(InputError):
        merge(flags={}, environment={variable: value})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.10", "example.com"])
def test_an_address_other_than_loopback_needs_a_key(host: str) -> None:
    with pytest.raises(InputError, match="there is no API key"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, api_key="correct horse").host == host
    assert ServerSettings(host=host, insecure=True).host == host
    assert ServerSettings(host="127.0.0.1").host == "127.0.0.1"


def test_every_setting_has_a_flag_and_a_variable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    settings = ServerSettings()
    for name in (setting.name for setting in fields(ServerSettings)):
        assert name == "bundle" or f"--{name.replace('_', '-')}" in text, name
        value = getattr(settings, name)
        if isinstance(value, tuple):
            continue
        if value is not None and not isinstance(value, bool):
            merged = merge(flags={}, environment={f"ALTERBUTE_SERVE_{name.upper()}": str(value)})
            assert getattr(merged.settings, name) == value


def test_config_prints_the_effective_settings_and_hides_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALTERBUTE_SERVE_API_KEY", "correct horse")
    monkeypatch.setenv("ALTERBUTE_SERVE_PORT", "9001")
    assert main(["config", "--effective", "--slots", "3"]) == 0
    text = capsys.readouterr().out
    assert "slots = 3  # flag" in text
    assert "port = 9001  # variable" in text
    assert "correct horse" not in text
    assert 'api_key = "(hidden)"  # variable' in text
    monkeypatch.delenv("ALTERBUTE_SERVE_API_KEY")
    assert main(["config", "--slots", "3"]) == 0
    file = tmp_path / "again.toml"
    file.write_text(capsys.readouterr().out)
    assert merge(flags={}, environment={}, file=file).settings == ServerSettings(slots=3, port=9001)


def test_a_wrong_setting_ends_serve_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert main(["serve", "--slots", "0"]) == 2
    assert "slots is 0" in capsys.readouterr().err


def test_keys_are_stored_as_hashes_and_have_names(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(
        f"# one a line\n{hashlib.sha256(b'first').hexdigest()} alice\n\n{hashlib.sha256(b'second').hexdigest()}\n"
    )
    keyring = open_keyring(None, str(file))
    assert keyring.find("Bearer first").name == "alice"  # type: ignore[union-attr]
    assert keyring.find("bearer second").name == "key-4"  # type: ignore[union-attr]
    for authorization in (None, "", "first", "Bearer", "Bearer ", "Basic first", "Bearer third", "Bearer \udcff"):
        assert keyring.find(authorization) is None, authorization
    assert open_keyring(None, None).is_open
    for text in ("", "first alice", "abc"):
        file.write_text(text)
        with pytest.raises(InputError):
            open_keyring(None, str(file))
    with pytest.raises(InputError, match="shorter"):
        open_keyring("short", None)


def test_lists_are_written_with_commas_or_as_lists_in_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = ("a.example", "*.b.example:81")
    file = tmp_path / "serve.toml"
    for text in ("['a.example', '*.b.example:81']", "' a.example , *.b.example:81,'"):
        file.write_text(f"allowed_hosts = {text}\nallowed_origins = '*'\n")
        settings = merge(flags={}, environment={}, file=file).settings
        assert (settings.allowed_hosts, settings.allowed_origins) == (expected, ("*",))
    assert (
        merge(
            flags={}, environment={"ALTERBUTE_SERVE_ALLOWED_HOSTS": "a.example,*.b.example:81"}
        ).settings.allowed_hosts
        == expected
    )
    assert merge(flags={"allowed_hosts": "a.example,*.b.example:81"}, environment={}).settings.allowed_hosts == expected
    assert merge(flags={}, environment={"ALTERBUTE_SERVE_ALLOWED_HOSTS": ""}).settings.allowed_hosts == ()
    assert main(["config", "--allowed-hosts", ",".join(expected), "--root-path", "/edit"]) == 0
    file.write_text(capsys.readouterr().out)
    again = merge(flags={}, environment={}, file=file).settings
    assert again == ServerSettings(allowed_hosts=expected, root_path="/edit")
    for text in (
        "allowed_hosts = 3",
        "allowed_hosts = [3]",
        "allowed_origins = true",
        "allowed_hosts = ['a,b']",
        "allowed_origins = ['x']",
    ):
        file.write_text(text)
        with pytest.raises(InputError):
            merge(flags={}, environment={}, file=file)
