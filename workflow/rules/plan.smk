# What the grid will cost, and what of that has been right so far. It has no output, so it always runs; it trains nothing.
rule plan:
    log:
        "<results>/logs/plan/plan.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        folder=f"{config['results']}/plan",
    shell:
        "python -m lora plan --config {params.config:q} --output-dir {params.folder:q} --log {log:q}"
