package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestLintLoops: row 136, a proxy in front of the service makes strangers look local; the operator hears of it.
func TestLintLoops(t *testing.T) {
	b := newBench(t)
	b.write(t, "token", hmacToken)
	t.Setenv("ANTEROOM_TEST_PORT", "8444")
	const own = "https://localhost:8444 {\n\tTLS\n\tBIND\n\thmac_service {\n\t\ttoken_file DIR/token\n\t\tno_recovery\n\t}\n}\n"
	site := func(bind, proxy string) string {
		return strings.Replace(own, "\tBIND\n", bind, 1) + "https://app.test:9443 {\n\tTLS\n\t" + proxy + "\n}\n"
	}
	const unix = "\tbind unix/DIR/s.sock|0600\n"
	for name, c := range map[string]struct {
		config string
		warns  bool
	}{
		"127.0.0.1":                     {site("", "reverse_proxy https://127.0.0.1:8444"), true},
		"localhost":                     {site("", "reverse_proxy https://localhost:8444"), true},
		"upper case and a dot":          {site("", "reverse_proxy https://LOCALHOST.:8444"), true},
		"a name under localhost":        {site("", "reverse_proxy https://x.localhost:8444"), true},
		"::1":                           {site("\tbind ::1\n", "reverse_proxy https://[::1]:8444"), true},
		"::ffff:127.0.0.1":              {site("", "reverse_proxy https://[::ffff:127.0.0.1]:8444"), true},
		"0.0.0.0":                       {site("", "reverse_proxy https://0.0.0.0:8444"), true},
		"a placeholder of the load":     {site("", "reverse_proxy 127.0.0.1:{env.ANTEROOM_TEST_PORT}"), true},
		"in a handle":                   {site("", "handle /x/* {\n\t\treverse_proxy https://127.0.0.1:8444\n\t}"), true},
		"in an answer of an app":        {site("", "reverse_proxy 127.0.0.1:9 {\n\t\t@x status 404\n\t\thandle_response @x {\n\t\t\treverse_proxy https://127.0.0.1:8444\n\t\t}\n\t}"), true},
		"in an error route":             {site("", "respond 1\n\thandle_errors {\n\t\treverse_proxy https://127.0.0.1:8444\n\t}"), true},
		"in a named route":              {"&(loop) {\n\treverse_proxy https://127.0.0.1:8444\n}\n" + site("", "invoke loop"), true},
		"traces removed":                {site("", "reverse_proxy https://127.0.0.1:8444 {\n\t\theader_up -Via\n\t\theader_up -X-Forwarded-*\n\t}"), true},
		"second upstream":               {site("", "reverse_proxy 127.0.0.1:9 127.0.0.1:8444"), true},
		"forward_auth":                  {site("", "forward_auth 127.0.0.1:8444 {\n\t\turi /x\n\t}\n\trespond 1"), true},
		"its own site":                  {strings.Replace(own, "\tBIND\n", "\treverse_proxy https://127.0.0.1:8444\n", 1), true},
		"bound to 127.0.0.1":            {site("\tbind 127.0.0.1\n", "reverse_proxy https://localhost:8444"), true},
		"Unix socket":                   {site(unix, "reverse_proxy unix/DIR/s.sock"), true},
		"another port":                  {site("", "reverse_proxy 127.0.0.1:8445"), false},
		"another host":                  {site("", "reverse_proxy https://192.0.2.1:8444"), false},
		"another name":                  {site("", "reverse_proxy https://localhost.example:8444"), false},
		"bound to ::1, dials 127.0.0.1": {site("\tbind ::1\n", "reverse_proxy https://127.0.0.1:8444"), false},
		"every address, dials ::1":      {site("\tbind 0.0.0.0\n", "reverse_proxy https://[::1]:8444"), true},
		"bound to 127.0.0.1, dials ::1": {site("", "reverse_proxy https://[::1]:8444"), false},
		"bound to another address":      {site("\tbind 192.0.2.1\n", "reverse_proxy https://127.0.0.1:8444"), false},
		"another Unix socket":           {site(unix, "reverse_proxy unix/DIR/t.sock"), false},
		"Unix socket, dials the port":   {site(unix, "reverse_proxy https://127.0.0.1:8444"), false},
		"nobody proxies":                {site("", "respond 1"), false},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := adapt(t, b.hmacFile(t, "", c.config))
			if err != nil {
				t.Fatal(err)
			}
			var config struct{ Apps struct{ HTTP caddyhttp.App } }
			if err := json.Unmarshal(text, &config); err != nil {
				t.Fatal(err)
			}
			got := lintLoops(&config.Apps.HTTP, "hmac_service")
			if len(got) > 0 != c.warns {
				t.Errorf("warnings: %q", got)
			}
			for _, sentence := range got {
				if !strings.Contains(sentence, "Caddyfile:") || !strings.Contains(sentence, "reverse_proxy") {
					t.Errorf("the sentence does not say where: %s", sentence)
				}
			}
			if other := lintLoops(&config.Apps.HTTP, "envelope_service"); len(other) > 0 {
				t.Errorf("warns for a directive that is not there: %q", other)
			}
		})
	}
}
