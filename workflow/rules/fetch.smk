# Bytes from the network, on the machine that runs Snakemake: compute nodes need none.
rule fetch:
    localrule: True
    output:
        "<results>/sources/{source}/fetched.json",
    params:
        source=source_arguments,
        folder=subpath(output[0], parent=True),
    log:
        "<results>/logs/fetch/{source}.log",
    conda:
        "../../envs/train.yaml"
    shell:
        "python -m lora fetch {wildcards.source:q} {params.source:q} --output-dir {params.folder:q} --log {log:q}"
