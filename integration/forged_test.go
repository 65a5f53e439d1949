package integration

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Tokens that somebody made up, beside the good context cookie of a real session. Every row of the token table is tried in
// packages jws and session; here it counts that the binary says 401 to each kind and does not grow.
func TestForgedTokens(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	parts := strings.Split(dana.token, ".")
	header, payload := decoded(t, parts[0]), decoded(t, parts[1])
	keySet := newBrowser(t).do(t, navigation(t, "GET", r.url(appHost, "/.anteroom/jwks.json"), "")).Body
	var published struct{ Keys []map[string]string }
	if err := json.Unmarshal([]byte(keySet), &published); err != nil || len(published.Keys) == 0 || published.Keys[0]["d"] != "" {
		t.Fatalf("the key set is %s", keySet)
	}
	public, err := base64.RawURLEncoding.DecodeString(published.Keys[0]["x"])
	if err != nil || len(public) != ed25519.PublicKeySize {
		t.Fatalf("the key is %v", published.Keys[0])
	}
	_, own, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(header, payload string) string {
		input := encoded(header) + "." + encoded(payload)
		return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(own, []byte(input)))
	}
	mac := func(header string, key []byte) string {
		input := encoded(header) + "." + parts[1]
		m := hmac.New(sha256.New, key)
		m.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	ownJWK := mustJSON(map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(own.Public().(ed25519.PublicKey))})
	admin := strings.Replace(payload, `"doctor"`, `"admin"`, 1)
	with := func(old, replacement string) string { return strings.Replace(header, old, replacement, 1) }
	forged := map[string]string{
		"alg none, no signature":       encoded(with(`"EdDSA"`, `"none"`)) + "." + encoded(admin) + ".",
		"alg none, old signature":      encoded(with(`"EdDSA"`, `"none"`)) + "." + encoded(admin) + "." + parts[2],
		"alg NONE":                     encoded(with(`"EdDSA"`, `"NoNe"`)) + "." + encoded(admin) + ".",
		"no alg":                       encoded(`{"typ":"anteroom+jwt"}`) + "." + encoded(admin) + "." + parts[2],
		"HS256 with the public key":    mac(with(`"EdDSA"`, `"HS256"`), public),
		"HS256 with its base64":        mac(with(`"EdDSA"`, `"HS256"`), []byte(published.Keys[0]["x"])),
		"HS256 with the empty key":     mac(with(`"EdDSA"`, `"HS256"`), nil),
		"own key, same kid":            sign(header, admin),
		"own key in the header":        sign(strings.Replace(header, "{", `{"jwk":`+ownJWK+",", 1), admin),
		"own key set by address":       sign(strings.Replace(header, "{", `{"jku":"`+r.op.issuer+`/jwks",`, 1), admin),
		"kid is a path":                sign(`{"alg":"EdDSA","kid":"../../../dev/null","typ":"anteroom+jwt"}`, admin),
		"kid is absent":                sign(`{"alg":"EdDSA","typ":"anteroom+jwt"}`, admin),
		"claims changed":               parts[0] + "." + encoded(admin) + "." + parts[2],
		"header changed":               encoded(strings.Replace(header, "{", `{"x":1,`, 1)) + "." + parts[1] + "." + parts[2],
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"two parts":                    parts[0] + "." + parts[1],
		"four parts":                   dana.token + "." + parts[2],
		"signature of other form":      parts[0] + "." + parts[1] + "." + malleable(t, parts[2]),
		"padding bits":                 dana.token[:len(dana.token)-1] + otherBits(dana.token[len(dana.token)-1]),
		"line break":                   parts[0] + "%0A." + parts[1] + "." + parts[2],
		"nested arrays":                sign(header, strings.Repeat("[", 3000)+strings.Repeat("]", 3000)),
		"a number of 3000 digits":      sign(header, `{"exp":`+strings.Repeat("9", 3000)+`}`),
		"no confirmation":              sign(header, strings.Replace(payload, `"cnf"`, `"cnf2"`, 1)),
		"dots only":                    strings.Repeat(".", 3000),
		"not base64":                   "!!!.???.###",
		"the ID token's provider keys": "eyJhbGciOiJSUzI1NiIsInR5cCI6ImFudGVyb29tK2p3dCJ9." + parts[1] + "." + strings.Repeat("A", 342),
	}
	for id, token := range forged {
		t.Run(id, func(t *testing.T) {
			r.attack(t, row{id: id, payload: r.ask("/members/x", &session{"", token, dana.context}), want: []int{401}})
		})
	}
	t.Run("the true token still works", func(t *testing.T) {
		r.attack(t, row{payload: r.ask("/members/x", dana), targets: []string{"/members/x"}, who: dana, want: []int{200}})
	})
	t.Run("in constant memory", func(t *testing.T) {
		before := r.memory(t)
		conn := rawTLS(t, r.addr(), appHost)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Minute))
		for i := range 3000 {
			token := sign(header, strings.Replace(payload, `"jti":"`, fmt.Sprintf(`"jti":"%d-%s`, i, strings.Repeat("x", 2000)), 1))
			conn.Write([]byte(get("/members/x", r.authority(appHost), (&session{"", token, dana.context}).line())))
			buf := make([]byte, 4096)
			n, err := conn.Read(buf)
			if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 401") {
				t.Fatalf("token %d is answered %q, %v", i, buf[:n], err)
			}
		}
		if grown := r.memory(t) - before; grown > 64<<20 {
			t.Errorf("3000 forged tokens made the process grow by %d MiB", grown>>20)
		}
	})
}

func encoded(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decoded(t *testing.T, s string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// malleable is the same signature with the group's order added to S, which a lax verifier takes too (RFC 8032 5.1.7).
func malleable(t *testing.T, signature string) string {
	t.Helper()
	raw := []byte(decoded(t, signature))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	little := raw[32:]
	s := new(big.Int)
	for i := len(little) - 1; i >= 0; i-- {
		s.Or(s.Lsh(s, 8), big.NewInt(int64(little[i])))
	}
	s.Add(s, order)
	for i := range little {
		little[i] = byte(new(big.Int).Rsh(s, uint(8*i)).Uint64())
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// otherBits is another letter for the last one of an unpadded base64 text, with the same bits that count.
func otherBits(last byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, last)^1])
}

// memory is the resident size of bin/anteroom (proc(5): VmRSS).
func (r *rig) memory(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(r.proc.cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
