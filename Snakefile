# LoRA (Hu et al. 2021) on GLUE: config -> cells -> fetch -> prepare -> train -> collect -> tables -> figures -> report.
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/checkout.smk"
include: "workflow/rules/screen.smk"
include: "workflow/rules/environment.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/table_inputs.smk"


report: report_home()


if config["mode"] == "train":  # else new timestamps could train runs again

    include: "workflow/rules/train_inputs.smk"
    include: "workflow/rules/fetch.smk"
    include: "workflow/rules/prepare.smk"
    include: "workflow/rules/train.smk"


include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/subspace_inputs.smk"
include: "workflow/rules/subspace.smk"
include: "workflow/rules/plan.smk"


rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        rules.subspaces.input,
