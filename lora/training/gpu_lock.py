"""Which GPU a training takes: one that no other training holds, chosen before torch is loaded.

Snakemake counts GPUs and hands none out, so parallel jobs would all take the first. Here a job locks one device of its pool
and names that one alone in CUDA_VISIBLE_DEVICES. The pool is CUDA_VISIBLE_DEVICES where that is set, otherwise every GPU of
the machine, with MIG instances in place of their GPU. A single device that Slurm gave is taken as it is; of several, the
jobs inside that allocation take one each. A lock is an flock, which the kernel frees however its process ends; it is held
to the end of the process, as only then the GPU's memory comes back. One training a device: runs that are to share one go
into a pack. The locks lie on this machine, not on a shared disk, and bind all who use this package, whoever they are; other
programs do not know them.
"""

import contextlib
import fcntl
import logging
import os
import re
import subprocess
import time
from collections.abc import MutableMapping
from pathlib import Path

from lora.training import signals

log = logging.getLogger(__name__)
FOLDER = Path("/tmp/lora-gpu-locks")  # not TMPDIR, which may be a job's own
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_S, REMIND_S = 1.0, 600.0
LISTED = re.compile(r"^\s*(GPU|MIG) .*\(UUID: (\S+)\)\s*$", re.M)  # a line of nvidia-smi -L
NAME = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")


def lock_free_gpu(
    wanted: str, environ: MutableMapping[str, str] = os.environ, folder: Path = FOLDER
) -> tuple[int, ...]:
    """Lock one GPU for this process and name it in CUDA_VISIBLE_DEVICES; waits, and says so, while all are held.

    `wanted` is auto, cpu or cuda. Returns the file descriptors that hold the lock, left open until the process ends; none
    where there is nothing to lock. Raises Interrupted when told to stop while waiting, OSError for a folder that cannot
    hold locks.
    """
    if wanted == "cpu":
        return ()
    given, job, gpus = environ.get(VISIBLE), environ.get("SLURM_JOB_ID"), listed()
    pool = [name for names in gpus for name in names] if given is None else _named(given, gpus)
    if given and job and len(pool) == 1:
        log.info("GPU %s, as Slurm gave it to job %s", pool[0], job)
        return ()
    if not pool:
        return ()
    # Slurm may count an allocation's devices from 0, so what it gave is told apart by the job alone.
    locks = {
        name: f"slurm{job}-{name}" if given and job else _physical(name, gpus) for name in pool
    }
    place = _open_folder(folder)
    with signals.handle_signals():
        name, lock = _first_free(
            {name: re.sub(r"[^\w-]", "_", lock) for name, lock in locks.items()}, place, folder
        )
    environ[VISIBLE] = name
    log.info("GPU %s, the first free one of %s", name, ", ".join(pool))
    return place, lock


def listed() -> list[list[str]]:
    """The machine's GPUs in the order of their numbers, each as the UUIDs it is named by: its own, or those of its MIG
    instances. Where nvidia-smi does not tell, their numbers, after /dev/nvidia0, /dev/nvidia1 and so on."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=120
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        told = ""
    gpus: list[list[str]] = []
    for kind, uuid in LISTED.findall(told):
        if kind == "GPU":
            gpus.append([uuid])
        elif gpus:
            gpus[-1] = [name for name in gpus[-1] if name.startswith("MIG-")] + [uuid]
    count = sum(path.name[6:].isdecimal() for path in Path("/dev").glob("nvidia[0-9]*"))
    return gpus or [[str(number)] for number in range(count)]


def _named(given: str, gpus: list[list[str]]) -> list[str]:
    """The devices that a value of CUDA_VISIBLE_DEVICES names. Like CUDA, it reads up to the first that cannot be one."""
    names: list[str] = []
    for name in map(str.strip, given.split(",")):
        if not NAME.fullmatch(name):
            break
        if name.isdecimal() and gpus and int(name) >= len(gpus):
            log.warning(
                "%s names GPU %s, this machine has %d: not used, nor what comes after it",
                VISIBLE,
                name,
                len(gpus),
            )
            break
        names.append(name)
    return list(dict.fromkeys(names))


def _physical(name: str, gpus: list[list[str]]) -> str:
    """The UUID of a device by its number or the beginning of its UUID, so that however it is named it is one lock."""
    if name.isdecimal():
        return gpus[int(name)][0] if int(name) < len(gpus) else name
    return next((uuid for uuids in gpus for uuid in uuids if uuid.startswith(name)), name)


def _open_folder(folder: Path) -> int:
    """The folder of the locks, which every user may add to and nobody may take others' from."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if os.fstat(place).st_uid == os.geteuid():
            os.fchmod(place, 0o1777)
    except OSError as error:
        raise OSError(
            f"{folder} cannot hold the locks of GPUs ({error.strerror}): it must be a folder that all users may write to; "
            "have its owner remove it"
        ) from None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(
            place, fcntl.LOCK_SH | fcntl.LOCK_NB
        )  # tmpfiles.d(5): what is in it is not cleaned up by age
    return place


def _first_free(locks: dict[str, str], place: int, folder: Path) -> tuple[str, int]:
    """The first device of which the lock is to be had, and the descriptor that holds it."""
    told = -REMIND_S
    while True:
        for name, lock in locks.items():
            held = _lock(lock, place, folder)
            if held is not None:
                return name, held
        if time.monotonic() - told >= REMIND_S:
            told = time.monotonic()
            holders = ", ".join(f"{name} by {_holder(lock, place)}" for name, lock in locks.items())
            log.warning(
                "waiting for a GPU: other trainings hold all %d (%s). More jobs than GPUs gain nothing: give Snakemake "
                "--resources gpu=%d", len(locks), holders, len(locks),
            )  # fmt: skip
        signals.raise_if_received()
        time.sleep(POLL_S)


def _lock(name: str, place: int, folder: Path) -> int | None:
    """A descriptor that holds the lock file `name`; None while another process does, or where it cannot be told.

    A file that is there is opened without O_CREAT, which the kernel refuses for another user's file in such a folder
    (fs.protected_regular), and for reading, which is enough for a lock.
    """
    reading = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            held = os.open(name, reading, dir_fd=place)
        except FileNotFoundError:
            held = os.open(name, reading | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=place)
            os.fchmod(held, 0o644)  # whatever the umask: others must be able to see that it is held
    except (FileExistsError, PermissionError) as error:
        if isinstance(error, PermissionError) and not os.access(name, os.F_OK, dir_fd=place):
            raise OSError(
                f"{folder} takes no locks from this user; have its owner remove it, or chmod 1777 it"
            ) from None
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), os.stat(name, dir_fd=place, follow_symlinks=False)):
            return held
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another; or deleted meanwhile, and then it guards nothing
    os.close(held)
    return None


def _holder(name: str, place: int) -> str:
    """Who holds a lock file, as far as the system tells."""
    try:
        file = os.stat(name, dir_fd=place, follow_symlinks=False)
        text = Path("/proc/locks").read_text(encoding="utf-8")
    except OSError:
        return "another process"
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    found = re.search(rf"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+{device}\s", text)
    return f"process {found.group(1)}" if found else "another process"
