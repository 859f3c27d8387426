# Draw the figures from the tables' CSV files.
rule figure:
    input:
        expand(
            "<tables>/{table}{kind}.csv",
            table=GRID.tables,
            kind=["", "_published", "_best", "_curves"],
        ),
    output:
        report(
            "<figures>/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        "<figures>/{figure}.png",
        "<figures>/{figure}.txt",
    log:
        "<logs>/figures/{figure}.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        tables=subpath(input[0], parent=True),
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora plot {wildcards.figure} --tables-dir {params.tables:q} --output-dir {params.folder:q} --log {log:q}"


rule figures:
    input:
        expand("<figures>/{figure}.svg", figure=figure_names()),
    localrule: True
