import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.sql.DriverManager;
import java.time.Duration;
import java.util.Map;

/** Pay.java ID AMOUNT CURRENCY [SUBJECT]: an order of the shop, and its payment. The amount is in minor units. */
public class Pay {
  public static void main(String[] args) throws Exception {
    String id = args[0], currency = args[2], subject = args.length > 3 ? args[3] : "Coffee";
    long amount = Long.parseLong(args[1]);
    URI database = URI.create(System.getenv("DATABASE_URL"));
    String[] user = database.getUserInfo().split(":", 2);
    String url = "jdbc:postgresql://" + database.getHost() + ":" + database.getPort() + database.getPath();
    // Committed before nodrop is asked: money can be fast.
    try (var db = DriverManager.getConnection(url, user[0], user[1]);
        var insert = db.prepareStatement(
            "insert into orders (id, amount, currency) values (?, ?, ?) on conflict (id) do nothing");
        var select = db.prepareStatement("select paid_payment_id from orders where id = ?")) {
      insert.setString(1, id);
      insert.setLong(2, amount);
      insert.setString(3, currency);
      insert.executeUpdate();
      select.setString(1, id);
      var order = select.executeQuery();
      order.next();
      if (order.getString(1) != null) {
        System.out.println("Order " + id + " is paid by " + order.getString(1) + ".");
        return;
      }
    }

    Gson gson = new Gson();
    var order = Map.of("id", id, "amount", amount, "currency", currency, "subject", subject);
    HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("NODROP_URL") + "/v1/payments"))
        .header("Authorization", "Bearer " + System.getenv("NODROP_KEY"))
        .header("Content-Type", "application/json")
        .POST(BodyPublishers.ofString(gson.toJson(Map.of("order", order, "channel", "simulator"))))
        .timeout(Duration.ofSeconds(15)).build();
    var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
    if (answer.statusCode() >= 300) { // Problem details, with a code. The same request again is the same payment.
      System.err.println("nodrop answered " + answer.body());
      System.exit(1);
    }
    JsonObject payment = gson.fromJson(answer.body(), JsonObject.class);
    System.out.println("Order " + id + " is " + payment.get("status").getAsString() + ": pay at "
        + payment.get("checkoutUrl").getAsString());
  }
}
