package identity

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestClaimText: what a claim is for rules. A rule compares texts, so that every value
// has one spelling, and what has none is nothing.
func TestClaimText(t *testing.T) {
	long := strings.Repeat("9", 255)
	for _, c := range []struct{ raw, want string }{
		{``, ""}, {`null`, ""}, {`""`, ""},
		{`"p-7"`, "p-7"}, {`"Zo\u00eb"`, "Zoë"}, {`"  "`, "  "}, {`"` + long + `"`, long},
		{`true`, "true"}, {`false`, "false"}, {`"true"`, "true"},
		{`7`, "7"}, {`-7`, "-7"}, {`0`, "0"}, {`-0`, "0"}, {`0.0`, "0"}, {`0e5`, "0"},
		{`9007199254740993`, "9007199254740993"}, {`123456789012345678901234567890`, "123456789012345678901234567890"},
		{`1e21`, "1000000000000000000000"}, {`1E+2`, "100"}, {`100`, "100"}, {`12e-1`, "1.2"}, {`1.20`, "1.2"}, {`1.0`, "1"},
		{`0.1`, "0.1"}, {`5e-3`, "0.005"}, {`-0.05`, "-0.05"}, {`0.30000000000000004`, "0.30000000000000004"}, {`100e-2`, "1"},
		{long, long}, {`1e254`, "1" + strings.Repeat("0", 254)},
	} {
		if got, err := ClaimText([]byte(c.raw)); err != nil || got != c.want {
			t.Errorf("%.40s is %.40q, %v; want %.40q", c.raw, got, err, c.want)
		}
	}
	for name, raw := range map[string]string{
		"a list": `["7"]`, "an object": `{"a":"7"}`, "an empty list": `[]`, "an empty object": `{}`,
		"256 bytes": `"` + strings.Repeat("x", 256) + `"`, "a number of 256 digits": long + "9",
		"a number that is short and large": `1e255`, "one that fills the memory": `1e999999999`, "one beyond an int": `1e99999999999999999999`,
		"one that is small": `1e-300`, "zeros without end": `0.` + strings.Repeat("0", 300) + `1`,
		"a line break": `"a\nb"`, "a NUL": `"a\u0000"`, "a line separator": `"a\u2028b"`, "turned round": `"a\u202eb"`, "DEL": `"\u007f"`,
		"a lone surrogate": `"a\ud800"`, "another one": `"a\udfff"`, "the replacement itself": `"a\ufffd"`, "not UTF-8": "\"a\xff\"",
		"two values": `"a" "b"`, "half": `"a`, "hexadecimal": `0x10`, "a plus": `+1`, "infinite": `Infinity`, "another case": `True`, "a leading zero": `007`,
	} {
		if got, err := ClaimText([]byte(raw)); err == nil || strings.Contains(err.Error(), "xxx") || strings.Contains(err.Error(), "999") {
			t.Errorf("%s is %.40q, %v", name, got, err)
		}
	}
}

func TestCheckGroupsAndClaims(t *testing.T) {
	names := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprint("g", i)
		}
		return list
	}
	claims := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("c", i)] = "x"
		}
		return m
	}
	for name, c := range map[string]struct {
		groups []string
		claims map[string]string
		reason string
	}{
		"none":                       {nil, nil, ""},
		"64 groups":                  {names(64), nil, ""},
		"8 claims":                   {nil, claims(8), ""},
		"all characters":             {[]string{"Ward_3.b-c"}, map[string]string{"patient_id2": "ü " + strings.Repeat("x", 252)}, ""},
		"a name of 32":               {nil, map[string]string{"a" + strings.Repeat("9", 31): "x"}, ""},
		"65 groups":                  {names(65), nil, "identity.groups"},
		"a group with a comma":       {[]string{"a,admin"}, nil, "identity.groups"},
		"a group of 65":              {[]string{strings.Repeat("g", 65)}, nil, "identity.groups"},
		"an empty group":             {[]string{""}, nil, "identity.groups"},
		"9 claims":                   {nil, claims(9), "identity.claims"},
		"a name in capitals":         {nil, map[string]string{"Patient": "x"}, "identity.claims"},
		"a name that is a path":      {nil, map[string]string{"a.b": "x"}, "identity.claims"},
		"a name with a brace":        {nil, map[string]string{"a}/**": "x"}, "identity.claims"},
		"a name that begins with _":  {nil, map[string]string{"_a": "x"}, "identity.claims"},
		"a name that begins with 1":  {nil, map[string]string{"1a": "x"}, "identity.claims"},
		"no name":                    {nil, map[string]string{"": "x"}, "identity.claims"},
		"a name of 33":               {nil, map[string]string{strings.Repeat("a", 33): "x"}, "identity.claims"},
		"an empty value":             {nil, map[string]string{"a": ""}, "identity.claims"},
		"a value of 256":             {nil, map[string]string{"a": strings.Repeat("x", 256)}, "identity.claims"},
		"a value with a line break":  {nil, map[string]string{"a": "x\r\nSet-Cookie: y"}, "identity.claims"},
		"a value that is turned":     {nil, map[string]string{"a": "x\u202ey"}, "identity.claims"},
		"a value that is not UTF-8":  {nil, map[string]string{"a": "\xff"}, "identity.claims"},
		"a name in another alphabet": {nil, map[string]string{"раtient": "x"}, "identity.claims"},
	} {
		i := good()
		i.Groups, i.Claims = c.groups, c.claims
		err := i.Check()
		if Reason(err) != c.reason || (err == nil) != (c.reason == "") {
			t.Errorf("%s: %v", name, err)
		}
		for _, text := range c.claims {
			if len(text) > 3 && err != nil && strings.Contains(err.Error(), text) {
				t.Errorf("%s: the error holds the value", name)
			}
		}
	}
}

// FuzzClaimText: whatever JSON it is, the text is bounded and clean, and a number is the
// same number.
func FuzzClaimText(f *testing.F) {
	for _, seed := range []string{`"a"`, `1e21`, `-0.50`, `[1]`, `"\ud800"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, err := ClaimText(raw)
		if err != nil {
			return
		}
		i := good()
		if i.Claims = map[string]string{"a": text}; text != "" && i.Check() != nil || len(text) > 255 || !utf8.ValidString(text) {
			t.Fatalf("%q gives %q", raw, text)
		}
		var v any
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		if text != "" && d.Decode(&v) != nil {
			t.Fatalf("%q gives %q", raw, text)
		}
		switch v := v.(type) {
		case json.Number:
			want, ok := new(big.Rat).SetString(string(v))
			got, fine := new(big.Rat).SetString(text)
			if !ok || !fine || want.Cmp(got) != 0 || strings.ContainsAny(text, "eE+") {
				t.Fatalf("%s is %s", v, text)
			}
			if again, err := ClaimText([]byte(text)); err != nil || again != text {
				t.Fatalf("%s is %s, and that is %s", v, text, again)
			}
		case string:
			if text != v {
				t.Fatalf("%q is %q", v, text)
			}
		case nil, bool:
		default:
			t.Fatalf("%q gives %q", raw, text)
		}
	})
}

func TestFuzzSeeds(t *testing.T) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzClaimText")
	if err != nil || len(seeds) == 0 || !slices.ContainsFunc(seeds, func(e os.DirEntry) bool { return e.Name() == "exponent" }) {
		t.Errorf("no seeds: %v", err)
	}
}
