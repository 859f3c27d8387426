# Download sources on the machine that runs Snakemake. Compute nodes need no network.
rule fetch:
    output:
        local(paths.manifest("<results>", "{source}")),
    log:
        "<logs>/fetch/{source}.log",
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        source=source_arguments,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora fetch {wildcards.source:q} {params.source:q} --output-dir {params.folder:q} --log {log:q}"
