package bearer

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"the name stands in logs":      func(c *Config) { c.Name = "a/b" },
		"issuer is missing":            func(c *Config) { c.Issuer = "" },
		"would be reached without TLS": func(c *Config) { c.Issuer = "http://login.example" },
		`hosts "a/b"`:                  func(c *Config) { c.Fetch.Hosts = []string{"a/b"} },
		`algorithm "HS256"`:            func(c *Config) { c.Algs = []string{"HS256"} },
		`algorithm "none"`:             func(c *Config) { c.Algs = []string{"none"} },
		"no algorithm is accepted":     func(c *Config) { c.Algs = []string{} },
		`roles_claim "a..b"`:           func(c *Config) { c.Roles = "a..b" },
		`username_claim ".a"`:          func(c *Config) { c.Username = ".a" },
		`username_prefix " p"`:         func(c *Config) { c.UsernamePrefix = " p" },
		`role "a b" from "x"`:          func(c *Config) { c.RoleNames = map[string][]string{"x": {"a b"}} },
		"client_id is missing":         func(c *Config) { c.Introspection = &Introspection{ClientSecret: "s"} },
		"client_secret is missing":     func(c *Config) { c.Introspection = &Introspection{ClientID: "c"} },
		"client_secret holds a line":   func(c *Config) { c.Introspection = &Introspection{ClientID: "c", ClientSecret: "s\n"} },
		"`hosts other.example`": func(c *Config) {
			c.Introspection = &Introspection{URL: "https://other.example/i", ClientID: "c", ClientSecret: "s"}
		},
		"introspect: not https": func(c *Config) {
			c.Introspection = &Introspection{URL: "http://login.example/i", ClientID: "c", ClientSecret: "s"}
		},
		"introspect: not an absolute add": func(c *Config) {
			c.Introspection = &Introspection{URL: "https://login.example/#", ClientID: "c", ClientSecret: "s"}
		},
	} {
		t.Run(want, func(t *testing.T) {
			c := Config{Name: "a", Issuer: "https://login.example"}
			change(&c)
			i, err := New(c)
			if i != nil || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("a certificate instead of a secret", func(t *testing.T) {
		c := Config{Name: "a", Issuer: "https://login.example", Introspection: &Introspection{ClientID: "c"}}
		c.Fetch.Certificate = &tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: keyPair()[0]}
		if _, err := New(c); err != nil {
			t.Error(err)
		}
	})
}

func TestSiteValid(t *testing.T) {
	i := func(name, issuer string) *Issuer {
		made, err := New(Config{Name: name, Issuer: issuer})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	if (&Site{}).Valid() == nil {
		t.Error("a site without issuers")
	}
	if (&Site{Issuers: []*Issuer{i("a", "https://x.example"), i("b", "https://x.example")}}).Valid() == nil {
		t.Error("one issuer twice")
	}
	if err := (&Site{Issuers: []*Issuer{i("a", "https://x.example"), i("b", "https://y.example")}}).Valid(); err != nil {
		t.Error(err)
	}
	r := newRig(t)
	r.site = &Site{Unbound: true}
	r.refuses(request("Bearer", r.unbound()), "token.iss") // the zero Site accepts nothing
	r.refuses(request("Bearer", "opaque"), "token.malformed")
}

// Rows 41, 42 and 47: what is fetched, from where, and that an address cannot be
// changed under way.
func TestDiscovery(t *testing.T) {
	metadata := func(r *rig, document object) {
		r.server.set("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, document) })
	}
	for name, c := range map[string]struct {
		document func(r *rig) object
		reason   string
	}{
		"row 41 another issuer":  {func(r *rig) object { return object{"issuer": r.server.url + "/", "jwks_uri": r.server.url + "/jwks"} }, "discovery.issuer"},
		"row 41 no issuer":       {func(r *rig) object { return object{"jwks_uri": r.server.url + "/jwks"} }, "discovery.issuer"},
		"row 42 no keys":         {func(r *rig) object { return object{"issuer": r.server.url} }, "discovery.jwks_uri"},
		"row 47 keys elsewhere":  {func(r *rig) object { return object{"issuer": r.server.url, "jwks_uri": "https://other.example/"} }, "discovery.jwks_uri"},
		"row 47 metadata server": {func(r *rig) object { return object{"issuer": r.server.url, "jwks_uri": "http://169.254.169.254/"} }, "discovery.jwks_uri"},
		"row 47 introspection elsewhere": {func(r *rig) object {
			return object{"issuer": r.server.url, "jwks_uri": r.server.url + "/jwks", "introspection_endpoint": "https://other.example/"}
		}, "discovery.introspection_endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			metadata(r, c.document(r))
			r.unavailable(r.good(), c.reason)
		})
	}
	t.Run("OpenID Connect's place", func(t *testing.T) {
		r := newRig(t)
		r.server.set("/.well-known/oauth-authorization-server", http.NotFound)
		r.server.set("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, object{"issuer": r.server.url, "jwks_uri": r.server.url + "/jwks"})
		})
		r.accepts(r.good())
	})
	t.Run("row 73 no introspection endpoint", func(t *testing.T) {
		r := newAsking(t)
		metadata(r, object{"issuer": r.server.url, "jwks_uri": r.server.url + "/jwks"})
		r.unavailable(request("Bearer", opaque()), "discovery.introspection_endpoint")
	})
	t.Run("a host that moved is reported and not followed", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Fetch.Hosts = []string{"localhost"} })
		r.accepts(r.good())
		metadata(r, object{"issuer": r.server.url, "jwks_uri": strings.Replace(r.server.url, "127.0.0.1", "localhost", 1) + "/jwks"})
		r.clock.pass(61 * time.Minute)
		r.accepts(r.good())
		if !strings.Contains(r.log.String(), "names other hosts than before") {
			t.Errorf("the log: %s", r.log)
		}
	})
	t.Run("row 43 a new key costs one request a minute", func(t *testing.T) {
		r := newRig(t)
		r.accepts(r.good())
		for n := range 1000 {
			r.mustRefuse(request("DPoP", signed(r.client, text(object{"alg": "ES256", "typ": "at+jwt", "kid": "x" + text(n)}), text(r.claims()))))
		}
		if n := r.server.count("/jwks"); n > 2 {
			t.Errorf("%d requests for keys", n)
		}
	})
}

func TestLabels(t *testing.T) {
	seen := map[string]bool{}
	for _, label := range []string{labelProof, typeAccess, typeProof} {
		if label == "" || seen[label] {
			t.Errorf("label %q stands twice", label)
		}
		seen[label] = true
	}
}
