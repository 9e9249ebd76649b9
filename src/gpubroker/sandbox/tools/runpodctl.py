"""runpodctl of a pod: RunPod's client, as far as a pod's own key may do anything.

Every pod comes with it and with a key for itself alone (RunPod docs, command-line interface).
"""

from __future__ import annotations

import json
import urllib.request

from .facts import refuse, say, variable

_MUTATIONS = {"remove": "podTerminate", "delete": "podTerminate", "stop": "podStop"}
_ASKED_S = 60
_USAGE = "usage: runpodctl {remove|stop} pod ID | pod {delete|stop} ID"


def main(argv: list[str]) -> int:
    """Both orders of the words, the older and the newer; the exit code."""
    verb, pod_id = "", ""
    match argv:
        case [("remove" | "stop") as verb, "pod", pod_id]:
            pass
        case ["pod", ("delete" | "remove" | "stop") as verb, pod_id]:
            pass
        case _:
            return refuse(_USAGE, 1)
    text = "mutation Do($id: String!) { MUTATION(input: {podId: $id})SHOWN }"
    shown = " { id }" if verb == "stop" else ""
    query = text.replace("MUTATION", _MUTATIONS[verb]).replace("SHOWN", shown)
    try:
        answer = _ask({"query": query, "variables": {"id": pod_id}})
    except OSError as error:
        return refuse(f"Error: {error}", 1)
    if errors := answer.get("errors"):
        return refuse(f"Error: {errors}", 1)
    return say(f'pod "{pod_id}" {verb}{"ped" if verb == "stop" else "d"}')


def _ask(body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310 - the sandbox's own address
        variable("RUNPOD_GRAPHQL_URL"),
        json.dumps(body).encode(),
        {
            "Authorization": f"Bearer {variable('RUNPOD_API_KEY')}",
            "Content-Type": "application/json",
        },
    )
    # Whatever proxy this computer has: it is no way to its own loopback.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=_ASKED_S) as answer:
        told: dict[str, object] = json.loads(answer.read())
        return told
