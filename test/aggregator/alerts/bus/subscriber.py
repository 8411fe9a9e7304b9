"""A subscriber as a stranger would write one: the NATS client protocol over a TCP socket, no package.

    python3 subscriber.py <host> <port> core|durable <subject> <count>

`core` subscribes; `durable` makes a durable pull consumer on the stream of alerts, takes and acknowledges. Prints
"ready" once it listens, then one JSON object a message: {"subject", "headers", "body"}. Ends with status 0 after
<count> messages; every wait is bounded.
"""

import json
import socket
import sys

HOST, PORT, MODE, SUBJECT, COUNT = sys.argv[1:6]
STREAM = "GPUFLEET_ALERTS"
DURABLE = "python"
INBOX = "_INBOX.python"
# Seconds without a word from the server.
TIMEOUT = 20


class Nats:
    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)), timeout=TIMEOUT)
        self.reader = self.socket.makefile("rb")
        if not self.reader.readline().startswith(b"INFO "):
            raise SystemExit("the server does not greet")
        self.send('CONNECT {"verbose":false,"pedantic":false,"headers":true,"lang":"python","version":"0"}')

    def send(self, line, payload=None):
        data = line.encode() + b"\r\n"
        if payload is not None:
            data += payload + b"\r\n"
        self.socket.sendall(data)

    def publish(self, subject, payload, reply=""):
        self.send(f"PUB {subject} {reply} {len(payload)}".replace("  ", " "), payload)

    def subscribe(self, subject):
        self.send(f"SUB {subject} 1")
        self.send("PING")
        while self.line() != "PONG":
            pass

    def line(self):
        """The next line that is no PING and no INFO."""
        while True:
            line = self.reader.readline().decode().rstrip("\r\n")
            if line == "":
                raise SystemExit("the server has closed the connection")
            if line.startswith("-ERR"):
                raise SystemExit(line)
            if line == "PING":
                self.send("PONG")
            elif not line.startswith("INFO "):
                return line

    def message(self):
        """Subject, where to reply, headers and body of the next message."""
        parts = self.line().split(" ")
        # MSG <subject> <sid> [reply] <bytes>  or  HMSG <subject> <sid> [reply] <header bytes> <all bytes>
        numbers = 2 if parts[0] == "HMSG" else 1
        if parts[0] not in ("MSG", "HMSG"):
            raise SystemExit(f"unexpected: {parts}")
        payload = self.reader.read(int(parts[-1]))
        self.reader.read(2)
        head = int(parts[-2]) if numbers == 2 else 0
        reply = parts[3] if len(parts) == 4 + numbers else ""
        return parts[1], reply, headers_of(payload[:head]), payload[head:]


def headers_of(block):
    lines = block.decode().split("\r\n")
    # The first line is NATS/1.0 and perhaps a status, such as "NATS/1.0 404 No Messages".
    headers = {"status": lines[0][len("NATS/1.0"):].strip()} if lines[0] else {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    return headers


def show(subject, headers, body):
    print(json.dumps({"subject": subject, "headers": headers, "body": json.loads(body)}), flush=True)


def core(nats):
    nats.subscribe(SUBJECT)
    print("ready", flush=True)
    for _ in range(int(COUNT)):
        subject, _, headers, body = nats.message()
        show(subject, headers, body)


def durable(nats):
    nats.subscribe(f"{INBOX}.>")
    wish = {
        "stream_name": STREAM,
        "config": {
            "durable_name": DURABLE,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "filter_subject": SUBJECT,
        },
    }
    nats.publish(f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{DURABLE}", json.dumps(wish).encode(), f"{INBOX}.made")
    made = json.loads(nats.message()[3])
    if "error" in made:
        raise SystemExit(str(made["error"]))
    print("ready", flush=True)
    for _ in range(int(COUNT)):
        ask = json.dumps({"batch": 1, "expires": TIMEOUT * 1_000_000_000}).encode()
        nats.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{DURABLE}", ask, f"{INBOX}.next")
        subject, acknowledge, headers, body = nats.message()
        if headers.get("status"):
            raise SystemExit(headers["status"])
        show(subject, headers, body)
        nats.publish(acknowledge, b"+ACK", f"{INBOX}.acknowledged")
        nats.message()


{"core": core, "durable": durable}[MODE](Nats())
