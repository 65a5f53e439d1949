package idp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func hmacOf(secret, text string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// proof makes a DPoP proof with the test's key.
func (r *rig) proof(method, path string, header, change map[string]any) string {
	r.Helper()
	s, err := newSigner(testKey())
	if err != nil {
		r.Fatal(err)
	}
	all := map[string]any{"typ": "dpop+jwt", "jwk": s.jwk}
	for name, value := range header {
		all[name] = value
	}
	return r.make(all, map[string]any{"htm": method, "htu": r.url + path, "iat": r.at.Unix(), "jti": randomName()}, change)
}

// redeem exchanges a code with these proofs.
func (r *rig) redeem(code string, proofs ...string) (*http.Response, map[string]any) {
	r.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	request, err := http.NewRequest("POST", r.url+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		r.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth("anteroom", url.QueryEscape("s:e c%+"))
	request.Header["Dpop"] = proofs
	response, body := r.do(request)
	var answer map[string]any
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		r.Fatal(err)
	}
	return response, answer
}

func TestDPoP(t *testing.T) {
	r := start(t, func(c *Config) { c.Clients[0].DPoP = true })
	_, answer := r.redeem(r.signIn(nil, "doctor", "doctor").Get("code"), r.proof("POST", "/token", nil, nil))
	bearer, _ := answer["access_token"].(string)
	if answer["token_type"] != "DPoP" || bearer == "" {
		t.Fatalf("answer %v", answer)
	}
	sum := sha256.Sum256([]byte(bearer))
	ath := map[string]any{"ath": b64(sum[:])}
	for _, c := range []struct {
		name, scheme string
		proof        string
		want         int
	}{
		{"with a proof", "DPoP", r.proof("GET", "/userinfo", nil, ath), 200},
		{"scheme in another case", "dpop", r.proof("GET", "/userinfo", nil, ath), 200},
		{"as a bearer token", "Bearer", "", 401},
		{"as a bearer token with a proof", "Bearer", r.proof("GET", "/userinfo", nil, ath), 401},
		{"without a proof", "DPoP", "", 401},
		{"proof for no token", "DPoP", r.proof("GET", "/userinfo", nil, nil), 401},
		{"proof for another place", "DPoP", r.proof("GET", "/token", nil, ath), 401},
	} {
		request, _ := http.NewRequest("GET", r.url+"/userinfo", nil)
		request.Header.Set("Authorization", c.scheme+" "+bearer)
		if c.proof != "" {
			request.Header.Set("DPoP", c.proof)
		}
		if response, _ := r.do(request); response.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.name, response.StatusCode, c.want)
		}
	}
}

func TestDPoPProofs(t *testing.T) {
	r := start(t, func(c *Config) { c.Clients[0].DPoP = true })
	once := r.proof("POST", "/token", nil, nil)
	r.redeem("x", once)
	for name, proofs := range map[string][]string{
		"none":          nil,
		"two":           {r.proof("POST", "/token", nil, nil), r.proof("POST", "/token", nil, nil)},
		"one used":      {once},
		"other method":  {r.proof("GET", "/token", nil, nil)},
		"other place":   {r.proof("POST", "/par", nil, nil)},
		"old":           {r.proof("POST", "/token", nil, map[string]any{"iat": r.at.Add(-2 * time.Minute).Unix()})},
		"no jti":        {r.proof("POST", "/token", nil, map[string]any{"jti": nil})},
		"other typ":     {r.proof("POST", "/token", map[string]any{"typ": "JWT"}, nil)},
		"no key":        {r.proof("POST", "/token", map[string]any{"jwk": nil}, nil)},
		"a private key": {r.proof("POST", "/token", map[string]any{"jwk": map[string]any{"kty": "EC", "crv": "P-256", "d": "AA"}}, nil)},
	} {
		response, answer := r.redeem("x", proofs...)
		if response.StatusCode != http.StatusBadRequest || answer["error"] != "invalid_dpop_proof" {
			t.Errorf("%s: %d %v", name, response.StatusCode, answer)
		}
	}
}

func TestDPoPNonce(t *testing.T) {
	r := start(t, func(c *Config) { c.Clients[0].DPoP, c.DPoPNonce = true, true })
	code := r.signIn(nil, "doctor", "doctor").Get("code")
	response, answer := r.redeem(code, r.proof("POST", "/token", nil, nil))
	nonce := response.Header.Get("DPoP-Nonce")
	if answer["error"] != "use_dpop_nonce" || nonce == "" {
		t.Fatalf("answer %v with nonce %q", answer, nonce)
	}
	if _, answer = r.redeem(code, r.proof("POST", "/token", nil, map[string]any{"nonce": "made up"})); answer["error"] != "use_dpop_nonce" {
		t.Errorf("a nonce that is not ours: %v", answer)
	}
	if _, answer = r.redeem(code, r.proof("POST", "/token", nil, map[string]any{"nonce": nonce})); answer["token_type"] != "DPoP" {
		t.Errorf("with the nonce: %v", answer)
	}
}

// A code that is bound to a key at the authorization endpoint is worth nothing
// with another one (RFC 9449, section 10).
func TestDPoPCode(t *testing.T) {
	r := start(t, nil)
	code := r.signIn(url.Values{"dpop_jkt": {"of-another-key"}}, "doctor", "doctor").Get("code")
	if _, answer := r.redeem(code, r.proof("POST", "/token", nil, nil)); answer["error"] != "invalid_grant" {
		t.Errorf("answer %v", answer)
	}
}
