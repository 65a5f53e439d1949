package idp

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// assertion makes a client's JWT with the test's key; claims change the good one.
func (r *rig) assertion(change map[string]any) string {
	r.Helper()
	claims := map[string]any{"iss": "anteroom", "sub": "anteroom", "aud": r.url, "jti": randomName(), "exp": r.at.Add(time.Minute).Unix()}
	return r.make(map[string]any{}, claims, change)
}

// make signs with the test's key; a nil value takes a claim out.
func (r *rig) make(header, claims, change map[string]any) string {
	r.Helper()
	s, err := newSigner(testKey())
	if err != nil {
		r.Fatal(err)
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	all := map[string]any{"alg": "ES256", "kid": s.kid}
	maps.Copy(all, header)
	compact, err := s.seal(all, claims)
	if err != nil {
		r.Fatal(err)
	}
	return compact
}

func jwksOf(t *testing.T, key *ecdsa.PrivateKey) string {
	s, err := newSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"keys": []any{s.jwk}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// try posts to the token endpoint without anything that the rig adds, and says
// whether the client was believed: the code is no good.
func (r *rig) try(form url.Values) bool {
	r.Helper()
	form.Set("grant_type", "authorization_code")
	response, err := http.PostForm(r.url+"/token", form)
	if err != nil {
		r.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode != http.StatusUnauthorized
}

func asserting(compact string) url.Values {
	return url.Values{"client_assertion_type": {assertionType}, "client_assertion": {compact}}
}

func TestClientSecretPost(t *testing.T) {
	r := start(t, func(c *Config) { c.Clients[0].Auth = authPost })
	if !r.try(url.Values{"client_id": {"anteroom"}, "client_secret": {"s:e c%+"}}) {
		t.Error("not believed")
	}
	if r.try(url.Values{"client_id": {"anteroom"}, "client_secret": {"x"}}) || r.try(url.Values{"client_id": {"x"}, "client_secret": {""}}) {
		t.Error("a wrong secret is believed")
	}
	if response, _ := r.post("/token", url.Values{"grant_type": {"x"}}); response.StatusCode != http.StatusUnauthorized {
		t.Error("basic is believed, too")
	}
}

func TestClientSecretJWT(t *testing.T) {
	r := start(t, func(c *Config) { c.Clients[0].Auth = authSecretJWT })
	if r.try(asserting(r.assertion(nil))) || r.try(url.Values{"client_id": {"anteroom"}, "client_secret": {"s:e c%+"}}) {
		t.Error("another way is believed")
	}
	text := b64([]byte(`{"alg":"HS256"}`)) + "." + strings.Split(r.assertion(nil), ".")[1]
	if !r.try(asserting(text + "." + b64(hmacOf("s:e c%+", text)))) {
		t.Error("not believed")
	}
	text = b64([]byte(`{"alg":"HS256"}`)) + "." + strings.Split(r.assertion(nil), ".")[1]
	if r.try(asserting(text+"."+b64(hmacOf("other", text)))) || r.try(asserting(text+".")) {
		t.Error("a wrong secret is believed")
	}
}

func TestPrivateKeyJWT(t *testing.T) {
	r := start(t, func(c *Config) {
		c.Clients[0].Auth, c.Clients[0].Secret, c.Clients[0].JWKS = authKeyJWT, "", jwksOf(t, testKey())
	})
	once := r.assertion(nil)
	if !r.try(asserting(once)) || !r.try(asserting(r.assertion(map[string]any{"aud": r.url + "/token"}))) {
		t.Fatal("not believed")
	}
	if r.try(asserting(once)) {
		t.Error("the same assertion is believed twice")
	}
	for name, change := range map[string]map[string]any{
		"another audience":    {"aud": "https://other.example"},
		"several audiences":   {"aud": []string{r.url, "https://other.example"}},
		"another issuer":      {"iss": "other"},
		"an unknown client":   {"iss": "other", "sub": "other"},
		"no exp":              {"exp": nil},
		"over":                {"exp": r.at.Unix()},
		"good for a long day": {"exp": r.at.Add(24 * time.Hour).Unix()},
		"no jti":              {"jti": nil},
	} {
		if r.try(asserting(r.assertion(change))) {
			t.Errorf("%s: believed", name)
		}
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Split(r.assertion(nil), ".")
	signed := b64([]byte(`{"alg":"EdDSA"}`)) + "." + text[1]
	if r.try(asserting(signed + "." + b64(ed25519.Sign(other, []byte(signed))))) {
		t.Error("a stranger's key is believed")
	}
	form := asserting(r.assertion(nil))
	form.Set("client_secret", "")
	if form.Set("client_id", "other"); r.try(form) {
		t.Error("believed under another name")
	}
}

func TestClientKeysFetched(t *testing.T) {
	keys := jwksOf(t, testKey())
	fetched := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fetched++; w.Write([]byte(keys)) }))
	defer web.Close()
	r := start(t, func(c *Config) { c.Clients[0].Auth, c.Clients[0].JWKSURI = authKeyJWT, web.URL })
	if !r.try(asserting(r.assertion(nil))) || fetched != 1 {
		t.Fatalf("not believed; fetched %d times", fetched)
	}
	keys = `{"keys":[]}`
	if r.try(asserting(r.assertion(nil))) {
		t.Error("a key that the client took away is believed")
	}
}

func TestPushedRequest(t *testing.T) {
	r := start(t, func(c *Config) {
		c.Clients[0].PAR = true
		c.Clients = append(c.Clients, Client{ID: "other", Secret: "o", RedirectURIs: []string{callback}})
	})
	push := func(change url.Values) (int, map[string]any) {
		response, body := r.post("/par", r.query(change))
		var answer map[string]any
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, answer
	}
	status, pushed := push(nil)
	if status != http.StatusCreated {
		t.Fatalf("%d %v", status, pushed)
	}
	address := "/authorize?" + url.Values{"client_id": {"anteroom"}, "request_uri": {pushed["request_uri"].(string)}, "state": {"other"}}.Encode()
	_, page := r.get(address)
	form := url.Values{"request": {requestField.FindStringSubmatch(page)[1]}, "username": {"doctor"}, "password": {"doctor"}}
	response, _ := r.post("/login", form)
	if back := r.answer(response); back.Get("state") != "st" || back.Get("code") == "" {
		t.Fatalf("answer %v", back)
	}
	if response, _ = r.get(address); response.StatusCode != http.StatusBadRequest {
		t.Errorf("the same request again: %d", response.StatusCode)
	}
	if response, _ = r.get("/authorize?" + r.query(nil).Encode()); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a request that was not pushed: %d", response.StatusCode)
	}
	_, pushed = push(nil)
	address = "/authorize?" + url.Values{"client_id": {"other"}, "request_uri": {pushed["request_uri"].(string)}}.Encode()
	if response, _ = r.get(address); response.StatusCode != http.StatusBadRequest {
		t.Errorf("another client's request: %d", response.StatusCode)
	}
	_, pushed = push(nil)
	r.pass(pushedLife)
	address = "/authorize?" + url.Values{"client_id": {"anteroom"}, "request_uri": {pushed["request_uri"].(string)}}.Encode()
	if response, _ = r.get(address); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a minute later: %d", response.StatusCode)
	}
	for name, change := range map[string]url.Values{
		"no PKCE": {"code_challenge": nil}, "a foreign address": {"redirect_uri": {"https://evil.example"}}, "a request_uri": {"request_uri": {"urn:x"}},
	} {
		if status, _ := push(change); status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, status)
		}
	}
}
