<?php
// pay.php ID AMOUNT CURRENCY [SUBJECT]: creates an order of the shop and its payment. The amount is in minor units.

[, $id, $amount, $currency, $subject] = [...$argv, 'Coffee'];
$db = pg_connect(getenv('DATABASE_URL'));
// Commit the order before the payment starts: its first event can arrive at once.
pg_query_params(
    $db,
    'insert into orders (id, amount, currency) values ($1, $2, $3) on conflict (id) do nothing',
    [$id, $amount, $currency],
);
$stored = pg_fetch_assoc(pg_query_params($db, 'select * from orders where id = $1', [$id]));

function refuse(string $sentence): never
{
    fwrite(STDERR, "$sentence\n");
    exit(1);
}

if ((int) $stored['amount'] !== (int) $amount || $stored['currency'] !== $currency) {
    refuse("Order $id costs {$stored['amount']} {$stored['currency']}: pay that amount, or use another ID.");
}
if ($stored['cancelled'] === 't') {
    refuse("Order $id is cancelled.");
}
if ($stored['paid_payment_id'] !== null) {
    exit("Order $id is paid by {$stored['paid_payment_id']}.\n");
}

// Send the stored order, because the receiver compares the payment with it.
$order = ['id' => $id, 'amount' => (int) $stored['amount'], 'currency' => $stored['currency'], 'subject' => $subject];
$answer = file_get_contents(getenv('NODROP_URL') . '/v1/payments', context: stream_context_create(['http' => [
    'method' => 'POST',
    'header' => ['Authorization: Bearer ' . getenv('NODROP_KEY'), 'Content-Type: application/json'],
    'content' => json_encode(['order' => $order, 'channel' => 'simulator']),
    'timeout' => 15,
    'ignore_errors' => true, // An error is a problem document with a code.
]]));
$payment = json_decode($answer ?: 'null', true);
if (!isset($payment['checkoutUrl'])) {
    refuse("nodrop answered $answer"); // Repeating the request returns the same payment.
}
echo "Order $id is {$payment['status']}: pay at {$payment['checkoutUrl']}\n";
