"""What the scripts of this folder share: taking turns, and one process with its time and its peak memory."""
import os
import subprocess
import sys
import tempfile
import time


def alternate(sides, turns):
    """Every side once in each of `turns` turns, in reverse order in every second one: yields (turn, side)."""
    sides = list(sides)
    for turn in range(turns):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            yield turn, side


class Finished:
    """What a process that ended well left: `out`, `err`, `wall_s`, its `peak_rss_mib`, and `others`: the share of the
    machine's cores that other processes had meanwhile."""

    def __init__(self, command, environment):
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            started, busy = time.perf_counter(), busy_seconds()
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            self.wall_s = time.perf_counter() - started
            foreign = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
            self.others = max(foreign, 0) / self.wall_s / os.cpu_count()
            process.returncode = os.waitstatus_to_exitcode(status)
            self.peak_rss_mib = usage.ru_maxrss / (1 if sys.platform == "linux" else 1024) / 1024
            self.out, self.err = (text(file) for file in (out, err))
        if process.returncode != 0:
            sys.exit(f"{self.err}\n{' '.join(map(str, command))}: exit code {process.returncode}")


def wait_for_quiet(limit, patience=600):
    """Waits until other processes have less than the share `limit` of the machine; gives up after `patience` s."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < patience:
        busy, started = busy_seconds(), time.perf_counter()
        time.sleep(2)
        if (busy_seconds() - busy) / (time.perf_counter() - started) / os.cpu_count() < limit:
            return


def text(file):
    file.seek(0)
    return file.read()


def busy_seconds():
    """Processor time that all processes have had, where the system tells (Linux)."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    except OSError:
        return 0.0
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
