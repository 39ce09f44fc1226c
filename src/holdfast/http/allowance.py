"""What a caller may use, and what is left of it: GET /limits (docs/http.md, "Limits")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.depot.ingest import smaller
from holdfast.http.message import json_answer
from holdfast.http.meters import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.access import Caller
    from holdfast.depot.engine import Engine
    from holdfast.depot.policies import Policies, Used
    from holdfast.http.gate import Gate
    from holdfast.http.message import Answer, Request

Document = dict[str, object]

_encode = msgspec.json.Encoder().encode


def answer(engine: Engine, gate: Gate, request: Request, asked: Mapping[str, str]) -> Answer:
    """Tell a caller its rates, its quotas, and how large a blob may be.

    Raises:
        UnauthenticatedError, DeniedError, NotFoundError: it may not know of the bucket.
        InvalidError: that is none.
    """
    caller = gate.enter(request)
    policies, bounds = engine.names.policies, engine.limits
    told = {
        "rates": _rates(gate, request, caller),
        "body_bytes_max": {
            "keyed": bounds.max_bytes or None,
            "content": bounds.content_max_bytes or None,
        },
        "owner": _owner(policies, caller.owner) if caller.owner else None,
        "bucket": None,
    }
    if "bucket" in asked:
        bucket = caller.bucket(asked["bucket"])
        policy = policies.of(bucket).policy
        caller.check(None, bucket, policy)
        told["bucket"] = {
            "name": bucket,
            "blob_bytes_max": smaller(bounds.max_bytes, policy.blob_bytes_max) or None,
            "types": policy.types,
            **_quota(policies.used(bucket), policy.quota_bytes, policy.quota_entries),
        }
    return json_answer(200, _encode(told), b"cache-control: no-store\r\n")


def _rates(gate: Gate, request: Request, caller: Caller) -> list[Document]:
    found: list[Document] = []
    for meter in (*gate.place(request.address).meters, *gate.meters(caller)):
        left, full_in_s = gate.standing(meter)
        found.append(
            {
                "policy": meter.policy,
                "unit": meter.unit,
                "per_s": round(SECOND_NS / meter.unit_ns, 6),
                "burst": meter.limit,
                "left": left,
                "full_in_s": full_in_s,
            }
        )
    return found


def _owner(policies: Policies, name: str) -> Document:
    owner = policies.owner(name)
    quotas = (None, None) if owner is None else (owner.quota_bytes, owner.quota_entries)
    return {"name": name, **_quota(policies.owner_used(name), *quotas)}


def _quota(used: Used, quota_bytes: int | None, quota_entries: int | None) -> Document:
    return {"quota_bytes": quota_bytes, "quota_entries": quota_entries, "used": used._asdict()}
