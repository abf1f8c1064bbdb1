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
    """What a process that ended well left: `out`, `err`, `wall_s` and its `peak_rss_mib`."""

    def __init__(self, command, environment):
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            started = time.perf_counter()
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            self.wall_s = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            self.peak_rss_mib = usage.ru_maxrss / (1 if sys.platform == "linux" else 1024) / 1024
            self.out, self.err = (text(file) for file in (out, err))
        if process.returncode != 0:
            sys.exit(f"{self.err}\n{' '.join(map(str, command))}: exit code {process.returncode}")


def text(file):
    file.seek(0)
    return file.read()
