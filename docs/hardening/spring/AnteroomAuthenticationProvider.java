import java.util.Map;
import java.util.stream.Collectors;
import org.springframework.security.authentication.BadCredentialsException;
import org.springframework.security.authentication.InternalAuthenticationServiceException;
import org.springframework.security.authentication.UsernamePasswordAuthenticationToken;
import org.springframework.security.authentication.dao.AbstractUserDetailsAuthenticationProvider;
import org.springframework.security.core.userdetails.UserDetails;
import org.springframework.security.core.userdetails.UserDetailsPasswordService;
import org.springframework.security.core.userdetails.UserDetailsService;
import org.springframework.security.core.userdetails.UsernameNotFoundException;
import org.springframework.security.crypto.bcrypt.BCrypt;

/**
 * Takes the place of Spring Security's DaoAuthenticationProvider. A PasswordEncoder would not do: it does not know whose
 * password it compares, and a record is bound to the username.
 *
 * <p>What the password column (at least 400 characters) holds, with or without Spring's "{bcrypt}" before it:
 *
 * <pre>
 * $2a$12$…                             a bcrypt hash as it was
 * wrapped:$2a$12$&lt;salt&gt;:$anteroom$…    the same, protected: the salt, and a record over the whole hash
 * $anteroom$…                          a record over the password itself
 * </pre>
 */
public final class AnteroomAuthenticationProvider extends AbstractUserDetailsAuthenticationProvider {
    private static final String WRAPPED = "wrapped:";
    private static final int SALT_END = 29; // of "$2a$12$" and 22 characters of salt

    private final AnteroomPasswords passwords;
    private final UserDetailsService users;
    private final UserDetailsPasswordService table;

    public AnteroomAuthenticationProvider(AnteroomPasswords passwords, UserDetailsService users, UserDetailsPasswordService table) {
        this.passwords = passwords;
        this.users = users;
        this.table = table;
    }

    @Override
    protected UserDetails retrieveUser(String username, UsernamePasswordAuthenticationToken token) {
        try {
            return users.loadUserByUsername(username);
        } catch (UsernameNotFoundException e) {
            // The same work as for a name that exists, so that time does not tell.
            ask(() -> passwords.verify(username, String.valueOf(token.getCredentials()), "", "-", source(token)));
            throw e;
        }
    }

    @Override
    protected void additionalAuthenticationChecks(UserDetails user, UsernamePasswordAuthenticationToken token) {
        if (token.getCredentials() == null || token.getCredentials().toString().isEmpty()) {
            throw new BadCredentialsException("no password");
        }
        String fresh = ask(() -> check(user.getUsername(), token.getCredentials().toString(), user.getPassword(), source(token)));
        if (fresh == null) {
            throw new BadCredentialsException("wrong password");
        }
        if (!fresh.isEmpty()) {
            table.updatePassword(user, fresh);
        }
    }

    /**
     * Where the attempt comes from. Spring Security's WebAuthenticationDetails (the details of a sign-in by form) print the client's
     * address; its spring-security-web is not needed to compile this.
     */
    private static String source(UsernamePasswordAuthenticationToken token) {
        Object details = token.getDetails();
        try {
            return details == null ? "" : String.valueOf(details.getClass().getMethod("getRemoteAddress").invoke(details));
        } catch (ReflectiveOperationException e) {
            return "";
        }
    }

    /** null: wrong; "": right; anything else: right, and to be stored. */
    private String check(String uid, String password, String column, String source) {
        column = column == null ? "" : column.replaceFirst("^\\{bcrypt\\}", "");
        if (column.startsWith(WRAPPED)) {
            String[] parts = column.substring(WRAPPED.length()).split(":", 2);
            boolean match = passwords.verify(uid, BCrypt.hashpw(password, parts[0]), "bcrypt", parts[1], source).match();
            return match ? freshOr(uid, password) : null;
        }
        if (column.startsWith("$2")) { // not wrapped yet
            return BCrypt.checkpw(password, column) ? freshOr(uid, password) : null;
        }
        if (!column.startsWith("$anteroom$")) {
            column = "-"; // no usable password
        }
        AnteroomPasswords.Answer answer = passwords.verify(uid, password, "", column, source);
        return answer.match() ? (answer.fresh() == null ? "" : answer.fresh()) : null;
    }

    private String freshOr(String uid, String password) {
        try {
            return passwords.protect(uid, password);
        } catch (AnteroomPasswords.Unavailable e) {
            return ""; // the password was right; the better record comes with the next sign-in
        }
    }

    /** Trouble with the service is Spring's word for "not the person's fault": no failure is counted. */
    private static <T> T ask(java.util.function.Supplier<T> question) {
        try {
            return question.get();
        } catch (AnteroomPasswords.Unavailable e) {
            throw new InternalAuthenticationServiceException("passwords cannot be checked at the moment", e);
        }
    }

    /**
     * Protects bcrypt hashes without anybody's password: username to hash in, username to column out. At most 64 at a time.
     * Destroy old backups of the table afterwards.
     */
    public static Map<String, String> wrap(AnteroomPasswords passwords, Map<String, String> hashes) {
        var items = hashes.entrySet().stream().map(e -> Map.entry(e.getKey(), e.getValue().replaceFirst("^\\{bcrypt\\}", "")))
                .filter(e -> e.getValue().startsWith("$2") && e.getValue().length() == 60)
                .map(e -> new AnteroomPasswords.Item(e.getKey(), e.getValue(), "bcrypt", false)).collect(Collectors.toList());
        if (items.isEmpty()) {
            return Map.of();
        }
        var records = passwords.protect(items);
        var columns = new java.util.HashMap<String, String>();
        for (int i = 0; i < items.size(); i++) {
            columns.put(items.get(i).uid(), WRAPPED + items.get(i).secret().substring(0, SALT_END) + ":" + records.get(i));
        }
        return columns;
    }
}
