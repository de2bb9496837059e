"""pay.py ID AMOUNT CURRENCY [SUBJECT]: creates an order and its payment. The amount is in minor units."""

import json
import os
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg

order_id, amount, currency, subject = (sys.argv[1:] + ["Coffee"])[:4]
# Commit the order before the payment starts: its first event can arrive at once.
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute(
        "insert into orders (id, amount, currency) values (%s, %s, %s) on conflict (id) do nothing",
        [order_id, int(amount), currency],
    )
    stored = db.execute("select amount, currency, cancelled, paid_payment_id from orders where id = %s", [order_id])
    stored_amount, stored_currency, cancelled, paid_by = stored.fetchone()
if (stored_amount, stored_currency) != (int(amount), currency):
    raise SystemExit(f"Order {order_id} costs {stored_amount} {stored_currency}: pay that amount, or use another ID.")
if cancelled:
    raise SystemExit(f"Order {order_id} is cancelled.")
if paid_by:
    raise SystemExit(print(f"Order {order_id} is paid by {paid_by}."))

# Send the stored order, because the receiver compares the payment with it.
order = {"id": order_id, "amount": stored_amount, "currency": stored_currency, "subject": subject}
request = Request(
    f"{os.environ['NODROP_URL']}/v1/payments",
    json.dumps({"order": order, "channel": "simulator"}).encode(),
    {"Authorization": f"Bearer {os.environ['NODROP_KEY']}", "Content-Type": "application/json"},
)
try:
    with urlopen(request, timeout=15) as answer:
        payment = json.load(answer)
except HTTPError as error:  # A problem document. Repeating the request returns the same payment.
    raise SystemExit(f"nodrop answered {error.read().decode()}")
print(f"Order {order_id} is {payment['status']}: pay at {payment['checkoutUrl']}")
