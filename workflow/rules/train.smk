# One job trains the runs of a pack together (config: pack). Timestamps of inputs say nothing (common.smk, unless_settled),
# their pinned identity is a parameter. State lies undeclared in <results>/state, where Snakemake deletes nothing.
rule train:
    input:
        model=model_of,
        tokens=tokens_of,
        starts=starts_of,
    output:
        metrics=per_run("metrics.csv"),
        record=per_run("run.json"),
        adapter=per_run("adapter/adapter_model.safetensors"),
        adapter_config=per_run("adapter/adapter_config.json"),
    log:
        per_job("train.log"),
    priority: work_of
    conda:
        "../../envs/train.yaml"
    threads: threads_of
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=mem_mb_of,
        runtime=runtime_of,
        threads_asked=config["threads"],  # not of params: another number is no reason to train again
    params:
        cells=cells_text,
        seeds=seeds_of,
        pinned=pinned,
        results_version=RESULTS_VERSION,
        model=subpath(input.model, parent=True),
        runs=subpath(output[0], ancestor=DEPTH),
        state=f"{config['results']}/state",
        device=config["device"],
        micro_batch=config["micro_batch"],
        precision=config["precision"],
        every=config["checkpoint_every_s"],
    shell:
        "python -m lora train --cells {params.cells:q} --seeds {params.seeds}"
        " --model-dir {params.model:q} --output-dir {params.runs:q} --state-dir {params.state:q}"
        " --device {params.device} --micro-batch {params.micro_batch} --precision {params.precision}"
        " --checkpoint-every-s {params.every} --threads-asked {resources.threads_asked} --log {log:q}"
