"""`python -m tests.availability`: all faults for every kind of API server, and a table of what was lost."""

from __future__ import annotations

import signal
import sys

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tests.availability import redundancy
from tests.availability.mixes import MIXES, calm_of, faults_of
from tests.availability.replicas import ADDRESSES
from tests.availability.report import Row, problems
from tests.availability.run import run
from tests.availability.scenario import Size, plane_for
from tests.controlplane.cluster import Programs
from tests.controlplane.errors import HarnessError
from tests.controlplane.netns import network_namespace


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--creates", default=10_000, show_default=True, help="Pods created directly in each mix, at least.")
@click.option("--mix", "chosen", multiple=True, type=click.Choice(list(MIXES)), help="Only this mix; may be repeated.")
@click.option("--fault", "names", multiple=True, help="Only the faults whose names begin so; may be repeated.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(creates: int, chosen: tuple[str, ...], names: tuple[str, ...], output: str) -> None:
    """Create Pods continuously, cause faults of the webhook, and count lost creates."""
    for number in (signal.SIGTERM, signal.SIGINT):  # end in order; a shell ignores SIGINT for its background jobs
        signal.signal(number, signal.default_int_handler)
    wanted = {
        name: [fault for fault in faults_of(MIXES[name]) if not names or fault.name.startswith(names)]
        for name in chosen or MIXES
    }
    if not any(wanted.values()):
        known = dict.fromkeys(fault.name for name in wanted for fault in faults_of(MIXES[name]))
        raise click.UsageError(f"no fault begins so; there are: {', '.join(known)}")
    console, found = Console(stderr=True, highlight=False), {}
    try:
        programs = Programs.resolve()
        if any(MIXES[name].redundant for name in wanted):
            redundancy.rendered()  # outside the network namespace, in which Helm cannot be built
        with network_namespace(ADDRESSES) as network, network.entered():
            for name, inflicted in wanted.items():
                with plane_for(programs, MIXES[name]) as plane:
                    found[name] = run(plane, MIXES[name], inflicted, Size(creates), console.print)
                if output == "table":
                    _show(name, found[name])
    except HarnessError as error:
        console.print(str(error), style="red")
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    wrong = [
        f"{mix}: {problem}"
        for mix, rows in found.items()
        for problem in problems(rows, (calm_of(MIXES[mix]), *wanted[mix]))
    ]
    for problem in wrong:
        console.print(problem, style="red", markup=False)
    sys.exit(1 if wrong else 0)


def _show(mix: str, rows: list[Row]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    table = Table(title=mix, title_justify="left", box=None, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in {"fault", "remark"} else "right")
    for row in rows:
        numbers = (row.met, row.failed, row.refused_to_controllers, row.retried, row.without_variable, row.others_hurt)
        times = (f"{row.p50:.3f}", f"{row.p99:.3f}", str(row.waiting), str(row.others), f"{row.others_p99:.3f}")
        table.add_row(row.fault, f"{row.seconds:g}", *map(str, numbers), *times, row.remark)
    console.print(table)
    for row in rows:
        for sentence, count in row.messages.items():
            console.print(f"  {row.fault}: {count} x {sentence}", markup=False)


_HEADINGS = (
    *("fault", "s", "met", "failed", "controllers", "retried", "without", "others"),
    *("p50", "p99", "waiting", "not asking", "their p99", "remark"),
)

_WIDE = 200

if __name__ == "__main__":
    main()
