package caddymodule

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// TestEmptyVariables: a line that lost a word because a variable was not set is told; without its paths it allows everything.
func TestEmptyVariables(t *testing.T) {
	b := newBench(t)
	t.Setenv("ANTEROOM_TEST_SET", "/x/**")
	t.Setenv("ANTEROOM_TEST_BLANK", " ")
	for name, c := range map[string]struct{ global, rules, want string }{
		"not set":               {"", "allow role doctor {$ANTEROOM_TEST_PATHS}", "{$ANTEROOM_TEST_PATHS}"},
		"blank":                 {"", "allow role doctor {$ANTEROOM_TEST_BLANK}", "{$ANTEROOM_TEST_BLANK}"},
		"an empty default":      {"", "allow role doctor {$ANTEROOM_TEST_PATHS:}", "{$ANTEROOM_TEST_PATHS}"},
		"the second":            {"", "allow role doctor {$ANTEROOM_TEST_SET} {$ANTEROOM_TEST_PATHS}", "{$ANTEROOM_TEST_PATHS}"},
		"in the middle":         {"", "allow role doctor {$ANTEROOM_TEST_METHODS} /x", "{$ANTEROOM_TEST_METHODS}"},
		"the first word":        {"", "allow role doctor\n{$ANTEROOM_TEST_SHADOW} deny any /x", "{$ANTEROOM_TEST_SHADOW}"},
		"in a shared policy":    {"policy p {\nallow role doctor {$ANTEROOM_TEST_PATHS}\n}", "use p", "{$ANTEROOM_TEST_PATHS}"},
		"a policy not used":     {"policy p {\nallow role doctor\n}", "use p {$ANTEROOM_TEST_POLICY}", "{$ANTEROOM_TEST_POLICY}"},
		"a condition":           {"", "allow role doctor when {\nrequest.path == \"/a\" {$ANTEROOM_TEST_MORE}\n}", "{$ANTEROOM_TEST_MORE}"},
		"set":                   {"", "allow role doctor {$ANTEROOM_TEST_SET}", ""},
		"a default":             {"", "allow role doctor {$ANTEROOM_TEST_PATHS:/nothing}", ""},
		"none":                  {"", "allow role doctor /x", ""},
		"in a comment":          {"", "allow role doctor /x # not {$ANTEROOM_TEST_PATHS}", ""},
		"in the line before it": {"", "# {$ANTEROOM_TEST_PATHS}\nallow role doctor /x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(b.global(c.global, site("app.test", c.rules)), "TLS", "tls "+b.dir+"/tls.pem "+b.dir+"/tls.key", 1)
			got := b.warnedFile(t, text)
			if !strings.Contains(got, c.want) || strings.Contains(got, "is empty") != (c.want != "") {
				t.Fatalf("it logs %s", got)
			}
			if c.want != "" && (!strings.Contains(got, "Rules:") || !strings.Contains(got, ":/nothing}")) {
				t.Errorf("no line and no mend: %s", got)
			}
		})
	}
	// A file that was imported is looked into, and one that is not there keeps nothing from loading.
	b.write(t, "lines", "anteroom {\n\tallow role doctor {$ANTEROOM_TEST_PATHS}\n}\n")
	if got := b.warnedFile(t, b.file("", "app.test {\n\tTLS\n\timport DIR/lines\n\treverse_proxy 127.0.0.1:9\n}\n")); !strings.Contains(got, "lines:2: {$ANTEROOM_TEST_PATHS} is empty") {
		t.Errorf("imported: %s", got)
	}
	if got := b.warned(t, b.file("", site("app.test", "allow role doctor {$ANTEROOM_TEST_PATHS}")), "WARN"); strings.Contains(got, "is empty") {
		t.Errorf("no file: %s", got)
	}
	t.Setenv("ANTEROOM_TEST_LINES", "# one\n# two\n# three")
	if got := b.warnedFile(t, "{$ANTEROOM_TEST_LINES}\n"+b.file("", site("app.test", "allow role doctor /a\nallow role doctor /b"))); strings.Contains(got, "is empty") {
		t.Errorf("lines that have moved: %s", got)
	}
}

// warnedFile is warned for a Caddyfile that is a file.
func (b bench) warnedFile(t *testing.T, caddyfile string) string {
	t.Helper()
	file := b.write(t, "Rules", caddyfile)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": file})
	if err != nil {
		t.Fatal(err)
	}
	return b.loadLog(t, config)
}
