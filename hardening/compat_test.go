package hardening

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
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
				if got := original(k.original[:], []byte("correct horse"), rounds); got != want {
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
				if want, got := fmt.Sprintf("%X", sum), original(k.original[:], []byte(p), round); got != want {
					t.Errorf("%s, password %d, round %d: %s, openssl says %s", c.file, i, round, got, want)
				}
			}
		}
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
