package bearer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/store"
)

// Row 69: the twelve checks of RFC 9449, section 4.3, each with the faults that it
// is for. Number 10 is about nonces, which we do not issue.
func TestRow69Proofs(t *testing.T) {
	r := newRig(t)
	token := r.token()
	at := func(d time.Duration) int64 { return r.clock.now().Add(d).Unix() }
	good := func(changes ...object) string { return r.proof(token, changes...) }
	t.Run("row 69 check 1 one header", func(t *testing.T) {
		r := newRigClock(t, r)
		r.refuses(request("DPoP", token), "dpop.missing")
		r.refuses(request("DPoP", token, good(), good()), "dpop.twice")
		same := good()
		r.refuses(request("DPoP", token, same, same), "dpop.twice")
		r.refuses(request("DPoP", token, same+", "+same), "dpop.malformed")
		r.refuses(request("DPoP", token, same, ""), "dpop.twice")
	})
	t.Run("row 69 check 2 one JWT", func(t *testing.T) {
		r := newRigClock(t, r)
		for _, proof := range []string{"", "x", "a.b.c", token + "." + token, strings.Repeat("A", jws.MaxToken+1), good() + ".", " " + good(), good() + " ", `{"payload":""}`} {
			r.refuses(request("DPoP", token, proof), "dpop.malformed")
		}
		r.refuses(request("DPoP", token, token), "dpop.malformed")
	})
	for name, c := range map[string]struct {
		header, claims object
		reason         string
	}{
		"check 3 jti missing":          {nil, object{"jti": nil}, "dpop.jti"},
		"check 3 jti empty":            {nil, object{"jti": ""}, "dpop.jti"},
		"check 3 jti number":           {nil, object{"jti": 1}, "dpop.jti"},
		"check 3 jti long":             {nil, object{"jti": strings.Repeat("j", 513)}, "dpop.jti"},
		"check 3 htm missing":          {nil, object{"htm": nil}, "dpop.htm"},
		"check 3 htm null":             {nil, object{"htm": null}, "dpop.htm"},
		"check 3 htm array":            {nil, object{"htm": []string{"GET"}}, "dpop.htm"},
		"check 3 htu missing":          {nil, object{"htu": nil}, "dpop.htu"},
		"check 3 htu array":            {nil, object{"htu": []string{audience + path}}, "dpop.htu"},
		"check 3 iat missing":          {nil, object{"iat": nil}, "dpop.iat"},
		"check 3 ath missing":          {nil, object{"ath": nil}, "dpop.ath"},
		"check 3 J42 other case":       {nil, object{"htm": nil, "HTM": "GET"}, "dpop.htm"},
		"check 4 typ missing":          {object{"typ": nil}, nil, "dpop.malformed"},
		"check 4 typ JWT":              {object{"typ": "JWT"}, nil, "dpop.typ"},
		"check 4 typ at+jwt":           {object{"typ": "at+jwt"}, nil, "dpop.typ"},
		"check 4 typ of DBSC":          {object{"typ": "dbsc+jwt"}, nil, "dpop.typ"},
		"check 5 none":                 {object{"alg": "none"}, nil, "dpop.malformed"},
		"check 5 HS256":                {object{"alg": "HS256"}, nil, "dpop.malformed"},
		"check 5 not on our list":      {object{"alg": "RS512"}, nil, "dpop.alg"},
		"check 5 another algorithm":    {object{"alg": "EdDSA"}, nil, "dpop.key"},
		"check 5 ES384 with P-256":     {object{"alg": "ES384"}, nil, "dpop.key"},
		"check 7 private key":          {object{"jwk": withMember(r.client, "d", "AQAB")}, nil, "dpop.malformed"},
		"check 7 symmetric key":        {object{"jwk": object{"kty": "oct", "k": "AQAB"}}, nil, "dpop.malformed"},
		"check 7 k besides":            {object{"jwk": withMember(r.client, "k", "AQAB")}, nil, "dpop.malformed"},
		"check 7 for encryption":       {object{"jwk": withMember(r.client, "use", "enc")}, nil, "dpop.key"},
		"check 7 off the curve":        {object{"jwk": withMember(r.client, "y", strings.Repeat("A", 43))}, nil, "dpop.key"},
		"check 7 jwk missing":          {object{"jwk": nil}, nil, "dpop.malformed"},
		"check 7 a name instead":       {object{"jwk": nil, "kid": "k1"}, nil, "dpop.malformed"},
		"check 7 jku":                  {object{"jku": r.server.url + "/jwks"}, nil, "dpop.malformed"},
		"check 7 crit":                 {object{"crit": []string{"jwk"}}, nil, "dpop.malformed"},
		"check 8 another method":       {nil, object{"htm": "POST"}, "dpop.htm"},
		"check 8 in lower case":        {nil, object{"htm": "get"}, "dpop.htm"},
		"check 8 with a blank":         {nil, object{"htm": "GET "}, "dpop.htm"},
		"check 9 another path":         {nil, object{"htu": audience + "/fhir/Observation/2"}, "dpop.htu"},
		"check 9 another host":         {nil, object{"htu": "https://other.example" + path}, "dpop.htu"},
		"check 9 another port":         {nil, object{"htu": audience + ":8443" + path}, "dpop.htu"},
		"check 9 http":                 {nil, object{"htu": "http://" + siteHost + path}, "dpop.htu"},
		"check 9 a user":               {nil, object{"htu": "https://a@" + siteHost + path}, "dpop.htu"},
		"check 9 path in another case": {nil, object{"htu": audience + "/FHIR/Observation/1"}, "dpop.htu"},
		"check 9 trailing slash":       {nil, object{"htu": audience + path + "/"}, "dpop.htu"},
		"check 9 dot segments":         {nil, object{"htu": audience + "/x/.." + path}, "dpop.htu"},
		"check 9 escaped slash":        {nil, object{"htu": audience + "/fhir/Observation%2F1"}, "dpop.htu"},
		"check 9 backslash":            {nil, object{"htu": audience + `\fhir\Observation\1`}, "dpop.htu"},
		"check 9 path only":            {nil, object{"htu": path}, "dpop.htu"},
		"check 9 no scheme":            {nil, object{"htu": "//" + siteHost + path}, "dpop.htu"},
		"check 9 blank at the end":     {nil, object{"htu": audience + path + " "}, "dpop.htu"},
		"check 9 line break":           {nil, object{"htu": audience + path + "\n"}, "dpop.htu"},
		"check 9 the query's":          {nil, object{"htu": "https://other.example?" + audience + path}, "dpop.htu"},
		"check 9 the fragment's":       {nil, object{"htu": "https://other.example#" + audience + path}, "dpop.htu"},
		"check 9 Kelvin host":          {nil, object{"htu": strings.Replace(audience, "example", "exampl\u0435", 1) + path}, "dpop.htu"},
		"check 11 61 s old":            {nil, object{"iat": at(-61 * time.Second)}, "dpop.iat"},
		"check 11 in 11 s":             {nil, object{"iat": at(11 * time.Second)}, "dpop.iat"},
		"check 11 text":                {nil, object{"iat": "1"}, "dpop.iat"},
		"check 11 0":                   {nil, object{"iat": 0}, "dpop.iat"},
		"check 11 null":                {nil, object{"iat": null}, "dpop.iat"},
		"check 11 fraction":            {nil, object{"iat": rawNumber("1.5")}, "dpop.iat"},
		"check 11 milliseconds":        {nil, object{"iat": at(0) * 1000}, "dpop.iat"},
		"check 11 overflow":            {nil, object{"iat": rawNumber("9223372036854775807")}, "dpop.iat"},
		"check 11 exp passed":          {nil, object{"exp": at(0)}, "dpop.exp"},
		"check 11 exp text":            {nil, object{"exp": "1"}, "dpop.exp"},
		"check 11 nbf to come":         {nil, object{"nbf": at(11 * time.Second)}, "dpop.nbf"},
		"check 12 another token's ath": {nil, object{"ath": b64(string(sum("x")))}, "dpop.ath"},
		"check 12 ath empty":           {nil, object{"ath": ""}, "dpop.ath"},
		"check 12 ath padded":          {nil, object{"ath": b64(string(sum(token))) + "="}, "dpop.ath"},
		"check 12 ath the token":       {nil, object{"ath": token}, "dpop.ath"},
		"check 12 ath of nothing":      {nil, object{"ath": b64(string(sum("")))}, "dpop.ath"},
		"check 12 ath in hex":          {nil, object{"ath": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}, "dpop.ath"},
	} {
		t.Run("row 69 "+name, func(t *testing.T) {
			proof := signed(r.client, proofHeader(r.client, c.header), text(changed(r.proofClaims(token), c.claims)))
			newRigClock(t, r).refuses(request("DPoP", token, proof), c.reason)
		})
	}
	t.Run("row 69 check 6 signature", func(t *testing.T) {
		r := newRigClock(t, r)
		parts := strings.Split(good(), ".")
		other := strings.Split(good(), ".")
		r.refuses(request("DPoP", token, parts[0]+"."+parts[1]+"."+other[2]), "dpop.signature")
		r.refuses(request("DPoP", token, signed(r.server.key, proofHeader(r.client), text(r.proofClaims(token)))), "dpop.signature")
	})
	t.Run("row 69 check 12 another key", func(t *testing.T) {
		r := newRigClock(t, r)
		thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r.refuses(request("DPoP", token, signed(thief, proofHeader(thief), text(r.proofClaims(token)))), "dpop.jkt")
	})
	for name, claims := range map[string]object{
		"check 9 host in upper case":  {"htu": "HTTPS://FHIR.Hospital.Example" + path},
		"check 9 default port":        {"htu": audience + ":443" + path},
		"check 9 with query":          {"htu": audience + path + "?a=b"},
		"check 9 with fragment":       {"htu": audience + path + "#x"},
		"check 9 needless escapes":    {"htu": audience + "/fhir/%4fbservation/%31"},
		"check 10 a nonce of nobody":  {"nonce": "x"},
		"check 11 60 s old":           {"iat": at(-60 * time.Second)},
		"check 11 in 10 s":            {"iat": at(10 * time.Second)},
		"check 11 exp to come":        {"exp": at(time.Second)},
		"check 3 more than is needed": {"foo": object{}},
	} {
		t.Run("row 69 accepted "+name, func(t *testing.T) {
			newRigClock(t, r).accepts(request("DPoP", token, r.proof(token, claims)))
		})
	}
	t.Run("row 69 accepted typ in other words", func(t *testing.T) {
		r := newRigClock(t, r)
		for _, typ := range []string{"DPoP+JWT", "application/dpop+jwt"} {
			r.accepts(request("DPoP", token, signed(r.client, proofHeader(r.client, object{"typ": typ}), text(r.proofClaims(token)))))
		}
	})
}

func sum(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func withMember(key crypto.Signer, name string, value any) object {
	jwk, err := jws.JWK(key.Public())
	if err != nil {
		panic(err)
	}
	jwk[name] = value
	return jwk
}

// Row 69: proofs by every algorithm that the metadata offers.
func TestRow69Algorithms(t *testing.T) {
	r := newRig(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[string]crypto.Signer{"ES256": r.client, "ES384": p384, "EdDSA": ed, "RS256": rs, "PS256": rs} {
		t.Run("row 69 "+alg, func(t *testing.T) {
			token := r.token(object{"cnf": object{"jkt": thumbprint(key)}})
			jwk, err := jws.JWK(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			proof, err := jws.SignWith(key, alg, object{"typ": "dpop+jwt", "jwk": jwk}, r.proofClaims(token))
			if err != nil {
				t.Fatal(err)
			}
			newRigClock(t, r).accepts(request("DPoP", token, proof))
		})
	}
}

// Row 69: the request's own address in other words.
func TestRow69RequestTarget(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct{ host, path, htu string }{
		"row 69 port":              {siteHost + ":8443", "/a", "https://" + siteHost + ":8443/a"},
		"row 69 default port sent": {siteHost + ":443", "/a", audience + "/a"},
		"row 69 upper case":        {"FHIR.Hospital.Example", "/a", audience + "/a"},
		"row 69 root":              {siteHost, "/", audience},
		"row 69 root with query":   {siteHost, "/", audience + "?x=/y"},
		"row 69 escaped":           {siteHost, "/a%7eb%c3%a9", audience + "/a~b%C3%A9"},
		"row 69 address":           {"[::1]:8443", "/a", "https://[::1]:8443/a"},
	} {
		t.Run(name, func(t *testing.T) {
			aud, _ := normaliseHost(c.host)
			token := r.token(object{"aud": "https://" + aud})
			q := request("DPoP", token, r.proof(token, object{"htu": c.htu}))
			q.Host, q.Path = c.host, c.path
			newRigClock(t, r).accepts(q)
		})
	}
	for _, path := range []string{"", "*", "a", "/a?b", "/a#b", "/a%", "/a%4", "/a%zz", "/a b"} {
		t.Run("row 69 path that is none "+path, func(t *testing.T) {
			token := r.token()
			q := request("DPoP", token, r.proof(token, object{"htu": audience + path}))
			q.Path = path
			newRigClock(t, r).refuses(q, "dpop.htu")
		})
	}
}

// failing is a store that does not answer.
type failing struct{ store.Store }

func (failing) CompareAndSwap(context.Context, string, []byte, []byte, time.Time) error {
	return store.ErrUnavailable
}

func TestRow70Replay(t *testing.T) {
	r := newRig(t)
	token := r.token()
	second := newRigClock(t, r) // another node with the same store
	second.site = &Site{Issuers: []*Issuer{r.another()}}
	t.Run("row 70 at the same node", func(t *testing.T) {
		q := request("DPoP", token, r.proof(token))
		r.accepts(q)
		r.refuses(q, "dpop.replayed")
	})
	t.Run("row 70 at the second node", func(t *testing.T) {
		q := request("DPoP", token, r.proof(token))
		r.accepts(q)
		second.refuses(q, "dpop.replayed")
	})
	t.Run("row 70 a new signature over the same name", func(t *testing.T) {
		r.accepts(request("DPoP", token, r.proof(token, object{"jti": "same"})))
		r.refuses(request("DPoP", token, r.proof(token, object{"jti": "same"})), "dpop.replayed")
		r.refuses(request("DPoP", token, r.proof(token, object{"jti": "same", "htu": audience + path + "?x=y#z"})), "dpop.replayed")
		r.clock.pass(30 * time.Second)
		r.refuses(request("DPoP", token, r.proof(token, object{"jti": "same"})), "dpop.replayed")
	})
	t.Run("row 70 until the proof is too old everywhere", func(t *testing.T) {
		q := request("DPoP", token, r.proof(token, object{"iat": r.clock.now().Add(10 * time.Second).Unix()}))
		r.accepts(q)
		for range 7 {
			r.clock.pass(10 * time.Second)
			second.refuses(q, "dpop.replayed")
		}
		r.clock.pass(time.Second)
		second.refuses(q, "dpop.iat")
	})
	t.Run("row 70 another client may use the same name", func(t *testing.T) {
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r.accepts(request("DPoP", token, r.proof(token, object{"jti": "shared"})))
		theirs := r.token(object{"cnf": object{"jkt": thumbprint(other)}})
		r.accepts(request("DPoP", theirs, signed(other, proofHeader(other), text(changed(r.proofClaims(theirs), object{"jti": "shared"})))))
	})
	t.Run("row 70 many at once", func(t *testing.T) {
		q := request("DPoP", token, r.proof(token))
		var mu sync.Mutex
		var wg sync.WaitGroup
		in := 0
		for n := range 20 {
			site := []*Site{r.site, second.site}[n%2]
			wg.Go(func() {
				if caller, err := site.Check(context.Background(), q); err == nil && caller != nil {
					mu.Lock()
					in++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if in != 1 {
			t.Errorf("%d requests with one proof passed", in)
		}
	})
	t.Run("row 70 a refused request leaves nothing behind", func(t *testing.T) {
		before := r.remembered()
		for _, q := range []Request{
			request("DPoP", token, r.proof(token, object{"ath": "x"})), request("DPoP", token, r.proof("x")),
			request("Bearer", token, r.proof(token)), request("DPoP", r.token(object{"aud": "x"}), r.proof(token)),
		} {
			if _, err := r.check(q); err == nil {
				t.Error("accepted")
			}
		}
		if after := r.remembered(); after != before {
			t.Errorf("%d proofs remembered, %d before", after, before)
		}
	})
	t.Run("row 70 the store is down", func(t *testing.T) {
		r.issuer.Use(failing{})
		r.unavailable(request("DPoP", token, r.proof(token)), "replay.unreachable")
		r.issuer.Use(nil)
		r.unavailable(request("DPoP", token, r.proof(token)), "replay.unreachable")
		r.issuer.proofs.Store(nil)
		r.unavailable(request("DPoP", token, r.proof(token)), "replay.unreachable")
		r.issuer.Use(r.store)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if caller, err := r.site.Check(ctx, request("DPoP", token, r.proof(token))); caller != nil || err == nil {
			t.Errorf("%v, %v", caller, err)
		}
	})
	t.Run("row 70 names in the store are hashes", func(t *testing.T) {
		r.accepts(request("DPoP", token, r.proof(token, object{"jti": "a\r\nDEL b"})))
		items, err := r.store.List(context.Background(), "")
		if err != nil || len(items) == 0 {
			t.Fatal(err)
		}
		for _, item := range items {
			hash, ok := strings.CutPrefix(item.Key, labelProof+"/")
			if raw, err := base64.RawURLEncoding.DecodeString(hash); !ok || err != nil || len(raw) != sha256.Size {
				t.Errorf("key %q", item.Key)
			}
		}
	})
}

func (r *rig) remembered() int {
	items, err := r.store.List(context.Background(), labelProof)
	if err != nil {
		r.t.Fatal(err)
	}
	return len(items)
}

// Neighbouring fields cannot borrow a byte from each other (CVE-2023-35941).
func TestProofKeyFields(t *testing.T) {
	a := proofKey("i", used{id: "bc"}, expected{target: "t", thumbprint: "a"})
	b := proofKey("i", used{id: "c"}, expected{target: "tb", thumbprint: "a"})
	c := proofKey("ia", used{id: "bc"}, expected{target: "t", thumbprint: ""})
	if a == b || a == c || b == c {
		t.Error("two proofs have one key")
	}
}

func TestRow72Certificates(t *testing.T) {
	r := newRig(t)
	mine, other := certificate(t), certificate(t)
	hash := func(c *x509.Certificate) string { return b64(string(sum(string(c.Raw)))) }
	token := r.token(object{"cnf": object{"x5t#S256": hash(mine)}})
	with := func(scheme, token string, c *x509.Certificate, proofs ...string) Request {
		q := request(scheme, token, proofs...)
		q.Certificate = c
		return q
	}
	for _, r.site.Unbound = range []bool{false, true} {
		t.Run("row 72 its certificate", func(t *testing.T) { r.accepts(with("Bearer", token, mine)) })
		t.Run("row 72 none", func(t *testing.T) { r.refuses(with("Bearer", token, nil), "token.certificate") })
		t.Run("row 72 another", func(t *testing.T) { r.refuses(with("Bearer", token, other), "token.certificate") })
		t.Run("row 72 without content", func(t *testing.T) { r.refuses(with("Bearer", token, &x509.Certificate{}), "token.certificate") })
		t.Run("row 72 the same key in another certificate", func(t *testing.T) {
			again := *mine
			again.Raw = append([]byte{}, mine.Raw...)
			again.Raw[len(again.Raw)-1] ^= 1
			r.refuses(with("Bearer", token, &again), "token.certificate")
		})
		t.Run("row 72 as DPoP", func(t *testing.T) { r.refuses(with("DPoP", token, mine, r.proof(token)), "token.unbound") })
	}
	t.Run("row 72 with a DPoP key too, both are needed", func(t *testing.T) {
		both := r.token(object{"cnf": object{"x5t#S256": hash(mine), "jkt": thumbprint(r.client)}})
		r.accepts(with("DPoP", both, mine, r.proof(both)))
		r.refuses(with("DPoP", both, other, r.proof(both)), "token.certificate")
		r.refuses(with("DPoP", both, mine), "dpop.missing")
		r.refuses(with("Bearer", both, mine), "token.bound")
	})
	t.Run("row 72 thumbprint of another form", func(t *testing.T) {
		for _, value := range []any{"", hash(mine) + "=", hash(mine)[:42], "AAAA", 1, null, []string{hash(mine)}} {
			r.refuses(with("Bearer", r.token(object{"cnf": object{"x5t#S256": value}}), mine), "token.cnf")
		}
		// SHA-1 is no confirmation.
		r.refuses(with("Bearer", r.token(object{"cnf": object{"x5t": hash(mine)}}), mine), "token.cnf")
	})
}

func certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotBefore: time.Unix(1, 0), NotAfter: time.Unix(2, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example":           "https://a.example/",
		"https://A.example:443":       "https://a.example/",
		"https://a.example:444/":      "https://a.example:444/",
		"https://a.example/%7E%2f%e":  "",
		"https://a.example/%7E%2fé":   "",
		"https://a.example/%7E%2f":    "https://a.example/~%2F",
		"https://a.example//b":        "https://a.example//b",
		"https://a.example/./b":       "https://a.example/./b",
		"https://[::1]/":              "https://[::1]/",
		"https://[::1]:443/":          "https://[::1]/",
		"https://[::1]x/":             "",
		"https://[::1/":               "",
		"https://[]/":                 "",
		"https://[a%25b]/":            "",
		"https://":                    "",
		"https://:443/":               "",
		"https:///a":                  "",
		"https:/a.example/":           "",
		"http://a.example/":           "",
		"https://a.example:x/":        "",
		"https://a.example:1:2/":      "",
		"https://a.example:99999999/": "",
		"https://a%2eexample/":        "",
		"https://a.example\\b":        "",
		"https://a.example/\x00":      "",
		"https://\u212a.example/":     "",
		"":                            "",
	} {
		got, ok := normalise(in)
		if got != want || ok != (want != "") {
			t.Errorf("normalise(%q) = %q, %v; want %q", in, got, ok, want)
		}
		if again, _ := normalise(got); ok && again != got {
			t.Errorf("normalise(%q) is not the end of it: %q", in, again)
		}
	}
	if _, ok := normaliseHost("\u212a.example"); ok {
		t.Error("the Kelvin sign became a k")
	}
}

func TestRefusalIsNoFailure(t *testing.T) {
	err := error(no("token.aud").with("DPoP"))
	if refused, ok := errors.AsType[*Refusal](err); !ok || refused.Error() != "access token refused (token.aud)" {
		t.Error(err)
	}
}
