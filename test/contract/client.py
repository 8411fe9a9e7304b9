"""A client as a stranger would write one: stubs generated from proto/, gRPC in clear, nothing else of the product.

    python3 client.py <folder of the generated stubs> <host:port> <node>

Prints one JSON object a line, {"step": ..., ...}, messages as protobuf's own JSON. Ends with status 0 once an
alert of the node was seen firing and then resolved; every wait is bounded.
"""

import json
import os
import sys

import grpc

GENERATED, TARGET, NODE = sys.argv[1:4]
sys.path.insert(0, GENERATED)
# The stubs of grpc.health.v1 want to be part of the package that gRPC itself lives in.
grpc.__path__.append(os.path.join(GENERATED, "grpc"))

from google.protobuf.json_format import MessageToDict  # noqa: E402
from gpufleet.alert.v1 import alert_pb2  # noqa: E402
from gpufleet.fleet.v1 import fleet_pb2, fleet_pb2_grpc  # noqa: E402
from grpc.health.v1 import health_pb2, health_pb2_grpc  # noqa: E402

# Seconds. One answer on loopback; an alert that the test still has to provoke and end.
CALL_TIMEOUT = 10
WATCH_TIMEOUT = 60
# A token that leads back to its own page must not turn into an endless loop.
MAX_PAGES = 10


def say(step, **what):
    print(json.dumps({"step": step, **what}), flush=True)


def plain(message):
    return MessageToDict(message, preserving_proto_field_name=True)


def refusal(call, request):
    """The status code and words of a call that must fail."""
    try:
        call(request, timeout=CALL_TIMEOUT)
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}
    return {"code": "OK", "details": ""}


def pages(call, request):
    """Every page of a list, as the tokens lead from one to the next."""
    found = []
    while len(found) < MAX_PAGES:
        answer = call(request, timeout=CALL_TIMEOUT, wait_for_ready=True)
        found.append(plain(answer))
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    return found


def watch(fleet):
    """Follows the node's temperature alert from firing to resolved; asks in between for what it may not have."""
    stream = fleet.WatchAlerts(
        fleet_pb2.WatchAlertsRequest(node=NODE, rule="gpu-temperature"), timeout=WATCH_TIMEOUT
    )
    say("watching")
    transition = 0
    for answer in stream:
        alert = answer.alert
        # What changes while the watch begins may come twice.
        if alert.transition <= transition:
            continue
        transition = alert.transition
        if alert.state == alert_pb2.ALERT_STATE_FIRING:
            request = fleet_pb2.ResolveAlertRequest(id=alert.id, comment="without a token")
            say("resolve", **refusal(fleet.ResolveAlert, request))
        say("alert", alert=plain(alert))
        if alert.state == alert_pb2.ALERT_STATE_RESOLVED:
            stream.cancel()
            break
    say("watched", code=stream.code().name)


def main():
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(TARGET, options) as channel:
        fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)

        say("nodes", pages=pages(fleet.ListNodes, fleet_pb2.ListNodesRequest(page_size=1)))
        say("gpus", pages=pages(fleet.ListGpus, fleet_pb2.ListGpusRequest(page_size=1, node=NODE)))
        node = fleet.GetNode(fleet_pb2.GetNodeRequest(node=NODE), timeout=CALL_TIMEOUT)
        say("node", answer=plain(node))
        gpu = fleet.GetGpu(fleet_pb2.GetGpuRequest(uuid=node.gpus[0].uuid), timeout=CALL_TIMEOUT)
        say("gpu", answer=plain(gpu))

        say("unknown-node", **refusal(fleet.GetNode, fleet_pb2.GetNodeRequest(node="no-such-node")))
        say("bad-token", **refusal(fleet.ListNodes, fleet_pb2.ListNodesRequest(page_token="made up")))

        for service in ["", "gpufleet.fleet.v1.FleetService"]:
            request = health_pb2.HealthCheckRequest(service=service)
            say("health", service=service, answer=plain(health.Check(request, timeout=CALL_TIMEOUT)))
        request = health_pb2.HealthCheckRequest(service="no.such.Service")
        say("health-unknown", **refusal(health.Check, request))

        watch(fleet)


main()
