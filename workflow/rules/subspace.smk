# Compare the subspaces of saved adapters (Sec. 7.2, 7.3). Nothing is trained.
rule subspace:
    input:
        runs=subspace_files,
        model=ancient(subspace_model),
    output:
        phi="<subspace>/phi.csv",
        amplification="<subspace>/amplification.csv",
        table7=report(
            "<subspace>/table7.html",
            caption="../report/subspace.rst",
            category="Tables",
            labels={"table": "table7"},
        ),
        others=multiext("<subspace>/table7", ".md", ".tex"),
    log:
        "<logs>/subspace/subspace.log",
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        runs=subspace_runs,
        options=subspace_options,
        model=subpath(input.model, parent=True),
        folder=subpath(output.phi, parent=True),
    shell:
        "python -m lora subspace --runs {params.runs:q} --model-dir {params.model:q} {params.options}"
        " --output-dir {params.folder:q} --log {log:q}"


rule heatmap:
    input:
        "<subspace>/phi.csv",
    output:
        report(
            "<subspace>/{heatmap}.svg",
            caption="../report/subspace.rst",
            category="Subspaces",
            labels={"what": "{heatmap}"},
        ),
        "<subspace>/{heatmap}.png",
        "<subspace>/{heatmap}.txt",
    log:
        "<logs>/subspace/{heatmap}.log",
    wildcard_constraints:
        heatmap="figure[3467]",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora heatmap {wildcards.heatmap} --phi {input:q} --output-dir {params.folder:q} --log {log:q}"


rule subspaces:
    input:
        expand("<subspace>/{name}", name=subspace_outputs()),
    localrule: True
