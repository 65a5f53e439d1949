package hardening

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The digests were computed with OpenSSL 3.0.19's C interface (PEM_write_PrivateKey and HMAC) for the password "correct
// horse". They must never change: they stand in somebody's database.
var knownAnswers = []struct {
	file, kid, key string
	digests        map[int]string
}{
	{"rfc9500-rsa2048", "8fb6bad671cfe698393c453357da61b56d757ab8c0f3fb9c87f2849e63131878", "de58b41f0a2de681984022567003d8b9c81944d58baf85890e1de4d4993eb878", map[int]string{
		1:    "E9640B5FC84CEF7F22B0E5FA2E65D12EA04290D4E27BA6DAB36D8A3BD34D9E6E",
		2:    "E242BD32BA33068DADB7A3943D03E1872A512E3EDC1655ADEBAD8DB7CE175413",
		3:    "D3315793EA48AB68E102D4448D183AA0D793EFCB12E166BF2E4A392287657896",
		4096: "8616557D42BF01C2BB3732D387F85696C781E7097DBEA7CF637CEF6403713857"}},
	{"rfc9500-p256", "b2b04340cfaee616ec9c2c62d261b208e54bb197498df52e8cadede23ac0ba5e", "dce322a7ddd757c2cad16ffc0cd7afdd84960272c65feab5fe39c1d6950c034d", map[int]string{
		1:    "2F1F721C53AF497D4B54F47D588AFF1508E0EA856E63699D725909E1DB00BA81",
		2:    "0DCE9C8B2109ADA905A8F578CE02FBE97D53D3C20DB67BF17A3E23E8E78566D5",
		3:    "A82B659187C60B18AA1AF49C53AE9D6130133A5CDF6885DF2D5E630710E7C553",
		4096: "61D5A90AB3F348FBD38473BA914DBF01342FF404F6C44B0DF8CF6E089ED9592C"}},
	{"rfc8410-ed25519", "a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f", "4b4fc44435f8d20dd4e915752db1019d3936877152b95d5f39414f422b1110cd", map[int]string{
		1:    "0E8553996B2CE484A59185BF1B89B897E5B73F758807E1DFA956586A6B098772",
		2:    "2A0BD88A9128290CF113421F9347430EFCD47531DBF2C56BE31C49717F03E866",
		3:    "4D5626177EA59A7718B126AD346A039F311DEB1C46A9450C3003D63370B7C56B",
		4096: "F10BBC70FA749576E15468367FFDE0D94982FB2AF44416434885146A55C33E7B"}},
}

func TestKnownAnswers(t *testing.T) {
	for _, c := range knownAnswers {
		t.Run(c.file, func(t *testing.T) {
			k, err := NewTLSKey(fileKey(t, c.file), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if k.ID() != c.kid {
				t.Errorf("kid is %s", k.ID())
			}
			if got := hex.EncodeToString(k.original[:]); got != c.key {
				t.Errorf("effective key is %s", got)
			}
			for rounds, want := range c.digests {
				if got := produced(k.original[:], []byte("correct horse"), rounds); got != want {
					t.Errorf("%d rounds: %s", rounds, got)
				}
			}
		})
	}
}

// TestSameAsOpenSSL asks the openssl command itself, with the PKCS#8 PEM text as key: passwords of all shapes, several rounds.
func TestSameAsOpenSSL(t *testing.T) {
	passwords := []string{"a", "correct horse", "gr\u00fc\u00df dich", "a+b&c%d", strings.Repeat("x", 64), strings.Repeat("long ", 819)}
	for _, c := range knownAnswers {
		path := filepath.Join("testdata", c.file+".pem")
		text := openssl(t, nil, "pkey", "-in", path)
		hexKey := "hexkey:" + hex.EncodeToString(text)
		k, err := NewTLSKey(fileKey(t, c.file), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(fileKey(t, c.file))
		if err != nil {
			t.Fatal(err)
		}
		if originalKey(der) != k.original {
			t.Error("the key is not the digest of the PEM text")
		}
		for i, p := range passwords {
			sum := []byte(p)
			for round := 1; round <= 3; round++ {
				sum = openssl(t, sum, "dgst", "-sha256", "-mac", "HMAC", "-macopt", hexKey, "-binary")
				if want, got := fmt.Sprintf("%X", sum), produced(k.original[:], []byte(p), round); got != want {
					t.Errorf("%s, password %d, round %d: %s, openssl says %s", c.file, i, round, got, want)
				}
			}
		}
	}
}

// produced is the original form as the service computes it.
func produced(key, password []byte, rounds int) string {
	m := mac{h: hmac.New(sha256.New, key)}
	return fmt.Sprintf("%X", m.original(password, rounds))
}

// TestOriginalFormSameAsOpenSSL: for each kind of key, what the endpoint answers is what the openssl program computes, for
// passwords of one byte to 4 KiB and everything that a query can say of them; and rounds up to 4096 are that many HMACs.
func TestOriginalFormSameAsOpenSSL(t *testing.T) {
	all := make([]byte, 0, 255)
	for c := 1; c < 256; c++ {
		all = append(all, byte(c))
	}
	queries := map[string]string{ // query: password
		"a": "a", "correct+horse": "correct horse", "gr%C3%BC%C3%9F+dich%2B": "gr\u00fc\u00df dich+", "%F0%9F%94%91": "\U0001f511", "grüß": "gr\u00fc\u00df", "cut%00off": "cut", "a%26b%3Dc%25": "a&b=c%",
		strings.Repeat("x", 63): strings.Repeat("x", 63), strings.Repeat("x", 64): strings.Repeat("x", 64), strings.Repeat("%C3%A9", 2048): strings.Repeat("\u00e9", 2048), escapeAll(all): string(all),
		strings.Repeat("%20", 4096): strings.Repeat(" ", 4096),
	}
	for kind, generate := range map[string][]string{
		"RSA-2048": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}, "RSA-4096": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"},
		"P-256": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, "Ed25519": {"-algorithm", "ed25519"},
	} {
		t.Run(kind, func(t *testing.T) {
			text := openssl(t, nil, append([]string{"genpkey"}, generate...)...)
			block, _ := pem.Decode(text)
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, func(c *Config) {
				clock := newClock()
				k, err := NewTLSKey(parsed, clock.Now().Add(time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				n := newNode(t, openBoltAt(t, clock.Now), clock, func(r *RingConfig) { r.Compat = true }, k)
				n.mustSync(t)
				c.Ring = n.Ring
				if err := c.Limits.Set(1e8, 1e8); err != nil {
					t.Fatal(err)
				}
			})
			w.clock.add(time.Hour)
			get := func(query string) string {
				r := httptest.NewRequest("GET", Path, nil)
				r.URL.RawQuery = query
				rec := httptest.NewRecorder()
				w.ServeHTTP(rec, r)
				if rec.Code != 200 {
					return fmt.Sprint(rec.Code)
				}
				return rec.Body.String()
			}
			for query, password := range queries {
				sum := openssl(t, []byte(password), "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(text), "-binary")
				if got, want := get(query), fmt.Sprintf("%X", sum); got != want || get(query+"&1") != want || get(query+"&0") != want {
					t.Errorf("%.20q: %s, openssl says %s", query, got, want)
				}
			}
			sum := []byte("correct horse")
			for round := 1; round <= 6; round++ {
				sum = openssl(t, sum, "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(text), "-binary")
				if got := get(fmt.Sprintf("correct+horse&%d", round)); got != fmt.Sprintf("%X", sum) {
					t.Errorf("round %d: %s, openssl says %X", round, got, sum)
				}
			}
			for _, rounds := range []int{7, 64, 1000, 4095, 4096} { // HMAC over HMAC, keyed with the whole PEM text
				if got, want := get(fmt.Sprintf("correct+horse&%d", rounds)), original(text, []byte("correct horse"), rounds); got != want {
					t.Errorf("%d rounds: %s, want %s", rounds, got, want)
				}
			}
			for _, bad := range []string{"%", "a%4", "%zz", "%00", "", strings.Repeat("x", maxSecret+1), "a&4097x", "a&-1"} {
				if got := get(bad); got != "400" {
					t.Errorf("%.20q: %s", bad, got)
				}
			}
		})
	}
}

func escapeAll(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, "%%%02X", c)
	}
	return s.String()
}

// TestRFC4231: the published vectors of HMAC-SHA-256, through the states that are kept and reset, each twice.
func TestRFC4231(t *testing.T) {
	rep := strings.Repeat
	for i, c := range []struct{ key, data, want string }{
		{rep("\x0b", 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{rep("\xaa", 20), rep("\xdd", 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		{"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19", rep("\xcd", 50), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
		{rep("\x0c", 20), "Test With Truncation", "a3b6167473100ee06e0c796c2955552b"},
		{rep("\xaa", 131), "Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{rep("\xaa", 131), "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	} {
		key := []byte(c.key)
		o := &openRing{body: ringBody{Versions: []version{{ID: "p1", Key: key, State: StatePrimary}}, Primary: "p1"}}
		m := newMacs(o, nil)
		for range 3 {
			k, err := m.take("p1", true)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(k.over([]byte(c.data))); !strings.HasPrefix(got, c.want) {
				t.Errorf("case %d: %s", i+1, got)
			}
			m.give("p1", k)
		}
		if len(key) > 64 { // what an effective key rests on: RFC 2104 section 2 hashes a long key first
			sum := sha256.Sum256(key)
			if got := produced(sum[:], []byte(c.data), 1); !strings.EqualFold(got, c.want) {
				t.Errorf("case %d with the hashed key: %s", i+1, got)
			}
		}
	}
}

// TestRFC5869: HKDF as the TLS key's secrets are made with it, by the published vectors of SHA-256.
func TestRFC5869(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	run := func(from, to byte) (b []byte) {
		for c := int(from); c <= int(to); c++ {
			b = append(b, byte(c))
		}
		return b
	}
	for i, c := range []struct {
		ikm, salt, info []byte
		prk, okm        string
	}{
		{bytes.Repeat([]byte{0x0b}, 22), run(0, 12), run(0xf0, 0xf9), "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		{run(0, 0x4f), run(0x60, 0xaf), run(0xb0, 0xff), "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244", "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
		{bytes.Repeat([]byte{0x0b}, 22), nil, nil, "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	} {
		prk, err := hkdf.Extract(sha256.New, c.ikm, c.salt)
		if err != nil || hex.EncodeToString(prk) != c.prk {
			t.Errorf("case %d: PRK %x, %v", i+1, prk, err)
		}
		okm, err := hkdf.Expand(sha256.New, prk, string(c.info), len(unhex(c.okm)))
		if err != nil || hex.EncodeToString(okm) != c.okm {
			t.Errorf("case %d: OKM %x, %v", i+1, okm, err)
		}
		// Our use of it, by hand: RFC 5869 sections 2.2 and 2.3.
		if got := hmacOf(c.salt, c.ikm); hex.EncodeToString(got) != c.prk {
			t.Errorf("case %d: extracting is HMAC(salt, IKM)", i+1)
		}
	}
	k, err := NewTLSKey(fileKey(t, "rfc9500-p256"), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(fileKey(t, "rfc9500-p256"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.extract, hmacOf([]byte(labelExtract), der)) {
		t.Error("a TLS key's secret is not HKDF-Extract(label, PKCS#8 DER)")
	}
}

func openssl(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v", args[0], err)
	}
	return out
}

func TestOriginalQuery(t *testing.T) {
	good := map[string]struct {
		password string
		rounds   int
	}{
		"pw":                           {"pw", 1},
		"pw&0":                         {"pw", 1},
		"pw&1":                         {"pw", 1},
		"pw&2":                         {"pw", 2},
		"pw&0002":                      {"pw", 2},
		"pw&100":                       {"pw", 100},
		"a+b%2Bc":                      {"a b+c", 1},
		"%e2%82%AC&3":                  {"€", 3},
		"a%00b":                        {"a", 1},
		"a%26b=c;d":                    {"a&b=c;d", 1},
		"a%":                           {},
		"%ff%fe":                       {"\xff\xfe", 1},
		strings.Repeat("a", maxSecret): {strings.Repeat("a", maxSecret), 1},
	}
	for query, want := range good {
		p, rounds, err := parseOriginal(query, 100)
		if want.rounds == 0 {
			if !errors.Is(err, ErrInput) {
				t.Errorf("%q: %v", query, err)
			}
			continue
		}
		if err != nil || string(p) != want.password || rounds != want.rounds {
			t.Errorf("%q: %q, %d, %v", query, p, rounds, err)
		}
	}
	for _, query := range []string{
		"", "&1", "%00", "%00abc", "%", "%4", "%zz", "a%2", "a%g0", "pw&", "pw&-1", "pw&+1", "pw&1.5", "pw&0x10", "pw&1e3", "pw& 1", "pw&1&", "pw&1&2",
		"pw&101", "pw&1000000000", "pw&18446744073709551617", "pw&" + strings.Repeat("9", 40), strings.Repeat("a", maxSecret+1), "pw&%31",
	} {
		if p, rounds, err := parseOriginal(query, 100); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %q, %d, %v", query, p, rounds, err)
		} else if strings.Contains(err.Error(), "pw") {
			t.Errorf("the error repeats the query: %v", err)
		}
	}
}

// FuzzCompatQuery: no panic, no empty password, no NUL, no rounds outside the cap; errors repeat nothing.
func FuzzCompatQuery(f *testing.F) {
	f.Fuzz(func(t *testing.T, query string) {
		p, rounds, err := parseOriginal(query, 1000)
		switch {
		case err != nil && !errors.Is(err, ErrInput):
			t.Errorf("refused with %v", err)
		case err == nil && (len(p) == 0 || len(p) > maxSecret || bytes.IndexByte(p, 0) >= 0 || rounds < 1 || rounds > 1000):
			t.Errorf("accepted %q as %q and %d rounds", query, p, rounds)
		}
	})
}
