"""Models by hub id, from a server on this machine that answers as the hub does."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from appulse.align.load import PINS, Pin, require_pinned
from appulse.align.published import Heads

from .conftest import write_astroclip

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def checkpoint(golden, tmp_path):
    return write_astroclip(tmp_path / "f.ckpt", golden("astroclip_tiny").state, Heads(3, 4, 4))


@pytest.fixture
def hub(checkpoint):
    """The address of a hub that has one file, and the paths it was asked for."""
    content, asked = checkpoint.read_bytes(), []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            found = "/astroclip/resolve/" in self.path
            self.send_response(200 if found else 404)
            if found:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            return found

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def load(source, cache, **environment):
    """In a process of its own: the hub's library reads its settings when it is imported."""
    code = "import sys, appulse; print(appulse.load(sys.argv[1]).hash())"
    return subprocess.run(
        [sys.executable, "-c", code, source],
        env={**os.environ, "HF_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hub_id_is_downloaded_once_and_kept(hub, checkpoint, tmp_path):
    address, asked = hub
    direct = load(checkpoint, tmp_path / "unused")
    first = load("someone/astroclip", tmp_path / "hf", HF_ENDPOINT=address)
    assert first.stdout == direct.stdout, first.stderr
    assert "/someone/astroclip/resolve/main/astroclip.ckpt" in asked
    again = load("someone/astroclip", tmp_path / "hf", HF_HUB_OFFLINE="1")
    assert again.stdout == direct.stdout, again.stderr

    (blob,) = (tmp_path / "hf").rglob("blobs/*")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    damaged = load("someone/astroclip", tmp_path / "hf", HF_ENDPOINT=address)
    assert f"expected {blob.name}; delete it, try again" in damaged.stderr


def test_another_file_than_the_pinned_one_takes_a_revision_to_load(hub, checkpoint, tmp_path):
    address, _ = hub
    changed = load("polymathic-ai/astroclip", tmp_path / "hf", HF_ENDPOINT=address)
    assert "polymathic-ai/astroclip has changed" in changed.stderr
    assert f"give polymathic-ai/astroclip@{COMMIT}" in changed.stderr
    offline = load("polymathic-ai/astroclip", tmp_path / "hf", HF_HUB_OFFLINE="1")
    assert "polymathic-ai/astroclip has changed" in offline.stderr
    trusted = load(f"polymathic-ai/astroclip@{COMMIT}", tmp_path / "hf", HF_ENDPOINT=address)
    assert trusted.stdout == load(checkpoint, tmp_path / "unused").stdout, trusted.stderr


@pytest.mark.parametrize(
    "wrong", [{}, {"commit": "f"}, {"sha256": "0{64}"}, {"size": 5}], ids=lambda w: "".join(w)
)
def test_commit_hash_and_size_must_all_be_the_pinned_ones(wrong, tmp_path):
    sha256 = hashlib.sha256(b"here").hexdigest()
    (tmp_path / sha256).write_bytes(b"here")
    (tmp_path / COMMIT).mkdir()
    path = tmp_path / COMMIT / "f.ckpt"
    path.symlink_to(tmp_path / sha256)
    pin = Pin(COMMIT[:8], f"{sha256[:8]}[0-9a-f]{{52}}{sha256[-4:]}", 4)._replace(**wrong)
    if not wrong:
        require_pinned(path, "a/f", pin)
    else:
        with pytest.raises(OSError, match=f"a/f@{COMMIT}"):
            require_pinned(path, "a/f", pin)


def test_a_pin_describes_one_sha256():
    for pin in PINS.values():
        assert len(pin.sha256.replace("[0-9a-f]{52}", "0" * 52)) == 64


def test_without_a_hub_the_message_says_what_to_do(hub, tmp_path):
    offline = load("polymathic-ai/astroclip", tmp_path / "hf", HF_HUB_OFFLINE="1")
    assert "download the file elsewhere and give its path" in offline.stderr
    address, _ = hub
    unknown = load("someone/else", tmp_path / "hf", HF_ENDPOINT=address)
    assert "could not get else.ckpt of someone/else from the hub" in unknown.stderr
