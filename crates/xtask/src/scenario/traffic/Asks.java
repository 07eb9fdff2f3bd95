import java.net.HttpURLConnection;
import java.net.URL;

/** Asks a service by its name for ever, with a new connection each time, and says once a second how that went. */
public final class Asks {
    public static void main(String[] args) throws Exception {
        long asked = 0;
        long failed = 0;
        while (true) {
            long end = System.nanoTime() + 1_000_000_000L;
            while (System.nanoTime() < end) {
                asked++;
                String wrong = ask(args[0]);
                if (wrong != null) {
                    failed++;
                    System.out.println("failed: " + wrong);
                }
                Thread.sleep(10);
            }
            System.out.println("asked " + asked + " failed " + failed);
        }
    }

    /** What went wrong; null when nothing did. */
    private static String ask(String url) {
        try {
            HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
            connection.setConnectTimeout(3000);
            connection.setReadTimeout(3000);
            connection.setRequestProperty("Connection", "close");
            int status = connection.getResponseCode();
            connection.getInputStream().readAllBytes();
            return status == 200 ? null : "answer " + status;
        } catch (Exception error) {
            return error.toString();
        }
    }
}
