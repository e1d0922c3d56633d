"""A registry on loopback whose images a node has never seen: copies of one image with other content in each layer."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"


class Registry:
    """Images by name; containerd reaches a registry on loopback without TLS."""

    def __init__(self, archive: Path, image: str) -> None:
        with tarfile.open(archive) as files:
            found = {one.name.removeprefix("./"): one for one in files}

            def read(digest: str) -> bytes:
                file = files.extractfile(found[f"blobs/{digest.replace(':', '/')}"])
                return file.read() if file else b""

            index = files.extractfile(found["index.json"])
            manifests = json.load(index)["manifests"] if index else []
            named = [one for one in manifests if one["annotations"]["org.opencontainers.image.ref.name"] == image]
            manifest = json.loads(read(named[0]["digest"]))
            self._config = json.loads(read(manifest["config"]["digest"]))
            self._layers = [gzip.decompress(read(one["digest"])) for one in manifest["layers"]]
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.port = 0
        self.size = 0  # bytes of the last image's layers, compressed

    def add(self, name: str) -> str:
        """Return the reference of a new image, which shares no layer with any other."""
        layers = [_with_file(layer, f"cold-{name}-{number}") for number, layer in enumerate(self._layers)]
        config: dict[str, Any] = {**self._config, "rootfs": {"type": "layers", "diff_ids": list(map(_digest, layers))}}
        packed = [gzip.compress(layer, 1) for layer in layers]
        self.size = sum(map(len, packed))
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob("application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
            "layers": [self._blob(_LAYER, layer) for layer in packed],
        }
        self.manifests[name] = json.dumps(manifest).encode()
        return f"127.0.0.1:{self.port}/{name}:1"

    def _blob(self, media_type: str, content: bytes) -> dict[str, object]:
        self.blobs[_digest(content)] = content
        return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Answer on a free port of loopback, in the network namespace of the caller."""
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # containerd tries TLS first, and turns to HTTP if the answer to that begins with this.
            default_request_version = protocol_version

            def do_GET(self) -> None:
                _, _, *path = self.path.split("/")
                kind = path[-2] if len(path) > 1 else ""
                blob, manifest = registry.blobs.get(path[-1]), registry.manifests.get(path[0])
                content = {"manifests": manifest, "blobs": blob}.get(kind, b"{}")
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                if kind == "manifests" and content:
                    self.send_header("Content-Type", _MANIFEST)
                    self.send_header("Docker-Content-Digest", _digest(content))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content or b"")

            do_HEAD = do_GET  # noqa: N815 - http.server's own name

            def log_message(self, *_: object) -> None:
                """Write no line for each request."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _with_file(layer: bytes, name: str) -> bytes:
    content = io.BytesIO(layer)
    with tarfile.open(fileobj=content, mode="a") as file:
        file.addfile(tarfile.TarInfo(name))
    return content.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
