package caddymodule

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// openSSLDigest is the original form as the openssl command computes it.
func openSSLDigest(t *testing.T, keyFile, password string, rounds int) string {
	t.Helper()
	run := func(input []byte, args ...string) []byte {
		cmd := exec.Command("openssl", args...)
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	pem := run(nil, "pkey", "-in", keyFile)
	sum := []byte(password)
	for range rounds {
		sum = run(sum, "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(pem), "-binary")
	}
	return fmt.Sprintf("%X", sum)
}

// TestHMACRefusedConfigs: every mistake has a sentence with file, line and what to write.
func TestHMACRefusedConfigs(t *testing.T) {
	b := newBench(t)
	b.write(t, "short", "too short")
	loose := b.write(t, "loose", hmacToken)
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	site := func(lines string) string {
		return "https://localhost:8444 {\n\tTLS\n\thmac_service {\n\t\t" + strings.ReplaceAll(lines, "; ", "\n\t\t") + "\n\t}\n}\n"
	}
	const ok = "token_file DIR/token; no_recovery"
	for name, c := range map[string]struct {
		more, sites string
		want        []string
	}{
		"no block":                {"", "https://localhost:8444 {\n\tTLS\n\thmac_service\n}\n", []string{"Caddyfile:16", "token_file PATH", "compat"}},
		"empty block":             {"", site(""), []string{"Caddyfile:16", "token_file PATH"}},
		"no recovery line":        {"", site("token_file DIR/token"), []string{"Caddyfile:16", "recovery KEY", "no_recovery"}},
		"both recovery lines":     {"", site(ok + "; recovery x"), []string{"Caddyfile:16", "exclude each other"}},
		"unknown line":            {"", site("tokenfile x"), []string{"Caddyfile:17", "unrecognized line \"tokenfile\"", "token_file"}},
		"line twice":              {"", site(ok + "; token_file DIR/token"), []string{"Caddyfile:19", "stands twice"}},
		"kms":                     {"", site("kms awskms://x"), []string{"Caddyfile:17", "master"}},
		"allow_uid":               {"", site("allow_uid 33"), []string{"Caddyfile:17", "unrecognized line", "peer"}},
		"client_auth":             {"", site("client_auth x"), []string{"Caddyfile:17", "unrecognized line", "client_certificate"}},
		"value missing":           {"", site("token_file"), []string{"Caddyfile:17", "exactly one value"}},
		"value too many":          {"", site("ring a b"), []string{"Caddyfile:17", "ring wants a name"}},
		"value of no_recovery":    {"", site("no_recovery yes"), []string{"Caddyfile:17", "takes no value"}},
		"value of compat":         {"", site("compat yes"), []string{"Caddyfile:17", "compat takes nothing"}},
		"unknown line of compat":  {"", site("compat {; rounds 5; }"), []string{"Caddyfile:18", "max_rounds"}},
		"rounds a word":           {"", site("compat {; max_rounds many; }"), []string{"Caddyfile:18", "1 to 1000000"}},
		"rounds too many":         {"", site("compat {; max_rounds 1000001; }"), []string{"Caddyfile:18", "1 to 1000000"}},
		"rounds twice":            {"", site("compat {; max_rounds 1; max_rounds 2; }"), []string{"Caddyfile:19", "one line max_rounds"}},
		"limit without a number":  {"", site("limit"), []string{"Caddyfile:17", "limit 200 burst 8192"}},
		"limit of zero":           {"", site("limit 0"), []string{"Caddyfile:17", "1 to 100000000"}},
		"limit with another word": {"", site("limit 200 peak 5"), []string{"Caddyfile:17", "limit 200 burst 8192"}},
		"burst a word":            {"", site("limit 200 burst big"), []string{"Caddyfile:17", "1 to 100000000"}},
		"matcher":                 {"", "https://localhost:8444 {\n\tTLS\n\thmac_service /x {\n\t\tcompat\n\t\tno_recovery\n\t}\n}\n", []string{"Caddyfile:16", "no matcher"}},
		"token file absent":       {"", site("token_file DIR/absent; no_recovery"), []string{"Caddyfile:16", "no such file"}},
		"token file short":        {"", site("token_file DIR/short; no_recovery"), []string{"Caddyfile:16", "32 to 4096", "openssl rand"}},
		"token file loose":        {"", site("token_file DIR/loose; no_recovery"), []string{"Caddyfile:16", "chmod o="}},
		"placeholder empty":       {"", site("token_file {env.ANTEROOM_TEST_UNSET}; no_recovery"), []string{"Caddyfile:16", "token_file"}},
		"recovery key a word":     {"", site("token_file DIR/token; recovery hospital"), []string{"Caddyfile:16", "anteroom keys ring recovery-key"}},
		"secret half":             {"", site("token_file DIR/token; recovery ANTEROOM-RECOVERY-SECRET-X25519:AAAA"), []string{"Caddyfile:18", "secret half"}},
		"ring name":               {"", site(ok + "; ring a/b"), []string{"Caddyfile:16", "letters, digits"}},
		"no host":                 {"", ":8444 {\n\tTLS\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t}\n}\n", []string{"Caddyfile:16", "subject NAME"}},
		"address as host":         {"", "https://127.0.0.1:8444 {\n\tTLS\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t}\n}\n", []string{"Caddyfile:16", "subject NAME"}},
		"several hosts":           {"", "https://localhost:8444, https://app.test:8444 {\n\tTLS\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t}\n}\n", []string{"Caddyfile:16", "subject NAME"}},
		"twice in a site":         {"", "https://localhost:8444 {\n\tTLS\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t}\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t}\n}\n", []string{"Caddyfile:", "stands twice"}},
		"in a handle":             {"", "https://localhost:8444 {\n\tTLS\n\thandle /x/* {\n\t\thmac_service {\n\t\t\tcompat\n\t\t\tno_recovery\n\t\t}\n\t}\n}\n", []string{"Caddyfile:17", "top level"}},
		"behind a proxy":          {"", "https://localhost:8444 {\n\tTLS\n\treverse_proxy 127.0.0.1:9 {\n\t\thandle_response {\n\t\t\thmac_service {\n\t\t\t\tcompat\n\t\t\t\tno_recovery\n\t\t\t}\n\t\t}\n\t}\n}\n", []string{"Caddyfile:18", "top level"}},
		"in an error route":       {"", "https://localhost:8444 {\n\tTLS\n\treverse_proxy 127.0.0.1:9\n\thandle_errors {\n\t\thmac_service {\n\t\t\tsubject localhost\n\t\t\tcompat\n\t\t\tno_recovery\n\t\t}\n\t}\n}\n", []string{"Caddyfile:18", "top level"}},
		"in a named route":        {"", "&(service) {\n\thmac_service {\n\t\tsubject localhost\n\t\tcompat\n\t\tno_recovery\n\t}\n}\nhttps://localhost:8444 {\n\tTLS\n\treverse_proxy /hmac-service 127.0.0.1:9\n\tinvoke service\n}\n", []string{"Caddyfile:15", "top level"}},
		"behind a rewrite":        {"", "https://localhost:8444 {\n\tTLS\n\troute {\n\t\trewrite /foo /hmac-service\n\t\thmac_service {\n\t\t\tcompat\n\t\t\tno_recovery\n\t\t}\n\t}\n}\n", []string{"Caddyfile:18", "rewrite"}},
		"one ring, two limits":    {"", site(ok) + "https://app.test:8444 {\n\tTLS\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t\tring localhost\n\t\tlimit 5\n\t}\n}\n", []string{"Caddyfile:", "same lines"}},
		"TLS 1.2":                 {"", strings.Replace(site(ok), "TLS", "tls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2\n\t}", 1), []string{"hmac_service", "TLS 1.3"}},
		"TLS 1.2 at a neighbour":  {"", "other.test:8444 {\n\ttls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2\n\t}\n}\n" + site(ok), []string{"hmac_service", "TLS 1.3"}},
		"plain HTTP":              {"", "http://localhost:8444 {\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t}\n}\n", []string{"hmac_service", "TLS 1.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				config, err := adapt(t, b.hmacFile(t, c.more, c.sites))
				if err == nil {
					err = validate(t, config)
				}
				if err == nil {
					t.Fatal("it loads")
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Fatalf("the message lacks %q:\n%v", want, err)
					}
				}
			}
		})
	}
}

// TestHMACAcceptedConfigs: what an operator would write, in both orders of Caddy's apps, opening nothing.
func TestHMACAcceptedConfigs(t *testing.T) {
	b := newBench(t)
	const lines = "\thmac_service {\n\t\ttoken_file DIR/token\n\t\tno_recovery\n\t}\n"
	for name, c := range map[string]struct{ more, sites string }{
		"all lines":                {"", "https://localhost:8444 {\n\tTLS\n\thmac_service {\n\t\tsubject localhost\n\t\tring passwords\n\t\ttoken_file DIR/token\n\t\trecovery 5TCL-nMbLn7AjyjXY6lqdWvOXvDMN34VwA-mXJmpgxo\n\t\tcompat {\n\t\t\tmax_rounds 100000\n\t\t}\n\t\tlimit 200 burst 8192\n\t}\n}\n"},
		"credential only":          {"", "https://localhost:8444 {\n\tTLS\n" + lines + "}\n"},
		"internal CA":              {"", "https://localhost:8444 {\n\ttls internal\n" + lines + "}\n"},
		"several hosts":            {"", "https://localhost:8444, https://app.test:8444 {\n\tTLS\n" + strings.Replace(lines, "{", "{\n\t\tsubject app.test", 1) + "}\n"},
		"no host":                  {"", ":8444 {\n\tTLS\n" + strings.Replace(lines, "{", "{\n\t\tsubject localhost", 1) + "}\n"},
		"with an app":              {"", "https://localhost:8444 {\n\tTLS\n\tencode gzip\n" + lines + "\treverse_proxy 127.0.0.1:9\n}\n"},
		"two sites":                {"", "https://localhost:8444 {\n\tTLS\n" + lines + "}\nhttps://app.test:8444 {\n\tTLS\n" + lines + "}\n"},
		"two sites, one ring":      {"", "https://localhost:8444 {\n\tTLS\n" + lines + "}\nhttps://app.test:8444 {\n\tTLS\n" + strings.Replace(lines, "{", "{\n\t\tring localhost", 1) + "}\n"},
		"with the anteroom option": {"\tanteroom {\n\t\tdirectory DIR/elsewhere\n\t}\n", "https://localhost:8444 {\n\tTLS\n" + lines + "}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for range rounds {
				config, err := adapt(t, b.hmacFile(t, c.more, c.sites))
				if err != nil {
					t.Fatal(err)
				}
				if err := validate(t, config); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for _, dir := range []string{filepath.Join(b.dir, "data", "caddy", "anteroom"), filepath.Join(b.dir, "elsewhere")} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("validate made %s: it must open nothing", dir)
		}
	}
}
