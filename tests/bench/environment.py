"""Where the numbers come from: the machine and every version that matters, without anybody's paths or names."""

from __future__ import annotations

import os
import platform
import ssl
from importlib import metadata
from typing import Final

from tests.bench import build
from tests.bench.process import precedence

_PACKAGES: Final = ("uvicorn", "uvloop", "httptools", "msgspec", "fastapi", "pydantic", "prometheus-client")


def describe(wrk: str) -> dict[str, str]:
    """Facts by name, in the order in which they are printed."""
    return {
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES),
        "go": build.go_version(),
        "load generator": wrk,
        "priority": " ".join(precedence()) or "ordinary (no right to raise it)",
        "tls": "1.3, TLS_AES_128_GCM_SHA256, EC P-256 key, keep-alive",
    }


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - procfs
        models = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
        return next(models, platform.machine())
