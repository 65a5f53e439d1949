package idp

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// grant is what a code or a refresh token stands for.
type grant struct {
	request
	session
	family string // of everything that one code led to
}

// access is what an access token stands for.
type access struct {
	username string
	client   string
	scopes   []string
	thumb    string // of the key that it is bound to; "" for a bearer token
	sid      string
	family   string
}

// token is OpenID Connect Core 1.0, sections 3.1.3 and 12.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r)
	if err != nil || r.URL.RawQuery != "" {
		tokenError(w, http.StatusBadRequest, "invalid_request")
		return
	}
	client, ok := p.authenticate(r, params)
	if !ok {
		noClient(w)
		return
	}
	thumb, problem := p.prove(w, r, "")
	if problem == "" && thumb == "" && client.DPoP {
		problem = "invalid_dpop_proof"
	}
	if problem != "" {
		tokenError(w, http.StatusBadRequest, problem)
		return
	}
	var g grant
	switch params.Get("grant_type") {
	case "authorization_code":
		g, ok = p.redeem(params)
		ok = ok && g.client == client.ID && g.redirect == params.Get("redirect_uri") && g.verifies(params.Get("code_verifier")) && (g.thumb == "" || g.thumb == thumb)
	case "refresh_token":
		g, ok = p.renew(client, params)
	default:
		tokenError(w, http.StatusBadRequest, "unsupported_grant_type")
		return
	}
	if !ok || !p.people.may(g.username) {
		tokenError(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	p.hand(w, client, g, thumb)
}

// hand answers with the tokens.
func (p *Provider) hand(w http.ResponseWriter, client Client, g grant, thumb string) {
	bearer := p.tokens.add(access{username: g.username, client: client.ID, scopes: g.scopes, thumb: thumb, sid: g.sid, family: g.family})
	id, err := p.idToken(g, bearer)
	if err != nil {
		p.log.Error("signing an ID token", "error", err)
		tokenError(w, http.StatusInternalServerError, "server_error")
		return
	}
	answer := map[string]any{
		"access_token": bearer, "token_type": "Bearer", "expires_in": int(tokenLife.Seconds()), "id_token": id,
		"scope": strings.Join(g.scopes, " "),
	}
	if thumb != "" {
		answer["token_type"] = "DPoP"
	}
	if client.Refresh {
		answer["refresh_token"] = p.renewals.add(renewal{grant: g})
	}
	p.visits.set(g.sid+" "+client.ID, visit{username: g.username, sid: g.sid, client: client.ID})
	writeJSON(w, http.StatusOK, answer)
}

// redeem uses the code up, right or wrong. A code that comes a second time may
// have been stolen: what the first one got is taken away (RFC 6749, section
// 4.1.2).
func (p *Provider) redeem(params url.Values) (grant, bool) {
	code := params.Get("code")
	g, ok := p.codes.take(code)
	if !ok {
		if family, used := p.spent.take(code); used {
			p.disown(family)
		}
		return grant{}, false
	}
	g.family = randomName()
	p.spent.set(code, g.family)
	return g, true
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
		"iss": p.issuer, "aud": g.client, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix(), "sid": g.sid,
		"auth_time": g.at.Unix(), "acr": ACRPassword, "amr": []string{"pwd"}, "at_hash": b64(hash[:16]),
	}
	if g.strong {
		claims["acr"], claims["amr"] = ACRMultiFactor, []string{"pwd", "otp", "mfa"}
	}
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	maps.Copy(claims, p.people.get(g.username).claims(g.scopes))
	return p.signer.sign("JWT", claims)
}

func tokenError(w http.ResponseWriter, status int, code string) {
	writeJSON(w, status, map[string]string{"error": code})
}

func noClient(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
	tokenError(w, http.StatusUnauthorized, "invalid_client")
}
