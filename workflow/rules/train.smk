# One job trains the seeds of one cell together (or one run, with `pack: []`). Inputs are ancient(): their timestamps say
# nothing, their pinned identity is a parameter. State lies undeclared in <results>/state, where Snakemake deletes nothing.
rule train:
    input:
        model=ancient("<results>/sources/{model}/fetched.json"),
        tokens=ancient(tokens_of),
    output:
        metrics=per_run("metrics.csv"),
        record=per_run("run.json"),
        adapter=per_run("adapter/adapter_model.safetensors"),
        adapter_config=per_run("adapter/adapter_config.json"),
    log:
        per_job("train.log"),
    conda:
        "../../envs/train.yaml"
    threads: config["threads"]
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
    params:
        settings=train_arguments,
        pinned=pinned,
        results_version=RESULTS_VERSION,
        model=subpath(input.model, parent=True),
        tokens=subpath(input.tokens, parent=True),
        folder=job_folder,
        state=f"{config['results']}/state",
        device=config["device"],
        micro_batch=config["micro_batch"],
    shell:
        "python -m lora train {params.settings:q} --model-dir {params.model:q} --tokens-dir {params.tokens:q}"
        " --output-dir {params.folder:q} --state-dir {params.state:q} --device {params.device}"
        " --micro-batch {params.micro_batch} --log {log:q}"
