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
import java.util.Objects;
import java.util.Properties;

/** Pay.java ID AMOUNT CURRENCY [SUBJECT]: creates an order and its payment. The amount is in minor units. */
public class Pay {
  public static void main(String[] args) throws Exception {
    String id = args[0], currency = args[2], subject = args.length > 3 ? args[3] : "Coffee";
    long amount = Long.parseLong(args[1]);
    URI database = URI.create(System.getenv("DATABASE_URL"));
    // The JDBC driver accepts no user in the URL; parameters after "?", such as sslmode, stay.
    String url = database.toString().replaceFirst("^[^:]*://([^@/]*@)?", "jdbc:postgresql://");
    String[] user = Objects.requireNonNullElse(database.getUserInfo(), "").split(":", 2);
    Properties properties = new Properties();
    if (!user[0].isEmpty()) properties.setProperty("user", user[0]);
    if (user.length > 1) properties.setProperty("password", user[1]);
    Map<String, Object> order;
    // Commit the order before the payment starts: its first event can arrive at once.
    try (var db = DriverManager.getConnection(url, properties);
        var insert = db.prepareStatement(
            "insert into orders (id, amount, currency) values (?, ?, ?) on conflict (id) do nothing");
        var select = db.prepareStatement("select * from orders where id = ?")) {
      insert.setString(1, id);
      insert.setLong(2, amount);
      insert.setString(3, currency);
      insert.executeUpdate();
      select.setString(1, id);
      var stored = select.executeQuery();
      stored.next();
      long storedAmount = stored.getLong("amount");
      String storedCurrency = stored.getString("currency");
      if (storedAmount != amount || !storedCurrency.equals(currency))
        refuse("Order " + id + " costs " + storedAmount + " " + storedCurrency
            + ": pay that amount, or use another ID.");
      if (stored.getBoolean("cancelled")) refuse("Order " + id + " is cancelled.");
      if (stored.getString("paid_payment_id") != null) {
        System.out.println("Order " + id + " is paid by " + stored.getString("paid_payment_id") + ".");
        return;
      }
      // Send the stored order, because the receiver compares the payment with it.
      order = Map.of("id", id, "amount", storedAmount, "currency", storedCurrency, "subject", subject);
    }

    Gson gson = new Gson();
    HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("NODROP_URL") + "/v1/payments"))
        .header("Authorization", "Bearer " + System.getenv("NODROP_KEY"))
        .header("Content-Type", "application/json")
        .POST(BodyPublishers.ofString(gson.toJson(Map.of("order", order, "channel", "simulator"))))
        .timeout(Duration.ofSeconds(15)).build();
    var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
    // An error is a problem document with a code. Repeating the request returns the same payment.
    if (answer.statusCode() >= 300) refuse("nodrop answered " + answer.body());
    JsonObject payment = gson.fromJson(answer.body(), JsonObject.class);
    System.out.println("Order " + id + " is " + payment.get("status").getAsString() + ": pay at "
        + payment.get("checkoutUrl").getAsString());
  }

  static void refuse(String sentence) {
    System.err.println(sentence);
    System.exit(1);
  }
}
