# Collect the rows of all runs and make the tables. No torch is imported.
rule collect:
    input:
        runs=grid_runs,
    output:
        runs="<tables>/runs.csv",
        inputs=f"<tables>/{table_inputs.NAME}",
    log:
        "<logs>/tables/collect.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        runs=runs_folder,
    shell:
        "python -m lora collect --config {params.config:q} --runs-dir {params.runs:q} --output {output.runs:q} --log {log:q}"


rule table:
    input:
        "<tables>/runs.csv",
    output:
        report(
            "<tables>/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "what": "page"},
        ),
        report(
            "<tables>/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}", "what": "every value (CSV)"},
        ),
        multiext(
            "<tables>/{table}",
            ".md",
            ".tex",
            "_published.csv",
            "_best.csv",
            "_curves.csv",
        ),
    log:
        "<logs>/tables/{table}.log",
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
        "<tables>/runs.csv",
    output:
        report(
            "<tables>/selection.html",
            caption="../report/selection.rst",
            category="Tables",
            labels={"table": "selection", "what": "page"},
        ),
        report(
            "<tables>/selection.csv",
            caption="../report/selection.rst",
            category="Tables",
            labels={"table": "selection", "what": "every value (CSV)"},
        ),
        multiext("<tables>/selection", ".md", ".tex"),
    log:
        "<logs>/tables/selection.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora table selection --config {params.config:q} --runs {input:q} --output-dir {params.folder:q}"
        " --log {log:q}"


rule differences:
    input:
        "<tables>/runs.csv",
    output:
        report(
            "<tables>/differences.html",
            caption="../report/differences.rst",
            category="Tables",
            labels={"table": "differences", "what": "page"},
        ),
        report(
            "<tables>/differences.csv",
            caption="../report/differences.rst",
            category="Tables",
            labels={"table": "differences", "what": "every value (CSV)"},
        ),
        multiext("<tables>/differences", ".md", ".tex"),
    log:
        "<logs>/tables/differences.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora table differences --config {params.config:q} --runs {input:q} --output-dir {params.folder:q}"
        " --log {log:q}"


rule provenance:
    input:
        runs=grid_runs,
        made=f"<tables>/{table_inputs.NAME}",  # new if any run is
    output:
        report(
            "<tables>/provenance.html",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"table": "provenance", "what": "page"},
        ),
        "<tables>/provenance.csv",
    log:
        "<logs>/tables/provenance.log",
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
        expand("<tables>/{table}.html", table=GRID.tables),
        "<tables>/selection.html",
        "<tables>/differences.html",
        "<tables>/provenance.html",
    localrule: True
