import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.Base64;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Receives nodrop's events and marks orders as paid: the three things your shop must do. */
public class Receiver {
  static final byte[] KEY = Base64.getDecoder().decode(setting("NODROP_WEBHOOK_SECRET").substring("whsec_".length()));
  static final URI DATABASE = URI.create(setting("DATABASE_URL"));
  static final String NODROP_URL = setting("NODROP_URL");
  static final String NODROP_KEY = setting("NODROP_KEY");
  static final HttpClient HTTP = HttpClient.newHttpClient();

  /** Rolls the transaction back. nodrop reacts to the HTTP status. */
  static class Refused extends Exception {
    final int status;
    final Map<String, String> body;

    Refused(int status, Map<String, String> body) {
      super(status + " " + body);
      this.status = status;
      this.body = body;
    }
  }

  static String setting(String name) {
    String value = System.getenv(name);
    if (value != null && !value.isEmpty()) return value;
    System.err.println("Set " + name + " in the environment.");
    System.exit(1);
    return null;
  }

  /** Standard Webhooks: a signature must match, and the time must be within 5 minutes. */
  static JsonObject verify(byte[] body, HttpExchange exchange) throws Exception {
    String id = header(exchange, "webhook-id");
    String time = header(exchange, "webhook-timestamp");
    Mac mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(KEY, "HmacSHA256"));
    mac.update((id + "." + time + ".").getBytes(StandardCharsets.UTF_8));
    byte[] expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes();
    boolean fits = Arrays.stream(header(exchange, "webhook-signature").split(" "))
        .anyMatch(given -> MessageDigest.isEqual(expected, given.getBytes()));
    boolean isNow = time.matches("\\d{1,15}") && Math.abs(Instant.now().getEpochSecond() - Long.parseLong(time)) <= 300;
    if (!fits || !isNow) throw new Refused(401, Map.of("code", "not_verified"));
    return JsonParser.parseString(new String(body, StandardCharsets.UTF_8)).getAsJsonObject();
  }

  static String header(HttpExchange exchange, String name) {
    String value = exchange.getRequestHeaders().getFirst(name);
    return value == null ? "" : value;
  }

  static String text(JsonObject object, String name) {
    return object.get(name).isJsonNull() ? "" : object.get(name).getAsString();
  }

  static boolean pays(JsonObject payment) {
    return text(payment, "status").equals("succeeded")
        && payment.get("refundedAmount").getAsLong() < payment.get("receivedAmount").getAsLong()
        && Set.of("pending", "applied").contains(text(payment, "orderUpdate"));
  }

  /** The event's payment. Reads the payment again before a late event grants goods. */
  static JsonObject current(JsonObject event, Instant sentAt) throws Exception {
    JsonObject payment = event.getAsJsonObject("data").getAsJsonObject("payment");
    if (Instant.parse(text(event, "timestamp")).plusSeconds(10).isAfter(sentAt) || !pays(payment)) return payment;
    HttpRequest read = HttpRequest.newBuilder(URI.create(NODROP_URL + "/v1/payments/" + text(payment, "id")))
        .header("Authorization", "Bearer " + NODROP_KEY).timeout(Duration.ofSeconds(5)).build();
    var answer = HTTP.send(read, BodyHandlers.ofString());
    if (answer.statusCode() != 200) throw new IOException("nodrop answered " + answer.body());
    return JsonParser.parseString(answer.body()).getAsJsonObject();
  }

  static void apply(Connection db, JsonObject payment, long version) throws SQLException, Refused {
    String id = text(payment, "id");
    var order = statement(db, "select * from orders where id = ? for update", text(payment, "orderId")).executeQuery();
    boolean isKnown = order.next();
    String newer = "insert into nodrop_payments as known values (?, ?) on conflict (id)"
        + " do update set version = excluded.version where known.version < excluded.version";
    if (statement(db, newer, id, version).executeUpdate() == 0) return; // Duplicate or older event.
    if (text(payment, "orderUpdate").equals("conflict")) // Take the goods back.
      statement(db, "update orders set paid_payment_id = null where paid_payment_id = ?", id).executeUpdate();
    if (!pays(payment) || (isKnown && id.equals(order.getString("paid_payment_id")))) return;
    // nodrop redelivers, for 24 h by default: the order may be stored by then.
    if (!isKnown) throw new Refused(404, Map.of("code", "order_unknown"));
    if (order.getLong("amount") != payment.get("amount").getAsLong()
        || !order.getString("currency").equals(text(payment, "currency")))
      throw new Refused(422, Map.of("code", "sum"));
    if (order.getString("paid_payment_id") != null)
      throw new Refused(409, Map.of("paidPaymentId", order.getString("paid_payment_id")));
    if (order.getBoolean("cancelled")) throw new Refused(410, Map.of("code", "cancelled"));
    statement(db, "update orders set paid_payment_id = ? where id = ?", id, order.getString("id")).executeUpdate();
    // Grant the goods here.
  }

  static PreparedStatement statement(Connection db, String sql, Object... values) throws SQLException {
    PreparedStatement statement = db.prepareStatement(sql);
    for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
    return statement;
  }

  static Connection connect() throws SQLException {
    // The JDBC driver accepts no user in the URL; parameters after "?", such as sslmode, stay.
    String url = DATABASE.toString().replaceFirst("^[^:]*://([^@/]*@)?", "jdbc:postgresql://");
    String[] user = Objects.requireNonNullElse(DATABASE.getUserInfo(), "").split(":", 2);
    Properties properties = new Properties();
    properties.setProperty("connectTimeout", "5");
    if (!user[0].isEmpty()) properties.setProperty("user", user[0]);
    if (user.length > 1) properties.setProperty("password", user[1]);
    Connection db = DriverManager.getConnection(url, properties);
    db.setAutoCommit(false);
    return db;
  }

  static void receive(HttpExchange exchange) throws Exception {
    byte[] body = exchange.getRequestBody().readNBytes(1_000_001);
    if (body.length > 1_000_000) throw new Refused(413, Map.of());
    JsonObject event = verify(body, exchange);
    boolean isTest = event.has("test") && event.get("test").getAsBoolean();
    // A test, or a type that this code does not know.
    if (isTest || !text(event, "type").matches("(payment|refund)\\..*")) return;
    JsonObject payment = current(event, Instant.ofEpochSecond(Long.parseLong(header(exchange, "webhook-timestamp"))));
    try (Connection db = connect()) {
      try {
        apply(db, payment, event.getAsJsonObject("data").get("version").getAsLong());
        db.commit();
      } catch (Exception error) {
        db.rollback(); // A pooled connection would keep the transaction open.
        throw error;
      }
    }
  }

  static void answer(HttpExchange exchange) throws IOException {
    int status = 200;
    Map<String, String> body = Map.of();
    try {
      if (!exchange.getRequestURI().getPath().equals("/nodrop/events")) throw new Refused(404, Map.of());
      receive(exchange);
    } catch (Refused refused) {
      status = refused.status;
      body = refused.body;
    } catch (Exception error) { // No decision: nodrop redelivers the event.
      System.err.println(error);
      status = 500;
    }
    byte[] content = new Gson().toJson(body).getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("content-type", "application/json");
    exchange.sendResponseHeaders(status, content.length);
    exchange.getResponseBody().write(content);
    exchange.close();
  }

  public static void main(String[] args) throws IOException {
    String host = System.getenv().getOrDefault("HOST", "127.0.0.1");
    int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "3200"));
    HttpServer server = HttpServer.create(new InetSocketAddress(host, port), 0);
    server.setExecutor(Executors.newFixedThreadPool(16));
    server.createContext("/", Receiver::answer);
    server.start();
    System.out.println("The receiver accepts events at http://" + host + ":" + port + "/nodrop/events");
  }
}
