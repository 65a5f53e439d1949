package idp

import (
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
	thumb            string // of the DPoP key that the code is for; "" for any
	posted           bool   // response_mode=form_post
	factor           bool   // a second factor is asked for
	hint             string // login_hint
	browser          string // the cookie of the browser that asked
	failures         int
}

// session is the provider's own: who signed in here, and when.
type session struct {
	username string
	at       time.Time
	sid      string // its name for clients; the cookie's value is secret
	strong   bool   // with a second factor
}

const maxFailures = 10 // wrong passwords for one sign-in form

// authorize is OpenID Connect Core 1.0, section 3.1.2.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r)
	if err != nil {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The request could not be read."})
		return
	}
	if params.Has("request_uri") {
		pushed, ok := p.pull(params)
		if !ok {
			p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The application's request is over. Go back to the application and start again."})
			return
		}
		params = pushed
	} else if p.clients[params.Get("client_id")].PAR {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The application must push its requests."})
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
		challenge: params.Get("code_challenge"), scopes: strings.Fields(params.Get("scope")), thumb: params.Get("dpop_jkt"),
		posted: params.Get("response_mode") == "form_post", factor: wantsFactor(params.Get("acr_values")), hint: params.Get("login_hint"),
	}
	if problem := checkRequest(params, q.scopes); problem != "" {
		p.answer(w, r, q, url.Values{"error": {problem}})
		return
	}
	prompts := strings.Fields(params.Get("prompt"))
	s, _, signedIn := p.session(r)
	asks := slices.Contains(prompts, "login") || slices.Contains(prompts, "select_account")
	if signedIn && !asks && p.recent(s, params.Get("max_age")) && (s.strong || !q.factor) && p.people.may(s.username) {
		p.grant(w, r, q, s)
		return
	}
	if slices.Contains(prompts, "none") {
		p.answer(w, r, q, url.Values{"error": {"login_required"}})
		return
	}
	q.browser = p.browser(w, r)
	p.page(w, http.StatusOK, view{Kind: "form", Request: p.requests.add(q), Username: q.hint, Code: q.factor})
}

// wantsFactor says whether the first level of acr_values that we know is the one
// with a second factor.
func wantsFactor(acrValues string) bool {
	for _, acr := range strings.Fields(acrValues) {
		if acr == ACRPassword || acr == ACRMultiFactor {
			return acr == ACRMultiFactor
		}
	}
	return false
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
	case params.Get("response_type") != "code":
		return "unsupported_response_type"
	case mode != "" && mode != "query" && mode != "form_post":
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
