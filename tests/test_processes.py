"""Processes that outlive nobody, for real."""

import os
import signal
import subprocess
import sys

import pytest

from appulse.processes import end_with_parent, pool

IMPORTS = """
import os, time
from functools import partial
from multiprocessing import active_children
from appulse.evaluate.workers import workers
from appulse.processes import pool
"""
WAIT = """
    print(active_children()[0].pid, flush=True)
    time.sleep(600)
"""
STARTED = {
    "a pool that waits": "with pool(1) as others:\n    others.submit(os.getpid).result()",
    "a pool at work": "with pool(1) as others:\n    others.submit(time.sleep, 600)",
    "workers": "with workers(partial(time.sleep, 600), 2):",
}


@pytest.mark.parametrize("started", STARTED)
def test_others_end_with_a_process_that_is_killed(started):
    script = [sys.executable, "-c", IMPORTS + STARTED[started] + WAIT]
    with subprocess.Popen(script, stdout=subprocess.PIPE) as process:
        other = int(process.stdout.readline())
        process.kill()
        try:
            process.communicate(timeout=60)  # until nobody holds the pipe, which the others share
        except subprocess.TimeoutExpired:
            os.kill(other, signal.SIGKILL)
            raise


def test_a_pool_leaves_interrupts_to_its_parent():
    with pool(1) as workers:
        worker = workers.submit(os.getpid).result()
        os.kill(worker, signal.SIGINT)
        assert workers.submit(os.getpid).result() == worker


def test_a_process_of_its_own_has_no_parent_to_end_with():
    with pytest.raises(RuntimeError, match="not started by multiprocessing"):
        end_with_parent()
