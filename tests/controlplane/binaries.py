"""The control plane's programs: from the user's folder, else built once from the modules in `gomod/`.

`KUBEBUILDER_ASSETS` names a folder with etcd, kube-apiserver and kubectl, as envtest's tools fill it. Other
programs are built with `go build` into `~/.cache/dapr-token-injector/<name>-<version>-<hash>/`, with a
hash of all inputs of the build. An interrupted build leaves no program behind, and of two concurrent
builds of one program, the second waits for the first.

`DAPR_TOKEN_INJECTOR_TEST_KUBERNETES` and `DAPR_TOKEN_INJECTOR_TEST_HELM` choose another version of what is built
than the newest (`make cluster KUBERNETES=1.30 HELM=3`): `VERSIONS` lists the available ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.controlplane.errors import BuildError
from tests.controlplane.processes import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MODULES = Path(__file__).parent / "gomod"
KUBERNETES_VARIABLE = "DAPR_TOKEN_INJECTOR_TEST_KUBERNETES"
HELM_VARIABLE = "DAPR_TOKEN_INJECTOR_TEST_HELM"
CONTAINERD_VERSION = "2.2.1"
PROGRESS_INTERVAL_SECONDS = 15.0

# Without cgo no C compiler is needed and the programs run on any Linux. GOWORK: a workspace file above the
# checkout is none of our business.
_GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
_GO_BUILD_FLAGS = ("-v", "-mod=readonly", "-buildvcs=false", "-trimpath")

if TYPE_CHECKING:
    Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """One Go program: the folder of its module below `gomod/`, its package, and what it needs from the linker."""

    name: str
    version: str
    module: str
    package: str
    ldflags: str = "-s -w"
    tags: tuple[str, ...] = ()

    @property
    def build_flags(self) -> tuple[str, ...]:
        """Further arguments of `go build`, besides the package and the linker's flags."""
        return (*_GO_BUILD_FLAGS, *((f"-tags={','.join(self.tags)}",) if self.tags else ()))

    @property
    def folder(self) -> Path:
        """Where its go.mod is."""
        return MODULES / self.module

    def digest(self) -> str:
        """Hash of everything that decides about the program."""
        content = hashlib.sha256("\0".join((self.package, self.ldflags, *self.build_flags)).encode())
        for name in ("go.mod", "go.sum", "main.go"):
            file = self.folder / name
            content.update(file.read_bytes() if file.exists() else b"")
        return content.hexdigest()[:12]


def _kubernetes(name: str, version: str = "1.37.2", module: str = "kubernetes") -> Program:
    ldflags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{version}"
    return Program(name, version, module, f"k8s.io/kubernetes/cmd/{name}", ldflags)


def _older_kubernetes(version: str, module: str) -> tuple[Program, ...]:
    """A control plane without a node."""
    return tuple(
        _kubernetes(name, version, module) for name in ("kube-apiserver", "kube-controller-manager", "kubectl")
    )


def _containerd(name: str) -> Program:
    version = f"-s -w -X github.com/containerd/containerd/v2/version.Version={CONTAINERD_VERSION}"
    return Program(name, CONTAINERD_VERSION, "containerd", f"github.com/containerd/containerd/v2/cmd/{name}", version)


ETCD = Program("etcd", "3.6.16", "etcd", "go.etcd.io/etcd/server/v3")
KUBE_APISERVER = _kubernetes("kube-apiserver")
KUBE_CONTROLLER_MANAGER = _kubernetes("kube-controller-manager")
KUBECTL = _kubernetes("kubectl")
KUBE_SCHEDULER = _kubernetes("kube-scheduler")
KUBELET = _kubernetes("kubelet")
KUBE_PROXY = _kubernetes("kube-proxy")
CONTAINERD = _containerd("containerd")
CONTAINERD_SHIM = _containerd("containerd-shim-runc-v2")
CTR = _containerd("ctr")
# The Kubernetes that `helm template` renders for, which Helm 3 learns from its linker: that of its client-go.
_HELM_3_LDFLAGS = " ".join(
    ("-s -w", *(f"-X helm.sh/helm/v3/pkg/chartutil.k8sVersion{part}" for part in ("Major=1", "Minor=37")))
)
HELM = Program("helm", "4.3.1", "helm", "helm.sh/helm/v4/cmd/helm")
DAPR_INJECTOR = Program("dapr-injector", "1.16.0", "dapr-injector", ".")
# Newer ones cannot be built from the module proxy. Without a choice of components it ends at its start.
DAPRD = Program(
    "daprd",
    "1.16.0",
    "daprd",
    "github.com/dapr/dapr/cmd/daprd",
    "-s -w -X github.com/dapr/dapr/pkg/buildinfo.version=1.16.0",
    tags=("stablecomponents",),
)
GRPCURL = Program("grpcurl", "1.9.3", "grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl")
CERT_MANAGER = Program("cert-manager", "1.21.2", "cert-manager", ".")
PROMRULES = Program("promrules", "3.16.0", "promrules", ".")
CONTROL_PLANE = (ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBECTL)
NODE = (KUBE_SCHEDULER, KUBELET, KUBE_PROXY, CONTAINERD, CONTAINERD_SHIM, CTR)
WITHOUT_NODE = (*CONTROL_PLANE, DAPR_INJECTOR, HELM, DAPRD, GRPCURL, CERT_MANAGER, PROMRULES)
ALL = (*WITHOUT_NODE, *NODE)
# The versions of each variable, the newest first, which is the default. Older ones are built on request.
VERSIONS: Mapping[str, Mapping[str, tuple[Program, ...]]] = {
    KUBERNETES_VARIABLE: {
        "1.37": (KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBECTL, KUBE_SCHEDULER, KUBELET, KUBE_PROXY),
        "1.33": _older_kubernetes("1.33.13", "kubernetes-1.33"),
        "1.30": _older_kubernetes("1.30.14", "kubernetes-1.30"),
    },
    HELM_VARIABLE: {
        "4": (HELM,),
        "3": (Program("helm", "3.22.0", "helm-3", "helm.sh/helm/v3/cmd/helm", _HELM_3_LDFLAGS),),
    },
}


def report_to_stderr(line: str) -> None:
    """Report progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def resolve(program: Program, report: Report = report_to_stderr) -> Path:
    """Return the path of `program`, building it when no finished one is at hand.

    Raises:
        BuildError: there is no usable Go, the build failed, or the environment selects an unknown version.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / program.name).is_file():
        return Path(assets) / program.name
    program = chosen(program)
    built = cache_folder(program) / program.name
    if not built.exists():
        with cache_lock(program.name, report):
            if not built.exists():  # another run may have built it while we waited for the lock
                _build(program, built, report)
    return built


def chosen(program: Program) -> Program:
    """Return `program` in the version that the environment selects; an empty variable selects the default.

    Raises:
        BuildError: there is no such version, or not of this program.
    """
    for variable, versions in VERSIONS.items():
        wanted = os.environ.get(variable)
        if not wanted or not any(program in programs for programs in versions.values()):
            continue
        having = {version: found for version, found in versions.items() if _named(program.name, found)}
        if wanted not in having:
            raise BuildError(f"{variable} is {wanted!r}; allowed for {program.name}: {', '.join(having)}")
        return _named(program.name, having[wanted])[0]
    return program


def _named(name: str, programs: Sequence[Program]) -> list[Program]:
    return [program for program in programs if program.name == name]


def cache_folder(program: Program) -> Path:
    """Return the folder of the built program, which may not exist yet."""
    return cache_root() / f"{program.name}-{program.version}-{program.digest()}"


def cache_root() -> Path:
    """Return the folder of everything that is built once."""
    return Path.home() / ".cache" / "dapr-token-injector"


@contextlib.contextmanager
def cache_lock(name: str, report: Report) -> Iterator[None]:
    """Lock the build of a program; the kernel releases the lock when this process ends."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another run is building {name}, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(program: Program, target: Path, report: Report) -> None:
    require_go(program.name, program.folder)
    if os.environ.get("PYTEST_CURRENT_TEST", "").endswith("(call)"):
        raise BuildError(
            f"{program.name} is not built yet, which takes longer than a test may: python -m tests.prepare"
        )
    report(f"building {program.name} {program.version} with Go, once: minutes when its cache is cold")
    started = time.monotonic()
    scratch = cache_root() / f"building-{program.name}"
    shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed: the lock is ours
    scratch.mkdir()
    try:
        _run_go_build(program, scratch / program.name, scratch / "log", report)
        target.parent.mkdir(exist_ok=True)
        (scratch / program.name).replace(target)  # atomic: readers see the complete file
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report(f"built {program.name} in {time.monotonic() - started:.0f} s: {target}")


def _run_go_build(program: Program, output: Path, log: Path, report: Report) -> None:
    command = [go(), "build", "-C", str(program.folder), *program.build_flags]
    command += ["-ldflags", program.ldflags, "-o", str(output), program.package]

    def progress(so_far: str) -> str:
        return f"{_compiled_packages(so_far)} packages compiled"

    what = f"{program.name} {program.version}"
    run_build(what, command, log=log, report=report, env=_GO_ENVIRONMENT, progress=progress)


def run_build(
    what: str,
    command: Sequence[str],
    *,
    log: Path,
    report: Report,
    env: Mapping[str, str] | None = None,
    progress: Callable[[str], str] = lambda _: "",
) -> None:
    """Run a long command, and report every few seconds that it is running; append its output to `log`.

    Raises:
        BuildError: it failed; the message has the end of its output.
    """
    started = time.monotonic()
    with ManagedProcess.start(what, command, log_path=log, env=env) as build:
        while (status := _wait(build.popen, PROGRESS_INTERVAL_SECONDS)) is None:
            report(f"  {what}: {time.monotonic() - started:.0f} s, {progress(build.log())}".rstrip(", "))
    if status != 0:
        tail = "\n".join(build.log().splitlines()[-20:])
        raise BuildError(f"could not build {what}; the end of its output:\n{tail}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _compiled_packages(log: str) -> int:
    """Count the packages that `go build -v` has named; its other lines start with `go: `."""
    return sum(not line.startswith("go: ") for line in log.splitlines())


def require_go(name: str, module: Path) -> None:
    """Pass when a Go is installed that can build the module.

    Raises:
        BuildError: one sentence with what to install.
    """
    wanted = _version(r"^go (\S+)$", (module / "go.mod").read_text("utf-8"))
    advice = (
        f"install Go {'.'.join(map(str, wanted))} or newer (https://go.dev/doc/install), "
        "or set KUBEBUILDER_ASSETS to a folder that holds the control plane's programs"
    )
    if not go():
        raise BuildError(f"{name} must be built and there is no `go` on the PATH: {advice}")
    # Inside the module Go may download a newer toolchain; then it reports that version.
    answer = subprocess.run(
        [go(), "version"],
        cwd=module,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    found = _version(r"go version go(\d[\d.]*)", answer.stdout)
    if answer.returncode != 0 or found < wanted:
        seen = (answer.stdout or answer.stderr).strip().splitlines()
        raise BuildError(f"{name} cannot be built with this Go ({seen[0] if seen else 'unknown'}): {advice}")


def _version(pattern: str, text: str) -> tuple[int, ...]:
    match = re.search(pattern, text, re.MULTILINE)
    return tuple(int(part) for part in match[1].split(".") if part) if match else ()


def module_folder(lock: Path, name: str) -> Path:
    """Return the folder of a module in Go's own cache; Go compares it with the go.sum in `lock`.

    Raises:
        BuildError: there is no usable Go, or the module cannot be downloaded.
    """
    require_go(name, lock)
    command = [go(), "-C", str(lock), "mod", "download", "-json", name]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise BuildError(f"could not download {name}: {done.stderr or done.stdout}")
    return Path(json.loads(done.stdout)["Dir"])


def environment() -> dict[str, str]:
    """Return the environment that Go is run in."""
    return {**os.environ, **_GO_ENVIRONMENT}


def go() -> str:
    """Return the path of Go, nothing when there is none."""
    return shutil.which("go") or ""
