"""Start a real Slurm cluster of one node for tests.

    eval "$(python tests/slurm/cluster.py up /tmp/cluster)"; sinfo; squeue; sacct
    python tests/slurm/cluster.py down /tmp/cluster

The daemons are munged, MariaDB, slurmdbd, slurmctld and slurmd. All files are in the given folder:
configuration, sockets, state, database and logs. The cluster uses loopback and free ports, but no
service manager and nothing in /etc. Every process, also of jobs, has
SLURM_CONF=<folder>/slurm.conf in its environment, by which `down` finds it. The node has two fake
GPUs, which are links to /dev/null, and more cores and memory than the machine: nothing is confined.
A requeued job waits cred_expire seconds before it starts again, 120 in a usual cluster. Needs
Debian's slurm-wlm, slurmdbd, mariadb-server and munge. Tested as root.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_S = 120  # far more than a daemon takes to start or stop
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
DAEMONS = ("munged", "slurmctld", "slurmd")
ACCOUNTING_DAEMONS = ("mariadbd", "slurmdbd")
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=15
BatchStartTimeout=5
SchedulerParameters=bf_interval=2
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=32000 Gres=gpu:2 State=UNKNOWN
PartitionName=work Nodes={host} Default=YES MaxTime=60 PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=2 PreemptMode=OFF
"""
SLURM_CONF_ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""


def missing_programs(accounting: bool = True) -> list[str]:
    """Return the programs that the cluster needs and that are not installed."""
    programs = [*DAEMONS, "sbatch"]
    if accounting:
        programs += [*ACCOUNTING_DAEMONS, "mariadb-install-db", "sacctmgr"]
    return [name for name in programs if not shutil.which(name, path=SEARCH_PATH)]


def pick_ports(count: int) -> list[int]:
    """Return free ports on loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """A cluster in a folder.

    Attributes:
        folder: Folder with all files of the cluster.
        accounting: Whether it has slurmdbd and a database.
        setting: The environment variable that marks its processes, as NAME=VALUE.
        environment: Environment in which Slurm's commands use this cluster.
    """

    def __init__(self, folder: Path, accounting: bool = True):
        self.folder, self.accounting = Path(folder).resolve(), accounting
        self._daemons: list[subprocess.Popen] = []
        self.setting = f"SLURM_CONF={self.folder}/slurm.conf"
        self.environment = os.environ | dict(
            SLURM_CONF=f"{self.folder}/slurm.conf", PATH=f"{self.folder}/bin:{SEARCH_PATH}"
        )

    def up(self) -> "Cluster":
        """Start the cluster, in some seconds. A cluster that is left in the folder is stopped.

        Raises:
            FileNotFoundError: If a program is not installed.
        """
        self.down()
        missing = missing_programs(self.accounting)
        if missing:
            raise FileNotFoundError(
                f"not installed: {', '.join(missing)}; tests/install_programs.sh installs them"
            )
        self._configure()
        self.start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={self.folder}/munge.socket",
            f"--key-file={self.folder}/munge.key",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munge.seed",
        )
        self.wait_for("munge", f"--socket={self.folder}/munge.socket", "-n")
        if self.accounting:
            self._start_accounting()
        self.start("slurmctld")
        self.start("slurmd")
        self.wait_for("sinfo", "--noheader", "--states=idle", "--format=%T", answer="idle")
        return self

    def _configure(self) -> None:
        """Write the configuration, the key, the fake GPUs and a wrapper of srun."""
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        names = ("slurmctld", "slurmd", "slurmdbd", "mariadbd")
        ports = dict(zip(names, pick_ports(len(names)), strict=True))
        self.database_port = ports["mariadbd"]
        host = socket.gethostname().partition(".")[0]
        values = ports | dict(folder=self.folder, user=getpass.getuser(), host=host)
        slurm_conf = SLURM_CONF + (SLURM_CONF_ACCOUNTING if self.accounting else "")
        self._write("slurm.conf", slurm_conf.format(**values))
        self._write("slurmdbd.conf", SLURMDBD_CONF.format(**values))
        for number in range(2):
            (self.folder / f"nvidia{number}").symlink_to("/dev/null")
        self._write("gres.conf", f"NodeName={host} Name=gpu File={self.folder}/nvidia[0-1]\n")
        self._write("munge.key", secrets.token_hex(64))
        # The jobstep plugin removes SLURM_CONF from the environment in which it calls srun.
        srun = shutil.which("srun", path=SEARCH_PATH)
        self._write("bin/srun", f'#!/bin/sh\n{self.setting} exec {srun} "$@"\n', 0o700)

    def _write(self, name: str, text: str, mode: int = 0o600) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(mode)

    def _start_accounting(self) -> None:
        """Start MariaDB with an empty database, and slurmdbd."""
        data = self.folder / "database"
        self.query(
            "mariadb-install-db",
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={data}",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )
        grant = self.folder / "grant.sql"
        grant.write_text(
            "CREATE DATABASE slurm;\nCREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON slurm.* TO slurm@'127.0.0.1';\n"
        )
        self.start(
            "mariadbd",
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={data}",
            f"--socket={self.folder}/mariadb.socket",
            f"--pid-file={self.folder}/mariadbd.pid",
            "--bind-address=127.0.0.1",
            f"--port={self.database_port}",
            "--innodb-lock-wait-timeout=900",
            "--skip-name-resolve",
            f"--init-file={grant}",
        )
        client = ["mariadb", "--no-defaults", "-uslurm", "-pslurm", "-h127.0.0.1"]
        self.wait_for(*client, f"-P{self.database_port}", "-e", "use slurm")
        self.start("slurmdbd")
        self.wait_for("sacctmgr", "--immediate", "add", "cluster", "test", answer="test")

    def start(self, name: str, *arguments: str) -> None:
        """Start a daemon without waiting for it; its output goes to <folder>/<name>.log.

        Args:
            name: Name of the program.
            arguments: Arguments that keep it in the foreground; by default -D.
        """
        arguments = arguments or ("-D",)
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [shutil.which(name, path=SEARCH_PATH), *arguments],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._daemons.append(process)
        (self.folder / f"{name}.started").write_text(str(process.pid))

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Kill a daemon, and wait until it has ended."""
        process = int((self.folder / f"{name}.started").read_text())
        os.kill(process, number)
        _wait_until(lambda: process not in self.processes(), lambda: f"{name} does not end")

    def query(self, *command: str) -> str:
        """Return the output of a command, which is repeated while it fails."""
        return self.wait_for(*command)

    def wait_for(self, *command: str, answer: str = "") -> str:
        """Repeat a command until it succeeds with `answer` in its output, and return the output.

        Raises:
            TimeoutError: After LIMIT_S.
        """
        output = []  # standard output, standard output and error

        def succeeds() -> bool:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            output[:] = [done.stdout, done.stdout + done.stderr]
            return done.returncode == 0 and answer in output[1]

        _wait_until(succeeds, lambda: f"{' '.join(command)}: {output[1]}\n{self.logs()}")
        return output[0]

    def logs(self) -> str:
        """Return the last lines of every daemon's log."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs
        )

    def processes(self) -> list[int]:
        """Return the processes of the cluster and its jobs, without this one and its parent."""
        own, found = {os.getpid(), os.getppid()}, []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process has ended
                environment = (path / "environ").read_bytes().split(b"\0")
                if self.setting.encode() in environment and int(path.name) not in own:
                    found.append(int(path.name))
        return found

    def down(self) -> None:
        """Kill every process of the cluster and its jobs, and remove the folder if it exists."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            until = time.monotonic() + 5
            while self.processes() and time.monotonic() < until:
                time.sleep(0.1)
        _wait_until(
            lambda: not self.processes(), lambda: f"processes {self.processes()} do not end"
        )
        while self._daemons:
            self._daemons.pop().wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _wait_until(condition: Callable[[], bool], message: Callable[[], str]) -> None:
    """Wait until a condition is true; raise TimeoutError with the message after LIMIT_S."""
    until = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(message())
        time.sleep(0.2)


def main() -> int:
    """Start or stop a cluster."""
    if len(sys.argv) < 3 or sys.argv[1] not in ("up", "down"):
        print("cluster.py up|down FOLDER [--no-accounting]", file=sys.stderr)
        return 2
    cluster = Cluster(Path(sys.argv[2]), accounting="--no-accounting" not in sys.argv[3:])
    if sys.argv[1] == "up":
        cluster.up()
        print(f"export {cluster.setting} PATH={cluster.environment['PATH']}")
    else:
        cluster.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
