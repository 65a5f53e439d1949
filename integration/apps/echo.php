<?php
// A PHP application that says how it reads a path. Each request is a line in the file $HITS: the number that the request
// carries, the person, the script that runs, the target as it came, and the path in each way in which applications
// of this kind read it; all percent-encoded, with blanks between.
$target = $_SERVER['REQUEST_URI'];
[$raw] = explode('?', $target, 2);
$fields = [
	$_SERVER['HTTP_X_ATTACK'] ?? '', $_SERVER['HTTP_REMOTE_USER'] ?? '', $_SERVER['SCRIPT_NAME'], $target,
	rawurldecode($raw), urldecode(urldecode($raw)), rawurldecode((string) parse_url($target, PHP_URL_PATH)),
];
if (!in_array(basename($_SERVER['SCRIPT_NAME']), ['', 'index.php'], true)) {
	$fields[] = $_SERVER['SCRIPT_NAME'];
}
$encode = fn ($f) => $f === '' ? '-' : str_replace('%2F', '/', rawurlencode($f));
file_put_contents(getenv('HITS'), implode(' ', array_map($encode, $fields)) . "\n", FILE_APPEND | LOCK_EX);
header('Content-Type: text/plain; charset=utf-8');
ksort($_SERVER);
foreach ($_SERVER as $name => $value) {
	if (str_starts_with($name, 'HTTP_')) {
		echo $name, ': ', $value, "\n";
	}
}
