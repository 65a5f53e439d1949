package jws

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestFuzzSeeds(t *testing.T) {
	for _, name := range []string{"FuzzParse", "FuzzClaims"} {
		entries, err := os.ReadDir("testdata/fuzz/" + name)
		if err != nil || len(entries) == 0 {
			t.Errorf("%s has no seeds: %v", name, err)
		}
	}
}

// FuzzParse: no input makes the parser panic or accept two spellings of a token.
func FuzzParse(f *testing.F) {
	f.Add("")
	f.Add(made(f, "EdDSA", `{"alg":"EdDSA","kid":"k","typ":"JWT"}`, goodPayload))
	f.Add(made(f, "ES256", `{"alg":"ES256"}`, `{"aud":["a","b"],"exp":1999999999}`))
	f.Add(b64(`{"alg":"none"}`) + "." + b64(goodPayload) + ".")
	f.Add("eyJhbGciOiJFZERTQSJ9.e30.AAAB")
	f.Add(made(f, "ES256", proofHeader(f, "ES256"), goodPayload))
	f.Fuzz(func(t *testing.T, compact string) {
		token, err := Parse(compact)
		proof, key, proofErr := ParseProof(compact)
		if (proof == nil) != (proofErr != nil) || (key == nil) != (proofErr != nil) || proofErr == nil && (err == nil || proof.Header.Typ == "") {
			t.Fatalf("as a proof: %v, %s, %v; otherwise: %v", proof, key, proofErr, err)
		}
		if err != nil {
			if token != nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrAlgorithm) {
				t.Fatalf("%v with %v", token, err)
			}
			return
		}
		if len(compact) > MaxToken || strings.Count(compact, ".") != 2 {
			t.Fatal("size or dots")
		}
		parts := strings.Split(compact, ".")
		if b64(string(token.Payload)) != parts[1] || b64(string(token.signature)) != parts[2] {
			t.Fatal("encoding is not canonical")
		}
		if !known(token.Header.Alg) {
			t.Fatalf("algorithm %q", token.Header.Alg)
		}
		if _, err := token.Claims(); err != nil {
			t.Fatalf("claims: %v", err)
		}
		for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
			if err := token.Verify(alg, publicKey(alg)); err != nil && !errors.Is(err, ErrSignature) && !errors.Is(err, ErrAlgorithm) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzClaims: the check agrees with a plain walk over encoding/json's tokens, and
// no accessor panics or answers what another decoder would not.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{}`, goodPayload, `{"a":{"b":[1,2,{"c":"d"}]},"\u0061b":"\ud83d\ude00","n":-1.5e3}`, `{"a":1,"\u0061":2}`,
		`{"exp":1999999999,"aud":["a"],"cnf":{"ctx#S256":"x"},"ok":true,"no":null}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > MaxToken {
			return
		}
		accepted := checkObject(payload) == nil
		if plain := plainWalk(payload); accepted && !plain {
			t.Fatalf("%q accepted, refused by the plain walk", payload)
		} else if plain && !accepted && checkUnicode(payload) {
			t.Fatalf("%q refused, accepted by the plain walk", payload)
		}
		c, err := (&Token{Payload: payload}).Claims()
		if (err == nil) != accepted {
			t.Fatalf("Claims: %v", err)
		}
		for name, raw := range c {
			var want string
			s, present, err := c.String(name)
			if isString := raw[0] == '"'; isString != (err == nil) || present != isString || json.Unmarshal(raw, &want) == nil && isString && s != want {
				t.Fatalf("%q read as %q, %v", raw, s, err)
			}
			if when, _, err := c.Time(name); err == nil && (when.Unix() < 1 || when.Unix() > maxNumericDate) {
				t.Fatalf("%q is the time %v", raw, when)
			}
			c.Strings(name)
			c.Bool(name)
			c.Object(name)
		}
	})
}

// checkUnicode says whether a decoder keeps every string as it is written.
func checkUnicode(text []byte) bool {
	return !hasLoneSurrogate(text) && bytes.Equal(bytes.ToValidUTF8(text, nil), text)
}

// plainWalk is a second, slower opinion on checkObject, leaving out Unicode.
func plainWalk(text []byte) bool {
	if !json.Valid(text) {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var object func(depth int) bool
	var value func(depth int) bool
	value = func(depth int) bool {
		token, err := d.Token()
		if err != nil {
			return false
		}
		switch v := token.(type) {
		case json.Number:
			_, err := v.Float64()
			return err == nil && len(v) <= maxNumber
		case json.Delim:
			if depth == maxDepth {
				return false
			}
			if v == '{' {
				return object(depth + 1)
			}
			for d.More() {
				if !value(depth + 1) {
					return false
				}
			}
			_, err := d.Token()
			return err == nil
		}
		return true
	}
	object = func(depth int) bool {
		seen := map[string]bool{}
		for d.More() {
			token, err := d.Token()
			name, ok := token.(string)
			if err != nil || !ok || seen[name] {
				return false
			}
			seen[name] = true
			if !value(depth) {
				return false
			}
		}
		_, err := d.Token()
		return err == nil
	}
	if first, err := d.Token(); err != nil || first != json.Delim('{') || !object(1) {
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}
