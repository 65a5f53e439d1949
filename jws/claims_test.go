package jws

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

// claimsOf returns the claims of a correctly signed token.
func claimsOf(t testing.TB, payload string) Claims {
	t.Helper()
	token, err := Parse(made(t, "EdDSA", `{"alg":"EdDSA"}`, payload))
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	c, err := token.Claims()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAttackClaimTime(t *testing.T) {
	for name, value := range map[string]string{
		"J54 string":           `"1999999999"`,
		"J55 fraction":         `1999999999.5`,
		"J55 zero fraction":    `1999999999.0`,
		"J56 exponent":         `2e9`,
		"J56 upper exponent":   `2E9`,
		"J57 negative":         `-1`,
		"J57 negative zero":    `-0`,
		"J57 zero":             `0`,
		"J57 null":             `null`,
		"J57 true":             `true`,
		"J57 array":            `[]`,
		"J57 array of one":     `[1999999999]`,
		"J57 object":           `{}`,
		"J58 2^63-1":           `9223372036854775807`,
		"J58 2^63":             `9223372036854775808`,
		"J58 2^53+1":           `9007199254740993`,
		"J58 20 digits":        `99999999999999999999`,
		"J58 wraps to 2030":    `18446744075602551616`,
		"J58 after 9999":       `253402300800`,
		"J59 milliseconds":     `1999999999000`,
		"J59 microseconds":     `1999999999000000`,
		"J54 empty string":     `""`,
		"J54 string of digits": `"0"`,
	} {
		t.Run(name, func(t *testing.T) {
			when, present, err := claimsOf(t, `{"exp":`+value+`}`).Time("exp")
			if present || !when.IsZero() || !errors.Is(err, ErrClaim) {
				t.Errorf("%v, %v, %v; want ErrClaim", when, present, err)
			}
		})
	}
	for value, want := range map[string]int64{"1": 1, "1999999999": 1999999999, "2147483648": 1 << 31, "253402300799": 253402300799} {
		when, present, err := claimsOf(t, `{"exp":`+value+`}`).Time("exp")
		if !present || err != nil || when.Unix() != want {
			t.Errorf("%s: %v, %v, %v", value, when, present, err)
		}
	}
	// Whoever makes claims by hand gets no further.
	for _, raw := range []string{"", " 1", "1 ", "+1", "0x1", "1_0"} {
		if _, _, err := (Claims{"exp": json.RawMessage(raw)}).Time("exp"); !errors.Is(err, ErrClaim) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestAttackClaimNames(t *testing.T) {
	t.Run("J42 case-folded member", func(t *testing.T) {
		c := claimsOf(t, `{"ROLE":"doctor","Exp":1999999999,"sub":"dana","SUB":"eve"}`)
		if _, present, err := c.String("role"); present || err != nil {
			t.Error("ROLE was read as role")
		}
		if _, present, err := c.Time("exp"); present || err != nil {
			t.Error("Exp was read as exp")
		}
		if s, _, err := c.String("sub"); s != "dana" || err != nil {
			t.Errorf("sub is %q, %v", s, err)
		}
	})
	t.Run("J43 Unicode-folded member", func(t *testing.T) {
		c := claimsOf(t, `{"\u017fub":"eve","\u212aid":"x","`+"\u017f"+`id":"y"}`)
		for _, name := range []string{"sub", "kid", "sid", "Kid"} {
			if _, present, err := c.String(name); present || err != nil {
				t.Errorf("a look-alike was read as %s", name)
			}
		}
	})
	t.Run("J44 escaped name", func(t *testing.T) {
		if s, present, err := claimsOf(t, `{"\u0073ub":"dana"}`).String("sub"); s != "dana" || !present || err != nil {
			t.Errorf("%q, %v, %v", s, present, err)
		}
	})
}

func TestAttackClaimTypes(t *testing.T) {
	for _, value := range []string{`["doctor"]`, `{"$ne":""}`, `true`, `1`, `null`, `[]`} {
		t.Run("J47 string as "+value, func(t *testing.T) {
			s, present, err := claimsOf(t, `{"role":`+value+`}`).String("role")
			if s != "" || present || !errors.Is(err, ErrClaim) {
				t.Errorf("%q, %v, %v; want ErrClaim", s, present, err)
			}
		})
	}
	for _, value := range []string{`{}`, `true`, `1`, `null`, `[1]`, `[null]`, `[["a"]]`, `["a",{}]`, `["a",null]`} {
		t.Run("J47 J66 strings as "+value, func(t *testing.T) {
			l, present, err := claimsOf(t, `{"aud":`+value+`}`).Strings("aud")
			if l != nil || present || !errors.Is(err, ErrClaim) {
				t.Errorf("%q, %v, %v; want ErrClaim", l, present, err)
			}
		})
	}
	for value, want := range map[string][]string{`"a"`: {"a"}, `["a"]`: {"a"}, `[]`: {}, `[ "a" , "b" ]`: {"a", "b"}, `""`: {""}, `"\u0061\n"`: {"a\n"}} {
		l, present, err := claimsOf(t, `{"aud":`+value+`}`).Strings("aud")
		if !slices.Equal(l, want) || !present || err != nil {
			t.Errorf("%s: %q, %v, %v", value, l, present, err)
		}
	}
	for _, value := range []string{`"true"`, `1`, `null`, `[]`, `"1"`} {
		if v, present, err := claimsOf(t, `{"b":`+value+`}`).Bool("b"); v || present || !errors.Is(err, ErrClaim) {
			t.Errorf("bool %s: %v %v %v", value, v, present, err)
		}
	}
	for _, value := range []string{`"x"`, `1`, `null`, `[]`, `true`} {
		if o, present, err := claimsOf(t, `{"cnf":`+value+`}`).Object("cnf"); o != nil || present || !errors.Is(err, ErrClaim) {
			t.Errorf("object %s: %v %v %v", value, o, present, err)
		}
	}
	none := claimsOf(t, `{}`)
	_, s, err1 := none.String("x")
	_, l, err2 := none.Strings("x")
	_, d, err3 := none.Time("x")
	_, b, err4 := none.Bool("x")
	_, o, err5 := none.Object("x")
	if s || l || d || b || o || errors.Join(err1, err2, err3, err4, err5) != nil {
		t.Error("an absent claim is present or an error")
	}
}

func TestClaimsOfBadTokens(t *testing.T) {
	var missing *Token
	for _, token := range []*Token{missing, {}, {Payload: []byte("null")}, {Payload: []byte(`{"a":1,"a":2}`)}, {Payload: []byte("[]")}} {
		if c, err := token.Claims(); c != nil || !errors.Is(err, ErrMalformed) {
			t.Errorf("%v, %v", c, err)
		}
		if err := token.Verify("EdDSA", publicKey("EdDSA")); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("zero token: %v", err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	key := keys().ed
	for name, c := range map[string]struct {
		kid, typ string
		claims   any
		want     error
	}{
		"null":            {"k", "t", nil, ErrMalformed},
		"array":           {"k", "t", []int{1}, ErrMalformed},
		"string":          {"k", "t", "x", ErrMalformed},
		"not JSON":        {"k", "t", map[string]any{"a": math.Inf(1)}, ErrMalformed},
		"function":        {"k", "t", func() {}, ErrMalformed},
		"duplicate":       {"k", "t", json.RawMessage(`{"a":1,"a":2}`), ErrMalformed},
		"too large":       {"k", "t", map[string]string{"a": string(make([]byte, 2000))}, ErrMalformed},
		"control in kid":  {"k\n", "t", struct{}{}, ErrMalformed},
		"control in typ":  {"k", "t\x00", struct{}{}, ErrMalformed},
		"bad UTF-8 kid":   {"\xff", "t", struct{}{}, ErrMalformed},
		"huge kid":        {string(make([]byte, 300)), "t", struct{}{}, ErrMalformed},
		"everything fine": {"k", "t", struct{}{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := Sign(key, c.kid, c.typ, c.claims)
			if !errors.Is(err, c.want) || (token != "") != (c.want == nil) {
				t.Errorf("%q, %v; want %v", token, err, c.want)
			}
		})
	}
	if _, err := Sign(key[:63], "k", "t", struct{}{}); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("short key: %v", err)
	}
	if _, err := Sign(nil, "k", "t", struct{}{}); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("no key: %v", err)
	}
}

func TestTimeIsExact(t *testing.T) {
	want := time.Unix(1893456000, 0)
	token, err := Sign(keys().ed, "k", "t", map[string]int64{"iat": want.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parsed.Claims()
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := c.Time("iat"); err != nil || !got.Equal(want) {
		t.Errorf("%v, %v", got, err)
	}
}
