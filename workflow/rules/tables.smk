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
        folder=subpath(output[0], parent=True),
    shell:
        "python -m lora collect --config {params.config:q} --runs-dir {params.runs:q} --output-dir {params.folder:q} --log {log:q}"


rule table:
    input:
        "<tables>/runs.csv",
    output:
        report(
            "<tables>/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        report(
            "<tables>/{table}_details.html",
            caption="../report/details.rst",
            category="Tables",
            labels={"table": "{table}, all statistics"},
        ),
        multiext(
            "<tables>/{table}",
            ".csv",
            ".md",
            ".tex",
            "_details.md",
            "_details.tex",
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
        caption=caption_of,
    shell:
        "python -m lora table {wildcards.table} --config {params.config:q} --runs-csv {input:q} --output-dir {params.folder:q}"
        " --log {log:q}"


rule summary:
    input:
        "<tables>/runs.csv",
    output:
        report(
            "<tables>/{summary}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{summary}"},
        ),
        multiext("<tables>/{summary}", ".csv", ".md", ".tex"),
    log:
        "<logs>/tables/{summary}.log",
    wildcard_constraints:
        summary="|".join(SUMMARIES),
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        folder=subpath(output[0], parent=True),
        caption=caption_of,
    shell:
        "python -m lora table {wildcards.summary} --config {params.config:q} --runs-csv {input:q} --output-dir {params.folder:q}"
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
            labels={"page": "runs"},
        ),
        report(
            "<tables>/config.html",
            caption="../report/config.rst",
            category="Configuration",
            labels={"page": "merged config"},
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


# First page of the report.
rule home:
    input:
        runs="<tables>/runs.csv",
        figures=expand("<figures>/{figure}.png", figure=figure_names()),
    output:
        f"<tables>/{HOME}",
    log:
        "<logs>/tables/home.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        config=config_text,
        tables=subpath(output[0], parent=True),
        figures=subpath(input[1], parent=True),
    shell:
        "python -m lora report-home --config {params.config:q} --runs-csv {input.runs:q} --figures-dir {params.figures:q}"
        " --output-dir {params.tables:q} --log {log:q}"


rule tables:
    input:
        expand("<tables>/{table}.html", table=GRID.tables),
        expand("<tables>/{summary}.html", summary=SUMMARIES),
        "<tables>/provenance.html",
        f"<tables>/{HOME}",
    localrule: True
