package idp

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	pushedLife   = time.Minute
	pushedPrefix = "urn:ietf:params:oauth:request_uri:"
)

// push takes an authorization request from the client itself (RFC 9126, section
// 2).
func (p *Provider) push(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r)
	if err != nil || r.URL.RawQuery != "" || params.Has("request_uri") {
		tokenError(w, http.StatusBadRequest, "invalid_request")
		return
	}
	client, ok := p.authenticate(r, params)
	if !ok {
		noClient(w)
		return
	}
	thumb, problem := p.prove(w, r, "")
	if problem == "" && thumb != "" && params.Has("dpop_jkt") && params.Get("dpop_jkt") != thumb {
		problem = "invalid_dpop_proof"
	}
	if problem == "" && !client.allows(params.Get("redirect_uri")) {
		problem = "invalid_request"
	}
	if problem == "" {
		problem = checkRequest(params, strings.Fields(params.Get("scope")))
	}
	if problem != "" {
		tokenError(w, http.StatusBadRequest, problem)
		return
	}
	kept := url.Values{}
	for name, values := range params {
		if !strings.HasPrefix(name, "client_") {
			kept[name] = values
		}
	}
	kept.Set("client_id", client.ID)
	if thumb != "" {
		kept.Set("dpop_jkt", thumb)
	}
	writeJSON(w, http.StatusCreated, map[string]any{
		"request_uri": pushedPrefix + p.pushed.add(kept), "expires_in": int(pushedLife.Seconds()),
	})
}

// pull gives what was pushed, once, to the browser of the client that pushed it.
// Other parameters beside a request_uri count for nothing (RFC 9126, section 4).
func (p *Provider) pull(params url.Values) (url.Values, bool) {
	name, ours := strings.CutPrefix(params.Get("request_uri"), pushedPrefix)
	if !ours {
		return nil, false
	}
	pushed, ok := p.pushed.take(name)
	return pushed, ok && pushed.Get("client_id") == params.Get("client_id")
}
