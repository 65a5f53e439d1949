package idp

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// ear is a client that takes logout tokens.
type ear struct {
	*httptest.Server
	heard  []jws
	status int
}

func listen(t *testing.T) *ear {
	e := &ear{status: http.StatusOK}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := parseJWS(r.PostFormValue("logout_token"))
		if !ok || r.Method != http.MethodPost || !token.signedWith(testKey().Public()) {
			t.Errorf("a bad logout token: %v", r.PostForm)
		}
		e.heard = append(e.heard, token)
		w.WriteHeader(e.status)
	}))
	t.Cleanup(e.Close)
	return e
}

func TestBackChannelLogout(t *testing.T) {
	e := listen(t)
	r := start(t, func(c *Config) { refreshing(c); c.Clients[0].BackChannelLogoutURI = e.URL })
	got := r.tokens()
	claims := r.claims(got)
	if err := r.provider.EndSession("finance"); err != nil || len(e.heard) != 0 {
		t.Fatalf("somebody else's session: %v, %d tokens", err, len(e.heard))
	}
	if err := r.provider.EndSession(claims["sid"].(string)); err != nil || len(e.heard) != 1 {
		t.Fatalf("%v, %d tokens", err, len(e.heard))
	}
	token := e.heard[0]
	events, _ := token.claims["events"].(map[string]any)
	if token.header["typ"] != "logout+jwt" || events[logoutEvent] == nil || token.claims["nonce"] != nil || token.claims["jti"] == nil {
		t.Errorf("%v %v", token.header, token.claims)
	}
	for _, name := range []string{"iss", "sub", "sid", "aud"} {
		if token.claims[name] != claims[name] {
			t.Errorf("%s is %v, want %v", name, token.claims[name], claims[name])
		}
	}
	r.refused("after the session ended", got["refresh_token"], nil)
	if status := r.userinfo(got["access_token"]); status != http.StatusUnauthorized {
		t.Errorf("userinfo after the session ended: %d", status)
	}
	if response, _ := r.get("/authorize?" + r.query(nil).Encode()); response.StatusCode != http.StatusOK {
		t.Error("the browser is still signed in")
	}
	e.status = http.StatusBadRequest
	r.tokens()
	if err := r.provider.EndSession("doctor"); err == nil || len(e.heard) != 2 {
		t.Errorf("a client that refuses: %v, %d tokens", err, len(e.heard))
	}
	if err := r.provider.EndSession("doctor"); err != nil || len(e.heard) != 2 {
		t.Errorf("told twice: %v", err)
	}
}

func TestEndSessionWithHint(t *testing.T) {
	e := listen(t)
	r := start(t, func(c *Config) { c.Clients[0].BackChannelLogoutURI = e.URL })
	leave := func(hint string, more url.Values) *http.Response {
		query := url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.localhost:8443/bye"}, "state": {"s"}}
		for name, values := range more {
			query[name] = values
		}
		response, _ := r.get("/end_session?" + query.Encode())
		return response
	}
	former := r.tokens()["id_token"].(string)
	if err := r.provider.EndSession("doctor"); err != nil {
		t.Fatal(err)
	}
	r.browser = newBrowser(t)
	hint := r.tokens()["id_token"].(string)
	e.heard = nil
	at := len(hint) - 40 // within the signature
	flipped := hint[:at] + map[bool]string{true: "B", false: "A"}[hint[at] == 'A'] + hint[at+1:]
	if response := leave(flipped, nil); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a forged hint: %d", response.StatusCode)
	}
	if response := leave(hint, url.Values{"client_id": {"other"}}); response.StatusCode != http.StatusBadRequest {
		t.Errorf("another client's hint: %d", response.StatusCode)
	}
	if response := leave(former, nil); response.StatusCode != http.StatusOK {
		t.Errorf("a hint of another session: %d, want a question", response.StatusCode)
	}
	if len(e.heard) != 0 {
		t.Fatal("signed out")
	}
	r.pass(sessionLife / 2) // the hint is over: it still counts
	if response := leave(hint, nil); response.Header.Get("Location") != "https://app.localhost:8443/bye?state=s" || len(e.heard) != 1 {
		t.Errorf("%d to %q, %d told", response.StatusCode, response.Header.Get("Location"), len(e.heard))
	}
	if response := leave(hint, url.Values{"post_logout_redirect_uri": {"https://evil.example"}}); response.Header.Get("Location") != "" {
		t.Error("redirects to an address that nobody registered")
	}
	if response := leave(hint, nil); response.StatusCode != http.StatusSeeOther {
		t.Errorf("signed out already: %d", response.StatusCode)
	}
}

func TestFormPost(t *testing.T) {
	r := start(t, nil)
	response, page := r.get("/authorize?" + r.query(url.Values{"response_mode": {"form_post"}, "max_age": {"0"}, "prompt": {"none"}}).Encode())
	field := func(name string) string {
		found := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(page)
		if found == nil {
			return ""
		}
		return html.UnescapeString(found[1])
	}
	if response.StatusCode != http.StatusOK || field("error") != "login_required" || field("state") != "st" || field("iss") != r.url || !strings.Contains(page, `action="`+callback+`"`) {
		t.Fatalf("%d %s", response.StatusCode, page)
	}
	policy := response.Header.Get("Content-Security-Policy")
	if nonce := regexp.MustCompile(`<script nonce="([^"]+)">`).FindStringSubmatch(page); nonce == nil || !strings.Contains(policy, "script-src 'nonce-"+nonce[1]+"'") {
		t.Errorf("the script cannot run: %s", policy)
	}
}

func TestLevelsAndHints(t *testing.T) {
	r := start(t, func(c *Config) { c.Users[1].Code = "271828" })
	level := func(username, code string, change url.Values) any {
		t.Helper()
		response, page := r.get("/authorize?" + r.query(change).Encode())
		if response.StatusCode == http.StatusOK {
			form := url.Values{"request": {requestField.FindStringSubmatch(page)[1]}, "username": {username}, "password": {username}, "code": {code}}
			if response, _ = r.post("/login", form); response.StatusCode == http.StatusUnprocessableEntity {
				return "refused"
			}
		}
		_, answer := r.exchange(r.answer(response).Get("code"), nil)
		return r.claims(answer)["acr"]
	}
	strong := url.Values{"acr_values": {"urn:unknown " + ACRMultiFactor + " " + ACRPassword}}
	if got := level("doctor", "", nil); got != ACRPassword {
		t.Errorf("password: %v", got)
	}
	if got := level("doctor", "wrong", strong); got != "refused" {
		t.Errorf("wrong code: %v", got)
	}
	if got := level("doctor", "271828", strong); got != ACRMultiFactor {
		t.Errorf("with a code: %v", got)
	}
	if got := level("", "", strong); got != ACRMultiFactor {
		t.Errorf("the session does not remember the code: %v", got)
	}
	r.browser = newBrowser(t)
	if got := level("nobody", "", strong); got != ACRPassword {
		t.Errorf("somebody without a second factor: %v", got)
	}
	if _, page := r.get("/authorize?" + r.query(url.Values{"login_hint": {`fi"nance`}, "prompt": {"login"}}).Encode()); !strings.Contains(page, `value="fi&#34;nance"`) {
		t.Error("the hint is not in the form")
	}
}

func TestSignedUserInfo(t *testing.T) {
	r := start(t, func(c *Config) { c.Clients[0].SignedUserInfo = true })
	request, _ := http.NewRequest("GET", r.url+"/userinfo", nil)
	request.Header.Set("Authorization", "Bearer "+r.tokens()["access_token"].(string))
	response, body := r.do(request)
	token, ok := parseJWS(body)
	if !ok || response.Header.Get("Content-Type") != "application/jwt" || !token.signedWith(testKey().Public()) {
		t.Fatalf("%s", body)
	}
	if token.claims["iss"] != r.url || token.claims["aud"] != "anteroom" || token.claims["sub"] != subjectOf("doctor") {
		t.Errorf("claims %v", token.claims)
	}
}
