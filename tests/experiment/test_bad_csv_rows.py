"""Wrong rows in the tables of config/: the message names the file and what is allowed."""

import re
import shutil

import pytest
from helpers import synthetic
from helpers.models import ROOT

from lora.errors import ConfigError
from lora.experiment import csv_tables, grid

CONFIG = synthetic.load().config.as_dict()


@pytest.mark.parametrize(
    "name, line, message",
    [
        (
            "hparams.csv",
            "course,lora,*,*,*,learning_rte,1e-3,me",
            "no hyperparameter 'learning_rte'; there are: epochs",
        ),
        (
            "hparams.csv",
            "course,lora,*,*,*,epochs,three,me",
            "epochs is 'three'; allowed: a whole number",
        ),
        ("hparams.csv", "course,loar,*,*,*,epochs,3,me", "method is 'loar'; allowed: *, lora, ft"),
        (
            "hparams.csv",
            "course,lora,*,*,eight,epochs,3,me",
            "rank is 'eight'; allowed: *, or a whole number",
        ),
        (
            "hparams.csv",
            "course,lora,*,mrcp,*,epochs,3,me",
            "task is 'mrcp' in 1 rows; allowed: *, mnli",
        ),
        (
            "hparams.csv",
            "course,lora,robert,*,*,epochs,3,me",
            "model is 'robert' in 1 rows; allowed: *, roberta-base",
        ),
        (
            "hparams.csv",
            "course,lora,*,*,*,learning_rate,5e-4,me",
            "course,lora,*,*,*,learning_rate' is there 2 times",
        ),
        (
            "published.csv",
            "table2,m,lora,0.3M,sst2,qv,8,,accuracy,95.1%,,,median,best,,me,",
            "value is '95.1%'; allowed",
        ),
        (
            "published.csv",
            "table2,m,lora,0.3M,sst2,qv,8,,accuracy,,,,median,best,,me,",
            "value is ''; allowed: a number",
        ),
        (
            "published.csv",
            "table2,m,lora,0.3M,sst2,qv,r8,,accuracy,95,,,median,best,,me,",
            "rank is 'r8'; allowed",
        ),
        (
            "published.csv",
            "table2,m,lora,few,sst2,qv,8,,accuracy,95,,,median,best,,me,",
            "trainable is 'few'; allowed",
        ),
        (
            "tasks.csv",
            "x,X,glue-rte,glue,a b,2,,accuracy,train,,me",
            "eval_splits has 'train'; allowed: splits that",
        ),
        (
            "tasks.csv",
            "x,X,glue-rte,glue,a a,2,,accuracy,validation,,me",
            "text_columns is 'a a'; allowed: each only once",
        ),
        (
            "tasks.csv",
            "../x,X,glue-rte,glue,a b,2,,accuracy,validation,,me",
            "task is '../x'; allowed: letters, digits",
        ),
        (
            "tasks.csv",
            "x,X,glue-rte,glue,a b,2,yes,accuracy,validation,,me",
            "label_names has 1 names; allowed: 2, the number of classes, or nothing",
        ),
        (
            "sources.csv",
            "x,data,hub,a/b:c,main,,other,me",
            "revision is 'main'; a hub source is pinned by a 40-digit",
        ),
        (
            "sources.csv",
            "x,data,file,data,,abc,other,me",
            "sha256 is 'abc'; allowed: none, or a 64-digit sha256",
        ),
    ],
)
def test_a_wrong_row_is_named_with_its_file(tmp_path, name, line, message):
    folder = shutil.copytree(ROOT / "config", tmp_path / "config")
    with open(folder / name, "a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        grid.load(CONFIG, folder)
    assert f"config/{name}" in str(caught.value)


def test_all_lines_of_a_foreign_table_are_one_message(tmp_path):
    folder = shutil.copytree(ROOT / "config", tmp_path / "config")
    path = folder / "published.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        csv_tables.read_rows("published.csv", folder)
    assert len(caught.value.problems) > 100 and len(str(caught.value).splitlines()) < 40
    assert re.search(r"and \d+ more$", str(caught.value))
