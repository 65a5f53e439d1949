package idp

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
)

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
	user := p.people.get(params.Get("username"))
	if !user.proves(params, q.factor) {
		if q.failures++; q.failures >= maxFailures {
			p.answer(w, r, q, url.Values{"error": {"access_denied"}})
			return
		}
		p.page(w, http.StatusUnprocessableEntity, view{
			Kind: "form", Request: p.requests.add(q), Username: params.Get("username"),
			Code: q.factor, Problem: "That username and password do not fit together. Please try again.",
		})
		return
	}
	// A new name for the session at each sign-in: one that was planted
	// before is worth nothing.
	s := session{username: user.Username, at: p.now(), sid: randomName(), strong: q.factor && user.Code != ""}
	if former, old, ok := p.session(r); ok {
		p.sessions.take(old)
		if former.username == s.username {
			s.sid = former.sid // the same person, proved again
		}
	}
	p.setCookie(w, "_session", p.sessions.add(s))
	p.grant(w, r, q, s)
}

// proves checks the form. Somebody without a second factor may leave the code
// out: what the client asked for is a wish, and the ID token says what was done
// (OpenID Connect Core 1.0, section 3.1.2.1, acr_values).
func (u User) proves(form url.Values, strong bool) bool {
	right := samePassword(u.Password, form.Get("password"))
	if strong && u.Code != "" {
		right = samePassword(u.Code, form.Get("code")) && right
	}
	return right && u.Username != "" && !u.Disabled
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

// answer posts a form, or redirects with 303: a browser must not send the password on (RFC 9700,
// section 4.12).
func (p *Provider) answer(w http.ResponseWriter, r *http.Request, q request, values url.Values) {
	u, err := url.Parse(q.redirect)
	if err != nil {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The application's address is not one."})
		return
	}
	values.Set("iss", p.issuer)
	if q.state != "" {
		values.Set("state", q.state)
	}
	if q.posted {
		p.post(w, q.redirect, values)
		return
	}
	query := u.Query()
	for name := range values {
		query.Set(name, values.Get(name))
	}
	u.RawQuery = query.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// post sends the browser back with a form that sends itself (OAuth 2.0 Form Post
// Response Mode). It is the one page with a script.
func (p *Provider) post(w http.ResponseWriter, to string, values url.Values) {
	v := view{Kind: "post", Action: to, Nonce: randomName(), Hidden: map[string]string{}}
	for name := range values {
		v.Hidden[name] = values.Get(name)
	}
	w.Header().Set("Content-Security-Policy", w.Header().Get("Content-Security-Policy")+"; script-src 'nonce-"+v.Nonce+"'")
	p.page(w, http.StatusOK, v)
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
