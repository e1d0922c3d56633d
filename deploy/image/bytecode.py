"""Compile what the program imports, our own modules and everybody else's, into PYTHONPYCACHEPREFIX.

Run by the Dockerfile with the image's own interpreter. What is never imported costs the image no bytes.
"""

from __future__ import annotations

import importlib
import pkgutil
import py_compile
import sys

import injector

# The sources never change afterwards, so nothing compares them again.
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def main() -> None:
    """Import every module of ours, then compile all that came with them."""
    for module in pkgutil.walk_packages(injector.__path__, "injector."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    files = {getattr(module, "__file__", None) or "" for module in tuple(sys.modules.values())}
    sources = sorted(file for file in files if file.endswith(".py"))
    for source in sources:
        py_compile.compile(source, doraise=True, invalidation_mode=UNCHECKED)
    print(f"{len(sources)} modules compiled into {sys.pycache_prefix}")


if __name__ == "__main__":
    main()
