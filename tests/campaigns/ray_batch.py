"""`piano.map` of a Daft DataFrame, on Daft's own runner and on a local Ray cluster of two nodes, beside that of pandas.

pip install 'ray>=2.55' && python tests/campaigns/ray_batch.py [ROWS]

The answers are the same ones, and a second run asks nothing.
"""

import asyncio
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import daft
import pandas as pd
import ray
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).parents[1]))

from row_models import MARK

from piano_jupyter import Piano
from piano_jupyter.testing import ScriptedServer

ROWS = [
    {"id": number, "review": f"Number {number % 900} is good." if number % 7 else None}
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
]
SCHEMA = {"type": "object", "properties": {"stars": {"type": "integer"}, "why": {"type": "string"}}}
QUESTION = "Rate this review, and say why: {{review}}"
PARTS, IN_FLIGHT = 4, 16


def answer(request):
    """Answer each row differently."""
    row = json.loads(request["messages"][-1]["content"].rpartition(MARK)[2])
    return json.dumps({"stars": len(str(row["review"])), "why": f"it says {row['review']}"})


def node():
    """Return the settings of a node. With ports given, it does not stop where its helpers take long to start."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {"num_cpus": 1, **{name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}}


async def compare(name, table, server, expected, asked):
    """Map a table twice in a workspace of its own; print and check the answers, and how many rows were asked."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"workspace": folder, "base_url": server.url, "embedded": "never", "max_in_flight": IN_FLIGHT}
        async with Piano(database=Path(folder, "piano.duckdb"), **settings) as piano:
            for turn, wanted in (("first", asked), ("second", 0)):
                server.requests.clear()
                begun = time.perf_counter()
                found = records(await piano.map(table, QUESTION, schema=SCHEMA))
                taken = time.perf_counter() - begun
                same = expected is None or found == expected
                print(
                    f"{name:14} {turn:6} {len(found):,} rows in {taken:5.1f} s, {len(server.requests):,} asked: "
                    f"{'the same answers' if same else 'OTHER ANSWERS'}"
                )
                assert same
                assert len(server.requests) == wanted
                expected = found
            [batch] = await piano.batches()
            assert (batch.status, batch.row_count, batch.done, batch.failed) == ("done", len(ROWS), asked, 0)
            kept = Path(folder, "answers.parquet")
            assert await piano.export_batch(batch.name, kept) == asked
            reviews = pd.read_parquet(kept)["review"]
            assert {each if pd.notna(each) else None for each in reviews} == {row["review"] for row in ROWS}
    return found


def records(table):
    """Return the rows of a table with answers, in the order of their ids; what is missing is None."""
    frame = table if isinstance(table, pd.DataFrame) else table.sort("id").to_pandas()
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def native():
    """Ask on Daft's native runner."""
    daft.set_runner_native()
    ask("Daft, native", daft.from_pylist(ROWS))


def on_cluster():
    """Ask on a cluster of two nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node()})
    try:
        cluster.add_node(**node())
        ray.init(address=cluster.address, log_to_driver=False)
        print(f"Ray {ray.__version__}, Daft {daft.__version__}, nodes: {sum(each['Alive'] for each in ray.nodes())}")
        daft.set_runner_ray(address=cluster.address)
        ask("Daft, Ray", daft.from_pylist(ROWS).into_partitions(PARTS))
    finally:
        ray.shutdown()
        cluster.shutdown()


def ask(name, frame):
    """Ask as pandas and as Daft."""
    asked = len({row["review"] for row in ROWS})
    with ScriptedServer(answer=answer, models=["qwen3:32b"]) as server:
        expected = asyncio.run(compare("pandas", pd.DataFrame(ROWS), server, None, asked))
        asyncio.run(compare(name, frame, server, expected, asked))


if __name__ == "__main__":
    for runner in (native, on_cluster):  # in a process each: Daft takes one runner for good
        process = multiprocessing.get_context("spawn").Process(target=runner)
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)
