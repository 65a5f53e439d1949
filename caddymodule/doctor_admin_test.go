package caddymodule

import (
	"strings"
	"testing"
)

// TestDoctorOnAdmin: an admin interface that every program of the host reaches makes the credentials of the services worthless, and
// is told; Caddy's default is one.
func TestDoctorOnAdmin(t *testing.T) {
	b := newBench(t)
	const with, without = "https://localhost:8444 {\n\tTLS\n\thmac_service {\n\t\ttoken_file DIR/token\n\t\tno_recovery\n\t}\n}\n", "https://localhost:8444 {\n\tTLS\n\trespond 1\n}\n"
	t.Setenv("ANTEROOM_TEST_ADMIN", "unix//run/anteroom/admin.sock")
	for name, c := range map[string]struct{ admin, site, want string }{
		"default":           {"", with, stateWarn},
		"TCP":               {"localhost:2020", with, stateWarn},
		"all addresses":     {":2019", with, stateWarn},
		"socket":            {"unix//run/anteroom/admin.sock|0600", with, stateOK},
		"off":               {"off", with, stateOK},
		"without a service": {"", without, ""},
		"IPv6":              {"[::1]:2019", with, stateWarn},
		"a placeholder":     {"{env.ANTEROOM_TEST_ADMIN}", with, stateOK},
		"envelope":          {"", strings.Replace(strings.Replace(with, "hmac_service", "envelope_service", 1), "no_recovery", "tenant app", 1), stateWarn},
	} {
		text := b.hmacFile(t, "", c.site)
		if !strings.Contains(text, "\tadmin off\n") {
			t.Fatal("the test's config has another line")
		}
		line := ""
		if c.admin != "" {
			line = "\tadmin " + c.admin + "\n"
		}
		config, err := adapt(t, strings.Replace(text, "\tadmin off\n", line, 1))
		if err != nil {
			t.Fatal(err)
		}
		found := said(examineAdmin(config), "admin")
		state := ""
		if len(found) == 1 {
			state = found[0].State
		}
		if state != c.want || state == stateWarn && found[0].Remedy == "" {
			t.Errorf("%s: %+v", name, found)
		}
	}
	for admin, want := range map[string]string{"": stateWarn, "\tadmin unix//run/anteroom/admin.sock|0600\n": stateOK} {
		config, err := adapt(t, strings.Replace(b.file("", gated("app.test", toApp)), "\tadmin off\n", admin, 1))
		if err != nil {
			t.Fatal(err)
		}
		if found := said(examineAdmin(config), "admin"); len(found) != 1 || found[0].State != want {
			t.Errorf("a gated site, %q: %+v", admin, found)
		}
	}
}
