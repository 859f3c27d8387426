# Estimate run time, memory and disk of the grid. The rule has no output, so it always runs.
rule plan:
    log:
        "<logs>/plan/plan.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        folder=paths.plan_dir(config["results"]),
    shell:
        "python -m lora plan --config {params.config:q} --output-dir {params.folder:q} --log {log:q}"
