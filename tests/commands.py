"""Commands as users type them, each in a process of its own that starts from one with the libraries imported: for a short command that is
most of its time."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTED = multiprocessing.get_context("forkserver")
STARTED.set_forkserver_preload(["jaxrec.stages.experiment"])


def command(name: str, *arguments, cwd: Path = ROOT, timeout: float = 120) -> subprocess.CompletedProcess:
    """What `python -m launch.NAME ARGUMENTS` gives."""
    line = [f"launch.{name}", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, stream) for stream in ("stdout", "stderr")]
        process = STARTED.Process(target=_run, args=(line, cwd, streams, dict(os.environ)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(line, timeout)
        return subprocess.CompletedProcess(line, process.exitcode, *(stream.read_text() for stream in streams))


def _run(line: list[str], cwd: Path, streams: list[Path], environment: dict[str, str]) -> None:
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv[:] = line
    sys.path.insert(0, str(ROOT))
    runpy.run_module(line[0], run_name="__main__", alter_sys=True)
