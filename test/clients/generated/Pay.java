// Takes a payment by a client that openapi-generator made. Arguments: the API's address, and that of a later API.
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.PaymentsApi;
import org.openapitools.client.model.GetPaymentProblem;
import org.openapitools.client.model.KnownGetPaymentProblemCode;
import org.openapitools.client.model.KnownPaymentStatus;
import org.openapitools.client.model.NewOrder;
import org.openapitools.client.model.NewPayment;
import org.openapitools.client.model.Payment;

public final class Pay {
  public static void main(String[] args) throws Exception {
    PaymentsApi api = new PaymentsApi(connect(args[0]));
    // The optional fields are left out: subject, metadata, expiry.
    NewPayment body =
        new NewPayment()
            .channel("simulator")
            .order(new NewOrder().id("order-java").amount(1990L).currency("CNY"));
    Payment payment;
    do {
      payment = api.createPayment(body, null);
    } while (payment.getPayUrl() == null);
    String id = payment.getId();
    say("{\"step\":\"created\",\"id\":\"%s\"}", id);

    while (payment.getStatus().getActualInstance() == KnownPaymentStatus.CREATED
        || payment.getStatus().getActualInstance() == KnownPaymentStatus.PAYING) {
      payment = api.getPayment(id, 30).getPayment();
    }
    say("{\"step\":\"over\",\"status\":\"%s\"}", payment.getStatus().getActualInstance());

    refused("refused", api);

    PaymentsApi later = new PaymentsApi(connect(args[1]));
    Object status = later.getPayment(id, null).getPayment().getStatus().getActualInstance();
    boolean isKnown = status instanceof KnownPaymentStatus;
    say("{\"step\":\"later\",\"status\":\"%s\",\"isKnown\":%s}", status, isKnown);
    refused("later refused", later);
  }

  private static ApiClient connect(String url) {
    ApiClient client = new ApiClient();
    client.updateBaseUri(url);
    client.setRequestInterceptor((request) -> request.header("authorization", "Bearer sk_dev_nodrop"));
    return client;
  }

  private static void refused(String step, PaymentsApi api) throws Exception {
    try {
      api.getPayment("pay_unknown", null);
    } catch (ApiException refusal) {
      GetPaymentProblem problem =
          ApiClient.createDefaultObjectMapper().readValue(refusal.getResponseBody(), GetPaymentProblem.class);
      Object code = problem.getCode().getActualInstance();
      boolean isKnown = code == KnownGetPaymentProblemCode.PAYMENT_NOT_FOUND;
      say("{\"step\":\"%s\",\"code\":\"%s\",\"isKnown\":%s}", step, code, isKnown);
    }
  }

  private static void say(String format, Object... values) {
    System.out.printf(format + "%n", values);
    System.out.flush();
  }
}
