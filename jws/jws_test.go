package jws

import (
	"crypto/ed25519"
	"testing"
	"time"
)

func TestSignParseVerify(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := Sign(private, "k1", "test+jwt", map[string]any{"sub": "a<b", "aud": []string{"x", "y"}, "exp": 1999999999, "cnf": map[string]string{"a": "b"}, "ok": true})
	if err != nil {
		t.Fatal(err)
	}
	token, err := Parse(compact)
	if err != nil {
		t.Fatal(err)
	}
	if token.Header != (Header{"EdDSA", "k1", "test+jwt"}) {
		t.Fatalf("header %+v", token.Header)
	}
	if err := token.Verify("EdDSA", public); err != nil {
		t.Fatal(err)
	}
	c, err := token.Claims()
	if err != nil {
		t.Fatal(err)
	}
	if s, ok, err := c.String("sub"); s != "a<b" || !ok || err != nil {
		t.Errorf("sub: %q %v %v", s, ok, err)
	}
	if l, ok, err := c.Strings("aud"); len(l) != 2 || !ok || err != nil {
		t.Errorf("aud: %q %v %v", l, ok, err)
	}
	if when, ok, err := c.Time("exp"); !when.Equal(time.Unix(1999999999, 0)) || !ok || err != nil {
		t.Errorf("exp: %v %v %v", when, ok, err)
	}
	if o, ok, err := c.Object("cnf"); len(o) != 1 || !ok || err != nil {
		t.Errorf("cnf: %v %v %v", o, ok, err)
	}
	if v, ok, err := c.Bool("ok"); !v || !ok || err != nil {
		t.Errorf("ok: %v %v %v", v, ok, err)
	}
	if _, ok, err := c.String("SUB"); ok || err != nil {
		t.Errorf("SUB: %v %v", ok, err)
	}
}
