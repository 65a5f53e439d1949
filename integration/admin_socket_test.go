package integration

import (
	"path/filepath"
	"strings"
	"testing"
)

// adminWarned is what a Caddyfile with an open admin interface is told.
const adminWarned = "every program of this host reaches it at"

// Caddy's admin interface asks for no credential. Whoever leaves it where it is by default is told, once for a Caddyfile, with the
// line that closes it; and with that line every command finds the running program.
func TestAdminSocket(t *testing.T) {
	t.Parallel()
	socket := strings.Replace(standard, "admin off", "admin unix/$DIR/admin.sock|0600", 1)
	r := newRig(t, socket)
	file := filepath.Join(r.dir, "Caddyfile")
	for _, line := range []string{"keys status", "keys list", "sessions list", "review"} {
		for name, at := range map[string][]string{"config": {"--config", file, "--adapter", "caddyfile"}, "address": {"--address", r.adminSocket()}} {
			if res := output(t, r.env(), append(append([]string{binary(t, "anteroom")}, strings.Fields(line)...), at...)...); res.code != 0 || strings.Contains(res.stderr, adminWarned) {
				t.Errorf("%s, by its %s: %d %s", line, name, res.code, res.stderr)
			}
		}
	}
	if res := output(t, r.env(), binary(t, "anteroom"), "policy", "matrix", "--config", file, "--adapter", "caddyfile"); res.code != 0 || strings.Contains(res.stderr, adminWarned) {
		t.Errorf("policy matrix: %d %s", res.code, res.stderr)
	}

	service := "\nlocalhost:8444 {\n\ttls $CERT $KEY\n\thmac_service {\n\t\ttoken_file $DIR/token\n\t\tno_recovery\n\t}\n\tenvelope_service {\n\t\ttoken_file $DIR/token\n\t}\n}\n"
	for name, c := range map[string]struct {
		caddyfile string
		want      int
	}{
		"default, gated":    {strings.Replace(standard, "admin off", "", 1), 1},
		"default, services": {"{" + strings.Replace(globals, "admin off", "", 1) + "}\n" + service, 1},
		"default, both":     {strings.Replace(standard, "admin off", "", 1) + service, 1},
		"another port":      {strings.Replace(standard, "admin off", "admin 127.0.0.1:2020", 1), 1},
		"off":               {standard + service, 0},
		"the remedy":        {strings.Replace(standard, "admin off", "admin unix//run/anteroom/admin.sock|0600", 1) + service, 0},
		"none of ours":      {"{" + strings.Replace(globals, "admin off", "", 1) + "}\nlocalhost:$PORT {\n\ttls $CERT $KEY\n\trespond 1\n}\n", 0},
	} {
		res := r.validate(t, "adapt", c.caddyfile)
		if res.code != 0 || strings.Count(res.stderr, adminWarned) != c.want || c.want > 0 && !strings.Contains(res.stderr, "admin unix//run/anteroom/admin.sock|0600") {
			t.Errorf("%s: %d %s", name, res.code, res.stderr)
		}
	}
}
