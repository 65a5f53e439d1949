package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// jwkText is the public key of alg as a header holds it.
func jwkText(t testing.TB, alg string) string {
	t.Helper()
	members, err := JWK(publicKey(alg))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// proofHeader is a good header of a proof with further members.
func proofHeader(t testing.TB, alg string, members ...string) string {
	t.Helper()
	all := strings.Join(append([]string{""}, members...), ",")
	if !strings.Contains(all, `"typ"`) {
		all += `,"typ":"dpop+jwt"`
	}
	return `{"alg":"` + alg + `","jwk":` + jwkText(t, alg) + all + `}`
}

// checkProof reads a proof and verifies it with the known key of alg.
func checkProof(token, alg string) error {
	parsed, _, err := ParseProof(token)
	if err != nil {
		return err
	}
	return parsed.Verify(alg, publicKey(alg))
}

func TestParseProof(t *testing.T) {
	for _, alg := range allAlgs {
		compact := made(t, alg, proofHeader(t, alg), goodPayload)
		token, key, err := ParseProof(compact)
		if err != nil {
			t.Fatal(err)
		}
		if string(key) != jwkText(t, alg) || token.Header != (Header{Alg: alg, Typ: "dpop+jwt"}) {
			t.Errorf("%s: key %s, header %+v", alg, key, token.Header)
		}
		if err := token.Verify(alg, publicKey(alg)); err != nil {
			t.Error(err)
		}
		_, err = Parse(compact)
		wantErr(t, err, ErrMalformed) // row J22: nowhere else
	}
}

func TestAttackProofHeader(t *testing.T) {
	for name, c := range headerRows {
		t.Run("proof "+name, func(t *testing.T) {
			wantErr(t, checkProof(made(t, "EdDSA", proofHeader(t, "EdDSA", c.members), goodPayload), "EdDSA"), c.want)
		})
	}
	for name, header := range map[string]string{
		"no jwk":               `{"alg":"EdDSA","typ":"dpop+jwt"}`,
		"no typ":               `{"alg":"EdDSA","jwk":` + jwkText(t, "EdDSA") + `}`,
		"JWK in another case":  `{"alg":"EdDSA","typ":"dpop+jwt","JWK":` + jwkText(t, "EdDSA") + `}`,
		"two jwk":              proofHeader(t, "EdDSA", `"j\u0077k":`+jwkText(t, "EdDSA")),
		"jwk null":             `{"alg":"EdDSA","typ":"dpop+jwt","jwk":null}`,
		"jwk text":             `{"alg":"EdDSA","typ":"dpop+jwt","jwk":"{}"}`,
		"jwk array":            `{"alg":"EdDSA","typ":"dpop+jwt","jwk":[` + jwkText(t, "EdDSA") + `]}`,
		"jwk number":           `{"alg":"EdDSA","typ":"dpop+jwt","jwk":1}`,
		"jwk empty":            `{"alg":"EdDSA","typ":"dpop+jwt","jwk":{}}`,
		"kty number":           `{"alg":"EdDSA","typ":"dpop+jwt","jwk":{"kty":1}}`,
		"kty in another case":  `{"alg":"EdDSA","typ":"dpop+jwt","jwk":{"KTY":"OKP","crv":"Ed25519","x":"AAAA"}}`,
		"two kty":              `{"alg":"EdDSA","typ":"dpop+jwt","jwk":{"kty":"OKP","kty":"EC"}}`,
		"symmetric":            `{"alg":"EdDSA","typ":"dpop+jwt","jwk":{"kty":"oct","k":"AAAA"}}`,
		"symmetric without k":  `{"alg":"EdDSA","typ":"dpop+jwt","jwk":{"kty":"oct"}}`,
		"k besides a point":    withMember(t, `"k":"AAAA"`),
		"private d":            withMember(t, `"d":"AAAA"`),
		"private d null":       withMember(t, `"d":null`),
		"private d escaped":    withMember(t, `"\u0064":"AAAA"`),
		"private p":            withMember(t, `"p":"AAAA"`),
		"private q":            withMember(t, `"q":"AAAA"`),
		"private dp":           withMember(t, `"dp":"AAAA"`),
		"private dq":           withMember(t, `"dq":"AAAA"`),
		"private qi":           withMember(t, `"qi":"AAAA"`),
		"private oth":          withMember(t, `"oth":[]`),
		"key set":              `{"alg":"EdDSA","typ":"dpop+jwt","jwk":{"keys":[` + jwkText(t, "EdDSA") + `]}}`,
		"crit for jwk":         proofHeader(t, "EdDSA", `"crit":["jwk"]`),
		"not an object at all": `[]`,
	} {
		t.Run("J22 proof "+name, func(t *testing.T) {
			token, key, err := ParseProof(made(t, "EdDSA", header, goodPayload))
			wantErr(t, err, ErrMalformed)
			if token != nil || key != nil {
				t.Error("a refused proof came with a token or a key")
			}
		})
	}
	t.Run("J2 J6 J7 proof algorithm", func(t *testing.T) {
		for _, alg := range []string{"none", "None", "NONE", "HS256", "HS384", "HS512", "ES256K", "RSA-OAEP", "dir", "eddsa"} {
			_, _, err := ParseProof(made(t, "EdDSA", `{"alg":"`+alg+`","typ":"dpop+jwt","jwk":`+jwkText(t, "EdDSA")+`}`, goodPayload))
			wantErr(t, err, ErrAlgorithm)
		}
	})
	t.Run("J9 proof of one algorithm with another's key", func(t *testing.T) {
		token, _, err := ParseProof(made(t, "EdDSA", `{"alg":"EdDSA","typ":"dpop+jwt","jwk":`+jwkText(t, "ES256")+`}`, goodPayload))
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, token.Verify("EdDSA", publicKey("ES256")), ErrAlgorithm)
		wantErr(t, token.Verify("ES256", publicKey("ES256")), ErrAlgorithm)
	})
	t.Run("J51 proof size", func(t *testing.T) {
		for _, text := range []string{strings.Repeat("A", MaxToken+1), strings.Repeat(".", 1<<20), strings.Repeat("A.", 8<<20)} {
			if n := testing.AllocsPerRun(10, func() {
				if _, _, err := ParseProof(text); err == nil {
					t.Error("accepted")
				}
			}); n > 0 {
				t.Errorf("%v allocations", n)
			}
		}
	})
}

// withMember is a proof's header with one more member in its key.
func withMember(t testing.TB, member string) string {
	t.Helper()
	key := strings.TrimSuffix(jwkText(t, "EdDSA"), "}") + "," + member + "}"
	return `{"alg":"EdDSA","typ":"dpop+jwt","jwk":` + key + `}`
}

// Every change of one byte of a proof is refused by the key whose thumbprint the
// verifier expects.
func TestJ78OneByteOfAProof(t *testing.T) {
	proof := made(t, "EdDSA", proofHeader(t, "EdDSA"), goodPayload)
	if err := checkProof(proof, "EdDSA"); err != nil {
		t.Fatal(err)
	}
	for i := 0; i <= len(proof); i++ {
		for b := range 256 {
			if i < len(proof) && byte(b) != proof[i] && checkProof(proof[:i]+string([]byte{byte(b)})+proof[i+1:], "EdDSA") == nil {
				t.Fatalf("byte %d as %#x accepted", i, b)
			}
			if checkProof(proof[:i]+string([]byte{byte(b)})+proof[i:], "EdDSA") == nil {
				t.Fatalf("%#x inserted at %d accepted", b, i)
			}
		}
		if i < len(proof) && checkProof(proof[:i]+proof[i+1:], "EdDSA") == nil {
			t.Fatalf("without byte %d accepted", i)
		}
	}
}

// RFC 7638, section 3.1; RFC 8037, appendix A.3.
func TestThumbprint(t *testing.T) {
	n := "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	modulus, err := strict.DecodeString(n)
	if err != nil {
		t.Fatal(err)
	}
	x, err := strict.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	for want, key := range map[string]crypto.PublicKey{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537},
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": ed25519.PublicKey(x),
	} {
		if got, err := Thumbprint(key); got != want || err != nil {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	seen := map[string]bool{}
	for _, alg := range []string{"EdDSA", "ES256", "ES384", "RS256"} {
		got, err := Thumbprint(publicKey(alg))
		if err != nil || len(got) != 43 || seen[got] {
			t.Errorf("%s: %q, %v", alg, got, err)
		}
		seen[got] = true
	}
}

// The coordinates keep their leading zeros: RFC 7518, section 6.2.1.2.
func TestJWKKeepsLeadingZeros(t *testing.T) {
	for range 2000 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		members, err := JWK(&key.PublicKey)
		if err != nil || len(members["x"].(string)) != 43 || len(members["y"].(string)) != 43 {
			t.Fatalf("%v, %v", members, err)
		}
	}
}

func TestUnusableKeys(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.PublicKey{
		"nil": nil, "P-521": &p521.PublicKey, "bytes": []byte("secret"), "private": keys().p256,
		"RSA exponent 1": &rsa.PublicKey{N: keys().rsa.N, E: 1}, "short Ed25519": ed25519.PublicKey("short"),
		"small order": ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...)),
	} {
		_, err := JWK(key)
		wantErr(t, err, ErrAlgorithm)
		if print, err := Thumbprint(key); err == nil || print != "" {
			t.Errorf("%s: %q", name, print)
		}
	}
}

func signer(alg string) crypto.Signer {
	k := keys()
	switch alg {
	case "EdDSA":
		return k.ed
	case "ES256":
		return k.p256
	case "ES384":
		return k.p384
	}
	return k.rsa
}

func TestSignWith(t *testing.T) {
	for _, alg := range allAlgs {
		compact, err := SignWith(signer(alg), alg, map[string]any{"kid": "k1", "typ": "JWT"}, map[string]any{"sub": "a<b"})
		if err != nil {
			t.Fatal(err)
		}
		token, err := Parse(compact)
		if err != nil || token.Header != (Header{alg, "k1", "JWT"}) {
			t.Fatalf("%v %v", token, err)
		}
		if err := token.Verify(alg, publicKey(alg)); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		jwk, err := JWK(publicKey(alg))
		if err != nil {
			t.Fatal(err)
		}
		compact, err = SignWith(signer(alg), alg, map[string]any{"typ": "dpop+jwt", "jwk": jwk}, map[string]any{"jti": "1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkProof(compact, alg); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	// A short r or s keeps its place.
	for range 600 {
		if _, err := SignWith(keys().p256, "ES256", nil, map[string]any{}); err != nil {
			t.Fatal(err)
		}
	}
}

// faulty is a signer that answers what it likes.
type faulty struct {
	crypto.Signer
	answer []byte
}

func (f faulty) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return f.answer, nil }

func TestSignWithRefuses(t *testing.T) {
	jwk, err := JWK(publicKey("ES256"))
	if err != nil {
		t.Fatal(err)
	}
	private := maps.Clone(jwk)
	private["d"] = "AAAA"
	for name, c := range map[string]struct {
		key     crypto.Signer
		alg     string
		header  map[string]any
		payload any
		want    error
	}{
		"no key":            {nil, "ES256", nil, map[string]any{}, ErrAlgorithm},
		"none":              {keys().p256, "none", nil, map[string]any{}, ErrAlgorithm},
		"HS256":             {keys().p256, "HS256", nil, map[string]any{}, ErrAlgorithm},
		"other curve":       {keys().p384, "ES256", nil, map[string]any{}, ErrAlgorithm},
		"other kind":        {keys().rsa, "ES256", nil, map[string]any{}, ErrAlgorithm},
		"alg in the header": {keys().p256, "ES256", map[string]any{"alg": "ES256"}, map[string]any{}, ErrMalformed},
		"crit":              {keys().p256, "ES256", map[string]any{"crit": []string{"x"}}, map[string]any{}, ErrMalformed},
		"kid number":        {keys().p256, "ES256", map[string]any{"kid": 1}, map[string]any{}, ErrMalformed},
		"private jwk":       {keys().p256, "ES256", map[string]any{"typ": "dpop+jwt", "jwk": private}, map[string]any{}, ErrMalformed},
		"jwk without typ":   {keys().p256, "ES256", map[string]any{"jwk": jwk}, map[string]any{}, ErrMalformed},
		"payload array":     {keys().p256, "ES256", nil, []int{1}, ErrMalformed},
		"payload nil":       {keys().p256, "ES256", nil, nil, ErrMalformed},
		"payload function":  {keys().p256, "ES256", nil, func() {}, ErrMalformed},
		"header function":   {keys().p256, "ES256", map[string]any{"x": func() {}}, map[string]any{}, ErrMalformed},
		"too long":          {keys().p256, "ES256", nil, map[string]any{"a": strings.Repeat("a", MaxToken)}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := SignWith(c.key, c.alg, c.header, c.payload)
			wantErr(t, err, c.want)
			if token != "" {
				t.Error("a token came with the error")
			}
		})
	}
	for _, alg := range []string{"ES256", "RS256", "PS256", "EdDSA"} {
		for _, answer := range [][]byte{nil, {}, []byte("x"), make([]byte, 64), make([]byte, 256), {0x30, 0x06, 2, 1, 0, 2, 1, 0},
			{0x30, 0x06, 2, 1, 1, 2, 1, 1, 0}, slices.Concat([]byte{0x30, 0x26, 2, 0x21, 1}, make([]byte, 32), []byte{2, 1, 1})} {
			_, err := SignWith(faulty{signer(alg), answer}, alg, nil, map[string]any{})
			wantErr(t, err, ErrSignature)
		}
	}
}

func TestSignHMAC(t *testing.T) {
	secret := []byte(strings.Repeat("s", 32))
	compact, err := SignHMAC(secret, map[string]any{"typ": "JWT"}, map[string]any{"iss": "client"})
	if err != nil {
		t.Fatal(err)
	}
	dot := strings.LastIndexByte(compact, '.')
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(compact[:dot]))
	if compact[dot+1:] != b64(string(mac.Sum(nil))) || !strings.HasPrefix(compact, b64(`{"alg":"HS256","typ":"JWT"}`)+".") {
		t.Errorf("%s", compact)
	}
	_, err = Parse(compact)
	wantErr(t, err, ErrAlgorithm)
	for name, c := range map[string]struct {
		secret []byte
		header map[string]any
		want   error
	}{
		"empty secret":    {nil, nil, ErrAlgorithm},
		"31 bytes":        {secret[:31], nil, ErrAlgorithm},
		"other algorithm": {secret, map[string]any{"alg": "none"}, ErrMalformed},
		"jwk":             {secret, map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}, "typ": "JWT"}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := SignHMAC(c.secret, c.header, map[string]any{})
			wantErr(t, err, c.want)
			if token != "" {
				t.Error("a token came with the error")
			}
		})
	}
}
