# Collect the rows of all runs and make the tables. No torch is imported.
rule collect:
    input:
        grid_runs,
    output:
        "<results>/tables/runs.csv",
    log:
        "<results>/logs/tables/collect.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        runs=runs_folder,
    shell:
        "python -m lora collect --config {params.config:q} --runs-dir {params.runs:q} --output {output:q} --log {log:q}"


rule table:
    input:
        "<results>/tables/runs.csv",
    output:
        report(
            "<results>/tables/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "what": "page"},
        ),
        report(
            "<results>/tables/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "what": "every figure (CSV)"},
        ),
        multiext(
            "<results>/tables/{table}",
            ".md",
            ".tex",
            "_published.csv",
            "_best.csv",
            "_curves.csv",
        ),
    log:
        "<results>/logs/tables/{table}.log",
    wildcard_constraints:
        table="table[0-9]+",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora table {wildcards.table} --config {params.config:q} --runs {input:q} --output-dir {params.folder:q}"
        " --log {log:q}"


rule selection:
    input:
        "<results>/tables/runs.csv",
    output:
        report(
            "<results>/tables/selection.html",
            caption="../report/selection.rst",
            category="Tables",
            labels={"table": "selection", "what": "page"},
        ),
        report(
            "<results>/tables/selection.csv",
            caption="../report/selection.rst",
            category="Tables",
            labels={"table": "selection", "what": "every figure (CSV)"},
        ),
        multiext("<results>/tables/selection", ".md", ".tex"),
    log:
        "<results>/logs/tables/selection.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora table selection --config {params.config:q} --runs {input:q} --output-dir {params.folder:q}"
        " --log {log:q}"


rule provenance:
    input:
        grid_runs,
    output:
        report(
            "<results>/tables/provenance.html",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"table": "provenance", "what": "page"},
        ),
        "<results>/tables/provenance.csv",
    log:
        "<results>/logs/tables/provenance.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        runs=runs_folder,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora provenance --config {params.config:q} --runs-dir {params.runs:q} --output-dir {params.folder:q}"
        " --log {log:q}"


rule tables:
    input:
        expand("<results>/tables/{table}.html", table=GRID.tables),
        "<results>/tables/selection.html",
        "<results>/tables/provenance.html",
    localrule: True
