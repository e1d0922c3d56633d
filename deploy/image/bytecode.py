"""Compile all imported modules, of this project and its dependencies, into PYTHONPYCACHEPREFIX.

The Dockerfile runs this with the image's own interpreter. Modules that are never imported are not compiled.
"""

from __future__ import annotations

import importlib
import pkgutil
import py_compile
import sys

import injector

# The sources never change afterwards, so Python need not compare them.
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def main() -> None:
    """Import every module of this project, then compile all loaded modules."""
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
