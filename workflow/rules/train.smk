# Train the runs of one pack (config key pack). Checkpoints are in <results>/state, which is no output:
# Snakemake deletes the outputs of a job before it starts.
rule train:
    input:
        model=model_of,
        tokens=tokens_of,
        starts=starts_of,
    output:
        metrics=per_run(paths.METRICS),
        record=per_run(paths.RUN_JSON),
        adapter=per_run(paths.ADAPTER),
        adapter_config=per_run(paths.ADAPTER_CONFIG),
        adapter_labels=per_run(paths.ADAPTER_LABELS),
        adapter_card=per_run(paths.ADAPTER_CARD),
    log:
        f"{paths.train_log_dir('<logs>', PACKING.axes)}/{paths.TRAIN_LOG}",
    priority: work_of
    retries: TRAIN_RETRIES
    conda:
        "../../envs/train.yaml"
    threads: threads_of
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
        training_gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=mem_mb_of,
        runtime=runtime_of,
        # Settings that decide no number are resources: another value must not train a run again.
        threads_asked=config["threads"],
        device=config["device"],
        micro_batch=config["micro_batch"],
        precision=config["precision"],
        checkpoint_every_s=str(config["checkpoint_every_s"]),  # numbers are rounded
        max_runtime=config["max_runtime"] or 0,
        tracking=",".join(GRID.config.tracking.names) or "none",
    params:
        cells=cells_text,
        seeds=seeds_of,
        pinned=pinned,
        own=own_tasks_of,
        results_version=RESULTS_VERSION,
        model=subpath(input.model, parent=True),
        runs=subpath(output[0], ancestor=DEPTH),
        state=paths.state_dir(config["results"]),
        tracking=paths.tracking_dir(config["results"]),
    shell:
        "python -m lora train --cells {params.cells:q} {params.own:q} --seeds {params.seeds}"
        " --model-dir {params.model:q} --output-dir {params.runs:q} --state-dir {params.state:q}"
        " --device {resources.device} --micro-batch {resources.micro_batch}"
        " --precision {resources.precision} --checkpoint-every-s {resources.checkpoint_every_s}"
        " --max-runtime {resources.max_runtime}"
        " --tracking {resources.tracking} --tracking-dir {params.tracking:q}"
        " --threads-asked {resources.threads_asked} --log {log:q}"
