package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// J78: whatever one byte is flipped, inserted or taken out of a good ID token, it is
// refused.
func TestJ78OneByteOfAnIDToken(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		t.Run("J78 "+alg, func(t *testing.T) {
			r := newRig(t, nil)
			r.server.Use(idptest.SignWith(alg))
			var good tokens
			r.server.Use(idptest.SignWith(alg), idptest.TokenAnswer(func(a map[string]any) {
				good = tokens{access: a["access_token"].(string), id: a["id_token"].(string)}
			}))
			step := r.begin(t)
			if _, err := r.source.Finish(context.Background(), r.through(t, step)); err != nil {
				t.Fatal(err)
			}
			var k kept
			if err := json.Unmarshal(step.Keep, &k); err != nil {
				t.Fatal(err)
			}
			p, err := r.source.ready(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.source.checkIDToken(context.Background(), p, good, k); err != nil {
				t.Fatalf("the token itself: %v", err)
			}
			// Made-up kids may cost one look at the keys a minute: the clock stands.
			refuse := func(what string, at int, id string) {
				t.Helper()
				changed := tokens{access: good.access, id: id}
				if _, err := r.source.checkIDToken(context.Background(), p, changed, k); !errors.Is(err, identity.ErrRefused) {
					t.Fatalf("byte %d %s: %v", at, what, err)
				}
			}
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
			for at := range len(good.id) {
				refuse("taken out", at, good.id[:at]+good.id[at+1:])
				for _, c := range []byte{alphabet[rand.IntN(len(alphabet))], '.', '=', ' ', '\n', 0, byte(rand.IntN(256))} {
					refuse("inserted", at, good.id[:at]+string([]byte{c})+good.id[at:])
					if c != good.id[at] {
						refuse("replaced", at, good.id[:at]+string([]byte{c})+good.id[at+1:])
					}
				}
				bit := good.id[at] ^ 1<<rand.IntN(8)
				refuse("flipped", at, good.id[:at]+string([]byte{bit})+good.id[at+1:])
			}
			refuse("added", len(good.id), good.id+"A")
		})
	}
}
