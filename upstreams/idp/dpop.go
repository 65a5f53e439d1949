package idp

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"time"
)

const (
	proofLife  = time.Minute // between a proof's iat and now, either way
	proofNonce = "nonce "    // before our nonces in the table of things seen
)

// prove checks the DPoP proof of a request (RFC 9449, section 4.3) and gives its
// key's thumbprint; "" when there is no proof. The problem is an error code, ""
// when all is well. The access token is "" where the proof comes before one.
func (p *Provider) prove(w http.ResponseWriter, r *http.Request, accessToken string) (thumb, problem string) {
	const bad = "invalid_dpop_proof"
	proofs := r.Header.Values("DPoP")
	if len(proofs) == 0 {
		return "", ""
	}
	token, ok := parseJWS(proofs[0])
	jwk, isKey := token.header["jwk"].(map[string]any)
	alg, _ := token.header["alg"].(string)
	if len(proofs) > 1 || !ok || !isKey || token.header["typ"] != "dpop+jwt" || !slices.Contains(assertionAlgs, alg) {
		return "", bad
	}
	public, err := publicKey(jwk)
	if err != nil || !token.signedWith(public) {
		return "", bad
	}
	issued, dated := moment(token.claims["iat"])
	jti, _ := token.claims["jti"].(string)
	if token.claims["htm"] != r.Method || token.claims["htu"] != p.issuer+r.URL.Path || !dated || p.now().Sub(issued).Abs() > proofLife || jti == "" {
		return "", bad
	}
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		if token.claims["ath"] != b64(sum[:]) {
			return "", bad
		}
	}
	if p.nonces {
		nonce, _ := token.claims["nonce"].(string)
		if _, ours := p.seen.get(proofNonce + nonce); !ours {
			name := randomName()
			p.seen.set(proofNonce+name, true)
			w.Header().Set("DPoP-Nonce", name)
			return "", "use_dpop_nonce"
		}
	}
	thumb = thumbprint(jwk)
	if !p.seen.first("proof " + thumb + " " + jti) {
		return "", bad
	}
	return thumb, ""
}
