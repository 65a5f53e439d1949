package bearer

import (
	"time"

	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
)

// proofBack and proofAhead bound a proof's iat around now; the package comment
// says why they differ.
const (
	proofBack  = 60 * time.Second
	proofAhead = 10 * time.Second
)

// proofAlgs are what a proof may be signed with (RFC 9449, section 4.3, number 5).
var proofAlgs = []string{"ES256", "EdDSA", "ES384", "PS256", "RS256"}

// expected is what a proof must be for: this request with this token by this key.
type expected struct {
	method     string
	target     string // normalised
	token      string // ath: base64url of SHA-256 of the token
	thumbprint string // jkt of the token
}

// used is a proof that is good, if nobody used it before.
type used struct {
	id     string // its jti
	issued time.Time
}

// checkProof is RFC 9449, section 4.3, but for the memory of what was used; the
// numbers are the section's. There is no number 10: we issue no nonces.
func checkProof(headers []string, want expected, now time.Time) (used, error) {
	switch len(headers) { // 1
	case 0:
		return used{}, no("dpop.missing")
	case 1:
	default:
		return used{}, no("dpop.twice")
	}
	proof, jwk, err := jws.ParseProof(headers[0]) // 2, 7
	if err != nil {
		return used{}, no("dpop.malformed")
	}
	if !jws.TypeIs(proof.Header.Typ, typeProof) { // 4
		return used{}, no("dpop.typ")
	}
	if err := checkOwnKey(proof, jwk, want.thumbprint); err != nil { // 5, 6, 12
		return used{}, err
	}
	claims, err := proof.Claims()
	if err != nil {
		return used{}, no("dpop.malformed")
	}
	for _, c := range []struct {
		claim string
		good  func(string) bool
	}{
		{"htm", func(s string) bool { return s == want.method }},                              // 8
		{"htu", func(s string) bool { t, ok := normalise(s); return ok && t == want.target }}, // 9
		{"ath", func(s string) bool { return equal(s, want.token) }},                          // 12
	} {
		value, present, err := claims.String(c.claim) // 3
		if err != nil || !present || value == "" || !c.good(value) {
			return used{}, no("dpop." + c.claim)
		}
	}
	return readProofUse(claims, now)
}

// checkOwnKey verifies a proof by the key in it, which must be the token's.
func checkOwnKey(proof *jws.Token, jwk []byte, thumbprint string) error {
	alg := proof.Header.Alg
	known := false
	for _, a := range proofAlgs {
		known = known || a == alg
	}
	if !known {
		return no("dpop.alg")
	}
	key, err := issuer.ReadKey(jwk, []string{alg})
	if err != nil {
		return no("dpop.key")
	}
	if err := proof.Verify(key.Alg, key.Public); err != nil {
		return no("dpop.signature")
	}
	print, err := jws.Thumbprint(key.Public)
	if err != nil || thumbprint == "" || !equal(print, thumbprint) {
		return no("dpop.jkt")
	}
	return nil
}

// readProofUse reads when a proof was made and its name.
func readProofUse(c jws.Claims, now time.Time) (used, error) {
	issued, present, err := c.Time("iat") // 3, 11
	if err != nil || !present || now.Sub(issued) > proofBack || issued.Sub(now) > proofAhead {
		return used{}, no("dpop.iat")
	}
	// Nobody has to send these two; whoever does means them.
	if expires, present, err := c.Time("exp"); err != nil || present && !now.Before(expires) {
		return used{}, no("dpop.exp")
	}
	if from, present, err := c.Time("nbf"); err != nil || present && from.Sub(now) > proofAhead {
		return used{}, no("dpop.nbf")
	}
	id, present, err := c.String("jti") // 3
	if err != nil || !present || id == "" || len(id) > maxID {
		return used{}, no("dpop.jti")
	}
	return used{id, issued}, nil
}
