"""Results in an S3 bucket on a local server: a grid, and its tables on another machine."""

import importlib.util

import pytest
from helpers.workflow import small_config, snakemake, trained, write_config

needed = ("moto", "flask", "flask_cors", "boto3", "snakemake_storage_plugin_s3")
absent = [name for name in needed if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(absent), reason=f"pip install -e '.[s3-test]' for {', '.join(absent)}"),
]


@pytest.fixture
def bucket(monkeypatch):
    """An empty bucket on loopback: (its client, the options that name it to Snakemake)."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("s3", endpoint_url=address)
    client.create_bucket(Bucket="bucket")
    store = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket/grid"]
    yield client, [*store, "--storage-s3-endpoint-url", address]
    client.close()
    server.stop()


def keys(client) -> set[str]:
    return {
        found["Key"].removeprefix("grid/results/")
        for found in client.list_objects_v2(Bucket="bucket")["Contents"]
    }


def test_a_grid_writes_and_reads_its_results_in_a_bucket(bucket, tmp_path):
    """Warm starts, subspaces and tables read the bucket; other files stay local.

    Another machine makes the tables from the runs in the bucket.
    """
    client, store = bucket
    config = small_config(tmp_path)
    table = dict(models=["tiny"], method="lora", weights=["qv"])
    config |= dict(
        protocols={"from-sst2": dict(base="course", start="sst2")},
        tables=dict(
            table2=table | dict(tasks=["stsb"], ranks=[2], protocols=["from-sst2"]),
            table6=table | dict(tasks=["sst2"], ranks=[1, 2]),
        ),
        subspace=dict(
            model="tiny", task="sst2", weights="qv", ranks=[1, 2], seeds=[0, 1], layers=[1]
        ),
    )
    path = write_config(tmp_path, config)
    output = snakemake("--configfile", path, "--directory", tmp_path, *store)
    assert trained(output) == 4
    there = keys(client)
    assert (
        len(
            [
                key
                for key in there
                if key.endswith(("metrics.csv", "run.json", "adapter_model.safetensors"))
            ]
        )
        == 4 * 2 * 3
    )
    assert {
        "tables/table2.html",
        "figures/rank_curves.svg",
        "subspace/figure3.svg",
        "tables/provenance.csv",
    } <= there
    assert {one.name for one in (tmp_path / "results").iterdir()} == {"sources", "tokens", "state"}
    assert "Nothing to be done" in snakemake("--configfile", path, "--directory", tmp_path, *store)

    # Nor on another machine that has only the config.
    (tmp_path / "elsewhere").mkdir()
    options = ["--configfile", path, "--directory", tmp_path / "elsewhere", *store]
    assert "Nothing to be done" in snakemake(*options)
    assert "Adding rank_curves.svg" in snakemake(*options, "--report", tmp_path / "report.html")
    assert not (tmp_path / "elsewhere/results").exists()

    page = client.get_object(Bucket="bucket", Key="grid/results/tables/table6.md")["Body"].read()
    for key in there:
        if not key.startswith("runs/"):
            client.delete_object(Bucket="bucket", Key=f"grid/results/{key}")
    existing = write_config(tmp_path, config, mode="existing", subspace=None)
    output = snakemake("--configfile", existing, "--directory", tmp_path / "elsewhere", *store)
    assert trained(output) == 0 and not (tmp_path / "elsewhere/results").exists()
    assert (
        client.get_object(Bucket="bucket", Key="grid/results/tables/table6.md")["Body"].read()
        == page
    )
