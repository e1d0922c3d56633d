"""Container images without a registry: Debian's own packages as base, the real Dockerfile on top, one OCI folder.

debootstrap builds the base once into the cache; buildah keeps its layers there, too, so that a rebuild after a change
takes seconds. Both run isolated: a killed build leaves no mount and no process.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.controlplane import binaries
from tests.controlplane.isolation import isolated

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
SUITE: Final = "bookworm"
PACKAGES: Final = "python3,python3-venv,ca-certificates"
HOST_CA_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")

PAUSE: Final = "localhost/pause:1"
DAPRD: Final = f"localhost/daprd:{binaries.DAPRD.version}"
INJECTOR: Final = "localhost/dapr-token-injector:test"
_KEPT_ARCHIVES: Final = 6


def reason_unavailable() -> str | None:
    """Return what is missing for building images, None when nothing is."""
    missing = [program for program in ("buildah", "debootstrap") if shutil.which(program) is None]
    return f"images cannot be built: apt-get install {' '.join(missing)}" if missing else None


@dataclass(frozen=True, slots=True)
class Images:
    """An OCI archive with every image that a test's node runs, and the name of the project's image in it."""

    archive: Path
    injector: str


def build_images(daprd: Path, folder: Path, report: binaries.Report) -> Images:
    """Build the project's image from the Dockerfile, daprd's and the sandbox's; `folder` is for intermediate files.

    The cache keeps the most recently used archives.

    Raises:
        BuildError: one could not be built.
    """
    kept = binaries.cache_root() / f"images-{_digest(daprd)}.tar"
    with binaries.cache_lock("images", report):
        if not kept.exists():
            shutil.move(_build_archive(daprd, folder, report), kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)  # atomic: readers see the complete file
        kept.touch()
        archive = folder / "images.tar"
        shutil.copyfile(kept, archive)  # the clean-up of another run does not delete it
        for old in sorted(kept.parent.glob("images-*.tar"), key=lambda file: file.stat().st_mtime)[:-_KEPT_ARCHIVES]:
            old.unlink()
    return Images(archive, INJECTOR)


def _digest(daprd: Path) -> str:
    """Hash of everything that decides about the images."""
    content = hashlib.sha256(f"{daprd} {_base_digest()}".encode())
    copied = re.findall(r"^COPY ([^-].*) ", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    names = ["Dockerfile", ".dockerignore", *(name for line in copied for name in line.split())]
    for path in (ROOT / name for name in names):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                content.update(f"{file.relative_to(ROOT)}".encode() + b"\0" + file.read_bytes())
    content.update(Path(__file__).read_bytes())
    return content.hexdigest()[:12]


def _build_archive(daprd: Path, folder: Path, report: binaries.Report) -> Path:
    builder = _Builder(binaries.cache_root() / "buildah", folder, report)
    base = builder.import_base(_make_base(folder, report))
    arguments = ("--build-arg", f"BASE={base}")
    # Named, so that its steps are not taken for rubbish when the storage is tidied up.
    builder.build(ROOT, f"{INJECTOR}-build", *arguments, "--target", "build")
    builder.build(ROOT, INJECTOR, *arguments)
    builder.build(_context(folder, f'FROM {base}\nCMD ["/bin/sleep", "infinity"]\n'), PAUSE)
    sidecar = 'FROM scratch\nCOPY daprd /daprd\nUSER 65532:65532\nENTRYPOINT ["/daprd"]\n'
    builder.build(_context(folder, sidecar, daprd), DAPRD)
    archive = builder.export((PAUSE, DAPRD, INJECTOR))
    builder.tidy()
    return archive


def _make_base(folder: Path, report: binaries.Report) -> Path:
    """Return a tar of a small Debian with Python, made when the cache has none."""
    target = binaries.cache_root() / f"base-{SUITE}-{_base_digest()}.tar"
    if target.exists():
        return target
    report(f"making a Debian {SUITE} base image with debootstrap, once")
    root, made = folder / "base", folder / "base.tar"
    _run("debootstrap", ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)], folder, report)
    if HOST_CA_BUNDLE.exists():  # pip inside a build reaches the index by the same authorities as this machine
        shutil.copyfile(HOST_CA_BUNDLE, root / HOST_CA_BUNDLE.relative_to("/"))
    excluded = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*")
    _run("tar", ["tar", "-C", str(root), *excluded, "-cf", str(made), "."], folder, report)
    shutil.move(made, target.with_suffix(".new"))
    target.with_suffix(".new").replace(target)  # atomic: readers see the complete file
    shutil.rmtree(root)
    return target


def _base_digest() -> str:
    authorities = HOST_CA_BUNDLE.read_bytes() if HOST_CA_BUNDLE.exists() else b""
    return hashlib.sha256(b"\0".join((PACKAGES.encode(), authorities))).hexdigest()[:12]


def _context(folder: Path, dockerfile: str, *files: Path) -> Path:
    """Return a new folder with a Dockerfile and copies of `files`."""
    context = Path(tempfile.mkdtemp(dir=folder))
    (context / "Dockerfile").write_text(dockerfile, "utf-8")
    for file in files:
        shutil.copy(file, context)
    return context


@dataclass(frozen=True, slots=True)
class _Builder:
    """Buildah with its storage in the cache and everything else in `folder`."""

    storage: Path
    folder: Path
    report: binaries.Report

    def import_base(self, tar: Path) -> str:
        """Return the image made of a tar."""
        name = f"localhost/{tar.stem}:1"
        dockerfile = self.folder / "Dockerfile.base"
        dockerfile.write_text(f"FROM scratch\nADD {tar.name} /\n", "utf-8")
        self.build(tar.parent, name, "--file", str(dockerfile))
        return name

    def build(self, context: Path, name: str, *flags: str) -> None:
        """Build `context`'s Dockerfile; steps that did not change are taken from the storage."""
        self._run(name, "bud", "--isolation", "chroot", "--layers", *flags, "--tag", name, str(context))

    def export(self, names: Sequence[str]) -> Path:
        """Return a tar of an OCI layout with all images, which share their layers."""
        layout, archive = self.folder / "layout", self.folder / "images.tar"
        for name in names:
            self._run(name, "push", "--disable-compression", name, f"oci:{layout}:{name}")
        _run("tar", ["tar", "-C", str(layout), "-cf", str(archive), "."], self.folder, self.report)
        shutil.rmtree(layout)
        return archive

    def tidy(self) -> None:
        """Remove containers of builds that were killed, and images that a newer one replaced."""
        self._run("buildah's storage", "rm", "--all")
        self._run("buildah's storage", "rmi", "--prune", "--force")

    def _run(self, what: str, *arguments: str) -> None:
        storage = ("--root", str(self.storage), "--runroot", str(self.folder / "buildah-run"))
        _run(what, ["buildah", *storage, *arguments], self.folder, self.report)


def _run(what: str, command: Sequence[str], folder: Path, report: binaries.Report) -> None:
    binaries.run_build(what, isolated(command), log=folder / "images.log", report=report)
