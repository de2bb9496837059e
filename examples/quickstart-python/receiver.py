"""Receives nodrop's events and marks orders as paid: the three things your shop must do."""

import json
import os
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import psycopg
from psycopg.rows import dict_row
from standardwebhooks import Webhook, WebhookVerificationError

NAMES = ("NODROP_WEBHOOK_SECRET", "DATABASE_URL", "NODROP_URL", "NODROP_KEY")
if missing := [name for name in NAMES if not os.environ.get(name)]:
    raise SystemExit(f"Set {', '.join(missing)} in the environment.")
SECRET, DATABASE_URL, NODROP_URL, NODROP_KEY = (os.environ[name] for name in NAMES)
HOST, PORT = os.environ.get("HOST") or "127.0.0.1", int(os.environ.get("PORT") or 3200)
webhook = Webhook(SECRET)


class Refused(Exception):
    """Rolls the transaction back. nodrop reacts to the HTTP status."""

    def __init__(self, status, body):
        super().__init__(status, body)
        self.status, self.body = status, body


def pays(payment):
    is_here = payment["status"] == "succeeded" and payment["refundedAmount"] < payment["receivedAmount"]
    return is_here and payment["orderUpdate"] in ("pending", "applied")


def current(event, sent_at):
    """The event's payment. Reads the payment again before a late event grants goods."""
    payment = event["data"]["payment"]
    age = sent_at - datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()
    if age < 10 or not pays(payment):
        return payment
    url = f"{NODROP_URL}/v1/payments/{payment['id']}"
    with urlopen(Request(url, headers={"Authorization": f"Bearer {NODROP_KEY}"}), timeout=5) as answer:
        return json.load(answer)


def apply(db, payment, version):
    order = db.execute("select * from orders where id = %s for update", [payment["orderId"]]).fetchone()
    newer = db.execute(
        "insert into nodrop_payments as known values (%(id)s, %(version)s) on conflict (id)"
        " do update set version = %(version)s where known.version < %(version)s",
        {"id": payment["id"], "version": version},
    )
    if newer.rowcount == 0:
        return  # Delivered before, or older than the stored version.
    if payment["orderUpdate"] == "conflict":  # Take the goods back.
        db.execute("update orders set paid_payment_id = null where paid_payment_id = %s", [payment["id"]])
    if not pays(payment) or (order and order["paid_payment_id"] == payment["id"]):
        return
    if not order:
        raise Refused(404, {"code": "order_unknown"})  # nodrop redelivers, for 24 h by default.
    if (order["amount"], order["currency"]) != (payment["amount"], payment["currency"]):
        raise Refused(422, {"code": "sum"})
    if order["paid_payment_id"]:
        raise Refused(409, {"paidPaymentId": order["paid_payment_id"]})
    if order["cancelled"]:
        raise Refused(410, {"code": "cancelled"})
    db.execute("update orders set paid_payment_id = %s where id = %s", [payment["id"], order["id"]])
    # Grant the goods here.


def receive(body, headers):
    event = webhook.verify(body, headers)
    if event.get("test") or not event["type"].startswith(("payment.", "refund.")):
        return  # A test, or a type that this code does not know.
    payment = current(event, int(headers["webhook-timestamp"]))
    with psycopg.connect(DATABASE_URL, row_factory=dict_row, connect_timeout=5) as db:
        apply(db, payment, event["data"]["version"])  # Committed at the end of the block.


class Receiver(BaseHTTPRequestHandler):
    timeout = 15

    def do_POST(self):
        status, answer = 200, {}
        try:
            length = int(self.headers.get("content-length") or 0)
            if self.path != "/nodrop/events":
                raise Refused(404, {})
            if not 0 <= length <= 1_000_000:
                raise Refused(413, {})
            # A proxy may change the case of header names.
            receive(self.rfile.read(length), {name.lower(): value for name, value in self.headers.items()})
        except Refused as refused:
            status, answer = refused.status, refused.body
        except WebhookVerificationError as error:
            status, answer = 401, {"code": str(error)}
        except Exception as error:  # No decision: nodrop redelivers the event.
            self.log_error("%r", error)
            status = 500
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


server = ThreadingHTTPServer((HOST, PORT), Receiver)
print(f"The receiver accepts events at http://{HOST}:{PORT}/nodrop/events", flush=True)
server.serve_forever()
