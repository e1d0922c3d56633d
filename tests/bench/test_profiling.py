import cProfile
from pathlib import Path

from tests.bench import profiling


def _work() -> int:
    return sum(len(str(number)) for number in range(2000))


def test_lines_are_per_request_and_name_no_folder_of_the_machine(tmp_path: Path) -> None:
    profile = cProfile.Profile()
    for _ in range(4):
        profile.runcall(_work)
    target = tmp_path / "profile"
    profile.dump_stats(target)
    found = profiling.lines(target, requests=4)
    (ours,) = [line for line in found if line.function.endswith(" _work")]
    assert ours.function.startswith("bench/test_profiling.py:")
    assert ours.calls == 1
    assert ours.total_us >= ours.own_us
    assert not any(str(Path(__file__).parents[2]) in line.function for line in found)


def test_profiled_server_is_ours_under_the_profiler(tmp_path: Path) -> None:
    argv = profiling.profiled(tmp_path / "p").argv
    assert argv[1:7] == ("-m", "cProfile", "-o", str(tmp_path / "p"), "-m", "injector")
