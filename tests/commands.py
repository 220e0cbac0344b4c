"""Commands as users type them, in fresh processes or in ones that start from one with the libraries imported: for a short command that is
most of its time. What a command imports, and how it ends beyond its exit code, only a fresh process shows."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(["jaxrec.stages.experiment"])


def line(name: str, *arguments) -> list[str]:
    """What starts a command in a fresh process."""
    return [sys.executable, "-m", f"launch.{name}", *map(str, arguments)]


def command(name: str, *arguments, cwd: Path = ROOT, timeout: float = 120) -> subprocess.CompletedProcess:
    """What `python -m launch.NAME ARGUMENTS` gives; settings that libraries read when they are imported are those of the first call."""
    given = [f"launch.{name}", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, stream) for stream in ("stdout", "stderr")]
        for stream in streams:
            stream.touch()
        process = WARM.Process(target=_run, args=(given, cwd, streams, dict(os.environ)))
        process.start()
        try:
            process.join(timeout)
            printed = [stream.read_text() for stream in streams]
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(given, timeout, *printed)
            return subprocess.CompletedProcess(given, process.exitcode, *printed)
        finally:
            process.kill()
            process.join()


def _run(given: list[str], cwd: Path, streams: list[Path], environment: dict[str, str]) -> None:
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv[:] = given
    runpy.run_module(given[0], run_name="__main__", alter_sys=True)
