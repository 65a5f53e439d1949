package caddymodule

import (
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/loopback"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// callersOf reads lines as a directive's block does.
func callersOf(t *testing.T, text string) (*Callers, error) {
	t.Helper()
	c, d := new(Callers), caddyfile.NewTestDispenser("service {\n"+text+"\n}")
	d.Next()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		handled, err := c.unmarshalLine(d)
		if err != nil {
			return nil, err
		}
		if !handled {
			t.Fatalf("%q is nobody's line", d.Val())
		}
	}
	return c, nil
}

// TestCallersLines: row 137, the three kinds of lines and what is wrong with them, with line and remedy.
func TestCallersLines(t *testing.T) {
	b := newBench(t)
	b.write(t, "token", strings.Repeat("t", 40))
	b.write(t, "both", "")
	t.Setenv("ANTEROOM_TEST_UID", "33")
	in := func(text string) string { return strings.NewReplacer("DIR", b.dir, "; ", "\n").Replace(text) }
	c, err := callersOf(t, in("token_file DIR/token; peer uid {env.ANTEROOM_TEST_UID}; peer uid root; peer gid 44; peer gid root; client_certificate DIR/tls.pem; client_certificate sha256:"+strings.Repeat("ab", 32)))
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.resolve("x")
	if err != nil {
		t.Fatal(err)
	}
	of, err := loopback.ParseCertificate(b.dir + "/tls.pem")
	if err != nil {
		t.Fatal(err)
	}
	if found.Token == nil || !slices.Equal(found.UIDs, []int{33, 0}) || !slices.Equal(found.GIDs, []int{44, 0}) || len(found.Certificates) != 2 || found.Certificates[0] != of {
		t.Errorf("read %+v", found)
	}
	if !c.given() || new(Callers).given() {
		t.Error("given says something else")
	}
	for text, want := range map[string]string{
		"token_file":                             "exactly one value",
		"token_file a; token_file b":             "stands twice",
		"peer 33":                                "peer uid www-data",
		"peer pid 33":                            "peer uid www-data",
		"peer uid 33 44":                         "peer uid www-data",
		"client_certificate":                     "exactly one value",
		"client_certificate a b":                 "exactly one value",
		"token_file DIR/absent":                  "no such file",
		"peer uid nobody-of-this-name":           "no uid of this host",
		"peer gid nobody-of-this-name":           "no gid of this host",
		"peer uid -1":                            "no uid of this host",
		"peer uid 4294967295":                    "0 to 4294967294",
		"peer uid 99999999999":                   "0 to 4294967294",
		"peer uid 65534":                         "user of its own",
		"peer gid 65534":                         "user of its own",
		`peer uid ""`:                            "uid",
		"peer uid {env.ANTEROOM_TEST_UNSET}":     "peer uid",
		"client_certificate sha256:12":           "64 hexadecimal digits",
		"client_certificate DIR/tls.key":         "private key",
		"client_certificate DIR/both":            "no PEM",
		"client_certificate DIR/absent":          "no such file",
		"client_certificate {env.ANTEROOM_NONE}": "client_certificate",
	} {
		c, err := callersOf(t, in(text))
		if err == nil {
			var found loopback.Callers
			if found, err = c.resolve("Caddyfile:7: hmac_service"); err != nil {
				if !strings.HasPrefix(err.Error(), "Caddyfile:7: hmac_service: ") {
					t.Errorf("%s: the message does not begin with the place: %v", text, err)
				}
				if !found.None() {
					t.Errorf("%s: somebody may call in spite of the mistake", text)
				}
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestCallersOfASite: what could never work does not load, and a site on a Unix socket does.
func TestCallersOfASite(t *testing.T) {
	b := newBench(t)
	b.write(t, "token", hmacToken)
	site := func(before, lines string) string {
		return "https://localhost:8444 {\n\tBEFORE\n\thmac_service {\n\t\tno_recovery\n\t\t" + strings.ReplaceAll(lines, "; ", "\n\t\t") + "\n\t}\n}\n"
	}
	with := func(before, lines string) string { return strings.Replace(site("", lines), "BEFORE", before, 1) }
	const asks = "tls DIR/tls.pem DIR/tls.key {\n\t\tclient_auth {\n\t\t\tmode request\n\t\t}\n\t}"
	const unix = "TLS\n\tbind unix/DIR/s.sock|0600"
	for name, c := range map[string]struct{ sites, want string }{
		"a certificate that nobody asks for":    {with("TLS", "client_certificate DIR/tls.pem"), "the line `mode request`"},
		"a user without a Unix socket":          {with("TLS", "peer uid 0"), "bind unix//"},
		"a token and a user, no Unix socket":    {with("TLS", "token_file DIR/token; peer uid 0"), "bind unix//"},
		"a certificate":                         {with(asks, "client_certificate DIR/tls.pem"), ""},
		"client_auth without a mode":            {with(strings.Replace(asks, "\t\t\tmode request\n", "", 1), "client_certificate DIR/tls.pem"), "the line `mode request`"},
		"a certificate, mode require":           {with(strings.Replace(asks, "request", "require", 1), "client_certificate DIR/tls.pem"), ""},
		"asked for by another site":             {strings.Replace(with(asks, "compat"), "localhost:8444", "app.test:8444", 1) + with("TLS", "client_certificate DIR/tls.pem"), "the line `mode request`"},
		"a Unix socket, user":                   {with(unix, "peer uid 0"), ""},
		"a Unix socket, token":                  {with(unix, "token_file DIR/token"), ""},
		"a Unix socket and an address, user":    {with("TLS\n\tbind 127.0.0.1 unix/DIR/s.sock|0600", "peer gid 0"), ""},
		"a Unix socket, internal CA":            {with(strings.Replace(unix, "TLS", "tls internal", 1), "peer uid 0"), ""},
		"a socket from systemd":                 {with("TLS\n\tbind fd/3", "peer uid 0"), ""},
		"a Unix socket without TLS":             {strings.Replace(with("bind unix/DIR/s.sock|0600", "peer uid 0"), "https://", "http://", 1), "TLS 1.3"},
		"a Unix socket with TLS 1.2 as minimum": {with(strings.Replace(unix, "TLS", "tls DIR/tls.pem DIR/tls.key {\n\t\tprotocols tls1.2\n\t}", 1), "peer uid 0"), "TLS 1.3"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := adapt(t, b.hmacFile(t, "", c.sites))
			if err == nil {
				err = validate(t, config)
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "hmac_service")):
				t.Errorf("the message lacks %q: %v", c.want, err)
			}
		})
	}
}
