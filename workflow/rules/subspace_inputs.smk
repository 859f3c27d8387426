# Inputs, arguments and outputs of the subspace rules.
from lora.experiment import compared_runs
from snakemake.logging import logger


def subspace_folders():
    """Return the compared runs' folders: one of the lower rank, two seeds of the higher rank."""
    runs = Path(paths.runs_dir(config["results"]))
    return [
        paths.run_dir(runs, cell.path, seed)
        for cell, seed in compared_runs.comparison_of(GRID.config).runs
    ]


def compared_files():
    """Return the files of the compared runs."""
    names = (paths.RUN_JSON, paths.ADAPTER_CONFIG, paths.ADAPTER)
    return [f"{folder}/{name}" for folder in subspace_folders() for name in names]


def subspace_files(wildcards):
    """Return the files of the compared runs; compare them again if the tables are old."""
    if not REMOTE and TABLES_ARE_OLD:
        make_again(f"{paths.subspace_dir(config['results'])}/phi.csv")
    return compared_files()


def as_read(folder, files):
    """Return a run's folder as the job sees it, also with a storage provider."""
    ending = Path(folder, "run.json").parts
    found = (file for file in files if Path(file).parts[-len(ending) :] == ending)
    return str(Path(next(found)).parent)


def subspace_runs(wildcards, input):
    """Return the compared runs' folders as the job sees them."""
    return [as_read(folder, input.runs) for folder in subspace_folders()]


def subspace_model(wildcards):
    """Return the manifest of the base model of the compared runs."""
    model = config["subspace"]["model"]
    return local(paths.manifest(config["results"], model))


def subspace_options(wildcards):
    """Return the compared weight types and layers as command line arguments."""
    comparison = compared_runs.comparison_of(GRID.config)
    letters = ["--letters", comparison.letters] if comparison.letters else []
    return letters + (
        ["--layers", *map(str, comparison.layers)] if comparison.layers else []
    )


def subspace_outputs():
    """Return what the comparison writes; nothing if the runs were copied without their adapters."""
    if config["subspace"] is None:
        return []
    files = [*compared_files(), subspace_model(None)]
    absent = [name for name in files if not Path(name).exists()]
    if config["mode"] != "train" and absent:
        why = f"{absent[0]} does not exist"
        if Path(absent[0]).parent.name == "adapter":
            why = "a compared run has no adapter/"
        logger.warning(f"No subspace figures: {why}.")
        return []
    return ["table7.html", *(f"figure{number}.svg" for number in (3, 4, 6, 7))]
