package session

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// The names of these tests are rows of the table of JWT attacks, tried at the
// session cookie, each with the right context cookie beside it.

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// lab is a manager with one good session to vary.
type lab struct {
	m       *Manager
	clock   *clock
	session *Session
	token   string
	context string
	claims  map[string]any
}

func newLab(t testing.TB, options ...func(*Config)) *lab {
	t.Helper()
	m, c := manager(t, options...)
	s, cookies := issue(t, m)
	l := &lab{m: m, clock: c, session: s, token: cookies[0].Value, context: cookies[1].Value}
	payload, err := json.Marshal(s.wire())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &l.claims); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"auth_time", "iat", "exp", "start"} {
		l.claims[name] = int64(l.claims[name].(float64))
	}
	return l
}

func (l *lab) header() string {
	return `{"alg":"EdDSA","kid":"` + l.m.ring.Load().signer(l.m.now()).kid + `","typ":"` + tokenType + `"}`
}

func (l *lab) payload(changes map[string]any) string {
	all := maps.Clone(l.claims)
	for name, value := range changes {
		if value == nil {
			delete(all, name)
		} else {
			all[name] = value
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// signed signs any header and payload with the manager's own key.
func (l *lab) signed(header, payload string) string {
	text := b64(header) + "." + b64(payload)
	return text + "." + b64(string(ed25519.Sign(l.m.ring.Load().signer(l.m.now()).private, []byte(text))))
}

// with is a correctly signed token with changed claims.
func (l *lab) with(changes map[string]any) string { return l.signed(l.header(), l.payload(changes)) }

// withMember is one with raw text put into the claims.
func (l *lab) withMember(raw string) string {
	return l.signed(l.header(), strings.TrimSuffix(l.payload(nil), "}")+","+raw+"}")
}

// withHeader is one with raw text put into the header.
func (l *lab) withHeader(raw string) string {
	return l.signed(strings.TrimSuffix(l.header(), "}")+","+raw+"}", l.payload(nil))
}

func (l *lab) refused(t *testing.T, row, token string) {
	t.Helper()
	t.Run(row, func(t *testing.T) {
		t.Helper()
		for range 2 { // a failure must not be remembered as a success
			wantNone(t, l.m, line(token, l.context))
		}
	})
}

func (l *lab) accepted(t *testing.T, row, token string) {
	t.Helper()
	t.Run(row, func(t *testing.T) {
		t.Helper()
		wantFound(t, l.m, line(token, l.context))
	})
}

func TestAttackSignature(t *testing.T) {
	l := newLab(t)
	l.accepted(t, "control", l.with(nil))
	parts := strings.Split(l.token, ".")
	h, p, s := parts[0], parts[1], parts[2]
	l.refused(t, "J1 none", b64(`{"alg":"none","typ":"anteroom+jwt"}`)+"."+p+".")
	for _, none := range []string{"None", "NONE", "nOnE", "noNE", "NoNe", "none ", `n\u006fne`, "ｎｏｎｅ"} {
		l.refused(t, "J2 J3 "+none, l.signed(strings.Replace(l.header(), "EdDSA", none, 1), l.payload(nil)))
	}
	for i, token := range []string{h + "." + p + ".", h + "." + p, h + "..", "." + p + "." + s, "..", ".", h + "." + p + "." + s + ".", h + "." + p + "." + s + ".x", h + "." + p + "." + s + ".x.y"} {
		l.refused(t, fmt.Sprintf("J4 signature stripped %d", i), token)
	}
	for _, alg := range []string{`null`, `256`, `["EdDSA"]`, `""`} {
		l.refused(t, "J6 alg "+alg, l.signed(strings.Replace(l.header(), `"EdDSA"`, alg, 1), l.payload(nil)))
	}
	l.refused(t, "J6 no alg", l.signed(strings.Replace(l.header(), `"alg":"EdDSA",`, "", 1), l.payload(nil)))

	public := l.m.ring.Load().signer(l.m.now()).public
	x := base64.RawURLEncoding.EncodeToString(public)
	for i, secret := range [][]byte{public, []byte(x), l.m.JWKS(), nil, make([]byte, 32), []byte("secret"), []byte("changeme")} {
		text := b64(strings.Replace(l.header(), "EdDSA", "HS256", 1)) + "." + p
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		l.refused(t, fmt.Sprintf("J7 J8 J11 J12 HS256 %d", i), text+"."+b64(string(mac.Sum(nil))))
	}
	for _, alg := range []string{"RS256", "RS384", "PS256", "PS512", "ES256", "ES384", "ES512", "HS256", "Ed25519", "eddsa"} {
		l.refused(t, "J9 J17 J31 foreign algorithm "+alg, l.signed(strings.Replace(l.header(), "EdDSA", alg, 1), l.payload(nil)))
	}
	es := b64(strings.Replace(l.header(), "EdDSA", "ES256", 1)) + "." + p + "."
	n := elliptic.P256().Params().N.FillBytes(make([]byte, 32))
	l.refused(t, "J13 psychic signature", es+b64(string(make([]byte, 64))))
	l.refused(t, "J13 r=s=n", es+b64(string(n)+string(n)))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(strings.TrimSuffix(es, ".")))
	der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	l.refused(t, "J14 ECDSA format", es+b64(string(der)))
	signature, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"S not below L": addOrder(signature), "zero": make([]byte, 64), "identity": append([]byte{1}, make([]byte, 63)...),
		"short": signature[:63], "long": append(slices.Clone(signature), 0),
	} {
		l.refused(t, "J16 Ed25519 "+name, h+"."+p+"."+b64(string(bad)))
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs := b64(strings.Replace(l.header(), "EdDSA", "RS256", 1)) + "." + p
	l.refused(t, "J17 RSA length", rs+"."+b64(string(make([]byte, rsaKey.Size()))))
	_, others := issue(t, l.m)
	l.refused(t, "J18 signature of another token", h+"."+p+"."+strings.Split(others[0].Value, ".")[2])
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	l.refused(t, "J19 J22 key of another environment, our kid", forgeBy(t, foreign, l.m.ring.Load().signer(l.m.now()).kid, tokenType, l.session.wire()))
	other := newLab(t)
	l.refused(t, "J19 J28 token and kid of another environment", other.token)
	jwk := `"jwk":{"kty":"OKP","crv":"Ed25519","x":"` + b64(string(foreign.Public().(ed25519.PublicKey))) + `"}`
	text := b64(strings.TrimSuffix(l.header(), "}")+","+jwk+"}") + "." + p
	l.refused(t, "J22 embedded key", text+"."+b64(string(ed25519.Sign(foreign, []byte(text)))))
}

// addOrder adds the group order to S: the same signature in another spelling.
func addOrder(signature []byte) []byte {
	l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
	s := slices.Clone(signature[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), l).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return append(slices.Clone(signature[:32]), sum...)
}

func TestAttackHeader(t *testing.T) {
	l := newLab(t)
	for row, raw := range map[string]string{
		"J22 jwk": `"jwk":{}`, "J23 jku": `"jku":"http://169.254.169.254/"`, "J23 x5u": `"x5u":"http://127.0.0.1/"`,
		"J29 crit": `"crit":["exp"]`, "J29 b64": `"b64":false`, "J29 empty crit": `"crit":[]`, "J32 cty": `"cty":"JWT"`, "J33 zip": `"zip":"DEF"`,
		"J34 enc": `"enc":"A128GCM","p2c":2147483647`, "J41 two typ": `"typ":"anteroom+jwt"`, "J44 escaped alg": `"\u0061lg":"EdDSA"`,
	} {
		l.refused(t, row, l.withHeader(raw))
	}
	l.accepted(t, "J24 x5c is ignored", l.withHeader(`"x5c":["MIIB"],"x5t":"AAAA"`))
	l.accepted(t, "J37 harmless member", l.withHeader(`"foo":1`))
	kid := l.m.ring.Load().signer(l.m.now()).kid
	for _, odd := range []string{
		`"' UNION SELECT 'x"`, `"*)(uid=*"`, `"a\r\nDEL x"`, `"|id"`, `"{{env \"X\"}}"`, `"{http.request.host}"`,
		`1`, `[]`, `["` + kid + `"]`, `{}`, `null`, `""`, `"` + strings.Repeat("k", 3000) + `"`, `"` + kid + `\u0000"`, `"\u200f` + kid + `"`,
		`" ` + kid + `"`, `"` + strings.ToLower(kid) + `"`,
	} {
		header := `{"alg":"EdDSA","kid":` + odd + `,"typ":"` + tokenType + `"}`
		l.refused(t, "J26 J27 kid "+odd[:min(len(odd), 30)], l.signed(header, l.payload(nil)))
	}
	l.refused(t, "J27 no kid", l.signed(`{"alg":"EdDSA","typ":"anteroom+jwt"}`, l.payload(nil)))
	nested := l.token
	for i := range 3 {
		nested = l.signed(l.header(), nested)
		l.refused(t, fmt.Sprintf("J32 nested %d", i), nested)
	}
	l.refused(t, "J36 JWE", b64(`{"alg":"RSA-OAEP","enc":"A128GCM"}`)+".AAAA.AAAA.AAAA.AAAA")
	t.Run("J31 J68 cross-profile", func(t *testing.T) {
		for _, typ := range []string{"JWT", "at+jwt", "logout+jwt", "dpop+jwt", "anteroom-assertion+jwt", "ANTEROOM+JWT", "application/anteroom+jwt", "anteroom"} {
			l.refused(t, typ, forge(t, l.m, typ, l.session.wire()))
		}
		l.refused(t, "without typ", forge(t, l.m, "", l.session.wire()))
		now := l.clock.now().Unix()
		l.refused(t, "like an ID token", forge(t, l.m, "JWT", map[string]any{"iss": "https://app.example", "aud": "app.example", "sub": "dana", "iat": now, "exp": now + 60, "nonce": "n"}))
		l.refused(t, "like a logout token", forge(t, l.m, "logout+jwt", map[string]any{"iss": "https://app.example", "aud": "app.example", "sid": l.session.ID, "jti": "x", "iat": now, "exp": now + 60, "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}))
		l.refused(t, "like an ID token with our typ", forge(t, l.m, tokenType, map[string]any{"iss": "https://app.example", "aud": "app.example", "sub": "dana", "iat": now, "exp": now + 60, "nonce": "n"}))
	})
}

func TestAttackEncoding(t *testing.T) {
	l := newLab(t)
	parts := strings.Split(l.token, ".")
	for i := range parts {
		for _, odd := range []string{"=", "+", "/", "\n", "\r\n", "\t", " ", "\x00", "%3D", ",", `"`, "A"} {
			p := slices.Clone(parts)
			p[i] += odd
			l.refused(t, fmt.Sprintf("J38 %q in part %d", odd, i), strings.Join(p, "."))
		}
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, l.token[len(l.token)-1])
	l.refused(t, "J38 trailing bits", l.token[:len(l.token)-1]+alphabet[last+1:last+2])
	l.refused(t, "J39 JSON serialisation", `{"protected":"`+parts[0]+`","payload":"`+parts[1]+`","signature":"`+parts[2]+`"}`)
	for row, raw := range map[string]string{
		"J41 two sub": `"sub":"eve"`, "J41 two exp": `"exp":1999999999`, "J41 two aud": `"aud":"app.example"`, "J41 two roles": `"roles":["doctor"]`,
		"J41 nested": `"x":{"a":1,"a":2}`, "J44 escaped sub": `"\u0073ub":"eve"`, "J49 trailing comma": ``, "J53 1e400": `"x":1e400`,
		"J53 400 digits": `"x":` + strings.Repeat("9", 400),
	} {
		l.refused(t, row, l.withMember(raw))
	}
	for name, from := range map[string]string{"J42 case-folded": `"SUB"`, "J43 Unicode-folded": `"\u017fub"`} {
		l.refused(t, name+" instead of sub", l.signed(l.header(), strings.Replace(l.payload(nil), `"sub"`, from, 1)))
		t.Run(name+" beside sub", func(t *testing.T) {
			if s := wantFound(t, l.m, line(l.withMember(from+`:"eve"`), l.context)); s.Subject != l.session.Subject {
				t.Errorf("subject %q", s.Subject)
			}
		})
	}
	for row, payload := range map[string]string{
		"null": `null`, "array": `[]`, "string": `"x"`, "number": `1`, "empty object": `{}`, "trailing data": l.payload(nil) + `{}`,
		"byte order mark": "\ufeff" + l.payload(nil), "comment": "/**/" + l.payload(nil), "invalid UTF-8": strings.Replace(l.payload(nil), "Dana", "\xff", 1),
		"lone surrogate": strings.Replace(l.payload(nil), "Dana", `\ud800`, 1),
	} {
		l.refused(t, "J48 J49 "+row, l.signed(l.header(), payload))
	}
	huge := line(strings.Repeat("A", 8<<10+1), l.context)
	for row, cookieLines := range map[string][]string{
		"J51 8 KiB+1": huge, "J51 1 MiB": line(strings.Repeat("A", 1<<20), l.context), "J51 16 MiB": line(strings.Repeat("A", 16<<20), l.context),
		"J51 1 M dots": line(strings.Repeat(".", 1<<20), l.context), "J51 4 KiB of dots": line(strings.Repeat(".", 4000), l.context),
	} {
		t.Run(row, func(t *testing.T) {
			wantNone(t, l.m, cookieLines)
			if n := testing.AllocsPerRun(10, func() { _, _ = l.m.Find(cookieLines, host) }); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
	many := map[string]any{}
	for i := range 120 {
		many[fmt.Sprintf("c%d", i)] = 0
	}
	l.accepted(t, "J52 many claims", l.with(many))
	l.accepted(t, "J52 row 92 4 KiB", l.with(map[string]any{"x": strings.Repeat("x", 2000)}))
	l.refused(t, "J52 row 92 above 4 KiB", l.with(map[string]any{"x": strings.Repeat("x", 3000)}))
}

func TestAttackClaims(t *testing.T) {
	l := newLab(t)
	now := l.clock.now().Unix()
	for row, changes := range map[string]map[string]any{
		"J46 role with a look-alike": {"roles": []string{"doctоr"}},
		"J46 full-width role":        {"roles": []string{"ＤＯＣＴＯＲ"}},
		"J46 role with a blank":      {"roles": []string{"doctor "}},
		"J46 role with NUL":          {"roles": []string{"doctor\x00"}},
		"J46 role with zero width":   {"roles": []string{"doc\u200dtor"}},
		"J46 role with a comma":      {"roles": []string{"doctor,admin"}},
		"J47 roles string":           {"roles": "doctor"},
		"J47 roles object":           {"roles": map[string]string{"$ne": ""}},
		"J47 roles true":             {"roles": true},
		"J47 roles nested":           {"roles": [][]string{{"doctor"}}},
		"J47 roles absent":           {"roles": nil},
		"J47 sub number":             {"sub": 1},
		"J47 sub absent":             {"sub": nil},
		"J47 sub empty":              {"sub": ""},
		"J47 iss array":              {"iss": []string{"https://" + host}},
		"J47 username null":          {"preferred_username": json.RawMessage("null")},
		"J47 name number":            {"name": 1},
		"J47 control character":      {"name": "Dana\nRemote-User: root"},
		"J47 idp absent":             {"idp": nil},
		"J47 amr string":             {"amr": "pwd"},
		"J54 exp string":             {"exp": fmt.Sprint(now + 60)},
		"J55 exp fraction":           {"exp": json.RawMessage(fmt.Sprintf("%d.5", now+60))},
		"J56 exp exponent":           {"exp": json.RawMessage("2e9")},
		"J57 exp negative":           {"exp": -1},
		"J57 exp zero":               {"exp": 0},
		"J57 exp null":               {"exp": json.RawMessage("null")},
		"J57 exp true":               {"exp": true},
		"J57 exp array":              {"exp": []int{1}},
		"J57 exp object":             {"exp": struct{}{}},
		"J57 exp absent":             {"exp": nil},
		"J58 exp 2^31":               {"exp": int64(1) << 31},
		"J58 exp 2^53+1":             {"exp": int64(1)<<53 + 1},
		"J58 exp 2^63-1":             {"exp": int64(1<<63 - 1)},
		"J58 exp 2^63":               {"exp": uint64(1) << 63},
		"J58 exp 20 digits":          {"exp": json.RawMessage("99999999999999999999")},
		"J58 exp wraps":              {"exp": json.RawMessage(new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 64), big.NewInt(now+60)).String())},
		"J59 exp milliseconds":       {"exp": (now + 60) * 1000},
		"J59 all milliseconds":       {"exp": (now + 60) * 1000, "iat": now * 1000, "start": now * 1000},
		"J61 exp now":                {"exp": now},
		"J61 exp now-1":              {"exp": now - 1},
		"J62 nbf next second":        {"nbf": now + 1},
		"J62 nbf string":             {"nbf": fmt.Sprint(now)},
		"J62 nbf null":               {"nbf": json.RawMessage("null")},
		"J63 iat ahead by over 60 s": {"iat": now + 61},
		"J63 iat 2100":               {"iat": int64(4102444800), "exp": int64(4102444860)},
		"J63 iat absent":             {"iat": nil},
		"J64 iat not before exp":     {"iat": now, "exp": now},
		"J64 row 78 over 24 hours":   {"exp": now + 86401},
		"J64 of another clock, over": {"iat": now + 60, "exp": now + 60 + 86401},
		"J64 life a year":            {"exp": now + 365*86400},
		"J64 old iat, long life":     {"iat": now - 900, "start": now - 900, "exp": now + 600},
		"J66 aud array":              {"aud": []string{"app.example"}},
		"J66 aud array of two":       {"aud": []string{"app.example", "evil.example"}},
		"J66 aud empty array":        {"aud": []string{}},
		"J66 aud nested":             {"aud": [][]string{{"app.example"}}},
		"J66 aud empty":              {"aud": "", "iss": "https://"},
		"J66 aud absent":             {"aud": nil},
		"J66 aud wildcard":           {"aud": "*", "iss": "https://*"},
		"J66 aud prefix":             {"aud": "app", "iss": "https://app"},
		"J66 aud with a slash":       {"aud": "app.example/"},
		"J66 aud upper case":         {"aud": "APP.example"},
		"J66 aud with port":          {"aud": host},
		"J66 aud number":             {"aud": 1},
		"J67 iss http":               {"iss": "http://app.example"},
		"J67 iss upper-case scheme":  {"iss": "HTTPS://app.example"},
		"J67 iss with a slash":       {"iss": "https://app.example/"},
		"J67 iss userinfo":           {"iss": "https://app.example@evil.example"},
		"J67 iss other host":         {"iss": "https://evil.example"},
		"J67 iss subdomain":          {"iss": "https://x.app.example"},
		"J67 iss punycode":           {"iss": "https://xn--app-example"},
		"J67 iss look-alike":         {"iss": "https://aрp.example"},
		"J67 iss empty port":         {"iss": "https://app.example:"},
		"J67 iss two ports":          {"iss": "https://app.example:1:2"},
		"J67 iss absent":             {"iss": nil},
		"J69 other site":             {"aud": "other.example", "iss": "https://other.example"},
		"J71 cnf absent":             {"cnf": nil},
		"J71 cnf null":               {"cnf": json.RawMessage("null")},
		"J71 cnf empty":              {"cnf": struct{}{}},
		"J71 cnf string":             {"cnf": "x"},
		"J71 cnf number":             {"cnf": map[string]int{"ctx#S256": 1}},
		"J71 cnf null hash":          {"cnf": map[string]any{"ctx#S256": nil}},
		"J71 cnf empty hash":         {"cnf": map[string]string{"ctx#S256": ""}},
		"J71 cnf other method":       {"cnf": map[string]string{"jkt": l.session.wire().Confirm.Context}},
		"J71 cnf two methods":        {"cnf": map[string]string{"ctx#S256": l.session.wire().Confirm.Context, "jkt": "x"}},
		"J71 cnf hex":                {"cnf": map[string]string{"ctx#S256": strings.ToUpper(hex.EncodeToString(l.session.context[:]))}},
		"J71 cnf of the text":        {"cnf": map[string]string{"ctx#S256": hashText(l.context)}},
		"J71 cnf of nothing":         {"cnf": map[string]string{"ctx#S256": hashText("")}},
		"sid absent":                 {"sid": nil},
		"sid short":                  {"sid": "AAAA"},
		"sid not canonical":          {"sid": l.session.ID[:21] + "_"},
		"jti absent":                 {"jti": nil},
		"start absent":               {"start": nil},
		"start after iat":            {"start": now + 1},
		"provider session, no hash":  {"idp_sid": "x"},
		"provider session, a number": {"idp_sid": 1},
		"start too long ago":         {"start": now - 12*3600},
		"start in milliseconds":      {"start": now * 1000},
	} {
		l.refused(t, row, l.with(changes))
	}
	for row, changes := range map[string]map[string]any{
		"J61 exp next second":        {"exp": now + 1},
		"J62 nbf now":                {"nbf": now},
		"J64 life the whole idle":    {"exp": now + 900},
		"J67 iss with another port":  {"iss": "https://app.example:443"},
		"J67 iss without port":       {"iss": "https://app.example"},
		"J67 iss in upper case":      {"iss": "https://APP.EXAMPLE"},
		"start at the absolute edge": {"start": now - 12*3600 + 900},
		"J63 iat ahead by 60 s":      {"iat": now + 60},
		"J63 start ahead by 60 s":    {"iat": now + 60, "start": now + 60},
	} {
		l.accepted(t, row, l.with(changes))
	}
	// A life that is longer than the role's is cut to it, not refused: the
	// lifetimes may have become shorter since.
	for row, c := range map[string]struct {
		changes map[string]any
		expires int64
	}{
		"one second too long":      {map[string]any{"exp": now + 901}, now + 900},
		"row 78 the whole day":     {map[string]any{"exp": now + 86400}, now + 900},
		"old iat":                  {map[string]any{"iat": now - 600, "start": now - 600, "exp": now + 600}, now + 300},
		"beyond the absolute end":  {map[string]any{"start": now - 12*3600 + 10}, now + 10},
		"shorter than it could be": {map[string]any{"exp": now + 5}, now + 5},
	} {
		s, err := l.m.Find(line(l.with(c.changes), l.context), host)
		if err != nil || s.Expires.Unix() != c.expires {
			t.Errorf("%s: %v, %+v", row, err, s)
		}
	}
}

func hashText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestJ69OtherSite(t *testing.T) {
	l := newLab(t)
	for _, other := range []string{"other.example", "x.app.example", "app.example.", "app", "", "app.example/", "app.example:x", "u@app.example", "[::1]", ":443", "app.example:123456"} {
		wantFound(t, l.m, line(l.token, l.context)) // warm: the cache must not answer for another site
		wantError(t, l.m, line(l.token, l.context), other, ErrNone)
	}
}

// Every single byte of the token matters.
func TestJ78OneByte(t *testing.T) {
	l := newLab(t)
	wantFound(t, l.m, line(l.token, l.context))
	try := func(token string) {
		if s, err := l.m.Find(line(token, l.context), host); s != nil || err == nil {
			t.Fatalf("accepted %q", token)
		}
	}
	r := []byte("AZaz09-_.=+/ ;,\"\n\x00\xff")
	for i := 0; i <= len(l.token); i++ {
		for _, b := range r {
			if b != ';' { // would end the cookie, not change it
				try(l.token[:i] + string([]byte{b}) + l.token[i:])
			}
			if i < len(l.token) && b != l.token[i] && (b != ';' || i < len(l.token)-1) {
				try(l.token[:i] + string([]byte{b}) + l.token[i+1:])
			}
		}
		if i < len(l.token) {
			try(l.token[:i] + l.token[i+1:])
			for bit := range 8 {
				try(l.token[:i] + string([]byte{l.token[i] ^ 1<<bit}) + l.token[i+1:])
			}
		}
	}
	wantFound(t, l.m, line(l.token, l.context))
}

// Expiry holds for a token that is in the cache. db40d4f: what is remembered of a token lives no longer than the token.
func TestCacheDoesNotOutliveToken(t *testing.T) {
	l := newLab(t)
	token := l.with(map[string]any{"exp": l.clock.now().Unix() + 2})
	wantFound(t, l.m, line(token, l.context))
	l.clock.add(time.Second)
	wantFound(t, l.m, line(token, l.context))
	l.clock.add(time.Second)
	wantNone(t, l.m, line(token, l.context))
}
