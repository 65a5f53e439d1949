package idp

import (
	"net/http"
	"strings"
)

// userinfo is OpenID Connect Core 1.0, section 5.3. A bound token comes with a
// proof (RFC 9449, section 7).
func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, ok := p.tokens.get(bearer)
	if !ok || !p.people.may(a.username) {
		noToken(w, "Bearer", "invalid_token")
		return
	}
	thumb, problem := p.prove(w, r, bearer)
	switch {
	case problem != "":
		noToken(w, "DPoP", problem)
		return
	case a.thumb == "" && !strings.EqualFold(scheme, "Bearer"), a.thumb != "" && (!strings.EqualFold(scheme, "DPoP") || thumb != a.thumb):
		noToken(w, "Bearer", "invalid_token")
		return
	}
	claims := p.people.get(a.username).claims(a.scopes)
	if !p.clients[a.client].SignedUserInfo {
		writeJSON(w, http.StatusOK, claims)
		return
	}
	claims["iss"], claims["aud"] = p.issuer, a.client
	signed, err := p.signer.sign("JWT", claims)
	if err != nil {
		p.log.Error("signing userinfo", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/jwt")
	w.Write([]byte(signed)) // an error here is a client that went away
}

func noToken(w http.ResponseWriter, scheme, problem string) {
	w.Header().Set("WWW-Authenticate", scheme+` error="`+problem+`"`)
	writeJSON(w, http.StatusUnauthorized, map[string]string{"error": problem})
}
