package idp

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// grant is what a code stands for.
type grant struct {
	request
	session
}

// access is what an access token stands for.
type access struct {
	username string
	scopes   []string
}

// token is OpenID Connect Core 1.0, section 3.1.3.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r)
	if err != nil || r.URL.RawQuery != "" {
		tokenError(w, http.StatusBadRequest, "invalid_request")
		return
	}
	client, ok := p.authenticate(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
		tokenError(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	if params.Get("grant_type") != "authorization_code" {
		tokenError(w, http.StatusBadRequest, "unsupported_grant_type")
		return
	}
	g, ok := p.redeem(params)
	if !ok || g.client != client.ID || g.redirect != params.Get("redirect_uri") || !g.verifies(params.Get("code_verifier")) {
		tokenError(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	bearer := p.tokens.add(access{username: g.username, scopes: g.scopes})
	p.spent.set(params.Get("code"), bearer)
	id, err := p.idToken(g, bearer)
	if err != nil {
		p.log.Error("signing an ID token", "error", err)
		tokenError(w, http.StatusInternalServerError, "server_error")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": bearer, "token_type": "Bearer", "expires_in": int(tokenLife.Seconds()), "id_token": id,
		"scope": strings.Join(g.scopes, " "),
	})
}

// authenticate reads client_secret_basic, both parts form-encoded (RFC 6749,
// section 2.3.1).
func (p *Provider) authenticate(r *http.Request) (Client, bool) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return Client{}, false
	}
	id, errID := url.QueryUnescape(user)
	secret, errSecret := url.QueryUnescape(password)
	client, known := p.clients[id]
	if errID != nil || errSecret != nil || !samePassword(client.Secret, secret) {
		return Client{}, false
	}
	return client, known
}

// redeem uses the code up, right or wrong. A code that comes a second time may
// have been stolen: what the first one got is taken away (RFC 6749, section
// 4.1.2).
func (p *Provider) redeem(params url.Values) (grant, bool) {
	code := params.Get("code")
	g, ok := p.codes.take(code)
	if !ok {
		if bearer, used := p.spent.take(code); used {
			p.tokens.take(bearer)
		}
	}
	return g, ok
}

// verifies is the check of RFC 7636, section 4.6.
func (g grant) verifies(verifier string) bool {
	if len(verifier) < 43 || len(verifier) > 128 {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(b64(sum[:])), []byte(g.challenge)) == 1
}

// idToken is OpenID Connect Core 1.0, section 2, with the user's claims in it:
// small installations like to do without a second request.
func (p *Provider) idToken(g grant, bearer string) (string, error) {
	now := p.now()
	hash := sha256.Sum256([]byte(bearer)) // RS256 and ES256 both halve SHA-256
	claims := map[string]any{
		"iss": p.issuer, "aud": g.client, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix(),
		"auth_time": g.at.Unix(), "acr": acrPassword, "amr": []string{"pwd"}, "at_hash": b64(hash[:16]),
	}
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	maps.Copy(claims, p.users[g.username].claims(g.scopes))
	return p.signer.sign(claims)
}

// userinfo is OpenID Connect Core 1.0, section 5.3.
func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, ok := p.tokens.get(bearer)
	if !strings.EqualFold(scheme, "Bearer") || !ok {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
		return
	}
	writeJSON(w, http.StatusOK, p.users[a.username].claims(a.scopes))
}

func tokenError(w http.ResponseWriter, status int, code string) {
	writeJSON(w, status, map[string]string{"error": code})
}
