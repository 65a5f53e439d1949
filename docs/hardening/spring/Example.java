import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.springframework.security.authentication.ProviderManager;
import org.springframework.security.authentication.UsernamePasswordAuthenticationToken;
import org.springframework.security.core.AuthenticationException;
import org.springframework.security.core.userdetails.User;
import org.springframework.security.core.userdetails.UserDetailsPasswordService;
import org.springframework.security.core.userdetails.UserDetailsService;
import org.springframework.security.core.userdetails.UsernameNotFoundException;
import org.springframework.security.crypto.bcrypt.BCrypt;

/** The recipe on a table of three people, run by a test against the real service. */
public final class Example {
    private static final Map<String, String> TABLE = new HashMap<>();

    public static void main(String[] args) throws Exception {
        var passwords = new AnteroomPasswords(System.getenv("HMAC_URL"), Path.of(System.getenv("HMAC_CA")), Path.of(System.getenv("HMAC_TOKEN_FILE")));
        for (String name : new String[] {"alice", "bob", "carol"}) {
            TABLE.put(name, "{bcrypt}" + BCrypt.hashpw(name + "'s old password", BCrypt.gensalt(5)));
        }
        var columns = AnteroomAuthenticationProvider.wrap(passwords, TABLE);
        TABLE.putAll(columns);
        System.out.println("wrapped: " + columns.size());

        UserDetailsService users = name -> {
            if (!TABLE.containsKey(name)) {
                throw new UsernameNotFoundException(name);
            }
            return User.withUsername(name).password(TABLE.get(name)).roles("USER").build();
        };
        UserDetailsPasswordService table = (user, column) -> {
            TABLE.put(user.getUsername(), column);
            return User.withUserDetails(user).password(column).build();
        };
        var manager = new ProviderManager(new AnteroomAuthenticationProvider(passwords, users, table));
        String wrappedAlice = TABLE.get("alice");
        say(manager, "wrong password", "alice", "a guess");
        say(manager, "right password", "alice", "alice's old password");
        say(manager, "fresh record", "alice", "alice's old password");
        if (!TABLE.get("alice").startsWith("$anteroom$")) {
            throw new IllegalStateException("alice's column is " + TABLE.get("alice").substring(0, 20));
        }
        TABLE.put("bob", TABLE.get("alice"));
        say(manager, "bob with alice's record", "bob", "alice's old password");
        TABLE.put("bob", wrappedAlice);
        say(manager, "bob with alice's wrapped hash", "bob", "alice's old password");
        say(manager, "nobody", "mallory", "a guess");
    }

    private static void say(ProviderManager manager, String what, String name, String password) {
        boolean match;
        try {
            match = manager.authenticate(UsernamePasswordAuthenticationToken.unauthenticated(name, password)).isAuthenticated();
        } catch (org.springframework.security.authentication.InternalAuthenticationServiceException e) {
            throw e;
        } catch (AuthenticationException e) {
            match = false;
        }
        System.out.println(what + ": " + (match ? "yes" : "no"));
    }
}
