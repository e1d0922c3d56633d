"""`python -m tests.node.soak`: what sealing prevents and what it costs, measured on a real node with the real daprd.

Pods of four kinds (sealed or not, with a regular or a native sidecar) run under a Secret that changes every two
seconds, as if External Secrets wrote it. Their apps call their daprd over HTTP and gRPC while containers are killed at
random and restart in place. Before that, Pods with and without the seal start in turn. Prints the numbers of
docs/explanation/sealed-pods.md; ends with 1 if a sealed Pod had two tokens, or a call of its app was refused.
"""

from __future__ import annotations

import signal
import statistics
import sys
import time

import click

from tests.controlplane import binaries, images
from tests.controlplane.cluster import own_namespace
from tests.controlplane.errors import HarnessError
from tests.node.registry import Registry
from tests.node.sealed import Fleet, pod, sealed, secret, timed, wait_ready
from tests.node.target import Target, own_node, reason_unavailable

_VALUE = b"marker-0123456789abcdef"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--pods", default=20, show_default=True, help="Pods, a quarter of each kind.")
@click.option("--calls", default=20.0, show_default=True, help="Calls a second of each app, of each protocol.")
@click.option("--kills", default=500, show_default=True, help="Containers to kill, in rounds of one of each Pod.")
@click.option("--starts", default=20, show_default=True, help="Pods to start of each kind, one at a time, in turn.")
@click.option("--cold", default=5, show_default=True, help="Sealed Pods to start whose image the node does not have.")
@click.option("--rest", default=2.0, show_default=True, help="Seconds between the end of a round and the next one.")
def main(pods: int, calls: float, kills: int, starts: int, cold: int, rest: float) -> None:
    """Kill containers of sealed and unsealed Pods while their Secret changes, and count what that does."""
    for number in (signal.SIGTERM, signal.SIGINT):  # end in order; a shell ignores SIGINT for its background jobs
        signal.signal(number, signal.default_int_handler)
    if reason := reason_unavailable():
        print(reason, file=sys.stderr)
        sys.exit(3)
    try:
        with own_node(binaries.report_to_stderr) as target, target.entered():
            _measure_starts(target, starts)
            _measure_cold_starts(target, cold)
            is_fine = _measure_kills(target, pods, calls, kills, rest)
    except HarnessError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if is_fine else 1)


def _measure_starts(target: Target, starts: int) -> None:
    """Print the time from a Pod's creation until it is ready, sealed and not."""
    found: dict[str, list[float]] = {"sealed": [], "unsealed": []}
    with own_namespace(target.kubectl) as kubectl:
        kubectl.create(secret(_VALUE))
        for number in range(starts + 1):
            for kind, seconds in found.items():
                plain = pod(target, f"{kind}-{number}")
                item = sealed(target, plain) if kind == "sealed" else plain
                name = item["metadata"]["name"]

                def start(item: dict[str, object] = item, name: str = name) -> None:
                    kubectl.create(item)
                    wait_ready(kubectl, [name])

                took = timed(start)
                if number:  # the first one of each kind warms caches
                    seconds.append(took)
                kubectl.delete("pod", name)
    for kind, seconds in found.items():
        if seconds:
            print(
                f"{kind}: {starts} starts, ready after {statistics.median(seconds):.1f} s "
                f"({min(seconds):.1f} to {max(seconds):.1f})",
                flush=True,
            )


def _measure_cold_starts(target: Target, starts: int) -> None:
    """Print the time until a sealed Pod is ready whose seal image comes from a registry on loopback."""
    if not starts:
        return
    report = binaries.report_to_stderr
    archive = images.build_images(binaries.resolve(binaries.DAPRD, report), target.folder, report)
    registry = Registry(archive.archive, archive.injector)
    archive.archive.unlink()
    seconds: list[float] = []
    with own_namespace(target.kubectl) as kubectl, registry.serving():
        kubectl.create(secret(_VALUE))
        for number in range(starts):
            name = f"cold-{number}"
            item = sealed(target, pod(target, name), image=registry.add(name))

            def start(item: dict[str, object] = item, name: str = name) -> None:
                kubectl.create(item)
                wait_ready(kubectl, [name])

            seconds.append(timed(start))
            kubectl.delete("pod", name)
    print(
        f"sealed, image not on the node ({registry.size / 2**20:.0f} MiB): {starts} starts, ready after "
        f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})",
        flush=True,
    )


def _measure_kills(target: Target, pods: int, calls: float, kills: int, rest: float) -> bool:
    """Print what happened to sealed and to unsealed Pods; return whether the sealed ones always had one token."""
    with own_namespace(target.kubectl) as kubectl:
        begun = time.monotonic()
        fleet = Fleet(kubectl, target, max(1, pods // 4), calls)
        before = fleet.sealed_tokens()
        with fleet:
            while (done := sum(counts.kills for counts in fleet.counts.values())) < kills:
                binaries.report_to_stderr(f"{done} of {kills} kills")
                fleet.kill_one_of_each()
                time.sleep(rest)
            fleet.wait_for_answers()
        fleet.read_answers()
        is_same = fleet.sealed_tokens() == before
    print(f"{len(fleet.names)} Pods, {fleet.versions} values of the Secret, {time.monotonic() - begun:.0f} s")
    for kind, counts in fleet.counts.items():
        print(
            f"{kind}: {counts.kills} kills; {counts.skewed:,} of {counts.samples:,} samples with two tokens; "
            f"{counts.served:,} calls served, {counts.refused:,} refused, {counts.other:,} without daprd"
        )
        print("  ", *(f"{answer}: {count:,};" for answer, count in sorted(counts.answers.items())))
    own = fleet.counts["sealed"]
    return is_same and own.skewed == own.refused == 0 < own.served


if __name__ == "__main__":
    main()
