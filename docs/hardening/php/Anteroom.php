<?php
/**
 * Passwords of a PHP application behind /hmac-service. One file, no dependency; keeps its connection when the curl
 * extension is there.
 *
 * What the password column (at least 400 characters) holds:
 *
 *   $2y$12$…                             a bcrypt hash as it was
 *   wrapped:$2y$12$<salt>:$anteroom$…    the same, protected: the salt, and a record over the whole hash
 *   $anteroom$…                          a record over the password itself
 *
 * A record is bound to its uid: the account's number or name, whatever the application never gives to somebody else.
 */
declare(strict_types=1);

/** The service did not answer. It is never "wrong password": show "try again", and do not count a failure. */
final class AnteroomUnavailable extends RuntimeException
{
}

final class Anteroom
{
    private const WRAPPED = 'wrapped:';
    private const SALT_END = 29; // of "$2y$12$" and 22 characters of salt

    private $curl = null;

    public function __construct(private string $url, private string $caFile, private string $tokenFile)
    {
    }

    /** A record for a new password. */
    public function protect(string $uid, #[\SensitiveParameter] string $password): string
    {
        return $this->protectAll([['uid' => $uid, 'secret' => $password]])[0];
    }

    /**
     * Whether the password is right. $better is what should stand in the column from now on, or null. Both ways of
     * being wrong, a name that nobody has ($column null) and a wrong password, cost the same. $source is where the
     * attempt comes from, the client's address or a name of the device: wrong passwords slow down their own source, so
     * that a stranger does not keep the owner out.
     */
    public function check(string $uid, #[\SensitiveParameter] string $password, ?string $column, ?string &$better = null, string $source = ''): bool
    {
        $better = null;
        if ($column === null || $column === '') {
            $this->verify($uid, $password, '-', '', $source);
            return false;
        }
        if (str_starts_with($column, self::WRAPPED)) {
            [$salt, $record] = explode(':', substr($column, strlen(self::WRAPPED)), 2);
            $hash = crypt($password, $salt);
            if (strlen($hash) !== 60 || !$this->verify($uid, $hash, $record, 'bcrypt', $source)['match']) {
                return false;
            }
        } elseif (str_starts_with($column, '$2')) { // not wrapped yet
            if (!password_verify($password, $column)) {
                return false;
            }
        } else {
            $answer = $this->verify($uid, $password, $column, '', $source);
            $better = $answer['match'] ? $answer['record'] : null;
            return $answer['match'];
        }
        try {
            $better = $this->protect($uid, $password);
        } catch (AnteroomUnavailable) {
            // The password was right; the better record comes with the next sign-in.
        }
        return true;
    }

    /**
     * Protects bcrypt hashes without anybody's password: uid => hash in, uid => column out. At most 64 at a time.
     * Destroy old backups of the table afterwards.
     */
    public function wrap(array $hashes): array
    {
        $hashes = array_filter($hashes, fn ($hash) => str_starts_with($hash, '$2') && strlen($hash) === 60);
        if ($hashes === []) {
            return [];
        }
        $items = [];
        foreach ($hashes as $uid => $hash) {
            $items[] = ['uid' => (string) $uid, 'secret' => $hash, 'context' => 'bcrypt', 'slow' => false];
        }
        $columns = [];
        foreach (array_combine(array_keys($hashes), $this->protectAll($items)) as $uid => $record) {
            $columns[$uid] = self::WRAPPED . substr($hashes[$uid], 0, self::SALT_END) . ':' . $record;
        }
        return $columns;
    }

    private function protectAll(array $items): array
    {
        $answer = $this->call('protect', ['items' => $items]);
        if (count($answer['items'] ?? []) !== count($items)) {
            throw new AnteroomUnavailable('protect: another number of records than of items');
        }
        return array_column($answer['items'], 'record');
    }

    private function verify(string $uid, #[\SensitiveParameter] string $secret, string $record, string $context = '', string $source = ''): array
    {
        $answer = $this->call('verify', ['uid' => $uid, 'secret' => $secret, 'context' => $context, 'record' => $record, 'source' => $source]);
        return ['match' => ($answer['match'] ?? null) === true, 'record' => $answer['record'] ?? null];
    }

    private function call(string $operation, #[\SensitiveParameter] array $question): array
    {
        $body = json_encode($question, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES);
        for ($try = 0; $try < 10; $try++) {
            [$status, $text, $after] = $this->post($this->url . '/v1/' . $operation, $body);
            if ($status === 200) {
                return json_decode($text, true, 16, JSON_THROW_ON_ERROR);
            }
            if ($operation !== 'protect' || $status !== 429 || $after < 1) {
                break;
            }
            sleep($after);
        }
        throw new AnteroomUnavailable("$operation: the hmac service answered " . ($status ?: 'nothing'));
    }

    /** @return array{int, string, int} status (0: no answer), body, Retry-After in seconds */
    private function post(string $url, #[\SensitiveParameter] string $body): array
    {
        $token = trim((string) file_get_contents($this->tokenFile));
        $headers = ['Authorization: Bearer ' . $token, 'Content-Type: application/json'];
        $after = 0;
        if (function_exists('curl_init')) {
            $this->curl ??= curl_init();
            curl_setopt_array($this->curl, [
                CURLOPT_URL => $url, CURLOPT_POSTFIELDS => $body, CURLOPT_HTTPHEADER => $headers, CURLOPT_RETURNTRANSFER => true,
                CURLOPT_CAINFO => $this->caFile, CURLOPT_SSLVERSION => CURL_SSLVERSION_TLSv1_3, CURLOPT_TIMEOUT => 20,
                CURLOPT_PROXY => '', CURLOPT_FOLLOWLOCATION => false, CURLOPT_PROTOCOLS => CURLPROTO_HTTPS,
                CURLOPT_HEADERFUNCTION => function ($_, string $line) use (&$after): int {
                    if (stripos($line, 'retry-after:') === 0) {
                        $after = (int) trim(substr($line, 12));
                    }
                    return strlen($line);
                },
            ]);
            $text = curl_exec($this->curl);
            return [$text === false ? 0 : curl_getinfo($this->curl, CURLINFO_RESPONSE_CODE), (string) $text, $after];
        }
        $context = stream_context_create([
            'http' => ['method' => 'POST', 'header' => $headers, 'content' => $body, 'timeout' => 20, 'ignore_errors' => true, 'follow_location' => 0],
            'ssl' => ['cafile' => $this->caFile, 'crypto_method' => STREAM_CRYPTO_METHOD_TLSv1_3_CLIENT],
        ]);
        $text = @file_get_contents($url, false, $context);
        $status = 0;
        foreach ($http_response_header ?? [] as $line) {
            if (preg_match('~^HTTP/\S+ (\d{3})~', $line, $m)) {
                $status = (int) $m[1];
            } elseif (stripos($line, 'retry-after:') === 0) {
                $after = (int) trim(substr($line, 12));
            }
        }
        return [$text === false ? 0 : $status, (string) $text, $after];
    }
}
