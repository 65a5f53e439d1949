package bearer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

// CVE-2022-29226: a token of anybody is none.
func TestForeignTokens(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload := func(iss string) string { return text(changed(r.claims(), object{"cnf": nil, "iss": iss})) }
	t.Run("CVE-2022-29226 random", func(t *testing.T) { r.refuses(request("Bearer", "cmFuZG9t"), "token.malformed") })
	t.Run("J19 another environment's key", func(t *testing.T) {
		r.refuses(request("Bearer", signed(other, tokenHeader, payload(r.server.url))), "token.signature")
	})
	t.Run("J28 a key name of another issuer", func(t *testing.T) {
		r.refuses(request("Bearer", signed(other, `{"alg":"ES256","kid":"k2","typ":"at+jwt"}`, payload(r.server.url))), "token.key")
	})
	u := strings.TrimPrefix(r.server.url, "http://")
	for _, iss := range []string{"https://other.example", r.server.url + "/", strings.ToUpper(r.server.url), "https://" + u, "http://a@" + u, r.server.url + "#", "", " " + r.server.url, r.server.url + "\u0000"} {
		t.Run("J67 issuer "+iss, func(t *testing.T) {
			newRigClock(t, r).refuses(request("Bearer", signed(r.server.key, tokenHeader, payload(iss))), "token.iss")
		})
	}
	t.Run("J18 payload of one, signature of another", func(t *testing.T) {
		a, b := strings.Split(r.unbound(), "."), strings.Split(r.unbound(object{"sub": "admin"}), ".")
		r.refuses(request("Bearer", b[0]+"."+b[1]+"."+a[2]), "token.signature")
	})
	t.Run("CVE-2024-51744 expired and badly signed", func(t *testing.T) {
		r.refuses(request("Bearer", signed(other, tokenHeader, text(changed(r.claims(), object{"exp": 1})))), "token.signature")
	})
	t.Run("J74 the key is gone", func(t *testing.T) {
		r.accepts(request("Bearer", r.unbound()))
		r.server.set("/jwks", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, object{"keys": []any{}}) })
		r.clock.pass(61 * time.Minute)
		r.refuses(request("Bearer", r.unbound()), "token.key")
	})
}

// Two issuers of one site: each speaks for its own tokens only.
func TestTwoIssuers(t *testing.T) {
	one, two := newRig(t), newRig(t)
	site := &Site{Issuers: []*Issuer{one.issuer, two.issuer}, Unbound: true}
	if err := site.Valid(); err != nil {
		t.Fatal(err)
	}
	one.site, two.site = site, site
	if a, b := one.accepts(request("Bearer", one.unbound())), two.accepts(request("Bearer", two.unbound())); a.Issuer == b.Issuer || reflect.DeepEqual(a, b) {
		t.Errorf("%+v and %+v", a, b)
	}
	if one.server.count("/jwks") != 1 || two.server.count("/jwks") != 1 {
		t.Error("an issuer was asked about another's token")
	}
}

// What doctor asks: nil when tokens can be judged.
func TestReady(t *testing.T) {
	r := newRig(t)
	if err := r.issuer.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	r = newRig(t)
	r.server.set("/jwks", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, object{"keys": []any{}}) })
	if err := r.issuer.Ready(t.Context()); identity.Reason(err) != "jwks.empty" {
		t.Error(err)
	}
	r = newAsking(t)
	if err := r.issuer.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	r.server.set("/introspect", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	if err := r.issuer.Ready(t.Context()); identity.Reason(err) != "introspection.client" {
		t.Error(err)
	}
}
