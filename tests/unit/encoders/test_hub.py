"""A model by its name on the hub: fetched by the hub's own library from a server that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiny_models import sentence_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-bert"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the files that are asked of it. It holds a model, and beside it a pickle and code."""
    folder, asked = tmp_path / "hub", []
    sentence_encoder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_own.py").write_text("raise SystemExit")

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{REPOSITORY}"):
                files = [{"rfilename": file.name} for file in folder.iterdir()]
                found = json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": files}).encode()
            else:
                name = path.rpartition("/")[2]
                asked.append(name)
                found = (folder / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(found)))
            self.send_header("ETag", hashlib.sha256(found).hexdigest())
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(found)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_a_model_is_fetched_by_name_without_its_pickles_and_code(hub, tmp_path):
    """In a process of its own: the library reads its configuration once."""
    url, asked = hub
    program = f"""
from upwell.local.own_models import resolve
from upwell.settings import Settings
flags = {{"models.text_encoder.source": "{REPOSITORY}@v1"}}
print(resolve(Settings.load(flags=flags).models)["text_encoder"].parameters["model_dir"])
"""
    cache = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1", "UPWELL_CONFIG": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | cache,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = Path(done.stdout.strip())
    assert found.parts[-3:] == ("models--someone--tiny-bert", "snapshots", COMMIT)
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in found.iterdir()} == names
    assert set(asked) == names
