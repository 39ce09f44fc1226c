"""Rows about what it costs to be asked for a key, to count under quotas and to hold to a policy."""

import json
from collections.abc import Iterator
from functools import partial

from bench.load import Measured, Work
from bench.peers import holdfast
from bench.process import Running, ask
from bench.stage import Row, Scene, Stage, Target, cost
from bench.table import Bar, Line, NotRunError, faced, in_turn, paired

KIB = 1024
BLOBS = 1000
CONNECTIONS = 32
BAR = Bar(0.9, "x")
BUCKET = "photos"
OWNER = {"quota_bytes": 1 << 50, "quota_entries": 1 << 40}
POLICY = {**OWNER, "types": ["application/octet-stream"], "blob_bytes_max": 1 << 30}
ROUNDS = 4
"""Of two servers that are nearly alike more turns are needed to tell them apart."""
FIRST_KEY = "the key of who runs this store"


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [
        Row("GET 1 KiB, key, quota and policy", _get, BAR),
        Row("PUT 1 KiB, key, quota and policy", _put, BAR),
    ]


def _get(stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        targets = _pair(scene)
        for target in targets:
            filling = Work("PUT", target.path, KIB, 8, 0, target.api_key)
            stage.generator.run(target.port, filling, seconds=60, requests=BLOBS)
        runs = {each.name: partial(stage.get, each, KIB, BLOBS, CONNECTIONS) for each in targets}
        results = in_turn(runs, ROUNDS * stage.options.rounds)
    yield _line("GET 1 KiB, key, quota and policy", results)


def _put(stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        targets = _pair(scene)
        runs = {each.name: partial(stage.put, each, KIB, CONNECTIONS) for each in targets}
        for run in runs.values():
            run()
        results = in_turn(runs, ROUNDS * stage.options.rounds)
    yield _line("PUT 1 KiB, key, quota and policy", results)


def _line(name: str, results: dict[str, list[Measured]]) -> Line:
    rates = {each: [turn.rate for turn in turns] for each, turns in results.items()}
    return faced(name, rates, BAR, "without", figure=paired).noted(cost(results))


def _pair(scene: Scene) -> list[Target]:
    """Start a server with all rules and one with none."""
    path = f"/b/{BUCKET}/p{{n}}"
    settings = {"HOLDFAST_AUTH": "keys"}
    guarded = scene.start(holdfast(scene.folder("guarded"), variables=settings))
    plain = scene.start(holdfast(scene.folder("plain")))
    return [
        Target("guarded", guarded, guarded.port, path, _set_up(guarded)),
        Target("plain", plain, plain.port, path),
    ]


def _set_up(running: Running) -> str:
    """Make an owner with a quota, a bucket with one and a policy; return a key of the owner."""
    lines = (running.server.directory / "output.log").read_text().splitlines()
    operator = next(line.split()[-1] for line in lines if line.startswith(FIRST_KEY))

    def tell(method: str, path: str, body: object) -> bytes:
        sent = json.dumps(body).encode()
        answer = ask(running.port, f"/admin/{path}", method, body=sent, api_key=operator)
        if answer.status not in (200, 201):
            raise NotRunError(f"/admin/{path} answered {answer.status}: {answer.body.decode()}")
        return answer.body

    tell("PUT", "owners/bench", OWNER)
    tell("PUT", f"policies/bench~{BUCKET}", POLICY)
    return str(json.loads(tell("POST", "keys", {"owner": "bench"}))["key"])
