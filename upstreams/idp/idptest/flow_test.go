package idptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/idp"
)

const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

// address is an authorization request.
func (s *Server) address(change url.Values) string {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{"response_type": {"code"}, "client_id": {s.ClientID}, "redirect_uri": {Callback}, "scope": {"openid profile"},
		"state": {"st"}, "nonce": {"no"}, "code_challenge": {b64(sum[:])}, "code_challenge_method": {"S256"}}
	for name, values := range change {
		q[name] = values
	}
	return s.URL + "/authorize?" + q.Encode()
}

// post sends a form to the token endpoint as the client.
func (s *Server) post(t *testing.T, form url.Values) map[string]any {
	t.Helper()
	request, err := http.NewRequest("POST", s.URL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(s.ClientID), url.QueryEscape(s.ClientSecret))
	return object(t, request)
}

func (s *Server) redeem(t *testing.T) map[string]any {
	t.Helper()
	code := s.SignIn(t, s.address(nil), "doctor", "doctor").Query().Get("code")
	return s.post(t, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {Callback}, "code_verifier": {verifier}})
}

func object(t *testing.T, request *http.Request) map[string]any {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(read(t, response)), &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// open takes a token apart; good says whether a published key made the signature.
func (s *Server) open(t *testing.T, compact string) (header, claims map[string]any, good bool) {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("token of %d parts", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if k.kid != header["kid"] || k.alg != header["alg"] {
			continue
		}
		switch public := k.signer.Public().(type) {
		case *rsa.PublicKey:
			good = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
		case *ecdsa.PublicKey:
			good = len(signature) == 64 && ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		}
	}
	return header, claims, good
}

func TestRefreshedTokensAreSpoiledToo(t *testing.T) {
	s := New(t)
	first := s.redeem(t)
	_, claims, good := s.open(t, first["id_token"].(string))
	if subject, sid := s.Last(); !good || claims["sub"] != subject || claims["sid"] != sid || subject == "" || sid == "" {
		t.Fatalf("%v, %v", good, claims)
	}
	s.Use(suffix("iss", "1"))
	again := s.post(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first["refresh_token"].(string)}})
	if _, claims, good = s.open(t, again["id_token"].(string)); !good || claims["iss"] != s.URL+"1" {
		t.Errorf("%v, %v", good, claims)
	}
	s.Use(TokenAnswer(func(a map[string]any) { delete(a, "id_token") }))
	again = s.post(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {again["refresh_token"].(string)}})
	if again["id_token"] != nil || again["access_token"] == nil {
		t.Errorf("%v", again)
	}
}

// Each fault of a logout token changes one thing, and the signature stays good
// unless it is the fault.
func TestLogoutTokens(t *testing.T) {
	s := New(t)
	s.redeem(t)
	subject, sid := s.Last()
	header, claims, good := s.open(t, s.LogoutToken(t))
	if !good || header["typ"] != "logout+jwt" || claims["sub"] != subject || claims["sid"] != sid || claims["aud"] != s.ClientID || claims["iss"] != s.URL || claims["jti"] == nil || claims["nonce"] != nil {
		t.Fatalf("%v %v %v", good, header, claims)
	}
	if _, other, _ := s.open(t, s.LogoutToken(t)); other["jti"] == claims["jti"] {
		t.Error("two tokens with one jti")
	}
	for name, c := range map[string]struct {
		fault Fault
		holds func(header, claims map[string]any, good bool) bool
	}{
		"B2":            {SignWith("none"), func(h, _ map[string]any, good bool) bool { return h["alg"] == "none" && !good }},
		"B3":            {DropClaims("events"), func(_, c map[string]any, good bool) bool { return c["events"] == nil && good }},
		"B4":            {SetClaim("nonce", nil), func(_, c map[string]any, good bool) bool { _, there := c["nonce"]; return there && good }},
		"B6":            {suffix("aud", "INVALID"), func(_, c map[string]any, good bool) bool { return c["aud"] == "anteroomINVALID" && good }},
		"B9":            {Compact(flipSignature), func(_, _ map[string]any, good bool) bool { return !good }},
		"B13":           {SetClaim("iat", 1), func(_, c map[string]any, good bool) bool { return c["iat"] == 1.0 && good }},
		"another typ":   {Header(func(h map[string]any) { h["typ"] = "JWT" }), func(h, _ map[string]any, good bool) bool { return h["typ"] == "JWT" && good }},
		"another alg":   {SignWith("ES256"), func(h, _ map[string]any, good bool) bool { return h["alg"] == "ES256" && good }},
		"raw text":      {Payload(func(p string) string { return `{"extra":1,` + p[1:] }), func(_, _ map[string]any, good bool) bool { return good }},
		"of a response": {SetParameter("iss", "x"), func(_, c map[string]any, good bool) bool { return c["iss"] == s.URL && good }},
	} {
		if header, claims, good := s.open(t, s.LogoutToken(t, c.fault)); !c.holds(header, claims, good) {
			t.Errorf("%s: %v %v, signature good: %v", name, header, claims, good)
		}
	}
}

// What the good provider posts is signed with a published key, with its faults.
func TestPostedLogoutTokens(t *testing.T) {
	var heard []string
	ear := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard = append(heard, r.PostFormValue("logout_token")) }))
	defer ear.Close()
	s := Start(t, func(c *idp.Config) { c.Clients[0].BackChannelLogoutURI = ear.URL })
	for i, fault := range []Fault{SetClaim("roles", nil), InLogout(suffix("iss", "1"))} {
		s.Use(fault)
		s.redeem(t)
		if err := s.Provider.EndSession("doctor"); err != nil || len(heard) != i+1 {
			t.Fatalf("%v, %d tokens", err, len(heard))
		}
		header, claims, good := s.open(t, heard[i])
		want := s.URL + map[int]string{1: "1"}[i]
		if _, there := claims["roles"]; !good || header["typ"] != "logout+jwt" || claims["iss"] != want || there {
			t.Errorf("%v %v %v", good, header, claims)
		}
	}
}

func TestSignedUserInfo(t *testing.T) {
	s := Start(t, func(c *idp.Config) { c.Clients[0].SignedUserInfo = true })
	for name, c := range map[string]struct {
		fault Fault
		holds func(claims map[string]any, good bool) bool
	}{
		"none":       {SetClaim("sub", "x"), func(c map[string]any, good bool) bool { return good && c["sub"] != "x" && c["aud"] == s.ClientID }},
		"claims":     {InUserInfo(SetClaim("sub", "x")), func(c map[string]any, good bool) bool { return good && c["sub"] == "x" }},
		"the answer": {UserInfo(func(u map[string]any) { u["sub"] = "y" }), func(c map[string]any, good bool) bool { return good && c["sub"] == "y" }},
		"signature":  {InUserInfo(Compact(flipSignature)), func(_ map[string]any, good bool) bool { return !good }},
	} {
		s.Use(c.fault)
		request, err := http.NewRequest("GET", s.URL+"/userinfo", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+s.redeem(t)["access_token"].(string))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, claims, good := s.open(t, read(t, response)); response.Header.Get("Content-Type") != "application/jwt" || !c.holds(claims, good) {
			t.Errorf("%s: %v, signature good: %v", name, claims, good)
		}
	}
}

func TestFormPosts(t *testing.T) {
	s := New(t)
	posted := func(f ...Fault) url.Values {
		s.Use(f...)
		to, form := NewBrowser().SignInPosted(t, s.address(url.Values{"response_mode": {"form_post"}}), "doctor", "doctor")
		if to.String() != Callback {
			t.Errorf("goes to %s", to)
		}
		return form
	}
	if form := posted(); form.Get("code") == "" || form.Get("state") != "st" || form.Get("iss") != s.URL {
		t.Errorf("form %v", form)
	}
	if form := posted(SetParameter("state", "a", `b"><`), FailWith("access_denied")); len(form["state"]) != 2 || form["state"][1] != `b"><` || form.Has("code") || form.Get("error") != "access_denied" {
		t.Errorf("form %v", form)
	}
}

// A client shows the ID token that it got; the good provider knows its own.
func TestHintIsUnderstood(t *testing.T) {
	s := New(t)
	b := NewBrowser()
	code := b.SignIn(t, s.address(nil), "doctor", "doctor").Query().Get("code")
	got := s.post(t, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {Callback}, "code_verifier": {verifier}})
	leave := url.Values{"id_token_hint": {got["id_token"].(string)}, "post_logout_redirect_uri": {SignedOut}, "state": {"s"}}
	if to, page := b.Open(t, s.URL+"/end_session?"+leave.Encode()); to == nil || to.String() != SignedOut+"?state=s" {
		t.Errorf("goes to %v: %s", to, page)
	}
	if to, _ := b.Open(t, s.address(nil)); to != nil {
		t.Error("still signed in")
	}
	if s.Count(AtLeave) != 1 {
		t.Error("not counted")
	}
}

func TestSecondFactor(t *testing.T) {
	s := New(t)
	to := s.SignIn(t, s.address(url.Values{"acr_values": {idp.ACRMultiFactor}}), "doctor", "doctor")
	got := s.post(t, url.Values{"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {Callback}, "code_verifier": {verifier}})
	if _, claims, _ := s.open(t, got["id_token"].(string)); claims["acr"] != idp.ACRMultiFactor {
		t.Errorf("claims %v", claims)
	}
}

// No shape is a good answer, and those that never end are cut by the client.
func TestShapes(t *testing.T) {
	s := New(t)
	client := &http.Client{Timeout: 300 * time.Millisecond, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	largest := 0
	for name, fault := range Shapes(AtMetadata) {
		s.Use(fault)
		response, err := client.Get(s.URL + string(AtMetadata))
		if err != nil {
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		largest = max(largest, len(body))
		var document map[string]any
		if err == nil && response.StatusCode == http.StatusOK && json.Unmarshal(body, &document) == nil && document["issuer"] == s.URL {
			t.Errorf("%s: a good answer", name)
		}
	}
	if largest < 2<<20 {
		t.Errorf("the largest answer has %d bytes", largest)
	}
}
