# Tokenize the text, once for each model, task and length.
rule prepare:
    input:
        model=local(paths.manifest("<results>", "{model}")),
        data=dataset_of,
    output:
        local(f"{TOKENS}/{paths.TOKENS_JSON}"),
        local(f"{TOKENS}/{paths.TOKENS_ARRAYS}"),
    log:
        "<logs>/prepare/{model}/{task}/t{max_tokens}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=prepare_mem_mb,
        runtime=prepare_runtime,
    params:
        task=task_facts,
        own=own_task,
        model=subpath(input.model, parent=True),
        data=subpath(input.data, parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora prepare --task {wildcards.task:q} {params.own:q} --max-tokens {wildcards.max_tokens} --data-dir {params.data:q}"
        " --model-dir {params.model:q} --output-dir {params.folder:q} --log {log:q}"
