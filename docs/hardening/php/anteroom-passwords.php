<?php
/**
 * Plugin Name: Anteroom passwords
 * Description: Keeps the password table worthless to whoever steals it. A must-use plugin: copy this file and
 *              Anteroom.php to wp-content/mu-plugins/, and write into wp-config.php
 *
 *   define('ANTEROOM_HMAC_URL', 'https://localhost:8444/hmac-service');
 *   define('ANTEROOM_HMAC_CA', '/etc/anteroom/ca.pem');
 *   define('ANTEROOM_HMAC_TOKEN_FILE', '/run/anteroom/hmac.token');
 *
 * The column wp_users.user_pass is varchar(255) and a wrapped hash fits; a record with a long context would not.
 *
 * WordPress lets a plugin replace the two functions below (wp-includes/pluggable.php). Where WordPress hashes without
 * saying for whom (wp_insert_user), it goes on writing its bcrypt hash ("$wp$2y$…" since 6.8); such a row is wrapped
 * by anteroom_wrap_users(), hourly, and becomes a record at the next sign-in. Hashes older than bcrypt ("$P$…") are
 * replaced at their owner's next sign-in.
 */
declare(strict_types=1);

require_once __DIR__ . '/Anteroom.php';

function anteroom(): Anteroom
{
    static $service = null;
    return $service ??= new Anteroom(ANTEROOM_HMAC_URL, ANTEROOM_HMAC_CA, ANTEROOM_HMAC_TOKEN_FILE);
}

/** What bcrypt saw: WordPress 6.8 hashes the password before, so that bcrypt does not cut it at 72 bytes. */
function anteroom_wordpress_secret(#[\SensitiveParameter] string $password): string
{
    return base64_encode(hash_hmac('sha384', trim($password), 'wp-sha384', true));
}

if (!function_exists('wp_check_password')) {
    function wp_check_password(#[\SensitiveParameter] $password, $hash, $user_id = '')
    {
        $uid = 'wp:' . $user_id;
        $source = substr((string) ($_SERVER['REMOTE_ADDR'] ?? ''), 0, 64); // behind a proxy: what it says of the client
        if (str_starts_with($hash, '$P$')) {
            require_once ABSPATH . WPINC . '/class-phpass.php';
            $match = (new PasswordHash(8, true))->CheckPassword($password, $hash);
            $better = $match && $user_id ? anteroom()->protect($uid, $password) : null;
        } elseif (str_starts_with($hash, 'wp-wrapped:')) {
            $match = anteroom()->check($uid, anteroom_wordpress_secret($password), substr($hash, 3), $better, $source);
            $better = $match ? anteroom()->protect($uid, $password) : null;
        } elseif (str_starts_with($hash, '$wp')) {
            $match = password_verify(anteroom_wordpress_secret($password), substr($hash, 3));
            $better = $match && $user_id ? anteroom()->protect($uid, $password) : null;
        } else {
            $match = anteroom()->check($uid, $password, $hash, $better, $source);
        }
        if ($match && $better !== null && $user_id) {
            global $wpdb;
            $wpdb->update($wpdb->users, ['user_pass' => $better], ['ID' => (int) $user_id, 'user_pass' => $hash]);
            clean_user_cache((int) $user_id);
        }
        return apply_filters('check_password', $match, $password, $hash, $user_id);
    }
}

if (!function_exists('wp_set_password')) {
    function wp_set_password(#[\SensitiveParameter] $password, $user_id)
    {
        global $wpdb;
        $record = anteroom()->protect('wp:' . $user_id, trim($password));
        $wpdb->update($wpdb->users, ['user_pass' => $record, 'user_activation_key' => ''], ['ID' => (int) $user_id]);
        clean_user_cache((int) $user_id);
        do_action('wp_set_password', $password, $user_id, null);
    }
}

/** Protects the hashes that WordPress wrote itself, 64 at a time, until none is left; how many it were. */
function anteroom_wrap_users(): int
{
    global $wpdb;
    $done = 0;
    do {
        $rows = $wpdb->get_results("SELECT ID, user_pass FROM {$wpdb->users} WHERE user_pass LIKE '\$wp\$2y\$%' OR user_pass LIKE '\$2y\$%' LIMIT 64");
        foreach ([true, false] as $prehashed) {
            $hashes = [];
            foreach ($rows as $row) {
                if (str_starts_with($row->user_pass, '$wp') === $prehashed) {
                    $hashes['wp:' . $row->ID] = $prehashed ? substr($row->user_pass, 3) : $row->user_pass;
                }
            }
            foreach (anteroom()->wrap($hashes) as $uid => $column) {
                $old = $prehashed ? '$wp' . $hashes[$uid] : $hashes[$uid];
                $done += $wpdb->update($wpdb->users, ['user_pass' => ($prehashed ? 'wp-' : '') . $column], ['ID' => (int) substr($uid, 3), 'user_pass' => $old]);
            }
        }
    } while (count($rows) > 0);
    return $done;
}

if (function_exists('add_action')) {
    add_action('anteroom_wrap_users', 'anteroom_wrap_users');
    add_action('init', function () {
        if (!wp_next_scheduled('anteroom_wrap_users')) {
            wp_schedule_event(time(), 'hourly', 'anteroom_wrap_users');
        }
    });
}
