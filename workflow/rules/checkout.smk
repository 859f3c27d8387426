# The checkout or installed package of these rules, and the environment of the rules' commands.
import hashlib
import os
import shlex
import sys
import tarfile
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod
from snakemake.sourcecache import HostingProviderFile, LocalSourceFile

VERSION = "0.1.0"  # of these rules, written by `make docs`; the package lora must have the same


def checkout_of(rules):
    """Return the checkout that has the folder of these rules.

    An importing workflow has another workflow.basedir. Rules that are imported with github() or
    gitlab(), as snakedeploy writes it, have no folder: their commit is unpacked in Snakemake's
    source cache.
    """
    if isinstance(rules, LocalSourceFile):
        return Path(rules.path).parents[1]
    if not isinstance(rules, HostingProviderFile):
        raise WorkflowError(
            f"the package lora cannot be read from {rules}. Clone the repository, and import "
            "workflow/Snakefile of the clone, or import it with github(..., tag=...)."
        )
    repository = rules.hosted_repo.repo
    commit = repository.commit(rules.ref).hexsha
    checkout = Path(workflow.sourcecache.cache_path, "lora-reproduction", commit)
    if not checkout.exists():
        checkout.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=checkout.parent) as folder:
            repository.git.archive(commit, output=f"{folder}/archive.tar")
            with tarfile.open(f"{folder}/archive.tar") as archive:
                archive.extractall(f"{folder}/files", filter="data")
            try:
                os.rename(f"{folder}/files", checkout)
            except OSError:
                if not checkout.exists():  # else another process was faster
                    raise
    return checkout


def folder_of_package():
    """Return a folder that has the package lora and no other package.

    The environment of jobs in containers and conda environments must not mix with that of Snakemake,
    where an installed package is. A link in the working directory, which all jobs see, leads to it.
    """
    if not IS_INSTALLED:
        return CHECKOUT
    name = hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:12]
    folder = Path(".snakemake", "lora-reproduction", name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / "lora").symlink_to(PACKAGE)
    except FileExistsError:
        pass
    return folder


CHECKOUT = checkout_of(workflow.current_basedir)
IS_INSTALLED = CHECKOUT.parent.name == "lora" and CHECKOUT.name == "installed"
PACKAGE = CHECKOUT.parent if IS_INSTALLED else CHECKOUT / "lora"
if set(str(CHECKOUT)) & set("{}"):
    raise WorkflowError(
        f"this checkout is in {CHECKOUT}; Snakemake reads braces as wildcards. "
        "Move it to another folder."
    )

if not IS_INSTALLED:
    sys.path.insert(0, str(CHECKOUT))  # this checkout's lora need not be installed
try:
    import lora
except ModuleNotFoundError:
    lora = None

_imported = Path(getattr(lora, "__file__", None) or "nowhere").resolve().parent
_version = getattr(lora, "__version__", "unknown")
if (_imported, _version) != (PACKAGE.resolve(), VERSION):
    found = (
        f"Python imports {_imported}, version {_version}" if lora else "there is none"
    )
    advice = (
        "Use the Snakemake of the environment that lora is installed in, and import no other lora "
        "before this workflow (PYTHONPATH, the working directory)."
        if IS_INSTALLED
        else f"Copy the folder lora of version {VERSION} to {CHECKOUT}, and import no other lora "
        "before this workflow, or run the Snakefile of the other checkout."
    )
    raise WorkflowError(
        f"the rules in {CHECKOUT}, version {VERSION}, need the package lora of the same checkout and "
        f"version, but {found}. {advice}"
    )

from lora import checkout as lora_checkout, paths

# Nodes read the same tables as this machine.
if paths.CONFIG_DIR_VARIABLE in os.environ:
    workflow.register_envvars(paths.CONFIG_DIR_VARIABLE)

deployed = workflow.deployment_settings.deployment_method
if DeploymentMethod.APPTAINER in deployed:
    # The image does not contain lora, and Snakemake mounts only the working directory.
    _settings = workflow.deployment_settings
    for _folder in (
        str(PACKAGE if IS_INSTALLED else CHECKOUT),
        str(paths.CONFIG_DIR),
    ):
        if _folder not in shlex.split(_settings.apptainer_args):
            _settings.apptainer_args += f" --bind {shlex.quote(_folder)}"

# Rules call `python -m lora`. They use this package and, unless Snakemake deploys software, the
# Python that runs Snakemake, whether or not its environment is activated. Without PYTHONSAFEPATH
# a folder lora in the working directory would come first.
_environment = {
    "PYTHONSAFEPATH": "1",
    paths.CONFIG_DIR_VARIABLE: shlex.quote(str(paths.CONFIG_DIR)),
    lora_checkout.RULES_VARIABLE: shlex.quote(f"{VERSION} {CHECKOUT}"),
}
if deployed or not IS_INSTALLED:
    _folder = shlex.quote(str(folder_of_package()))
    _environment["PYTHONPATH"] = f'{_folder}:"${{PYTHONPATH:-}}"'
if not deployed:
    _environment["PATH"] = f'{shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'


class shell(shell):
    """Snakemake's `shell` with the environment of this workflow's commands.

    Rules look it up here. shell.prefix() would change the commands of an importing workflow too.
    """

    environment = "".join(
        f"export {name}={value}; " for name, value in _environment.items()
    )

    @classmethod
    def _get_process_prefix(cls, shell_exec=None):
        return f"{super()._get_process_prefix(shell_exec)} {cls.environment}"
