import java.io.IOException;
import java.io.InputStream;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

/**
 * Protects and checks passwords with the /hmac-service of this host. Plain Java 17, no dependency, safe for concurrent use;
 * connections are kept.
 *
 * <p>A record is bound to its uid: the account's number or name, whatever the application never gives to somebody else.
 */
public final class AnteroomPasswords {
    /** The service did not answer. It is never "wrong password": show "try again", and do not count a failure. */
    public static final class Unavailable extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Unavailable(String message) {
            super(message);
        }
    }

    /** The answer to a verification. {@code fresh} is a better record, or null when the stored one is good. */
    public record Answer(boolean match, String fresh) {}

    /** A secret to protect. {@code slow} is false for a secret that is a slow hash already. */
    public record Item(String uid, String secret, String context, boolean slow) {}

    private static final Pattern RECORD = Pattern.compile("\"record\"\\s*:\\s*\"([^\"\\\\]*)\"");
    private static final Pattern MATCH = Pattern.compile("\"match\"\\s*:\\s*true");

    private final String url;
    private final Path tokenFile;
    private final HttpClient client;

    public AnteroomPasswords(String url, Path caFile, Path tokenFile) throws IOException, GeneralSecurityException {
        this.url = url;
        this.tokenFile = tokenFile;
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null, null);
        try (InputStream in = Files.newInputStream(caFile)) {
            int n = 0;
            for (Certificate c : CertificateFactory.getInstance("X.509").generateCertificates(in)) {
                roots.setCertificateEntry("ca" + n++, c);
            }
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(roots);
        SSLContext tls = SSLContext.getInstance("TLSv1.3");
        tls.init(null, trust.getTrustManagers(), null);
        SSLParameters only = new SSLParameters();
        only.setProtocols(new String[] {"TLSv1.3"});
        client = HttpClient.newBuilder().sslContext(tls).sslParameters(only).proxy(ProxySelector.of(null))
                .connectTimeout(Duration.ofSeconds(5)).version(HttpClient.Version.HTTP_1_1).build();
    }

    /** A record for a new password. */
    public String protect(String uid, String password) {
        return protect(List.of(new Item(uid, password, "", true))).get(0);
    }

    /** One record for each item, in order; at most 64 items. */
    public List<String> protect(List<Item> items) {
        String body = items.stream().map(i -> "{\"uid\":" + quote(i.uid()) + ",\"secret\":" + quote(i.secret())
                + ",\"context\":" + quote(i.context()) + ",\"slow\":" + i.slow() + "}").collect(Collectors.joining(",", "{\"items\":[", "]}"));
        List<String> records = new ArrayList<>();
        Matcher m = RECORD.matcher(call("protect", body));
        while (m.find()) {
            records.add(m.group(1));
        }
        if (records.size() != items.size()) {
            throw new Unavailable("protect: another number of records than of items");
        }
        return records;
    }

    /**
     * Compares a secret with a record. The record "-" stands for an account that does not exist: same work, no match. {@code source} is
     * where the attempt comes from, the client's address or a name of the device: wrong secrets slow down their own source, so that a
     * stranger does not keep the owner out.
     */
    public Answer verify(String uid, String secret, String context, String record, String source) {
        String answer = call("verify", "{\"uid\":" + quote(uid) + ",\"secret\":" + quote(secret) + ",\"context\":" + quote(context)
                + ",\"record\":" + quote(record) + ",\"source\":" + quote(source) + "}");
        boolean match = MATCH.matcher(answer).find();
        Matcher m = RECORD.matcher(answer);
        return new Answer(match, match && m.find() ? m.group(1) : null);
    }

    private String call(String operation, String body) {
        try {
            for (int attempt = 0; attempt < 10; attempt++) {
                HttpResponse<String> r = client.send(HttpRequest.newBuilder(URI.create(url + "/v1/" + operation))
                        .timeout(Duration.ofSeconds(20)).header("Content-Type", "application/json")
                        .header("Authorization", "Bearer " + Files.readString(tokenFile).strip())
                        .POST(HttpRequest.BodyPublishers.ofString(body)).build(), HttpResponse.BodyHandlers.ofString());
                if (r.statusCode() == 200) {
                    return r.body();
                }
                long after = r.headers().firstValueAsLong("Retry-After").orElse(0);
                if (!operation.equals("protect") || r.statusCode() != 429 || after < 1) {
                    throw new Unavailable(operation + ": the hmac service answered " + r.statusCode());
                }
                Thread.sleep(after * 1000);
            }
            throw new Unavailable(operation + ": too many requests");
        } catch (IOException e) {
            throw new Unavailable(operation + ": " + e.getMessage());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new Unavailable(operation + ": interrupted");
        }
    }

    private static String quote(String s) {
        StringBuilder b = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') {
                b.append('\\').append(c);
            } else if (c < ' ') {
                b.append(String.format("\\u%04x", (int) c));
            } else {
                b.append(c);
            }
        }
        return b.append('"').toString();
    }
}
