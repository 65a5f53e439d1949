package bearer

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/jws"
)

// The names of these tests are rows of the table of JWT attacks, for tokens and for
// proofs.

func TestAttackTokenHeader(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	r.accepts(request("Bearer", r.unbound())) // the keys are known from here on
	payload := text(changed(r.claims(), object{"cnf": nil}))
	jwk := func(key crypto.Signer) string { j, _ := jws.JWK(key.Public()); return text(j) }
	for name, c := range map[string]struct{ header, reason string }{
		"J2 none":             {`{"alg":"none","kid":"k1","typ":"at+jwt"}`, "token.alg"},
		"J2 nOnE":             {`{"alg":"nOnE","kid":"k1","typ":"at+jwt"}`, "token.alg"},
		"J6 alg missing":      {`{"kid":"k1","typ":"at+jwt"}`, "token.alg"},
		"J6 alg null":         {`{"alg":null,"kid":"k1","typ":"at+jwt"}`, "token.malformed"},
		"J6 alg array":        {`{"alg":["ES256"],"kid":"k1","typ":"at+jwt"}`, "token.malformed"},
		"J9 RS256":            {`{"alg":"RS256","kid":"k1","typ":"at+jwt"}`, "token.key"},
		"J9 ES384":            {`{"alg":"ES384","kid":"k1","typ":"at+jwt"}`, "token.key"},
		"J9 not accepted":     {`{"alg":"RS512","kid":"k1","typ":"at+jwt"}`, "token.alg"},
		"J22 jwk":             {`{"alg":"ES256","kid":"k1","typ":"at+jwt","jwk":` + jwk(r.client) + `}`, "token.malformed"},
		"J22 the right jwk":   {`{"alg":"ES256","kid":"k1","typ":"at+jwt","jwk":` + jwk(r.server.key) + `}`, "token.malformed"},
		"J23 jku":             {`{"alg":"ES256","kid":"k1","typ":"at+jwt","jku":"` + r.server.url + `/evil"}`, "token.malformed"},
		"J23 jku metadata IP": {`{"alg":"ES256","kid":"k1","typ":"at+jwt","jku":"http://169.254.169.254/"}`, "token.malformed"},
		"J23 x5u":             {`{"alg":"ES256","kid":"k1","typ":"at+jwt","x5u":"file:///etc/passwd"}`, "token.malformed"},
		"J26 kid SQL":         {`{"alg":"ES256","kid":"' UNION SELECT 'x","typ":"at+jwt"}`, "token.key"},
		"J26 kid Redis":       {`{"alg":"ES256","kid":"a\r\nDEL x","typ":"at+jwt"}`, "token.malformed"},
		"J27 kid number":      {`{"alg":"ES256","kid":1,"typ":"at+jwt"}`, "token.malformed"},
		"J27 kid long":        {`{"alg":"ES256","kid":"` + strings.Repeat("k", 257) + `","typ":"at+jwt"}`, "token.malformed"},
		"J29 crit":            {`{"alg":"ES256","kid":"k1","typ":"at+jwt","crit":["exp"]}`, "token.malformed"},
		"J29 b64":             {`{"alg":"ES256","kid":"k1","typ":"at+jwt","b64":false}`, "token.malformed"},
		"J32 cty":             {`{"alg":"ES256","kid":"k1","typ":"at+jwt","cty":"JWT"}`, "token.malformed"},
		"J33 zip":             {`{"alg":"ES256","kid":"k1","typ":"at+jwt","zip":"DEF"}`, "token.malformed"},
		"J34 enc":             {`{"alg":"PBES2-HS256+A128KW","kid":"k1","typ":"at+jwt","p2c":2147483647}`, "token.alg"},
		"J41 two alg":         {`{"alg":"none","alg":"ES256","kid":"k1","typ":"at+jwt"}`, "token.malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.server.count("/evil")
			newRigClock(t, r).refuses(request("Bearer", signed(r.server.key, c.header, payload)), c.reason)
			if r.server.count("/evil") != before {
				t.Error("a token caused a request")
			}
		})
	}
	for name, header := range map[string]string{
		"J24 x5c":            `{"alg":"ES256","kid":"k1","typ":"at+jwt","x5c":["MIIB"],"x5t":"AAAA"}`,
		"J37 harmless":       `{"alg":"ES256","kid":"k1","typ":"at+jwt","foo":1}`,
		"row 45 kid missing": `{"alg":"ES256","typ":"at+jwt"}`,
	} {
		t.Run("accepted "+name, func(t *testing.T) {
			newRigClock(t, r).accepts(request("Bearer", signed(r.server.key, header, payload)))
		})
	}
}

func TestAttackTokenShape(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	h, p, _ := strings.Cut(r.unbound(), ".")
	p, s, _ := strings.Cut(p, ".")
	for _, token := range []string{h + "." + p + ".", h + "." + p, h + "..", "." + p + "." + s, "..", ".", h + "." + p + "." + s + ".", h + "." + p + "." + s + ".x", h + "." + p + "." + s + ".x.y", h + ".." + s,
		strings.Repeat(".", 8000), strings.Repeat("A.", 4000), h + "." + p + "." + s + "=", h + "." + p + "." + s + "AAA"} {
		t.Run("J4 J38 J51 "+fmt.Sprint(len(token)), func(t *testing.T) {
			newRigClock(t, r).refuses(request("Bearer", token), "token.malformed")
		})
	}
	for name, payload := range map[string]string{
		"J41 two sub": `{"sub":"a","sub":"b"}`, "J44 escaped": `{"sub":"a","\u0073ub":"b"}`, "J48 null": `null`, "J48 array": `[]`, "J49 two": `{}{}`, "J53 1e400": `{"exp":1e400}`, "J49 comma": `{"a":1,}`,
	} {
		t.Run(name, func(t *testing.T) {
			newRigClock(t, r).refuses(request("Bearer", signed(r.server.key, tokenHeader, payload)), "token.malformed")
		})
	}
	if r.server.total() != 0 {
		t.Errorf("%d requests because of tokens without a shape", r.server.total())
	}
}

// J7, J8: no public text is ever a shared secret.
func TestAttackTokenConfusion(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	public := &r.server.key.PublicKey
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	point, err := public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jws.JWK(public)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for name, secret := range map[string][]byte{
		"J7 SPKI": der, "J7 PEM": block, "J7 PEM without end of line": bytes.TrimSpace(block), "J8 point": point, "J8 x": point[1:33], "J8 x text": []byte(jwk["x"].(string)), "J7 JWK": []byte(text(jwk)), "J11 empty": {}, "J11 zero": make([]byte, 32),
	} {
		t.Run(name, func(t *testing.T) {
			signing := b64(`{"alg":"HS256","kid":"k1","typ":"at+jwt"}`) + "." + b64(text(changed(r.claims(), object{"cnf": nil})))
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(signing))
			newRigClock(t, r).refuses(request("Bearer", signing+"."+b64(string(mac.Sum(nil)))), "token.alg")
		})
	}
}

// Row J13, the "psychic" signatures (CVE-2022-21449), and J14, another form.
func TestAttackPsychicSignatures(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	n := r.client.Params().N
	fill := func(a, b *big.Int) []byte {
		return append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
	}
	one, zero := big.NewInt(1), new(big.Int)
	for name, signature := range map[string][]byte{
		"J13 r=s=0": fill(zero, zero), "J13 r=0": fill(zero, one), "J13 s=0": fill(one, zero), "J13 r=s=n": fill(n, n), "J13 r=n+1": fill(new(big.Int).Add(n, one), one), "J13 s=n+1": fill(one, new(big.Int).Add(n, one)),
		"J13 r=s=1": fill(one, one), "J13 r=n": fill(n, one), "J13 all ones": bytes.Repeat([]byte{0xff}, 64), "J14 DER of zeros": {0x30, 6, 2, 1, 0, 2, 1, 0}, "J14 63 bytes": make([]byte, 63), "J14 65 bytes": make([]byte, 65), "J14 128 bytes": make([]byte, 128), "J14 one byte": {0},
	} {
		t.Run(name+" of a token", func(t *testing.T) {
			signing, _, _ := cutLast(r.unbound())
			newRigClock(t, r).refuses(request("Bearer", signing+"."+b64(string(signature))), "token.signature")
		})
		t.Run(name+" of a proof", func(t *testing.T) {
			token := r.token()
			signing, _, _ := cutLast(r.proof(token))
			newRigClock(t, r).refuses(request("DPoP", token, signing+"."+b64(string(signature))), "dpop.signature")
		})
	}
	t.Run("J13 the key of nothing", func(t *testing.T) {
		// A proof brings its own key: one that makes every signature right must
		// not be one.
		token := r.token()
		zeros := strings.Repeat("A", 43)
		for _, jwk := range []object{{"kty": "EC", "crv": "P-256", "x": zeros, "y": zeros}, {"kty": "OKP", "crv": "Ed25519", "x": zeros}, {"kty": "OKP", "crv": "Ed25519", "x": "AQ" + zeros[2:]}, {"kty": "RSA", "n": zeros, "e": "AQ"}} {
			alg := map[any]string{"EC": "ES256", "OKP": "EdDSA", "RSA": "RS256"}[jwk["kty"]]
			proof := b64(text(object{"alg": alg, "typ": "dpop+jwt", "jwk": jwk})) + "." + b64(text(r.proofClaims(token))) + "." + b64(string(make([]byte, 64)))
			if caller, err := r.check(request("DPoP", token, proof)); caller != nil || err == nil {
				t.Errorf("%v: %v, %v", jwk, caller, err)
			}
		}
	})
}

func cutLast(compact string) (before, after string, found bool) {
	dot := strings.LastIndexByte(compact, '.')
	return compact[:dot], compact[dot+1:], true
}

// oneByte calls f with every text that comes of deleting one byte of s, of changing
// one or inserting one, for every place with all the others.
func oneByte(s string, others func(byte) []byte, f func(string)) {
	for i := 0; i <= len(s); i++ {
		if i < len(s) {
			f(s[:i] + s[i+1:])
			for _, b := range others(s[i]) {
				if b != s[i] {
					f(s[:i] + string([]byte{b}) + s[i+1:])
				}
			}
		}
		for _, b := range others('A') {
			f(s[:i] + string([]byte{b}) + s[i:])
		}
	}
}

// everyByte is all there are.
func everyByte(byte) []byte {
	all := make([]byte, 256)
	for b := range all {
		all[b] = byte(b)
	}
	return all
}

// fewBytes are those that are most like a byte and those that mean something.
// Package jws tries every byte of a proof.
func fewBytes(c byte) []byte { return []byte{c ^ 1, c ^ 0x20, 'A', '_', '.', '='} }

// Row J78: whatever one byte of a token, of a proof or of the header is changed to,
// the request is refused. The only exceptions are another way to write the scheme
// and more blanks after it, which carry the same token.
func TestJ78OneByte(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	token, unbound := r.token(), r.unbound()
	proof := r.proof(token)
	t.Run("J78 token", func(t *testing.T) {
		r := newRigClock(t, r)
		r.accepts(request("Bearer", unbound))
		oneByte(unbound, everyByte, func(changed string) {
			if changed != " "+unbound {
				r.mustRefuse(request("Bearer", changed))
			}
		})
	})
	t.Run("J78 bound token with its proof", func(t *testing.T) {
		r := newRigClock(t, r)
		oneByte(token, fewBytes, func(changed string) {
			if changed != " "+token {
				r.mustRefuse(request("DPoP", changed, proof))
			}
		})
	})
	t.Run("J78 proof", func(t *testing.T) {
		r := newRigClock(t, r)
		oneByte(proof, fewBytes, func(changed string) { r.mustRefuse(request("DPoP", token, changed)) })
		// After all that the proof itself is still unused, and good.
		r.accepts(request("DPoP", token, proof))
	})
	t.Run("J78 header", func(t *testing.T) {
		r := newRigClock(t, r)
		oneByte("Bearer ", everyByte, func(scheme string) {
			q := request("Bearer", unbound)
			q.Authorization[0] = scheme + unbound
			caller, err := r.check(q)
			if same := strings.EqualFold(strings.TrimRight(scheme, " "), "Bearer") && strings.HasSuffix(scheme, " "); (caller != nil) != same || err != nil && caller != nil {
				t.Fatalf("scheme %q: %v, %v", scheme, caller, err)
			}
		})
	})
}

func (r *rig) mustRefuse(q Request) {
	caller, err := r.check(q)
	if _, ok := errors.AsType[*Refusal](err); !ok || caller != nil {
		r.t.Fatalf("%q %q: %v, %v", q.Authorization, q.DPoP, caller, err)
	}
}

// Row J76: a session of ours is no bearer token, even if its key were the issuer's.
func TestRow76J76Session(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	session := text(object{"iss": audience, "aud": siteHost, "sub": "dana", "idp": "hospital", "sid": "s", "jti": "j", "exp": r.clock.now().Unix() + 60, "iat": r.clock.now().Unix(), "cnf": object{"ctx#S256": thumbprint(r.client)}})
	r.refuses(request("Bearer", signed(r.server.key, `{"alg":"ES256","kid":"k1","typ":"anteroom+jwt"}`, session)), "token.iss")
	r.refuses(request("Bearer", signed(r.server.key, `{"alg":"ES256","kid":"k1","typ":"anteroom+jwt"}`, text(changed(r.claims(), object{"cnf": nil})))), "token.typ")
}

// What the package hands out or prints shows no token and no secret.
func TestRedaction(t *testing.T) {
	r := newRig(t, introspecting)
	c := Config{Name: "partner", Issuer: r.server.url, Introspection: &Introspection{ClientID: "anteroom", ClientSecret: "marker"}}
	i, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "config", c, "introspection", c.Introspection, "value", *c.Introspection, "issuer", i, "answers", i.answers.secret)
	encoded, err := json.Marshal([]any{c, c.Introspection, *c.Introspection})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %v %+v %#v %v %+v %#v", c, c, c, c.Introspection, *c.Introspection, *c.Introspection, i, i, i) + logged.String() + string(encoded)
	if strings.Contains(all, "marker") {
		t.Errorf("the secret shows in %s", all)
	}
	r.refuses(request("Bearer", "marker-of-a-token"), "token.inactive")
	r.server.set("/introspect", hang)
	if strings.Contains(r.log.String(), "marker-of-a-token") {
		t.Error("a token is in the log")
	}
}
