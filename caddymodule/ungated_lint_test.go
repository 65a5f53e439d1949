package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// warned validates a config and returns what it logs at this level and above.
func (b bench) warned(t *testing.T, caddyfile, level string) string {
	t.Helper()
	config, err := adapt(t, caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	return b.loadLog(t, []byte(strings.Replace(string(config), `{"output":"discard"}}`, `{"output":"discard"},"level":"`+level+`"}`, 1)))
}

// loadLog validates a config and returns what it logs.
func (b bench) loadLog(t *testing.T, config []byte) string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "load.log")
	text := strings.Replace(string(config), `{"output":"discard"}`, `{"output":"file","filename":"`+log+`"}`, 1)
	if text == string(config) {
		t.Fatal("the test's config has another log")
	}
	if err := validate(t, []byte(text)); err != nil {
		t.Fatal(err)
	}
	logged, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(logged)
}

// TestLintUngated: a site without a gate that leads to a gated application lets everybody say who they are there.
func TestLintUngated(t *testing.T) {
	b := newBench(t)
	t.Setenv("ANTEROOM_TEST_UPSTREAM", "127.0.0.1:9")
	const strip = "request_header -Remote-*; request_header -Anteroom-*; "
	for name, c := range map[string]struct {
		behind, beside string
		warns          bool
	}{
		"the same":                  {toApp, toApp, true},
		"localhost":                 {toApp, "reverse_proxy localhost:9", true},
		"upper case, a dot":         {"reverse_proxy App.Example.:9", "reverse_proxy app.example:9", true},
		"::1":                       {"reverse_proxy localhost:9", "reverse_proxy [::1]:9", true},
		"127.0.0.1 and ::1":         {toApp, "reverse_proxy [::1]:9", true},
		"IPv4 in IPv6":              {toApp, "reverse_proxy [::ffff:127.0.0.1]:9", true},
		"0.0.0.0":                   {toApp, "reverse_proxy 0.0.0.0:9", true},
		"default port":              {"reverse_proxy http://127.0.0.1", "reverse_proxy localhost:80", true},
		"default port of https":     {"reverse_proxy https://10.0.0.7", "reverse_proxy 10.0.0.7:443", true},
		"scheme":                    {toApp, "reverse_proxy https://127.0.0.1:9", true},
		"an IPv6 address":           {"reverse_proxy [2001:db8::1]:9", "reverse_proxy [2001:DB8:0::1]:9", true},
		"a placeholder of the load": {toApp, "reverse_proxy {env.ANTEROOM_TEST_UPSTREAM}", true},
		"php_fastcgi":               {toApp, "root * DIR; php_fastcgi localhost:9", true},
		"Unix socket":               {"reverse_proxy unix//run/app.sock", "reverse_proxy unix//run/../run/app.sock", true},
		"Unix socket, h2c":          {"reverse_proxy unix//run/app.sock", "reverse_proxy unix+h2c//run/app.sock", true},
		"the second of them":        {"reverse_proxy 127.0.0.1:10 127.0.0.1:9", "reverse_proxy 127.0.0.1:11 127.0.0.1:9", true},
		"a range of ports":          {toApp, "reverse_proxy 127.0.0.1:8-10", true},
		"in a handle":               {"handle /x/* {; " + toApp + "; }", "handle_path /y/* {; " + toApp + "; }", true},
		"in an error route":         {toApp, "error 404; handle_errors {; " + toApp + "; }", true},
		"in an answer of an app":    {toApp, "reverse_proxy 127.0.0.1:10 {; @x status 404; handle_response @x {; " + toApp + "; }; }", true},
		"forward_auth":              {toApp, "forward_auth 127.0.0.1:9 {; uri /x; }; respond 1", true},
		"stripped of one":           {toApp, "request_header -Remote-User; " + toApp, true},
		"stripped of ours only":     {toApp, "request_header -Remote-*; " + toApp, true},
		"stripped for some":         {toApp, "@x path /x; request_header @x -Remote-*; request_header @x -Anteroom-*; " + toApp, true},
		"stripped in another block": {toApp, "handle /x {; " + strip + "respond 1; }; handle {; " + toApp + "; }", true},
		"not of the app's own name": {toApp + " {; header_up X-WEBAUTH-USER {header.Remote-User}; }", strip + toApp, true},

		"stripped":                  {toApp, strip + toApp, false},
		"stripped by header_up":     {toApp, toApp + " {; header_up -Remote-*; header_up -Anteroom-*; }", false},
		"stripped in the block":     {toApp, "handle /x {; " + strip + toApp + "; }; respond 1", false},
		"everything removed":        {toApp, toApp + " {; header_up -*; }", false},
		"and of the app's own name": {toApp + " {; header_up X-WEBAUTH-USER {header.Remote-User}; }", strip + "request_header -X-WEBAUTH-USER; " + toApp, false},
		"another port":              {toApp, "reverse_proxy 127.0.0.1:10", false},
		"another loopback address":  {toApp, "reverse_proxy 127.0.0.2:9", false},
		"another host":              {toApp, "reverse_proxy 192.0.2.1:9", false},
		"another socket":            {"reverse_proxy unix//run/app.sock", "reverse_proxy unix//run/other.sock", false},
		"a redirect":                {toApp, "redir https://app.test:8443{uri}", false},
		"the gated site itself":     {toApp, "reverse_proxy https://localhost:8443", false},
		"found at run time":         {toApp, "reverse_proxy {\n\t\tdynamic a localhost 9\n\t}", false},
		"a placeholder of requests": {toApp, "reverse_proxy {header.X-Up}:9", false},
		"gated, too":                {toApp, someGate + "; " + toApp, false},
	} {
		t.Run(name, func(t *testing.T) {
			text := b.file("", gated("app.test:8443", c.behind)+open("other.test:8443", c.beside))
			got := b.warned(t, text, "WARN")
			if strings.Contains(got, "has no gate in front") != c.warns {
				t.Fatalf("it warns: %s", got)
			}
			if !c.warns {
				return
			}
			for _, want := range []string{"other.test", "site app.test (Caddyfile:", "srv0.", "put `anteroom` into that site", "`request_header -Remote-*`"} {
				if !strings.Contains(got, want) {
					t.Errorf("the sentence lacks %q: %s", want, got)
				}
			}
			if n := strings.Count(got, "has no gate in front"); n > 1 {
				t.Errorf("it warns %d times: %s", n, got)
			}
		})
	}
}

// TestLintUngatedAround: a site of every host, another port, and what cannot be compared.
func TestLintUngatedAround(t *testing.T) {
	b := newBench(t)
	for name, sites := range map[string]string{
		"catch-all after it": gated("app.test:8443", toApp) + open(":8443", toApp),
		"plain HTTP":         gated("app.test:8443", toApp) + "http://other.test:8080 {\n\t" + toApp + "\n}\n",
		"a named route":      "&(r) {\n\t" + toApp + "\n}\n" + gated("app.test:8443", "invoke r") + open("other.test:9443", "invoke r"),
	} {
		if got := b.warned(t, b.file("", sites), "WARN"); !strings.Contains(got, "has no gate in front") {
			t.Errorf("%s: %s", name, got)
		}
	}
	const dynamic = "reverse_proxy {\n\t\tdynamic a localhost 9\n\t}"
	for name, c := range map[string]struct {
		sites string
		said  bool
	}{
		"dynamic, beside": {gated("app.test:8443", toApp) + open("other.test:8443", dynamic), true},
		"dynamic, behind": {gated("app.test:8443", dynamic) + open("other.test:8443", toApp), true},
		"dynamic, alone":  {gated("app.test:8443", dynamic) + open("other.test:8443", "respond 1"), false},
	} {
		if got := b.warned(t, b.file("", c.sites), "INFO"); strings.Contains(got, "found at run time are not compared") != c.said {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestLintUngatedJSON: a route behind a gate that does not end there answers for other hosts without one.
func TestLintUngatedJSON(t *testing.T) {
	const gate = `{"handler":"anteroom","rules":[{"words":["allow","role","doctor"]}]}`
	const proxy = `{"handler":"reverse_proxy","upstreams":[{"dial":"127.0.0.1:9"}]}`
	for routes, want := range map[string]int{
		`[{"match":[{"host":["app.test"]}],"handle":[` + gate + `]},{"handle":[` + proxy + `]}]`:                                 1,
		`[{"match":[{"host":["app.test"]}],"handle":[` + gate + `]},{"match":[{"host":["app.test"]}],"handle":[` + proxy + `]}]`: 0,
	} {
		app := httpApp(t, routes)
		warnings, _ := lintUngated(app, gatedPlaces(app))
		if len(warnings) != want {
			t.Errorf("%s: %q", routes, warnings)
		}
	}
}

// httpApp is an http app with one server of these routes, as Caddy decodes it.
func httpApp(t *testing.T, routes string) *caddyhttp.App {
	t.Helper()
	app := new(caddyhttp.App)
	if err := json.Unmarshal([]byte(`{"servers":{"srv0":{"listen":[":8443"],"routes":`+routes+`}}}`), app); err != nil {
		t.Fatal(err)
	}
	return app
}
