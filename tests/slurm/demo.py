"""Run two training jobs of the demo with the Slurm profile, on a test cluster of one node.

    python tests/slurm/demo.py results/demo

compares rows and adapters with those in the given folder, which were trained without Slurm, and
prints the jobs from sacct. The exit status is 1 if a byte differs, and 0 if Slurm is not installed.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

if __name__ == "__main__":
    sys.path[:0] = [
        str(Path(__file__).resolve().parents[2]),
        str(Path(__file__).resolve().parents[1]),
    ]

from helpers.models import ROOT
from slurm.cluster import Cluster, missing_programs
from slurm.grid import FAST_POLLING, PROFILE, outputs

TABLE = dict(
    models=["minilm"], tasks=["product-sentiment"], method="lora", weights=["q"], ranks=[1, 8]
)


def main() -> int:
    """Compare the demo on Slurm with the demo without it; return the exit status."""
    if missing_programs():
        print(
            f"the demo on Slurm: skipped, not installed: {', '.join(missing_programs())} "
            "(tests/install_programs.sh)"
        )
        return 0
    demo_dir, folder = Path(sys.argv[1]).resolve(), Path(tempfile.mkdtemp(prefix="slurm-demo-"))
    cluster = Cluster(folder / "cluster")
    try:
        for name in ("sources", "tokens"):
            shutil.copytree(demo_dir / name, folder / "results" / name)
        config = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
        config |= dict(
            results="results", device="auto", subspace=None, tables=dict(table2=None, table6=TABLE)
        )
        config_path = folder / "config.yaml"
        config_path.write_text(yaml.safe_dump(config))
        cluster.up()
        command = [
            *(sys.executable, "-m", "snakemake"),
            *("-s", str(ROOT / "Snakefile")),
            *("--directory", str(folder)),
            *("--configfile", str(config_path)),
            *("--profile", str(PROFILE)),
            *FAST_POLLING,
            "--quiet",
        ]
        subprocess.run(command, cwd=ROOT, env=cluster.environment, check=True)
        columns = "JobID,Comment%65,State,AllocTRES%45,Elapsed"
        print(cluster.query("sacct", "-X", f"--format={columns}"))
        found, expected = outputs(folder / "results"), outputs(demo_dir)
        equal = [name for name, content in found.items() if expected.get(name) == content]
        print(
            f"the demo on Slurm: {len(equal)} of {len(found)} files are equal to those of the demo "
            "without Slurm"
        )
        return int(len(equal) < len(found) or not found)
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
