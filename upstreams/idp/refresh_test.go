package idp

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"
)

func refreshing(c *Config) { c.Clients[0].Refresh = true }

// tokens signs the doctor in and gives what the token endpoint answers.
func (r *rig) tokens() map[string]any {
	r.Helper()
	status, answer := r.exchange(r.signIn(nil, "doctor", "doctor").Get("code"), nil)
	if status != http.StatusOK {
		r.Fatalf("token endpoint: %d %v", status, answer)
	}
	return answer
}

func (r *rig) refresh(token any, more url.Values) (int, map[string]any) {
	r.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}}
	for name, values := range more {
		form[name] = values
	}
	response, body := r.post("/token", form)
	var answer map[string]any
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		r.Fatal(err)
	}
	return response.StatusCode, answer
}

func (r *rig) refused(what string, token any, more url.Values) {
	r.Helper()
	if status, answer := r.refresh(token, more); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		r.Errorf("%s: %d %v, want invalid_grant", what, status, answer)
	}
}

func (r *rig) userinfo(bearer any) int {
	r.Helper()
	request, err := http.NewRequest("GET", r.url+"/userinfo", nil)
	if err != nil {
		r.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+bearer.(string))
	response, _ := r.do(request)
	return response.StatusCode
}

func TestRefresh(t *testing.T) {
	r := start(t, refreshing)
	first := r.tokens()
	r.pass(10 * time.Minute)
	status, second := r.refresh(first["refresh_token"], nil)
	if status != http.StatusOK || second["refresh_token"] == first["refresh_token"] || second["access_token"] == first["access_token"] {
		t.Fatalf("%d %v", status, second)
	}
	was, is := r.claims(first), r.claims(second)
	for _, name := range []string{"iss", "sub", "aud", "auth_time", "sid", "acr"} {
		if is[name] != was[name] || was[name] == nil {
			t.Errorf("claim %s was %v and is %v", name, was[name], is[name])
		}
	}
	if is["nonce"] != nil || is["iat"] == was["iat"] {
		t.Errorf("nonce %v, iat %v as before", is["nonce"], is["iat"])
	}
	if status := r.userinfo(second["access_token"]); status != http.StatusOK {
		t.Errorf("userinfo: %d", status)
	}
	if _, answer := start(t, nil).exchange("x", nil); answer["refresh_token"] != nil {
		t.Error("a client that is registered for none got a refresh token")
	}
}

func TestRefreshTokenTwice(t *testing.T) {
	r := start(t, refreshing)
	first := r.tokens()
	_, second := r.refresh(first["refresh_token"], nil)
	r.refused("second use", first["refresh_token"], nil)
	r.refused("the one that the first use got", second["refresh_token"], nil)
	if status := r.userinfo(second["access_token"]); status != http.StatusUnauthorized {
		t.Errorf("the access token that the first use got: %d", status)
	}
}

func TestRefreshRefused(t *testing.T) {
	r := start(t, func(c *Config) {
		refreshing(c)
		c.Clients = append(c.Clients, Client{ID: "other", Secret: "o", RedirectURIs: []string{callback}, Auth: authPost, Refresh: true})
	})
	token := r.tokens()["refresh_token"]
	r.refused("unknown", "x", nil)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}, "client_id": {"other"}, "client_secret": {"o"}}
	response, err := http.PostForm(r.url+"/token", form)
	if err != nil || response.StatusCode != http.StatusBadRequest {
		t.Fatalf("another client's: %d %v", response.StatusCode, err)
	}
	response.Body.Close()
	if status, _ := r.refresh(token, nil); status != http.StatusOK {
		t.Error("another client used the token up")
	}
	r.refused("more scopes", r.tokens()["refresh_token"], url.Values{"scope": {"openid admin"}})
	token = r.tokens()["refresh_token"]
	r.pass(sessionLife)
	r.refused("when it is over", token, nil)
}

// People change at the provider while a client holds tokens.
func TestPeopleChange(t *testing.T) {
	r := start(t, refreshing)
	got := r.tokens()
	r.provider.Change("doctor", func(u *User) { u.Roles, u.Username = []string{"nurse"}, "other" })
	_, got = r.refresh(got["refresh_token"], nil)
	if c := r.claims(got); c["preferred_username"] != "doctor" || c["roles"].([]any)[0] != "nurse" {
		t.Errorf("claims %v", c)
	}
	if r.provider.Change("stranger", func(*User) {}) || !r.provider.Disable("doctor") {
		t.Error("Change does not know who is known")
	}
	r.refused("disabled", got["refresh_token"], nil)
	if status := r.userinfo(got["access_token"]); status != http.StatusUnauthorized {
		t.Errorf("userinfo for somebody disabled: %d", status)
	}
	response, page := r.get("/authorize?" + r.query(nil).Encode())
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the session of somebody disabled gives %d", response.StatusCode)
	}
	form := url.Values{"request": {requestField.FindStringSubmatch(page)[1]}, "username": {"doctor"}, "password": {"doctor"}}
	if response, _ := r.post("/login", form); response.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("somebody disabled signs in: %d", response.StatusCode)
	}
}
