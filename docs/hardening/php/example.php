<?php
// The recipe on a table of three people, and the WordPress plugin on a table of two; run by a test against the real service.
declare(strict_types=1);

require __DIR__ . '/Anteroom.php';

$service = new Anteroom(getenv('HMAC_URL'), getenv('HMAC_CA'), getenv('HMAC_TOKEN_FILE'));
$table = [];
foreach (['alice', 'bob', 'carol'] as $name) {
    $table[$name] = password_hash($name . "'s old password", PASSWORD_BCRYPT, ['cost' => 5]);
}
$table = array_merge($table, $service->wrap($table));
echo 'wrapped: ', count(preg_grep('/^wrapped:/', $table)), "\n";
$wrappedAlice = $table['alice'];

function say(string $what, string $uid, string $password, ?string $column): void
{
    global $service, $table;
    $match = $service->check($uid, $password, $column, $better, '192.0.2.7');
    if ($match && $better !== null) {
        $table[$uid] = $better;
    }
    echo $what, ': ', $match ? 'yes' : 'no', "\n";
}

say('wrong password', 'alice', 'a guess', $table['alice']);
say('right password', 'alice', "alice's old password", $table['alice']);
say('fresh record', 'alice', "alice's old password", $table['alice']);
if (!str_starts_with($table['alice'], '$anteroom$')) {
    exit("alice's column is " . substr($table['alice'], 0, 20) . "\n");
}
say("bob with alice's record", 'bob', "alice's old password", $table['alice']);
say("bob with alice's wrapped hash", 'bob', "alice's old password", $wrappedAlice);
say('nobody', 'mallory', 'a guess', null);

// As much of WordPress as the plugin needs.
final class Database
{
    public string $users = 'wp_users';
    public array $rows = [];

    public function update(string $table, array $set, array $where): int
    {
        $row = &$this->rows[$where['ID']];
        if (isset($where['user_pass']) && $row->user_pass !== $where['user_pass']) {
            return 0;
        }
        if (strlen($set['user_pass']) > 255) {
            exit("a column of " . strlen($set['user_pass']) . " characters does not fit into user_pass\n");
        }
        $row->user_pass = $set['user_pass'];
        return 1;
    }

    public function get_results(string $query): array
    {
        return array_values(array_filter($this->rows, fn ($row) => preg_match('/^(\$wp)?\$2y\$/', $row->user_pass)));
    }
}

function clean_user_cache(int $id): void
{
}

function apply_filters(string $name, bool $match): bool
{
    return $match;
}

function do_action(string $name): void
{
}

define('ANTEROOM_HMAC_URL', getenv('HMAC_URL'));
define('ANTEROOM_HMAC_CA', getenv('HMAC_CA'));
define('ANTEROOM_HMAC_TOKEN_FILE', getenv('HMAC_TOKEN_FILE'));
require __DIR__ . '/anteroom-passwords.php';
$wpdb = new Database();
$secret = anteroom_wordpress_secret('open sesame');
$wpdb->rows[7] = (object) ['ID' => '7', 'user_pass' => '$wp' . password_hash($secret, PASSWORD_BCRYPT, ['cost' => 5])];
$wpdb->rows[8] = (object) ['ID' => '8', 'user_pass' => password_hash('from 2015', PASSWORD_BCRYPT, ['cost' => 5])];
echo 'wordpress wrapped: ', anteroom_wrap_users(), "\n";
foreach ([[7, 'open sesame'], [8, 'from 2015']] as [$id, $password]) {
    $hash = $wpdb->rows[$id]->user_pass;
    echo "wordpress $id wrong: ", wp_check_password('a guess', $hash, $id) ? 'yes' : 'no', "\n";
    echo "wordpress $id right: ", wp_check_password($password, $hash, $id) ? 'yes' : 'no', "\n";
    echo "wordpress $id fresh: ", wp_check_password($password, $wpdb->rows[$id]->user_pass, $id) && str_starts_with($wpdb->rows[$id]->user_pass, '$anteroom$') ? 'yes' : 'no', "\n";
}
wp_set_password('changed', 7);
echo 'wordpress changed: ', wp_check_password('changed', $wpdb->rows[7]->user_pass, 7) ? 'yes' : 'no', "\n";
