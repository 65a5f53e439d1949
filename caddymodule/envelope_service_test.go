package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const envelopeBlock = "\tenvelope_service {\n\t\ttoken_file DIR/token\n\t}\n"

// TestEnvelopeRefusedConfigs: every mistake has a sentence with file, line and what to write.
func TestEnvelopeRefusedConfigs(t *testing.T) {
	b := newBench(t)
	site := func(lines string) string {
		return "https://localhost:8444 {\n\tTLS\n\tenvelope_service {\n\t\t" + strings.ReplaceAll(lines, "; ", "\n\t\t") + "\n\t}\n}\n"
	}
	for name, c := range map[string]struct {
		sites string
		want  []string
	}{
		"no block":          {"https://localhost:8444 {\n\tTLS\n\tenvelope_service\n}\n", []string{"Caddyfile:16", "token_file PATH"}},
		"matcher":           {"https://localhost:8444 {\n\tTLS\n\tenvelope_service /x {\n\t\ttoken_file DIR/token\n\t}\n}\n", []string{"Caddyfile:16", "no matcher"}},
		"unknown line":      {site("ring x"), []string{"Caddyfile:17", "unrecognized line \"ring\"", "tenant"}},
		"tenant twice":      {site("tenant a; tenant b"), []string{"Caddyfile:18", "stands twice"}},
		"tenant two words":  {site("tenant a b"), []string{"Caddyfile:17", "exactly one value"}},
		"tenant of a blank": {site("token_file DIR/token; tenant \"a b\""), []string{"Caddyfile:16", "tenant"}},
		"limit of nothing":  {site("token_file DIR/token; limit"), []string{"Caddyfile:18", "limit 64MiB burst 256MiB"}},
		"limit a word":      {site("token_file DIR/token; limit fast"), []string{"Caddyfile:18", "limit fast", "bytes per second"}},
		"limit too small":   {site("token_file DIR/token; limit 1000"), []string{"Caddyfile:18", "64KiB"}},
		"limit negative":    {site("token_file DIR/token; limit -1MiB"), []string{"Caddyfile:18", "bytes per second"}},
		"limit huge":        {site("token_file DIR/token; limit 99999999999GiB"), []string{"Caddyfile:18", "bytes per second"}},
		"limit two numbers": {site("token_file DIR/token; limit 1MiB 2MiB"), []string{"Caddyfile:18", "burst"}},
		"burst of nothing":  {site("token_file DIR/token; limit 1MiB burst 0"), []string{"Caddyfile:18", "burst"}},
		"limit twice":       {site("limit 1MiB; limit 1MiB"), []string{"Caddyfile:18", "stands twice"}},
		"two limits of one": {site("token_file DIR/token; tenant a; limit 1MiB") + strings.Replace(site("token_file DIR/token; tenant a"), "8444", "8445", 1), []string{"Caddyfile:", "another `limit` line"}},
		"token file absent": {site("token_file DIR/absent"), []string{"Caddyfile:16", "no such file"}},
		"no host":           {":8444 {\n\tTLS\n" + envelopeBlock + "}\n", []string{"Caddyfile:16", "host name"}},
		"several hosts":     {"https://localhost:8444, https://app.test:8444 {\n\tTLS\n" + envelopeBlock + "}\n", []string{"Caddyfile:16", "tenant NAME"}},
		"twice in a site":   {"https://localhost:8444 {\n\tTLS\n" + envelopeBlock + envelopeBlock + "}\n", []string{"Caddyfile:", "stands twice"}},
		"in a handle":       {"https://localhost:8444 {\n\tTLS\n\thandle /x/* {\n" + envelopeBlock + "\t}\n}\n", []string{"Caddyfile:17", "top level"}},
		"behind a rewrite":  {"https://localhost:8444 {\n\tTLS\n\troute {\n\t\trewrite /foo /envelope-service\n" + envelopeBlock + "\t}\n}\n", []string{"Caddyfile:18", "rewrite"}},
		"TLS 1.2":           {strings.Replace(site("token_file DIR/token"), "TLS", "tls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2\n\t}", 1), []string{"envelope_service", "TLS 1.3"}},
		"plain HTTP":        {"http://localhost:8444 {\n" + envelopeBlock + "}\n", []string{"envelope_service", "TLS 1.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := adapt(t, b.hmacFile(t, "", c.sites))
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
		})
	}
	for name, sites := range map[string]string{
		"alone":             site("token_file DIR/token"),
		"with a limit":      site("token_file DIR/token; limit 64KiB burst 1GiB"),
		"with bytes":        site("token_file DIR/token; limit 1000000"),
		"two of one tenant": site("token_file DIR/token; tenant a; limit 1MiB") + strings.Replace(site("token_file DIR/token; tenant a; limit 1MiB"), "8444", "8445", 1),
		"with a tenant":     site("token_file DIR/token; tenant clinic"),
		"several hosts":     "https://localhost:8444, https://app.test:8444 {\n\tTLS\n" + strings.Replace(envelopeBlock, "{", "{\n\t\ttenant clinic", 1) + "}\n",
		"with an app":       "https://localhost:8444 {\n\tTLS\n\tencode gzip\n" + envelopeBlock + "\treverse_proxy 127.0.0.1:9\n}\n",
		"with hmac_service": strings.Replace(hmacSite, "\tlog\n", envelopeBlock, 1),
	} {
		config, err := adapt(t, b.hmacFile(t, "", sites))
		if err == nil {
			err = validate(t, config)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(b.dir, "data", "caddy", "anteroom")); err == nil {
		t.Error("validate opened the store")
	}
}

// TestBothServices: they stand in one site, each answers its own path, and no other path is answered with Caddy's empty 200.
func TestBothServices(t *testing.T) {
	b := newBench(t)
	both := strings.Replace(hmacSite, "\tlog\n", "\tlog\n"+envelopeBlock, 1)
	for _, sites := range []string{both, "https://localhost:8444 {\n\tTLS\n\tlog\n" + envelopeBlock + "}\n"} {
		c := b.dialing(t, b.startHMAC(t, "", sites), nil)
		if status, body := c.do("POST", "/envelope-service/v1/keys", "{}"); status != 200 || !strings.Contains(body, `"state":"primary"`) {
			t.Errorf("keys: %d %s", status, body)
		}
		if status, body := c.do("POST", "/envelope-service/v1/seal", `{"items":[{"purpose":"notes","id":"planted-id","plaintext":"cGxhbnRlZA=="}]}`); status != 200 || !strings.Contains(body, `"sealed"`) {
			t.Errorf("seal: %d %s", status, body)
		}
		if status, _ := c.do("POST", "/envelope-service/v1/stream/seal?purpose=notes&id=planted-id", "planted", "Content-Type", "application/octet-stream"); status != 200 {
			t.Errorf("stream: %d", status)
		}
		want := 404
		if sites == both {
			want = 400
		}
		if status, _ := c.do("POST", "/hmac-service/v1/protect", "{}"); status != want {
			t.Errorf("protect: %d, want %d", status, want)
		}
		for _, path := range []string{"/", "/anything", "/envelope-services", "/hmac"} {
			if status, body := c.do("GET", path, ""); status != 404 {
				t.Errorf("%s: %d %q", path, status, body)
			}
		}
		if status, _ := c.do("POST", "/envelope-service/v1/keys", "{}", "Authorization", "Bearer wrong-wrong-wrong-wrong-wrong-wrong"); status != 401 {
			t.Errorf("another token: %d", status)
		}
		log, err := os.ReadFile(filepath.Join(b.dir, "caddy.log"))
		if err != nil {
			t.Fatal(err)
		}
		audit := b.auditText(t)
		for _, word := range []string{"planted", "cGxhbnRlZA", hmacToken} {
			if strings.Contains(string(log), word) || strings.Contains(audit, word) {
				t.Errorf("%q stands in a log", word)
			}
		}
		if !strings.Contains(audit, `"envelope-service"`) || !strings.Contains(audit, "/envelope-service/v1/stream/seal") {
			t.Error("the audit log does not speak of the service")
		}
	}
}
