# Takes a payment by a client that openapi-python-client made. Arguments: the API's address, and that of a later API.
import json
import sys

from nodrop_client import AuthenticatedClient
from nodrop_client.api.payments import create_payment, get_payment
from nodrop_client.models import (
    GetPaymentProblem,
    KnownGetPaymentProblemCode,
    KnownPaymentStatus,
    NewOrder,
    NewPayment,
    Payment,
)

api_url, later_url = sys.argv[1:]


def say(**line):
    print(json.dumps(line), flush=True)


def connect(url):
    return AuthenticatedClient(base_url=url, token="sk_dev_nodrop", timeout=None)


client = connect(api_url)
# The optional fields are left out: subject, metadata, expiry.
body = NewPayment(channel="simulator", order=NewOrder(id="order-python", amount=1990, currency="CNY"))
payment = None
while not isinstance(payment, Payment) or payment.pay_url is None:
    payment = create_payment.sync(client=client, body=body)
say(step="created", id=payment.id)

while payment.status in (KnownPaymentStatus.CREATED, KnownPaymentStatus.PAYING):
    payment = get_payment.sync(payment.id, client=client, wait=30)
say(step="over", status=payment.status)

refused = get_payment.sync("pay_unknown", client=client)
assert isinstance(refused, GetPaymentProblem)
say(step="refused", code=refused.code, isKnown=refused.code is KnownGetPaymentProblemCode.PAYMENT_NOT_FOUND)

later = connect(later_url)
shown = get_payment.sync(payment.id, client=later)
assert isinstance(shown, Payment)
say(step="later", status=shown.status, isKnown=isinstance(shown.status, KnownPaymentStatus))
refused = get_payment.sync("pay_unknown", client=later)
assert isinstance(refused, GetPaymentProblem)
say(step="later refused", code=refused.code, isKnown=isinstance(refused.code, KnownGetPaymentProblemCode))
