<?php
// Receives nodrop's events and marks orders as paid: the three things your shop must do.

http_response_code(500); // Until the event is decided: nodrop redelivers after a 500.
ini_set('display_errors', '0');
header('content-type: application/json');
putenv('PGCONNECT_TIMEOUT=5');
set_error_handler(fn (int $level, string $message) => throw new ErrorException($message));

/** Rolls the transaction back. Its code is the HTTP status, which nodrop reacts to. */
class Refused extends Exception
{
    public function __construct(int $status, public readonly array $body = [])
    {
        parent::__construct($body['code'] ?? '', $status);
    }
}

function setting(string $name): string
{
    return getenv($name) ?: throw new Exception("Set $name in the environment.");
}

/** Standard Webhooks: a signature must match, and the time must be within 5 minutes. */
function verify(string $body): array
{
    [$id, $time] = [$_SERVER['HTTP_WEBHOOK_ID'] ?? '', $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? ''];
    $key = base64_decode(substr(setting('NODROP_WEBHOOK_SECRET'), strlen('whsec_')));
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$time.$body", $key, true));
    $given = explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '');
    $fitting = array_filter($given, fn ($signature) => hash_equals($expected, $signature));
    if (!ctype_digit($time) || abs(time() - (int) $time) > 300 || !$fitting) {
        throw new Refused(401, ['code' => 'not_verified']);
    }
    return json_decode($body, true, flags: JSON_THROW_ON_ERROR);
}

function pays(array $payment): bool
{
    $isHere = $payment['status'] === 'succeeded' && $payment['refundedAmount'] < $payment['receivedAmount'];
    return $isHere && in_array($payment['orderUpdate'], ['pending', 'applied'], true);
}

/** The event's payment. Reads the payment again before a late event grants goods. */
function current_payment(array $event): array
{
    $payment = $event['data']['payment'];
    $happenedAt = (float) (new DateTimeImmutable($event['timestamp']))->format('U.u');
    if ((int) $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] - $happenedAt < 10 || !pays($payment)) {
        return $payment;
    }
    $http = ['header' => 'Authorization: Bearer ' . setting('NODROP_KEY'), 'timeout' => 5];
    $url = setting('NODROP_URL') . "/v1/payments/{$payment['id']}";
    $answer = file_get_contents($url, context: stream_context_create(['http' => $http])); // Throws on an error status.
    return json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
}

function apply(PgSql\Connection $db, array $payment, int $version): void
{
    $query = fn (string $sql, array $values) => pg_query_params($db, $sql, $values);
    $order = pg_fetch_assoc($query('select * from orders where id = $1 for update', [$payment['orderId']]));
    $newer = 'insert into nodrop_payments as known values ($1, $2) on conflict (id)
        do update set version = $2 where known.version < $2';
    if (pg_affected_rows($query($newer, [$payment['id'], $version])) === 0) {
        return; // Duplicate or older event.
    }
    if ($payment['orderUpdate'] === 'conflict') { // Take the goods back.
        $query('update orders set paid_payment_id = null where paid_payment_id = $1', [$payment['id']]);
    }
    if (!pays($payment) || ($order && $order['paid_payment_id'] === $payment['id'])) {
        return;
    }
    if (!$order) {
        throw new Refused(404, ['code' => 'order_unknown']); // nodrop redelivers, for 24 h by default.
    }
    if ((int) $order['amount'] !== $payment['amount'] || $order['currency'] !== $payment['currency']) {
        throw new Refused(422, ['code' => 'sum']);
    }
    if ($order['paid_payment_id'] !== null) {
        throw new Refused(409, ['paidPaymentId' => $order['paid_payment_id']]);
    }
    if ($order['cancelled'] === 't') {
        throw new Refused(410, ['code' => 'cancelled']);
    }
    $query('update orders set paid_payment_id = $2 where id = $1', [$order['id'], $payment['id']]);
    // Grant the goods here.
}

function receive(): void
{
    if ("{$_SERVER['REQUEST_METHOD']} {$_SERVER['REQUEST_URI']}" !== 'POST /nodrop/events') {
        throw new Refused(404);
    }
    $body = file_get_contents('php://input', length: 1_000_001);
    if (strlen($body) > 1_000_000) {
        throw new Refused(413);
    }
    $event = verify($body);
    if (($event['test'] ?? false) || !preg_match('/^(payment|refund)\./', $event['type'])) {
        return; // A test, or a type that this code does not know.
    }
    $payment = current_payment($event);
    $db = pg_connect(setting('DATABASE_URL'), PGSQL_CONNECT_FORCE_NEW);
    pg_query($db, 'begin');
    try {
        apply($db, $payment, $event['data']['version']);
        pg_query($db, 'commit');
    } catch (Throwable $error) {
        pg_query($db, 'rollback'); // A pooled connection would keep the transaction open.
        throw $error;
    }
}

try {
    receive();
    http_response_code(200);
    echo '{}';
} catch (Refused $refused) {
    http_response_code($refused->getCode());
    echo json_encode((object) $refused->body);
} catch (Throwable $error) {
    error_log($error->getMessage());
    echo '{}';
}
