"""API keys: what is a key, which files hold keys, and SIGHUP, which reads them again and ends nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import textwrap
import threading
import time
from pathlib import Path

import httpx
import pytest
from alterbute.errors import InputError
from alterbute.serve.http import key_file
from alterbute.serve.http.auth import Keyring, open_keyring, read_keys
from alterbute.serve.http.key_file import ApiKey, read_key_file

from tests.support.imports import ROOT
from tests.support.process import running_process
from tests.support.serving import edit_files, serving, wait_until

# The command, with launches that wait while the file of the variable HOLD exists.
HELD = """
    import os, time
    from alterbute.cli import main
    from alterbute.serve.scheduler.worker import Worker

    launch = Worker._launch

    def launch_later(worker):
        while os.path.exists(os.environ["HOLD"]):
            time.sleep(0.01)
        launch(worker)

    Worker._launch = launch_later
    raise SystemExit(main())
"""
PATH = {"PATH": os.environ["PATH"]}


def digest(key: str | bytes) -> str:
    """The SHA-256 of a key in hex, as in a key file."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


def refusal(path: Path, data: str | bytes) -> str:
    """The message with which a key file of these bytes is refused."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(InputError) as caught:
        read_key_file(path)
    assert caught.value.param == "api_key_file"
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "\n", "\r\n", " ", "  ", "\t", " \n", "\n\n", "\r\n\r\n", "   ", "KEY", "$KEY", "$KEY\n", "${KEY:?}", "KEY\r\n"]
)  # fmt: skip
def test_the_hash_of_no_key_is_refused_with_its_cause(tmp_path: Path, text: str) -> None:
    for line in (f"{digest(text)}  -\n", f"{digest('right key')} alice\n{digest(text).upper()} bob\n"):
        message = refusal(tmp_path / "keys", line)
        assert ("variable with the key was unset" if "KEY" not in text else "itself, and not of a key") in message
        assert ': "${KEY:?}" && printf %s "$KEY" | sha256sum' in message


def test_the_documented_command_writes_a_key_and_fails_without_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "server.md").read_text()
    command = next(line.strip() for line in page.splitlines() if ">> keys.txt" in line)
    for environment in ({}, {"KEY": ""}):
        ended = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env={**PATH, **environment}, capture_output=True, text=True
        )
        assert ended.returncode != 0
        assert "KEY" in ended.stderr
        assert not (tmp_path / "keys.txt").exists()
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env={**PATH, "KEY": "right key"}, check=True)
    keyring = open_keyring(None, str(tmp_path / "keys.txt"))
    assert keyring.find("Bearer right key").name == "alice"  # type: ignore[union-attr]


def test_an_empty_key_opens_nothing_whatever_the_keyring_holds() -> None:
    keyring = Keyring(
        tuple(ApiKey(digest=hashlib.sha256(key).digest(), name="x") for key in (b"", b" ", b"\n", b"right key"))
    )
    for header in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "bearer\t",
        "Bearer \t ",
        "Bearer\n",
        "right key",
        "Basic right key",
    ):
        assert keyring.find(header) is None, header
    for header in ("Bearer right key", "BEARER right key", "Bearer   right key\t"):
        assert keyring.find(header) is not None
    for header in (
        "Bearer right  key",
        "Bearer right key\xa0",
        "Bearer Right key",
        "Bearer right key\n",
        "Bearer right key\u20ac",
        "Bearer \udcff",
    ):
        assert keyring.find(header) is None, header


@pytest.mark.parametrize("key", ["schlüssel-à", "ключ-от-сервера", "鍵鍵鍵鍵鍵鍵鍵鍵", "pass\u00a0word"])
def test_a_key_that_is_not_ascii_matches_in_utf_8(tiny_bundle: Path, tmp_path: Path, key: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{digest(key)} alice")
    for keyring in (open_keyring(None, str(file)), *([open_keyring(key, None)] if key.isprintable() else [])):
        assert keyring.find(f"Bearer {key.encode().decode('latin-1')}") is not None
        assert keyring.find("Bearer " + key.encode()[:-1].decode("latin-1")) is None


def test_a_key_that_is_not_ascii_opens_the_server(tiny_bundle: Path) -> None:
    with serving(tiny_bundle, api_key="schlüssel-à") as server:
        for text, status in (
            (b"Bearer " + "schlüssel-à".encode(), 200),
            (b"Bearer schl\xfcssel-\xe0", 401),
            (b"Bearer ", 401),
            (b"Bearer", 401),
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(
                    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: "
                    + text
                    + b"\r\n\r\n"
                )
                assert f" {status} ".encode() in connection.recv(100)


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("", "empty"),
        ("        ", "empty"),
        ("\n", "empty"),
        ("seven77", "shorter than 8"),
        ("right key\n", "line break"),
        (" right key", "space at an end"),
        ("right\x00key", "invisible"),
        ("right\u200bkey", "invisible"),
        ("right\udcffkey", "invisible"),
    ],
)
def test_a_key_setting_that_cannot_be_sent_is_refused(key: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        open_keyring(key, None)
    assert "right" not in str(caught.value)


def test_names_come_from_the_line_or_its_number(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    one, two, three, four = (digest(key) for key in ("one", "two", "three", "four"))
    file.write_bytes(f"\ufeff# ours\r\n  {one}\talice \r\n\r\n{two}  -\n{three.upper()} *-\n\t\n{four} alice".encode())
    assert [key.name for key in read_key_file(file)] == ["alice", "key-4", "key-5", "alice"]


@pytest.mark.parametrize(
    "separator", ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\x00"]
)
def test_only_line_feeds_end_lines(tmp_path: Path, separator: str) -> None:
    one, two = digest("one"), digest("two")
    for text in (
        f"{one} alice{separator}{two} bob\n",
        f"{one}{separator}{two}\n",
        f"{one}{separator}alice\n",
        f"{separator}{one} alice",
    ):
        assert "line 1 that is no SHA-256" in refusal(tmp_path / "keys", text)
    # A comment goes on to the line feed: what follows in it is no key.
    assert "holds no key" in refusal(tmp_path / "keys", f"# old{separator}{one} mallory\n")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "holds no key"),
        (b"# nothing\n\n", "holds no key"),
        (b"abc\n", "line 1"),
        (digest("one").encode()[:-1], "line 1"),
        (digest("one").encode() + b"0", "line 1"),
        (digest("one").encode() + b" alice smith", "line 1"),
        (digest("one").encode() + b" " + b"a" * 65, "line 1"),
        (digest("one").encode() + b" ali\x1b[31mce", "line 1"),
        (digest("one").encode() + b"\n" + digest("one").upper().encode() + b" x", "in line 2 the key of line 1 again"),
        (digest("one").encode() + b" \xff", "is not UTF-8"),
        ((digest("one") + " alice\n").encode("utf-16"), "is not UTF-8"),
        (b"#" * ((1 << 20) + 1), "more than 1 MiB"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, match: str) -> None:
    assert match in refusal(tmp_path / "keys", data)


def test_links_are_followed_and_nothing_but_files_and_pipes_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A secret that Kubernetes mounts is a link to a link.
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "keys").write_text(digest("one"))
    (tmp_path / "keys").symlink_to("..data/keys")
    assert len(read_key_file(tmp_path / "keys")) == 1
    (tmp_path / "socket").unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name, match in (
            ("socket", "cannot be read"),
            (".", "no file"),
            ("/dev/null", "no file"),
            ("/dev/zero", "no file"),
            ("none", "cannot be read"),
        ):
            with pytest.raises(InputError, match=match):
                read_key_file(Path(name))
    with pytest.raises(InputError, match="a name that no file can have"):
        read_key_file(Path("a\x00b"))


def test_a_file_that_every_user_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(digest("one"))
    for mode in (0o600, 0o640, 0o664, 0o644, 0o400):
        file.chmod(mode)
        assert read_key_file(file)
    for mode in (0o666, 0o602, 0o777):
        file.chmod(mode)
        with pytest.raises(InputError, match="chmod o-w"):
            read_key_file(file)


def test_a_pipe_is_read_and_never_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()  # as in `--api-key-file <(command)`

    def write_late() -> None:
        time.sleep(0.05)
        os.write(writer, digest("one").encode())
        os.close(writer)

    thread = threading.Thread(target=write_late)
    thread.start()
    assert len(read_key_file(Path(f"/dev/fd/{reader}"))) == 1
    thread.join()
    monkeypatch.setattr(key_file, "_PIPE_S", 0.1)
    os.mkfifo(tmp_path / "fifo", 0o666)
    for path in (tmp_path / "fifo", Path(f"/dev/fd/{reader}")):
        start = time.monotonic()
        with pytest.raises(InputError):
            read_key_file(path)
        assert time.monotonic() - start < 5
    os.close(reader)


def test_a_keyring_is_replaced_whole_and_never_by_nothing() -> None:
    old, new = read_keys("first key", None), read_keys("second key", None)
    keyring = Keyring(old)
    assert keyring.replace((*old, *new)) == (1, 0)
    assert keyring.replace(new) == (0, 1)
    assert keyring.find("Bearer first key") is None
    assert keyring.find("Bearer second key") is not None
    with pytest.raises(ValueError, match="empty"):
        keyring.replace(())
    assert not keyring.is_open


def test_sighup_reads_the_keys_again_and_ends_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{digest('old key')} alice\n")
    hold = tmp_path / "hold"
    flags = ("--api-key-file", str(file), "--drain-delay-s", "0", str(tiny_bundle))
    environment = {**os.environ, "HOLD": str(hold)}
    with running_process(*flags, environment=environment, program=("-c", textwrap.dedent(HELD))) as process:

        def status(key: str) -> int:
            return httpx.get(f"{process.url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code

        def is_editing(key: str) -> bool:
            reply = httpx.get(f"{process.url}/metrics", headers={"authorization": f"Bearer {key}"})
            return "alterbute_requests_running 1.0" in reply.text

        def reload_badly(count: int) -> None:
            """Send SIGHUP, and wait until that many files were refused."""
            process.popen.send_signal(signal.SIGHUP)
            failed = "the API keys were not reloaded, the old ones stay"
            wait_until(lambda: sum(line["message"] == failed for line in process.lines) == count)

        replies: list[int] = []

        def edit() -> None:
            data = {"prompt": "color: red", "num_inference_steps": "2"}
            reply = httpx.post(
                f"{process.url}/v1/images/edits",
                files=edit_files(),
                data=data,
                timeout=60,
                headers={"authorization": "Bearer old key"},
            )
            replies.append(reply.status_code)

        hold.touch()
        sender = threading.Thread(target=edit)
        sender.start()
        wait_until(lambda: is_editing("old key"), 30)
        assert (status("old key"), status("new key")) == (200, 401)
        file.write_text(f"{digest('new key')} alice\n")
        process.popen.send_signal(signal.SIGHUP)
        reloaded = process.wait_for("API keys reloaded")
        assert (reloaded["keys"], reloaded["added"], reloaded["removed"]) == (1, 1, 1)
        assert (status("old key"), status("new key")) == (401, 200)
        assert is_editing("new key")
        for number, text in enumerate((digest(""), "", "rubbish"), 1):
            file.write_text(text)
            reload_badly(number)
            assert (status("new key"), status("old key")) == (200, 401)
        file.unlink()
        reload_badly(4)
        assert status("new key") == 200
        assert is_editing("new key")
        hold.unlink()
        sender.join(60)
        assert replies == [200]
        assert process.popen.poll() is None
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(30) == 0


def test_sighup_without_a_key_file_is_logged_and_ignored(tiny_bundle: Path) -> None:
    with running_process("--drain-delay-s", "0", str(tiny_bundle)) as process:
        process.popen.send_signal(signal.SIGHUP)
        process.wait_for("SIGHUP is ignored: there is no api_key_file to read again")
        assert httpx.get(f"{process.url}/v1/models").status_code == 200
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(30) == 0
