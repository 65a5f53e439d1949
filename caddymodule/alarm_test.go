package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// TestWebhookStaysSecret: the address of a chat program's webhook is a secret. It can stand in a file; then neither the config that is
// stored and shown by the admin API has it, nor the name of anything, nor the message about a wrong one.
func TestWebhookStaysSecret(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(t.TempDir(), "url")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := b.global("alarm webhook {file."+file+"} {\ntoken {file."+file+".token}\n}", site("app.test", "allow any"))
	if err := os.WriteFile(file+".token", []byte("SECRET-TOKEN"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("https://hooks.test/services/SECRET\n")
	if got := b.problems(t, text); got != "" {
		t.Error(got)
	}
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil || strings.Contains(string(out), "SECRET") || !json.Valid(out) {
		t.Errorf("adapted: %v %s", err, out)
	}
	for _, address := range []string{"http://hooks.test/SECRET", "https://u:SECRET@hooks.test/", "https://hooks.test/x#SECRET", "SECRET", "https://hooks.test/%zzSECRET"} {
		write(address)
		got := b.problems(t, text)
		if !strings.Contains(got, "https address") || strings.Contains(got, "SECRET") {
			t.Errorf("%s in a file: %q", address, got)
		}
		if got = b.problems(t, b.global("alarm webhook "+address, site("app.test", "allow any"))); !strings.Contains(got, "https address") || strings.Contains(got, "SECRET") {
			t.Errorf("%s: %q", address, got)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := b.problems(t, text); got == "" {
		t.Error("a file that is not there is no webhook, and it loads")
	}
	l := &Alarm{Webhook: "https://hooks.test/SECRET"}
	if err := l.provision(nil); err != nil || strings.Contains((&App{Alarm: l}).alarmKey(), "SECRET") {
		t.Errorf("%v, the pool's key: %s", err, (&App{Alarm: l}).alarmKey())
	}
}
