"""A Daft DataFrame on a local Ray cluster of two nodes has the answers that Asker has without Daft.

pip install 'ray>=2.55' && python tests/campaigns/ray_batch.py [ROWS]
"""

import asyncio
import socket
import sys
import time
from contextlib import ExitStack, aclosing
from pathlib import Path

import daft
import ray
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from rows_server import rows_server

from piano_jupyter.batch import Asker, RowTemplate, with_answers
from piano_jupyter.batch.daft_frame import ask_frame

ROWS = [
    {"id": number, "review": f"Number {number % 900} is good."}
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
]
SCHEMA = {"type": "object", "properties": {"stars": {"type": "integer"}, "why": {"type": "string"}}}
TEMPLATE = RowTemplate("Rate this review, and say why: {{review}}", schema=SCHEMA)
IN_FLIGHT = 16


class Kept(dict):
    """Answers in memory."""

    added = asked = 0

    def known(self, keys):
        self.asked += len(keys)
        return {key: self[key] for key in keys if key in self}

    def add(self, answers):
        self.added += 1
        self.update(answers)


async def plain(url):
    """Return the rows with their answers, without Daft."""
    asking = Asker(url, "m", max_in_flight=IN_FLIGHT)
    async with asking, aclosing(asking.answers(TEMPLATE, ROWS)) as answers:
        found = {number: answer async for number, answer in answers}
    return with_answers(ROWS, (found[number] for number in range(len(ROWS))), SCHEMA)


def node():
    """Return the settings of a node. With ports given, it does not stop where its helpers take long to start."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {"num_cpus": 1, **{name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}}


def main():
    """Ask twice on the cluster; what was answered the first time is not asked again."""
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node()})
    cluster.add_node(**node())
    ray.init(address=cluster.address, log_to_driver=False)
    print(f"Ray {ray.__version__}, Daft {daft.__version__}, nodes: {sum(node['Alive'] for node in ray.nodes())}")
    daft.set_runner_ray(address=cluster.address)
    kept = Kept()
    try:
        with rows_server(0.05) as url:
            expected = asyncio.run(plain(url))
            for turn in ("first", "second"):
                before, begun = len(kept), time.perf_counter()
                frame = daft.from_pylist(ROWS).into_partitions(4)
                settings = {"answers": kept, "max_in_flight": IN_FLIGHT, "workers": 2, "batch_rows": 100}
                result = ask_frame(frame, TEMPLATE, url, "m", **settings).sort("id").to_pylist()
                same = "the same as without Daft" if result == expected else "OTHER THAN WITHOUT DAFT"
                taken = time.perf_counter() - begun
                print(f"{turn}: {len(result):,} rows in {taken:.1f} s, {len(kept) - before:,} asked: {same}")
                assert result == expected
        print(f"answers came back in {kept.added} parts")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
