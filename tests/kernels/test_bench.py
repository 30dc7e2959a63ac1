import time

from scrimp.kernels.bench import _in_turn, compared


def sleep() -> None:
    time.sleep(0.02)


def compute() -> None:
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass


def _ways():
    return {"asleep": sleep, "at work": compute}


def test_ways_are_timed_in_turn_and_the_first_turn_warms_up():
    order = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    wall, cpu = _in_turn(ways, repeats=2)
    assert order == ["a", "b"] * 3
    assert [len(times) for times in (*wall.values(), *cpu.values())] == [2] * 4


def test_cpu_seconds_stand_beside_wall_seconds_and_decide():
    asleep, at_work = compared("waiting", _ways, repeats=3)
    assert asleep["seconds"] >= 0.02
    assert at_work["seconds"] > 0.015  # it ends by CPU time, another clock
    assert asleep["cpu_seconds"] < 0.01 < at_work["cpu_seconds"]
    assert asleep["times_as_fast"] == 1
    assert at_work["times_as_fast"] == asleep["cpu_seconds"] / at_work["cpu_seconds"]
