# The image of dapr-token-injector: Python, the locked dependencies, and nothing that is needed only to build.
# BASE is any Debian-like image with `python3` (3.11 or newer) and its `venv`; both stages stand on the same.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/dapr-token-injector
COPY requirements/build.txt requirements/runtime.txt requirements/
# Wheels only: no compiler runs, and the hashes are those of what is shipped.
RUN /tools/bin/pip install --quiet --only-binary :all: --require-hashes -r requirements/build.txt
RUN /tools/bin/pip --python /opt/dapr-token-injector/bin/python install --quiet --no-compile --only-binary :all: \
      --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY injector injector
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && /tools/bin/pip --python /opt/dapr-token-injector/bin/python install --quiet --no-compile --no-deps dist/*.whl
# The root is read-only at run time, so bytecode is made here, in a folder of its own: the library of the base
# (python:*-slim ships no bytecode) needs it, too.
ENV PYTHONPYCACHEPREFIX=/opt/dapr-token-injector/bytecode
COPY deploy/image/bytecode.py /tools/
RUN /opt/dapr-token-injector/bin/python /tools/bytecode.py

FROM ${BASE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dapr-token-injector" \
      org.opencontainers.image.description="Gives every Dapr sidecar on Kubernetes its API token" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/dapr-token-injector /opt/dapr-token-injector
# Memory that a burst of reviews needed is kept for the next one: given back and fetched again, it costs page faults.
ENV PATH=/opt/dapr-token-injector/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPYCACHEPREFIX=/opt/dapr-token-injector/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_TRIM_THRESHOLD_=268435456 \
    MALLOC_MMAP_THRESHOLD_=33554432
USER 65532:65532
WORKDIR /
EXPOSE 10250 8080
ENTRYPOINT ["/opt/dapr-token-injector/bin/dapr-token-injector"]
CMD ["serve"]
