package idp

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request is an authorization request that waits for a sign-in.
type request struct {
	client, redirect string
	state, nonce     string
	challenge        string
	scopes           []string
	browser          string // the cookie of the browser that asked
	failures         int
}

// session is the provider's own: who signed in here, and when.
type session struct {
	username string
	at       time.Time
}

const maxFailures = 10 // wrong passwords for one sign-in form

// authorize is OpenID Connect Core 1.0, section 3.1.2.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r)
	if err != nil {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The request could not be read."})
		return
	}
	client, known := p.clients[params.Get("client_id")]
	if !known || !client.allows(params.Get("redirect_uri")) {
		// Nothing may be sent to an address that nobody registered.
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The application that sent you here, or the address it wants you back at, is not registered."})
		return
	}
	q := request{
		client: client.ID, redirect: params.Get("redirect_uri"), state: params.Get("state"), nonce: params.Get("nonce"),
		challenge: params.Get("code_challenge"), scopes: strings.Fields(params.Get("scope")),
	}
	if problem := checkRequest(params, q.scopes); problem != "" {
		p.answer(w, r, q, url.Values{"error": {problem}})
		return
	}
	prompts := strings.Fields(params.Get("prompt"))
	s, _, signedIn := p.session(r)
	if signedIn && !slices.Contains(prompts, "login") && p.recent(s, params.Get("max_age")) {
		p.grant(w, r, q, s)
		return
	}
	if slices.Contains(prompts, "none") {
		p.answer(w, r, q, url.Values{"error": {"login_required"}})
		return
	}
	q.browser = p.browser(w, r)
	p.page(w, http.StatusOK, view{Kind: "form", Request: p.requests.add(q)})
}

// parameters reads a query or a form, and refuses a name that stands twice.
func parameters(r *http.Request) (url.Values, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	params := r.URL.Query()
	if r.Method == http.MethodPost {
		params = r.PostForm
	}
	for _, values := range params {
		if len(values) > 1 {
			return nil, http.ErrNotSupported
		}
	}
	return params, nil
}

// checkRequest gives the error code of OpenID Connect Core 1.0, section 3.1.2.6,
// or "".
func checkRequest(params url.Values, scopes []string) string {
	prompts := strings.Fields(params.Get("prompt"))
	_, err := strconv.ParseUint(params.Get("max_age"), 10, 31)
	mode := params.Get("response_mode")
	switch {
	case params.Has("request"):
		return "request_not_supported"
	case params.Has("request_uri"):
		return "request_uri_not_supported"
	case params.Get("response_type") != "code":
		return "unsupported_response_type"
	case mode != "" && mode != "query":
		return "invalid_request"
	case !slices.Contains(scopes, "openid"):
		return "invalid_scope"
	case params.Get("code_challenge_method") != "S256" || len(params.Get("code_challenge")) != 43:
		return "invalid_request"
	case slices.Contains(prompts, "none") && len(prompts) > 1:
		return "invalid_request"
	case params.Has("max_age") && err != nil:
		return "invalid_request"
	}
	return ""
}

// recent says whether the session is young enough for max_age; 0 never is.
func (p *Provider) recent(s session, maxAge string) bool {
	if maxAge == "" {
		return true
	}
	seconds, err := strconv.ParseUint(maxAge, 10, 31)
	return err == nil && p.now().Sub(s.at) < time.Duration(seconds)*time.Second
}

// login takes the form.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		p.page(w, http.StatusForbidden, view{Kind: "error", Problem: "The form was sent from another page."})
		return
	}
	params, err := parameters(r)
	if err != nil {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The form could not be read."})
		return
	}
	q, waiting := p.requests.take(params.Get("request"))
	browser, err := r.Cookie(p.cookie + "_browser")
	if !waiting || err != nil || q.browser == "" || browser.Value != q.browser {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "This sign-in form is no longer valid, or your browser keeps no cookies. Go back to the application and start again."})
		return
	}
	user, known := p.users[params.Get("username")]
	if !samePassword(user.Password, params.Get("password")) || !known {
		if q.failures++; q.failures >= maxFailures {
			p.answer(w, r, q, url.Values{"error": {"access_denied"}})
			return
		}
		p.page(w, http.StatusUnprocessableEntity, view{
			Kind: "form", Request: p.requests.add(q), Username: params.Get("username"),
			Problem: "That username and password do not fit together. Please try again.",
		})
		return
	}
	// A new name for the session at each sign-in: one that was planted
	// before is worth nothing.
	if _, old, ok := p.session(r); ok {
		p.sessions.take(old)
	}
	s := session{username: user.Username, at: p.now()}
	p.setCookie(w, "_session", p.sessions.add(s))
	p.grant(w, r, q, s)
}

func samePassword(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return a != "" && subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// grant makes a code and sends the browser back with it.
func (p *Provider) grant(w http.ResponseWriter, r *http.Request, q request, s session) {
	code := p.codes.add(grant{request: q, session: s})
	p.answer(w, r, q, url.Values{"code": {code}})
}

// answer redirects with 303: a browser must not send the password on (RFC 9700,
// section 4.12).
func (p *Provider) answer(w http.ResponseWriter, r *http.Request, q request, values url.Values) {
	u, err := url.Parse(q.redirect)
	if err != nil {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The application's address is not one."})
		return
	}
	query := u.Query()
	for name := range values {
		query.Set(name, values.Get(name))
	}
	if q.state != "" {
		query.Set("state", q.state)
	}
	query.Set("iss", p.issuer)
	u.RawQuery = query.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// session finds the provider's session of this browser and its name.
func (p *Provider) session(r *http.Request) (session, string, bool) {
	cookie, err := r.Cookie(p.cookie + "_session")
	if err != nil {
		return session{}, "", false
	}
	s, ok := p.sessions.get(cookie.Value)
	return s, cookie.Value, ok
}

// browser names the browser, so that a form works only where it was asked for.
func (p *Provider) browser(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie(p.cookie + "_browser"); err == nil && len(cookie.Value) == len(randomName()) {
		return cookie.Value
	}
	name := randomName()
	p.setCookie(w, "_browser", name)
	return name
}

// setCookie sets a cookie for the browser's session. Secure would keep it from
// plain HTTP on loopback, where this provider lives.
func (p *Provider) setCookie(w http.ResponseWriter, suffix, value string) {
	c := &http.Cookie{Name: p.cookie + suffix, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: strings.HasPrefix(p.issuer, "https:")}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
