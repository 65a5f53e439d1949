package caddymodule

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// TestBudgetsCountOverHosts: all names of a site count as one, whatever order they are written in, and another site is another.
func TestBudgetsCountOverHosts(t *testing.T) {
	for _, names := range []string{"app.test, localhost", "localhost, app.test"} {
		b := newBench(t)
		text := b.global("", site(names, "allow role doctor /{patient}\nbudget role doctor 5 distinct {patient} per 1h")+site("other.test", "allow any"))
		adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
		if err != nil {
			t.Fatal(err)
		}
		var config caddy.Config
		if err := json.Unmarshal(adapted, &config); err != nil {
			t.Fatal(err)
		}
		ctx, err := caddy.ProvisionContext(&config)
		if err != nil {
			t.Fatal(err)
		}
		app, err := ctx.AppIfConfigured("anteroom")
		if err != nil {
			t.Fatal(err)
		}
		a := app.(*App)
		t.Cleanup(func() { // or the pool holds its store for the tests after this one
			if err := a.Cleanup(); err != nil {
				t.Error(err)
			}
		})
		if got := a.sites[0].gateConfig(&running{}).Counted; got("app.test") != "app.test" || got("localhost") != "app.test" || got("other.test") != "other.test" {
			t.Errorf("%s: %q", names, a.counted)
		}
	}
}
