"""Protocols of config/hparams.csv against a second transcription of their sources.

The sources are Table 9 of the paper, the scripts of its authors, fairseq and the course's report.
"""

import pytest
from helpers.protocols import TASKS, differences, hparams, rows

from lora.experiment import hparam_rows
from lora.experiment.cell import METHODS, Cell

RANKS = dict(lora=8, ft=0, bitfit=0, adapter_houlsby=8, adapter_pfeiffer=16, adapter_drop=48)

# Protocol, model, method, rank, setting, then the eight tasks in the order of TASKS, or one value
# for all.
TABLE_9 = """
paper         roberta-base  lora              8 examples_per_step 16 16 16 32 32 16 32 16
paper         roberta-base  lora              8 epochs            30 60 30 80 25 25 80 40
paper roberta-base lora 8 learning_rate 5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4
paper         roberta-base  lora              8 alpha             8
paper         roberta-base  lora              8 max_tokens        512
paper         roberta-large lora              8 examples_per_step 4 4 4 4 4 4 8 8
paper         roberta-large lora              8 epochs            10 10 20 20 10 20 20 30
paper roberta-large lora 8 learning_rate 3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4
paper         roberta-large lora              8 alpha             16
paper         roberta-large lora              8 max_tokens        128 128 512 128 512 512 512 512
paper-houlsby roberta-large lora              8 examples_per_step 4
paper-houlsby roberta-large lora              8 epochs            10 10 20 20 10 20 20 10
paper-houlsby roberta-large lora 8 learning_rate 3e-4 4e-4 3e-4 2e-4 2e-4 3e-4 4e-4 2e-4
paper-houlsby roberta-large lora              8 alpha             16
paper-houlsby roberta-large lora              8 max_tokens        128
paper-houlsby roberta-large adapter_pfeiffer 64 examples_per_step 32
paper-houlsby roberta-large adapter_pfeiffer 64 epochs            10 20 20 20 10 20 20 20
paper-houlsby roberta-large adapter_pfeiffer 64 learning_rate 3e-5 3e-5 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4
paper-houlsby roberta-large adapter_pfeiffer 64 max_tokens        128
paper-houlsby roberta-large adapter_pfeiffer 16 examples_per_step 32
paper-houlsby roberta-large adapter_pfeiffer 16 epochs            5 20 20 20 10 20 20 20
paper-houlsby roberta-large adapter_pfeiffer 16 learning_rate     3e-4
paper-houlsby roberta-large adapter_pfeiffer 16 max_tokens        128
paper-houlsby roberta-large adapter_houlsby  64 examples_per_step 32
paper-houlsby roberta-large adapter_houlsby  64 epochs            10 5 10 10 5 20 20 10
paper-houlsby roberta-large adapter_houlsby 64 learning_rate 3e-5 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4 3e-4
paper-houlsby roberta-large adapter_houlsby  64 max_tokens        128
paper-houlsby roberta-large adapter_houlsby   8 examples_per_step 32
paper-houlsby roberta-large adapter_houlsby   8 epochs            10 5 10 10 5 20 20 10
paper-houlsby roberta-large adapter_houlsby   8 learning_rate     3e-4
paper-houlsby roberta-large adapter_houlsby   8 max_tokens        128
"""  # noqa: E501
# microsoft/LoRA@c4593f0 examples/NLU/*.sh; `a_device` is the batch size per device.
SCRIPTS = """
scripts       roberta-base  lora              8 a_device          16 16 16 32 32 16 32 16
scripts       roberta-base  lora              8 devices           8 8 8 2 8 8 8 8
scripts       roberta-base  lora              8 epochs            30 60 30 80 25 25 80 40
scripts roberta-base lora 8 learning_rate 5e-4 5e-4 4e-4 4e-4 4e-4 5e-4 5e-4 4e-4
scripts       roberta-base  lora              8 max_tokens        512
scripts       roberta-large lora              8 a_device          4 8 4 4 4 4 8 4
scripts       roberta-large lora              8 devices           8
scripts       roberta-large lora              8 epochs            10 10 20 20 10 20 20 10
scripts roberta-large lora 8 learning_rate 3e-4 4e-4 3e-4 3e-4 2e-4 3e-4 4e-4 3e-4
scripts       roberta-large lora              8 max_tokens        128 512 512 128 512 512 512 128
"""
FAIRSEQ = """
paper roberta-large ft 0 learning_rate 1e-5 1e-5 1e-5 1e-5 1e-5 1e-5 2e-5 2e-5
paper         roberta-large ft                0 examples_per_step 32 32 16 16 32 32 16 16
paper         roberta-large ft                0 epochs            10
paper roberta-large ft 0 updates 123873 20935 2296 5336 33112 113272 2036 3598
paper roberta-large ft 0 warmup 7432 1256 137 320 1986 28318 122 214
"""


def typed(text: str) -> dict[tuple, dict[str, tuple[float, ...]]]:
    """Parse a table: (protocol, model, method, rank) -> setting -> value for each task."""
    found = {}
    for line in text.split("\n")[1:-1]:
        protocol, model, method, rank, name, *values = line.split()
        values = tuple(map(float, values * (8 if len(values) == 1 else 1)))
        assert len(values) == 8
        found.setdefault((protocol, model, method, int(rank)), {})[name] = values
    return found


def ours(of: tuple, name: str) -> tuple[float, ...]:
    protocol, model, method, rank = of
    return tuple(getattr(hparams(protocol, model, task, method, rank), name) for task in TASKS)


def test_protocols_equal_a_second_transcription_of_table_9():
    table = typed(TABLE_9)
    assert len(table) == 7 and sum(map(len, table.values())) == 31
    for of, settings in table.items():
        for name, values in settings.items():
            assert ours(of, name) == values, (of, name)


def test_only_mrpc_rte_and_stsb_start_from_mnli_and_not_in_the_houlsby_protocol():
    for protocol in ("paper", "scripts"):
        for model in ("roberta-base", "roberta-large"):
            starts = {task: hparams(protocol, model, task).start for task in TASKS}
            assert starts == {
                task: "mnli" if task in ("mrpc", "rte", "stsb") else "pretrained" for task in TASKS
            }
    plain = [
        ("paper-houlsby", "lora"),
        ("paper", "ft"),
        ("paper", "bitfit"),
        ("paper-houlsby", "adapter_pfeiffer"),
    ]
    for protocol, method in plain:
        assert {
            hparams(protocol, "roberta-large", task, method, RANKS[method]).start for task in TASKS
        } == {"pretrained"}


def test_scripts_protocol_equals_the_authors_scripts_and_differs_from_table_9_as_expected():
    for (protocol, model, method, rank), settings in typed(SCRIPTS).items():
        for name in ("epochs", "learning_rate", "max_tokens"):
            assert ours((protocol, model, method, rank), name) == settings[name], (model, name)
        steps = tuple(
            each * count
            for each, count in zip(settings["a_device"], settings["devices"], strict=True)
        )
        assert ours((protocol, model, method, rank), "examples_per_step") == steps
    for task in TASKS:
        base = differences(
            hparams("paper", "roberta-base", task), hparams("scripts", "roberta-base", task)
        )
        assert base == {"alpha", "examples_per_step"}
        large = differences(
            hparams("paper", "roberta-large", task), hparams("scripts", "roberta-large", task)
        )
        more = dict(
            sst2={"max_tokens"},
            cola={"learning_rate"},
            stsb={"max_tokens", "learning_rate", "epochs"},
        )
        assert large == {"examples_per_step"} | more.get(task, set()), task


def test_course_as_run_differs_from_course_in_the_known_settings():
    more = dict(sst2={"alpha"}, qqp={"examples_per_step"})
    for task in ("sst2", "mrpc", "qqp", "mnli"):
        report, ran = (
            hparams("course", "roberta-base", task),
            hparams("course-as-run", "roberta-base", task),
        )
        assert differences(report, ran) == {"head", "weight_decay"} | more.get(task, set()), task
    assert (hparams("course-as-run", "roberta-base", "sst2").alpha, ran.alpha) == (
        8,
        8,
    )  # MNLI: alpha is r
    assert hparams("course-as-run", "roberta-base", "mnli", rank=64).alpha == 64
    assert hparams("course-as-run", "roberta-base", "qqp").examples_per_step == 4


def test_fine_tuning_has_fairseqs_hyperparameters():
    ((of, settings),) = typed(FAIRSEQ).items()
    for name in ("learning_rate", "examples_per_step", "epochs"):
        assert ours(of, name) == settings[name]
    fractions = tuple(
        round(up / of_all, 2)
        for up, of_all in zip(settings["warmup"], settings["updates"], strict=True)
    )
    assert ours(of, "warmup_frac") == fractions and fractions[TASKS.index("qqp")] == 0.25
    one = hparams("paper", "roberta-base", "rte", "ft", 0)
    assert (one.weight_decay, one.adam_beta1, one.adam_beta2) == (0.1, 0.9, 0.98)
    assert (one.adam_epsilon, one.max_grad_norm) == (1e-6, 0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_hyperparameters_for_its_models_and_tasks(method):
    """Base and large in the paper's protocols, and the demo's model; LoRA† on large."""
    for protocol, models in (
        ("paper", ("roberta-base", "roberta-large")),
        (
            "paper-houlsby",
            ("roberta-large",) if method == "lora" else ("roberta-base", "roberta-large"),
        ),
        ("course", ("roberta-base", "bert-base-uncased", "minilm")),
        ("demo", ("minilm",)),
    ):
        for model in models:
            for task in TASKS:
                assert hparams(protocol, model, task, method, RANKS[method]).head == "trained"


def test_paper_protocol_has_values_of_table_9():
    """Spot checks against Table 9 of the paper: RoBERTa-base CoLA and large RTE."""
    cola = hparam_rows.resolve(rows(), Cell("roberta-base", "cola", "lora", "qv", 8, "paper"), {})
    assert (
        cola.examples_per_step,
        cola.epochs,
        cola.learning_rate,
        cola.alpha,
        cola.max_tokens,
    ) == (32, 80, 4e-4, 8, 512)
    rte = hparam_rows.resolve(rows(), Cell("roberta-large", "rte", "lora", "qv", 8, "paper"), {})
    assert (rte.examples_per_step, rte.epochs, rte.learning_rate, rte.alpha, rte.max_tokens) == (
        8,
        20,
        4e-4,
        16,
        512,
    )
