package idp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	callback = "https://app.localhost:8443/.anteroom/callback/demo"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

var testKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// rig is a provider at a loopback address and a browser without scripts.
type rig struct {
	*testing.T
	url      string
	provider *Provider
	browser  *http.Client
	mu       sync.Mutex
	at       time.Time
}

func start(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{T: t, at: time.Unix(1_800_000_000, 0)}
	server := httptest.NewUnstartedServer(nil)
	c := Config{
		Issuer:  "http://" + server.Listener.Addr().String(),
		Clients: []Client{{ID: "anteroom", Secret: "s:e c%+", RedirectURIs: []string{callback, callback + "2"}, PostLogoutRedirectURIs: []string{"https://app.localhost:8443/bye"}}},
		Users:   DemoUsers(), Key: testKey(),
		Now: func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.at },
	}
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = p
	server.Start()
	t.Cleanup(server.Close)
	r.url, r.provider = server.URL, p
	r.browser = newBrowser(t)
	return r
}

func newBrowser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (r *rig) pass(d time.Duration) { r.mu.Lock(); r.at = r.at.Add(d); r.mu.Unlock() }

func (r *rig) query(change url.Values) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {"anteroom"}, "redirect_uri": {callback}, "scope": {"openid profile email"},
		"state": {"st"}, "nonce": {"no"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for name, values := range change {
		if q[name] = values; values == nil {
			q.Del(name)
		}
	}
	return q
}

func (r *rig) do(req *http.Request) (*http.Response, string) {
	r.Helper()
	response, err := r.browser.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.Fatal(err)
	}
	return response, string(body)
}

func (r *rig) get(path string) (*http.Response, string) {
	r.Helper()
	req, err := http.NewRequest("GET", r.url+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	return r.do(req)
}

func (r *rig) post(path string, form url.Values) (*http.Response, string) {
	r.Helper()
	req, err := http.NewRequest("POST", r.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if path == "/token" || path == "/par" {
		req.SetBasicAuth("anteroom", url.QueryEscape("s:e c%+"))
	}
	return r.do(req)
}

var requestField = regexp.MustCompile(`name="request" value="([A-Z0-9]+)"`)

// signIn goes from the authorization request over the form to the answer.
func (r *rig) signIn(change url.Values, username, password string) url.Values {
	r.Helper()
	response, body := r.get("/authorize?" + r.query(change).Encode())
	if response.StatusCode == http.StatusOK {
		field := requestField.FindStringSubmatch(body)
		if field == nil {
			r.Fatalf("no form: %s", body)
		}
		response, _ = r.post("/login", url.Values{"request": {field[1]}, "username": {username}, "password": {password}})
	}
	return r.answer(response)
}

func (r *rig) answer(response *http.Response) url.Values {
	r.Helper()
	if response.StatusCode != http.StatusSeeOther {
		r.Fatalf("status %d, want 303", response.StatusCode)
	}
	to, err := response.Location()
	if err != nil || !strings.HasPrefix(to.String(), callback) {
		r.Fatalf("redirected to %v, %v", to, err)
	}
	return to.Query()
}

func (r *rig) exchange(code string, change url.Values) (int, map[string]any) {
	r.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	for name, values := range change {
		form[name] = values
	}
	response, body := r.post("/token", form)
	var answer map[string]any
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		r.Fatalf("token answer %q: %v", body, err)
	}
	return response.StatusCode, answer
}

func (r *rig) claims(answer map[string]any) map[string]any {
	r.Helper()
	parts := strings.Split(answer["id_token"].(string), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		r.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		r.Fatal(err)
	}
	return claims
}

func TestSignIn(t *testing.T) {
	for _, key := range []string{"ES256", "RS256"} {
		t.Run(key, func(t *testing.T) {
			r := start(t, func(c *Config) {
				if key == "RS256" {
					c.Key = nil
				}
			})
			back := r.signIn(nil, "doctor", "doctor")
			if back.Get("state") != "st" || back.Get("iss") != r.url || back.Get("code") == "" {
				t.Fatalf("answer %v", back)
			}
			status, answer := r.exchange(back.Get("code"), nil)
			if status != http.StatusOK || answer["token_type"] != "Bearer" {
				t.Fatalf("token: %d %v", status, answer)
			}
			c := r.claims(answer)
			want := map[string]any{"iss": r.url, "aud": "anteroom", "nonce": "no", "preferred_username": "doctor", "name": "Dominik Doctor",
				"email": "doctor@hospital.example", "acr": ACRPassword, "auth_time": float64(r.at.Unix()), "sub": subjectOf("doctor")}
			for name, value := range want {
				if c[name] != value {
					t.Errorf("claim %s = %v, want %v", name, c[name], value)
				}
			}
			if roles, _ := json.Marshal(c["roles"]); string(roles) != `["doctor"]` {
				t.Errorf("roles %s", roles)
			}
			req, _ := http.NewRequest("GET", r.url+"/userinfo", nil)
			req.Header.Set("Authorization", "Bearer "+answer["access_token"].(string))
			response, body := r.do(req)
			if response.StatusCode != http.StatusOK || !strings.Contains(body, subjectOf("doctor")) || !strings.Contains(body, `"roles":["doctor"]`) {
				t.Errorf("userinfo: %d %s", response.StatusCode, body)
			}
		})
	}
}

func TestRefusedRequests(t *testing.T) {
	r := start(t, nil)
	for _, c := range []struct {
		name   string
		change url.Values
		want   string
	}{
		{"no PKCE", url.Values{"code_challenge": nil, "code_challenge_method": nil}, "invalid_request"},
		{"PKCE plain", url.Values{"code_challenge_method": {"plain"}}, "invalid_request"},
		{"PKCE without method", url.Values{"code_challenge_method": nil}, "invalid_request"},
		{"implicit", url.Values{"response_type": {"id_token token"}}, "unsupported_response_type"},
		{"no openid", url.Values{"scope": {"profile"}}, "invalid_scope"},
		{"fragment", url.Values{"response_mode": {"fragment"}}, "invalid_request"},
		{"request object", url.Values{"request": {"x.y.z"}}, "request_not_supported"},
		{"bad max_age", url.Values{"max_age": {"-1"}}, "invalid_request"},
		{"nobody signed in", url.Values{"prompt": {"none"}}, "login_required"},
		{"prompt none and login", url.Values{"prompt": {"none login"}}, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &rig{T: t, url: r.url, browser: r.browser, at: r.at}
			response, _ := r.get("/authorize?" + r.query(c.change).Encode())
			back := r.answer(response)
			if back.Get("error") != c.want || back.Has("code") || back.Get("iss") != r.url || back.Get("state") != "st" {
				t.Fatalf("answer %v, want error %s", back, c.want)
			}
		})
	}
	for name, query := range map[string]string{
		"unknown client":      r.query(url.Values{"client_id": {"other"}}).Encode(),
		"unknown address":     r.query(url.Values{"redirect_uri": {callback + "/x"}}).Encode(),
		"address in a case":   r.query(url.Values{"redirect_uri": {strings.ToUpper(callback)}}).Encode(),
		"no address":          r.query(url.Values{"redirect_uri": nil}).Encode(),
		"address that is two": r.query(nil).Encode() + "&redirect_uri=https%3A%2F%2Fevil.example",
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{T: t, url: r.url, browser: r.browser, at: r.at}
			if response, _ := r.get("/authorize?" + query); response.StatusCode != http.StatusBadRequest || response.Header.Get("Location") != "" {
				t.Fatalf("status %d to %q, want a page with 400", response.StatusCode, response.Header.Get("Location"))
			}
		})
	}
}

func TestCodeOnce(t *testing.T) {
	r := start(t, nil)
	code := r.signIn(nil, "doctor", "doctor").Get("code")
	_, first := r.exchange(code, nil)
	bearer := "Bearer " + first["access_token"].(string)
	if status, answer := r.exchange(code, nil); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		t.Fatalf("second use: %d %v", status, answer)
	}
	req, _ := http.NewRequest("GET", r.url+"/userinfo", nil)
	req.Header.Set("Authorization", bearer)
	if response, _ := r.do(req); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("access token of a code that came twice: %d", response.StatusCode)
	}
}

func TestCodeRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change url.Values
		later  time.Duration
	}{
		{"wrong verifier", url.Values{"code_verifier": {strings.Repeat("a", 43)}}, 0},
		{"no verifier", url.Values{"code_verifier": {""}}, 0},
		{"short verifier", url.Values{"code_verifier": {"abc"}}, 0},
		{"other registered address", url.Values{"redirect_uri": {callback + "2"}}, 0},
		{"after a minute", nil, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, nil)
			code := r.signIn(nil, "doctor", "doctor").Get("code")
			r.pass(c.later)
			if status, answer := r.exchange(code, c.change); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
				t.Fatalf("%d %v, want invalid_grant", status, answer)
			}
			if status, _ := r.exchange(code, nil); status != http.StatusBadRequest {
				t.Fatal("the code survived a wrong use")
			}
		})
	}
}

func TestClientAuthentication(t *testing.T) {
	r := start(t, nil)
	code := r.signIn(nil, "doctor", "doctor").Get("code")
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier},
		"client_id": {"anteroom"}, "client_secret": {"s:e c%+"}}
	for name, set := range map[string]func(*http.Request){
		"none or in the body": func(*http.Request) {},
		"wrong secret":        func(r *http.Request) { r.SetBasicAuth("anteroom", "x") },
		"unknown client":      func(r *http.Request) { r.SetBasicAuth("other", "") },
		"not form-encoded":    func(r *http.Request) { r.SetBasicAuth("anteroom", "s:e c%+") },
	} {
		req, _ := http.NewRequest("POST", r.url+"/token", strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		set(req)
		if response, body := r.do(req); response.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "invalid_client") {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
	if status, _ := r.exchange(code, nil); status != http.StatusOK {
		t.Error("a client that could not authenticate used the code up")
	}
}

func TestSessionAndPrompt(t *testing.T) {
	r := start(t, nil)
	asks := func(change url.Values) bool {
		response, _ := r.get("/authorize?" + r.query(change).Encode())
		return response.StatusCode == http.StatusOK
	}
	if !asks(nil) {
		t.Fatal("no form for a stranger")
	}
	r.signIn(nil, "doctor", "doctor")
	began := r.at
	r.pass(10 * time.Minute)
	if asks(nil) {
		t.Error("asks again within the provider's session")
	}
	for name, change := range map[string]url.Values{
		"prompt=login": {"prompt": {"login"}}, "max_age=0": {"max_age": {"0"}}, "max_age=300": {"max_age": {"300"}},
	} {
		if !asks(change) {
			t.Errorf("%s does not ask", name)
		}
	}
	_, answer := r.exchange(r.signIn(nil, "", "").Get("code"), nil)
	if c := r.claims(answer); c["auth_time"] != float64(began.Unix()) {
		t.Errorf("auth_time %v, want the time of the password, %d", c["auth_time"], began.Unix())
	}
	_, answer = r.exchange(r.signIn(url.Values{"prompt": {"login"}}, "nobody", "nobody").Get("code"), nil)
	if c := r.claims(answer); c["preferred_username"] != "nobody" || c["auth_time"] != float64(r.at.Unix()) {
		t.Errorf("after prompt=login: %v at %v", c["preferred_username"], c["auth_time"])
	}
	r.pass(sessionLife)
	if !asks(nil) {
		t.Error("the session never ends")
	}
}

func TestForm(t *testing.T) {
	r := start(t, nil)
	response, page := r.get("/authorize?" + r.query(nil).Encode())
	for _, want := range []string{`<label for="username">`, `<label for="password">`, `name="username"`, `name="password"`, `lang="en"`, `method="post"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the form lacks %s", want)
		}
	}
	if strings.Contains(page, "<script") || !strings.Contains(response.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("the page allows scripts")
	}
	request := requestField.FindStringSubmatch(page)[1]
	form := url.Values{"request": {request}, "username": {`do"><script>`}, "password": {"wrong"}}
	response, page = r.post("/login", form)
	if response.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(page, `role="alert"`) || strings.Contains(page, "<script") {
		t.Fatalf("wrong password: %d %s", response.StatusCode, page)
	}
	if response, _ = r.post("/login", form); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a form sent twice: %d", response.StatusCode)
	}
	form.Set("request", requestField.FindStringSubmatch(page)[1])
	form.Set("username", "doctor")
	form.Set("password", "doctor")
	mine := r.browser
	r.browser = newBrowser(t)
	if response, _ = r.post("/login", form); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a form filled in by another browser: %d", response.StatusCode)
	}
	r.browser = mine
	req, _ := http.NewRequest("POST", r.url+"/login", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if response, _ = r.do(req); response.StatusCode != http.StatusForbidden {
		t.Errorf("a form sent from another site: %d", response.StatusCode)
	}
}

func TestTooManyFailures(t *testing.T) {
	r := start(t, nil)
	_, page := r.get("/authorize?" + r.query(nil).Encode())
	for range maxFailures - 1 {
		_, page = r.post("/login", url.Values{"request": {requestField.FindStringSubmatch(page)[1]}, "username": {"doctor"}, "password": {"x"}})
	}
	response, _ := r.post("/login", url.Values{"request": {requestField.FindStringSubmatch(page)[1]}, "username": {"doctor"}, "password": {"x"}})
	if back := r.answer(response); back.Get("error") != "access_denied" {
		t.Fatalf("answer %v", back)
	}
}

func TestEndSession(t *testing.T) {
	r := start(t, nil)
	r.signIn(nil, "doctor", "doctor")
	leave := url.Values{"client_id": {"anteroom"}, "post_logout_redirect_uri": {"https://app.localhost:8443/bye"}, "state": {"s"}}
	if response, page := r.post("/end_session", leave); response.StatusCode != http.StatusOK || !strings.Contains(page, `name="confirm"`) {
		t.Fatalf("without confirmation: %d", response.StatusCode)
	}
	if back := r.signIn(nil, "", ""); back.Get("code") == "" {
		t.Fatal("signed out without confirmation")
	}
	leave.Set("confirm", "yes")
	response, _ := r.post("/end_session", leave)
	if got := response.Header.Get("Location"); got != "https://app.localhost:8443/bye?state=s" {
		t.Errorf("went to %q", got)
	}
	leave.Set("post_logout_redirect_uri", "https://evil.example/")
	if response, _ = r.post("/end_session", leave); response.Header.Get("Location") != "" {
		t.Error("redirects to an address that nobody registered")
	}
	if response, _ = r.get("/authorize?" + r.query(nil).Encode()); response.StatusCode != http.StatusOK {
		t.Error("still signed in")
	}
}

func TestForeignHost(t *testing.T) {
	r := start(t, nil)
	req, _ := http.NewRequest("GET", r.url+"/", nil)
	req.Host = "rebound.example"
	if response, _ := r.do(req); response.StatusCode != http.StatusMisdirectedRequest {
		t.Fatalf("status %d", response.StatusCode)
	}
}

func TestRotationAtRestart(t *testing.T) {
	kid := func() string {
		r := start(t, func(c *Config) { c.Key = nil })
		_, body := r.get("/jwks")
		var set struct{ Keys []map[string]string }
		if err := json.Unmarshal([]byte(body), &set); err != nil || len(set.Keys) != 1 {
			t.Fatalf("%s: %v", body, err)
		}
		return set.Keys[0]["kid"]
	}
	if first, second := kid(), kid(); first == second {
		t.Fatal("two starts, one key")
	}
}

func TestConfig(t *testing.T) {
	good := Config{Issuer: "http://127.0.0.1:1", Users: DemoUsers(), Key: testKey(), Clients: []Client{{ID: "a", Secret: "b", RedirectURIs: []string{"c"}}}}
	for name, change := range map[string]func(*Config){
		"no issuer":       func(c *Config) { c.Issuer = "" },
		"issuer and path": func(c *Config) { c.Issuer += "/" },
		"no users":        func(c *Config) { c.Users = nil },
		"no password":     func(c *Config) { c.Users = []User{{Username: "x"}} },
		"no clients":      func(c *Config) { c.Clients = nil },
		"no secret":       func(c *Config) { c.Clients = []Client{{ID: "a", RedirectURIs: []string{"c"}}} },
	} {
		c := good
		c.Users, c.Clients = slices.Clone(good.Users), slices.Clone(good.Clients)
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
}

func TestTableIsBounded(t *testing.T) {
	at := time.Unix(1, 0)
	table := newTable[int](func() time.Time { return at }, time.Minute)
	first := table.add(0)
	at = at.Add(time.Second)
	for i := range maxEntries + 10 {
		table.add(i)
	}
	if len(table.items) > maxEntries {
		t.Fatalf("%d entries", len(table.items))
	}
	if _, ok := table.get(first); ok {
		t.Fatal("the oldest entry outlived younger ones")
	}
}
