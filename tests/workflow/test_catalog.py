"""The file and the folders that the Snakemake workflow catalog reads."""

import yaml
from helpers.models import ROOT


def test_the_catalog_file():
    """The keys that the catalog reads (scripts/generate-catalog.py there), and the files that it
    looks for."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"} and usage["report"] is True
    deployment = usage["software-stack-deployment"]
    assert set(deployment) == {"conda", "apptainer", "apptainer+conda"}
    assert all(isinstance(value, bool) for value in deployment.values())
    for name in ("workflow/Snakefile", "config/README.md", "README.md", "workflow/rules"):
        assert (ROOT / name).exists()
    assert {"snakemake", "workflow"} <= set((ROOT / "README.md").read_text().lower().split())
