"""Lock a free GPU for this process and hide the others from torch, before torch is imported.

Snakemake counts GPUs but assigns none, so parallel jobs would all take the first. A job locks one
device of its pool: CUDA_VISIBLE_DEVICES if set, otherwise every GPU (MIG instances in place of
their GPU). A single device from Slurm is used as it is; of several, each job in the allocation
locks one. The lock is an flock: the kernel frees it when the process ends in any way, and it is
held until then, because the GPU's memory is freed no earlier. It binds all users of this package
on this machine, but no other program.

GPUs of Intel are hidden by ZE_AFFINITY_MASK instead, and used only by an XPU build of torch. A Mac
has one GPU, so its jobs run one after another.
"""

import contextlib
import fcntl  # not filelock, which refuses lock files of other users in a sticky folder
import importlib.metadata
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

from lora.training import signals

log = logging.getLogger(__name__)
FOLDER = Path("/tmp/lora-gpu-locks")  # not TMPDIR, which may differ between jobs
VISIBLE = "CUDA_VISIBLE_DEVICES"
INTEL_VISIBLE, INTEL_VENDOR = "ZE_AFFINITY_MASK", "0x8086"
POLL_S, REMIND_S = 1.0, 600.0
SMI_LINE = re.compile(r"^\s*(GPU|MIG) .*\(UUID: (\S+)\)\s*$", re.M)  # of nvidia-smi -L
DEVICE_NAME = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")


def lock_free_gpu(
    requested: str, environ: MutableMapping[str, str] = os.environ, folder: Path = FOLDER
) -> tuple[int, ...]:
    """Lock one GPU for this process, and set the variable that hides the others from torch.

    Waits while all devices of the pool are locked, and logs the holders.

    Args:
        requested: auto or a kind of device. cpu locks nothing.
        environ: The environment, changed in place.
        folder: Folder of the lock files, shared by all users of the machine.

    Returns:
        File descriptors that hold the lock; leave them open until the process ends. Empty if there
        is nothing to lock.

    Raises:
        Interrupted: If a signal arrives while waiting.
        OSError: If the folder can't hold locks.
    """
    if requested == "cpu":
        return ()
    if (other := _other_pool(requested, environ)) is not None:
        variable, names = other
        locks = {name: f"{variable or 'gpu'}-{name}" for name in names}
        return _lock_one(variable, locks, environ, folder)
    visible, slurm_job, gpus = environ.get(VISIBLE), environ.get("SLURM_JOB_ID"), list_gpus()
    if visible is None:
        pool = [name for names in gpus for name in names]
    else:
        pool = _visible_devices(visible, gpus)
    in_allocation = bool(visible and slurm_job)
    if in_allocation and len(pool) == 1:
        log.info("GPU %s, as Slurm gave it to job %s", pool[0], slurm_job)
        return ()
    # Slurm may number the devices of an allocation from 0, so their locks are per allocation.
    locks = {
        name: f"slurm{slurm_job}-{name}" if in_allocation else _uuid_of(name, gpus) for name in pool
    }
    return _lock_one(VISIBLE, locks, environ, folder)


def _lock_one(
    variable: str, locks: dict[str, str], environ: MutableMapping[str, str], folder: Path
) -> tuple[int, ...]:
    """Lock one of these devices, and set the variable to it; see `lock_free_gpu`.

    Args:
        variable: Environment variable that selects devices; empty if there is none.
        locks: Name of the lock of each device. Nothing is locked if there is no device.
        environ: The environment, changed in place.
        folder: Folder of the lock files.
    """
    if not locks:
        return ()
    locks = {name: re.sub(r"[^\w-]", "_", lock) for name, lock in locks.items()}
    folder_fd = _open_folder(folder)
    with signals.handle_signals():
        name, lock_fd = _wait_for_lock(locks, folder_fd, folder)
    if variable:
        environ[variable] = name
    log.info("GPU %s, the first free one of %s", name, ", ".join(locks))
    return folder_fd, lock_fd


def _other_pool(requested: str, environ: MutableMapping[str, str]) -> tuple[str, list[str]] | None:
    """Return the variable and the devices of an Intel or Apple GPU; None to look for NVIDIA's."""
    if requested == "mps" or (requested == "auto" and sys.platform == "darwin"):
        return "", ["mps"]
    found = list_intel_gpus()
    if requested == "xpu" or (requested == "auto" and found and _torch_build() == "xpu"):
        visible = environ.get(INTEL_VISIBLE)
        names = found if visible is None else visible.split(",")
        return INTEL_VISIBLE, [name.strip() for name in names if name.strip()]
    return None


def _torch_build() -> str:
    """Return what torch was built for, such as `cpu`, `cu130` or `xpu`, without importing it."""
    try:
        return importlib.metadata.version("torch").partition("+")[2]
    except importlib.metadata.PackageNotFoundError:
        return ""


def list_intel_gpus(devices: Path = Path("/sys/class/drm")) -> list[str]:
    """List the numbers of Intel's GPUs, as ZE_AFFINITY_MASK takes them."""
    vendors = [file.read_text().strip() for file in devices.glob("renderD*/device/vendor")]
    return [str(number) for number in range(vendors.count(INTEL_VENDOR))]


def list_gpus() -> list[list[str]]:
    """List the GPUs of the machine, in the order of their numbers.

    Returns:
        UUIDs for each GPU: its own, or those of its MIG instances. Without nvidia-smi, the numbers
        of /dev/nvidia0, /dev/nvidia1, ...
    """
    try:
        output = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=120
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        output = ""
    gpus: list[list[str]] = []
    for kind, uuid in SMI_LINE.findall(output):
        if kind == "GPU":
            gpus.append([uuid])
        elif gpus:
            gpus[-1] = [name for name in gpus[-1] if name.startswith("MIG-")] + [uuid]
    count = sum(path.name[6:].isdecimal() for path in Path("/dev").glob("nvidia[0-9]*"))
    return gpus or [[str(number)] for number in range(count)]


def _visible_devices(visible: str, gpus: list[list[str]]) -> list[str]:
    """Return the devices in CUDA_VISIBLE_DEVICES, up to the first invalid one, as CUDA reads it."""
    names: list[str] = []
    for name in map(str.strip, visible.split(",")):
        if not DEVICE_NAME.fullmatch(name):
            break
        if name.isdecimal() and gpus and int(name) >= len(gpus):
            log.warning(
                "%s names GPU %s, this machine has %d: it and the devices after it are not used",
                VISIBLE,
                name,
                len(gpus),
            )
            break
        names.append(name)
    return list(dict.fromkeys(names))


def _uuid_of(name: str, gpus: list[list[str]]) -> str:
    """Return the UUID of a device given by its number or by the start of its UUID."""
    if name.isdecimal():
        return gpus[int(name)][0] if int(name) < len(gpus) else name
    return next((uuid for uuids in gpus for uuid in uuids if uuid.startswith(name)), name)


def _open_folder(folder: Path) -> int:
    """Open the lock folder, made as needed: all users may add files and delete only their own."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if os.fstat(folder_fd).st_uid == os.geteuid():
            os.fchmod(folder_fd, 0o1777)
    except OSError as error:
        raise OSError(
            f"{folder} cannot hold GPU locks ({error.strerror}): it must be a folder that all "
            "users can write to. Ask its owner to remove it."
        ) from None
    with contextlib.suppress(BlockingIOError):
        # systemd-tmpfiles deletes nothing by age in a locked folder: see tmpfiles.d(5).
        fcntl.flock(folder_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return folder_fd


def _wait_for_lock(locks: dict[str, str], folder_fd: int, folder: Path) -> tuple[str, int]:
    """Poll the devices until one is locked; return its name and the descriptor of the lock."""
    logged = -REMIND_S
    while True:
        for name, lock in locks.items():
            lock_fd = _try_lock(lock, folder_fd, folder)
            if lock_fd is not None:
                return name, lock_fd
        if time.monotonic() - logged >= REMIND_S:
            logged = time.monotonic()
            holders = [f"{name} by {_holder(lock, folder_fd)}" for name, lock in locks.items()]
            log.warning(
                "waiting for a GPU: other trainings hold all %d (%s). To avoid this, run "
                "Snakemake with --resources gpu=%d",
                len(locks),
                ", ".join(holders),
                len(locks),
            )
        signals.raise_if_received()
        time.sleep(POLL_S)


def _try_lock(lock: str, folder_fd: int, folder: Path) -> int | None:
    """Lock a file in the folder; None if another process holds the lock.

    An existing file is opened without O_CREAT, which the kernel refuses for another user's file in
    a sticky folder (fs.protected_regular), and read-only, which is enough for flock.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            lock_fd = os.open(lock, flags, dir_fd=folder_fd)
        except FileNotFoundError:
            lock_fd = os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder_fd)
            os.fchmod(lock_fd, 0o644)  # whatever the umask: other users must be able to open it
    except (FileExistsError, PermissionError) as error:
        if isinstance(error, PermissionError) and not os.access(lock, os.F_OK, dir_fd=folder_fd):
            raise OSError(
                f"Cannot create a lock in {folder}: permission denied. Ask its owner to run "
                f"`chmod 1777 {folder}`."
            ) from None
        return None
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        current = os.stat(lock, dir_fd=folder_fd, follow_symlinks=False)
        if os.path.samestat(os.fstat(lock_fd), current):
            return lock_fd
    except (BlockingIOError, FileNotFoundError):
        pass  # locked by another process, or deleted: the lock of a deleted file protects nothing
    os.close(lock_fd)
    return None


def _holder(lock: str, folder_fd: int) -> str:
    """Return the process that holds a lock, from /proc/locks."""
    try:
        file = os.stat(lock, dir_fd=folder_fd, follow_symlinks=False)
        text = Path("/proc/locks").read_text(encoding="utf-8")
    except OSError:
        return "another process"
    inode = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    found = re.search(rf"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+{inode}\s", text)
    return f"process {found.group(1)}" if found else "another process"
