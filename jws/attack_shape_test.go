package jws

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// headerRows are members besides alg, and what Parse and ParseProof say to them.
var headerRows = map[string]struct {
	members string
	want    error
}{
	"J22 jwk":             {`"jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`, ErrMalformed},
	"J23 jku":             {`"jku":"http://169.254.169.254/"`, ErrMalformed},
	"J23 x5u":             {`"x5u":"file:///etc/passwd"`, ErrMalformed},
	"J23 escaped jku":     {`"j\u006bu":"http://127.0.0.1/"`, ErrMalformed},
	"J24 x5c":             {`"x5c":["MIIB"],"x5t":"AAAA"`, nil},
	"J26 SQL":             {`"kid":"' UNION SELECT 'x"`, nil},
	"J26 LDAP":            {`"kid":"*)(uid=*"`, nil},
	"J26 Redis":           {`"kid":"a\r\nDEL x"`, ErrMalformed},
	"J26 shell":           {`"kid":"|id"`, nil},
	"J26 template":        {`"kid":"{{env \"X\"}}"`, nil},
	"J26 placeholder":     {`"kid":"{http.request.host}"`, nil},
	"J27 number":          {`"kid":1`, ErrMalformed},
	"J27 array":           {`"kid":["k"]`, ErrMalformed},
	"J27 object":          {`"kid":{}`, ErrMalformed},
	"J27 null":            {`"kid":null`, ErrMalformed},
	"J27 empty":           {`"kid":""`, ErrMalformed},
	"J27 257 bytes":       {`"kid":"` + strings.Repeat("k", 257) + `"`, ErrMalformed},
	"J27 256 bytes":       {`"kid":"` + strings.Repeat("k", 256) + `"`, nil},
	"J27 10 KiB":          {`"kid":"` + strings.Repeat("k", 10<<10) + `"`, ErrMalformed},
	"J27 NUL":             {`"kid":"k\u0000"`, ErrMalformed},
	"J27 right-to-left":   {`"kid":"\u200fk"`, ErrMalformed},
	"J29 exp":             {`"crit":["exp"],"exp":1`, ErrMalformed},
	"J29 b64":             {`"crit":["b64"],"b64":false`, ErrMalformed},
	"J29 x":               {`"crit":["x"]`, ErrMalformed},
	"J29 empty":           {`"crit":[]`, ErrMalformed},
	"J29 alg":             {`"crit":["alg"]`, ErrMalformed},
	"J29 string":          {`"crit":"b64"`, ErrMalformed},
	"J29 null":            {`"crit":null`, ErrMalformed},
	"J29 duplicates":      {`"crit":["x","x"],"x":1`, ErrMalformed},
	"J29 b64 alone":       {`"b64":true`, ErrMalformed},
	"J31 typ number":      {`"typ":1`, ErrMalformed},
	"J31 typ null":        {`"typ":null`, ErrMalformed},
	"J32 cty":             {`"cty":"JWT"`, ErrMalformed},
	"J32 cty application": {`"cty":"application/jwt"`, ErrMalformed},
	"J33 zip":             {`"zip":"DEF"`, ErrMalformed},
	"J34 enc":             {`"enc":"A256GCM","p2c":2147483647`, ErrMalformed},
	"J37 harmless":        {`"foo":1,"bar":{"baz":[null]}`, nil},
	"J41 two alg":         {`"alg":"EdDSA"`, ErrMalformed},
	"J44 escaped alg":     {`"\u0061lg":"none"`, ErrMalformed},
	"J42 other case":      {`"ALG":"none","Alg":"none"`, nil},
}

func TestAttackHeader(t *testing.T) {
	for name, c := range headerRows {
		t.Run(name, func(t *testing.T) {
			wantErr(t, check(made(t, "EdDSA", `{"alg":"EdDSA",`+c.members+`}`, goodPayload), "EdDSA"), c.want)
		})
	}
	t.Run("J27 equal after NFC only", func(t *testing.T) {
		token, err := Parse(made(t, "EdDSA", `{"alg":"EdDSA","kid":"e`+"\u0301"+`"}`, goodPayload))
		if err == nil && token.Header.Kid == "\u00e9" {
			t.Error("kid was normalised")
		}
	})
	t.Run("J31 typ", func(t *testing.T) {
		for typ, equal := range map[string]bool{
			"at+jwt": true, "AT+JWT": true, "application/at+jwt": true, "Application/At+Jwt": true,
			"JWT": false, "": false, "at+jwt ": false, "application/": false, "application/application/at+jwt": false,
			"logout+jwt": false, "text/at+jwt": false,
		} {
			if TypeIs(typ, "at+jwt") != equal {
				t.Errorf("TypeIs(%q) is not %v", typ, equal)
			}
		}
		if TypeIs("\u212aey", "key") || TypeIs("\u017f", "s") || TypeIs("", "") {
			t.Error("Unicode folding or nothing counts as equal")
		}
	})
	t.Run("J32 nested", func(t *testing.T) {
		token := made(t, "EdDSA", `{"alg":"EdDSA"}`, goodPayload)
		for range 100 {
			if len(token) > 6000 {
				break
			}
			token = made(t, "EdDSA", `{"alg":"EdDSA"}`, token)
			wantErr(t, check(token, "EdDSA"), ErrMalformed)
		}
	})
	t.Run("J33 compressed payload", func(t *testing.T) {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, 9)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, `{"sub":"%s"}`, strings.Repeat("a", 1<<20))
		w.Close()
		for _, header := range []string{`{"alg":"EdDSA","zip":"DEF"}`, `{"alg":"EdDSA"}`} {
			wantErr(t, check(made(t, "EdDSA", header, b.String()), "EdDSA"), ErrMalformed)
		}
	})
	t.Run("J34 J36 JWE", func(t *testing.T) {
		for _, alg := range []string{"PBES2-HS256+A128KW", "RSA-OAEP-256", "dir", "ECDH-ES"} {
			header := b64(`{"alg":"` + alg + `","enc":"A128GCM","p2c":-1}`)
			_, err := Parse(header + ".AAAA.AAAA.AAAA.AAAA")
			wantErr(t, err, ErrMalformed)
			_, err = Parse(b64(`{"alg":"`+alg+`"}`) + ".AAAA.AAAA")
			wantErr(t, err, ErrAlgorithm)
		}
	})
}

func TestAttackEncoding(t *testing.T) {
	good := made(t, "EdDSA", `{"alg":"EdDSA","kid":"k"}`, `{"sub":"dana"}`) // no part fills its last character
	parts := strings.Split(good, ".")
	t.Run("J38 base64 laxness", func(t *testing.T) {
		for _, odd := range []string{"=", "==", "+", "/", "\n", "\r\n", "\t", " ", "\x00", "%41", "\u00e9", "\xff", ".", "A"} {
			for i := range parts {
				for _, changed := range []string{parts[i] + odd, odd + parts[i], parts[i][:4] + odd + parts[i][4:]} {
					p := []string{parts[0], parts[1], parts[2]}
					p[i] = changed
					if check(strings.Join(p, "."), "EdDSA") == nil {
						t.Errorf("%q in part %d accepted", odd, i)
					}
				}
			}
		}
	})
	t.Run("J38 trailing bits", func(t *testing.T) {
		for i, part := range parts {
			if len(part)%4 == 0 {
				t.Fatalf("part %d has no trailing bits to set", i)
			}
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			last := strings.IndexByte(alphabet, part[len(part)-1])
			p := []string{parts[0], parts[1], parts[2]}
			p[i] = part[:len(part)-1] + alphabet[last+1:last+2]
			_, err := Parse(strings.Join(p, "."))
			wantErr(t, err, ErrMalformed)
		}
	})
	t.Run("J39 JSON serialisation", func(t *testing.T) {
		for _, text := range []string{
			`{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
			`{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"},{}]}`,
		} {
			_, err := Parse(text)
			wantErr(t, err, ErrMalformed)
		}
	})
	t.Run("J51 huge token", func(t *testing.T) {
		exact := strings.Repeat("A", MaxToken)
		for name, token := range map[string]string{
			"8 KiB+1": exact + "A", "1 MiB": strings.Repeat("A", 1<<20), "16 MiB": strings.Repeat("A.", 8<<20),
			"1 M dots": strings.Repeat(".", 1<<20), "8 KiB of dots": strings.Repeat(".", MaxToken), "8 KiB": exact,
		} {
			if n := testing.AllocsPerRun(10, func() {
				if _, err := Parse(token); !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: %v", name, err)
				}
			}); n > 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
	t.Run("J51 well formed", func(t *testing.T) {
		for size, want := range map[int]error{5900: nil, 6200: ErrMalformed, 1 << 20: ErrMalformed} {
			wantErr(t, check(made(t, "EdDSA", `{"alg":"EdDSA"}`, `{"a":"`+strings.Repeat("a", size)+`"}`), "EdDSA"), want)
		}
	})
	t.Run("J52 many claims", func(t *testing.T) {
		var b strings.Builder
		b.WriteString(`{"c0":0`)
		for i := 1; i < 500; i++ {
			fmt.Fprintf(&b, `,"c%d":0`, i)
		}
		if err := check(made(t, "EdDSA", `{"alg":"EdDSA"}`, b.String()+"}"), "EdDSA"); err != nil {
			t.Error(err)
		}
		wantErr(t, check(made(t, "EdDSA", `{"alg":"EdDSA"}`, b.String()+`,"c\u0033":1}`), "EdDSA"), ErrMalformed)
	})
}

func TestAttackJSON(t *testing.T) {
	for name, payload := range map[string]string{
		"J41 two role":              `{"role":"patient","role":"doctor"}`,
		"J41 two exp":               `{"exp":1,"sub":"a","exp":2}`,
		"J41 nested":                `{"a":[{"b":{"c":1,"c":2}}]}`,
		"J41 equal values":          `{"aud":"a","aud":"a"}`,
		"J41 empty names":           `{"":1,"":2}`,
		"J41 after an object":       `{"a":{"x":1},"a":2}`,
		"J44 escaped name":          `{"sub":"a","\u0073ub":"b"}`,
		"J44 both escaped":          `{"\u0073ub":"a","s\u0075b":"b"}`,
		"J44 surrogate pair":        "{\"\U0001F600\":1,\"\\ud83d\\ude00\":2}",
		"J48 null":                  `null`,
		"J48 array":                 `[]`,
		"J48 array of object":       `[{}]`,
		"J48 string":                `"x"`,
		"J48 number":                `1`,
		"J48 true":                  `true`,
		"J48 blank":                 ` `,
		"J49 two objects":           `{"a":1}{"a":1}`,
		"J49 trailing text":         `{"a":1}x`,
		"J49 trailing NUL":          "{\"a\":1}\x00",
		"J49 byte order mark":       "\ufeff{\"a\":1}",
		"J49 comment":               `{"a":1/**/}`,
		"J49 trailing comma":        `{"a":1,}`,
		"J49 single quotes":         `{'a':1}`,
		"J49 leading zero":          `{"a":01}`,
		"J49 NaN":                   `{"a":NaN}`,
		"J49 Infinity":              `{"a":Infinity}`,
		"J49 plus":                  `{"a":+1}`,
		"J49 hex":                   `{"a":0x1}`,
		"J49 bare name":             `{a:1}`,
		"J49 raw control":           "{\"a\":\"\x01\"}",
		"J49 raw newline":           "{\"a\":\"\n\"}",
		"J49 unclosed":              `{"a":{"b":1}`,
		"J49 missing comma":         `{"a":[1 2]}`,
		"J49 UTF-16":                "\xff\xfe{\x00}\x00",
		"J53 1e400":                 `{"a":1e400}`,
		"J53 -1e400":                `{"a":[-1e400]}`,
		"J53 400 digits":            `{"a":` + strings.Repeat("9", 400) + `}`,
		"J53 33 digits":             `{"a":` + strings.Repeat("9", 33) + `}`,
		"invalid UTF-8":             "{\"a\":\"\xff\"}",
		"invalid UTF-8 name":        "{\"\xc0\xaf\":1}",
		"lone high surrogate":       `{"a":"\ud800"}`,
		"lone low surrogate":        `{"a":"\udc00"}`,
		"high twice":                `{"a":"\ud800\ud800"}`,
		"high before text":          `{"a":"\ud800x"}`,
		"lone surrogate in name":    `{"\ud800":1,"\ud801":2}`,
		"high after escaped slash":  `{"a":"\\\ud800"}`,
		"17 levels":                 `{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`,
		"1000 levels":               `{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		"many levels never closed":  strings.Repeat(`{"a":`, 1000),
		"lone surrogate upper case": `{"a":"\uDBFF"}`,
	} {
		t.Run(name, func(t *testing.T) {
			wantErr(t, check(made(t, "EdDSA", `{"alg":"EdDSA"}`, payload), "EdDSA"), ErrMalformed)
			if payload != "null" && strings.HasPrefix(payload, "{") { // the header is read by the same rules
				_, err := Parse(b64(payload) + "." + b64(goodPayload) + ".AAAA")
				wantErr(t, err, ErrMalformed)
			}
		})
	}
	for name, payload := range map[string]string{
		"empty":            `{}`,
		"blanks":           " \r\n\t{ \"a\" : [ 1 , { } ] } \n",
		"surrogate pair":   `{"a":"\ud83d\ude00"}`,
		"escaped slash u":  `{"a":"\\ud800","b":"\\\\"}`,
		"16 levels":        `{"a":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`,
		"same in siblings": `{"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":1}],"x":["x","x"]}`,
		"name as value":    `{"a":"b","b":"a"}`,
		"numbers":          `{"a":[0,-1,1.5,1e10,-2.25e-7,18446744073709551616]}`,
	} {
		t.Run("accepted "+name, func(t *testing.T) {
			if err := check(made(t, "EdDSA", `{"alg":"EdDSA"}`, payload), "EdDSA"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every change of one byte of a token is refused, whatever it is.
func TestJ78OneByte(t *testing.T) {
	token := made(t, "EdDSA", `{"alg":"EdDSA","kid":"k"}`, `{"sub":"dana"}`)
	if err := check(token, "EdDSA"); err != nil {
		t.Fatal(err)
	}
	for i := 0; i <= len(token); i++ {
		for b := range 256 {
			if i < len(token) && byte(b) != token[i] && check(token[:i]+string([]byte{byte(b)})+token[i+1:], "EdDSA") == nil {
				t.Fatalf("byte %d as %#x accepted", i, b)
			}
			if check(token[:i]+string([]byte{byte(b)})+token[i:], "EdDSA") == nil {
				t.Fatalf("%#x inserted at %d accepted", b, i)
			}
		}
		if i < len(token) && check(token[:i]+token[i+1:], "EdDSA") == nil {
			t.Fatalf("without byte %d accepted", i)
		}
	}
}

func TestRedaction(t *testing.T) {
	compact := made(t, "EdDSA", `{"alg":"EdDSA","kid":"marker"}`, `{"sub":"marker"}`)
	token, err := Parse(compact)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "token", token, "value", *token)
	encoded, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q", token, *token, token, *token, token) + logged.String() + string(encoded)
	if strings.Contains(all, "marker") || strings.Contains(all, "bWFya2Vy") {
		t.Errorf("a token shows in %s", all)
	}
}
