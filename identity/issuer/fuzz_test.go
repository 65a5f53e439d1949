package issuer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"slices"
	"testing"

	"github.com/anteroom-proxy/anteroom/jws"
)

var fuzzAlgs = []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}

// FuzzKeySet: whatever an issuer publishes, what comes out are few public keys of
// good strength, each for one accepted algorithm and of a name of its own.
func FuzzKeySet(f *testing.F) {
	set := NewKeys(KeysConfig{Algs: fuzzAlgs})
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > MaxBody {
			return
		}
		document, err := ParseObject(text)
		if err != nil {
			return
		}
		keys, err := set.read(document)
		if err != nil {
			return
		}
		checkKeys(t, document, keys)
	})
}

func checkKeys(t *testing.T, document jws.Claims, keys []Key) {
	t.Helper()
	var members []map[string]json.RawMessage
	_ = json.Unmarshal(document["keys"], &members) // members that are no objects are none
	if len(keys) > maxKeys || len(members) > 0 && len(keys) > len(members) {
		t.Fatalf("%d keys of %d", len(keys), len(members))
	}
	seen := map[[2]string]bool{}
	for _, key := range keys {
		name := [2]string{key.Kid, key.Alg}
		if key.Kid != "" && seen[name] {
			t.Fatalf("two keys are called %q", name)
		}
		seen[name] = true
		if len(key.Kid) > maxKid || !slices.Contains(fuzzAlgs, key.Alg) {
			t.Fatalf("a key %q for %q", key.Kid, key.Alg)
		}
		switch k := key.Public.(type) {
		case *rsa.PublicKey:
			if bits := k.N.BitLen(); bits < minModulus || bits > maxModulus || k.E < 3 || k.E%2 == 0 || key.Alg[1:] != "S256" {
				t.Fatalf("RSA of %d bits, e=%d, for %s", bits, k.E, key.Alg)
			}
		case *ecdsa.PublicKey:
			if _, err := k.ECDH(); err != nil || key.Alg != map[string]string{"P-256": "ES256", "P-384": "ES384"}[k.Params().Name] {
				t.Fatalf("a point of %s for %s: %v", k.Params().Name, key.Alg, err)
			}
		case ed25519.PublicKey:
			if len(k) != ed25519.PublicKeySize || key.Alg != "EdDSA" {
				t.Fatalf("Ed25519 of %d bytes for %s", len(k), key.Alg)
			}
		default:
			t.Fatalf("a key of type %T", k)
		}
	}
	// A set whose every member shows private material gives none.
	for _, member := range members {
		if member["d"] == nil && member["k"] == nil {
			return
		}
	}
	if len(members) > 0 && len(keys) > 0 {
		t.Fatal("private keys were taken")
	}
}
