package idp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// visit is a client that a session was used at.
type visit struct{ username, sid, client string }

// EndSession ends the sessions of a user, or the one with a sid, with everything
// that they led to, and tells the clients (OpenID Connect Back-Channel Logout
// 1.0). The error names clients that could not be told; their sessions here are
// over nevertheless.
func (p *Provider) EndSession(who string) error {
	p.sessions.takeAll(func(s session) bool { return s.username == who || s.sid == who })
	p.codes.takeAll(func(g grant) bool { return g.username == who || g.sid == who })
	p.tokens.takeAll(func(a access) bool { return a.username == who || a.sid == who })
	p.renewals.takeAll(func(r renewal) bool { return r.username == who || r.sid == who })
	var problems []error
	for _, v := range p.visits.takeAll(func(v visit) bool { return v.username == who || v.sid == who }) {
		if err := p.tell(v); err != nil {
			p.log.Warn("telling a client of a sign-out", "client", v.client, "error", err)
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// tell posts the logout token (section 2.5).
func (p *Provider) tell(v visit) error {
	address := p.clients[v.client].BackChannelLogoutURI
	if address == "" {
		return nil
	}
	now := p.now()
	token, err := p.signer.sign("logout+jwt", map[string]any{
		"iss": p.issuer, "aud": v.client, "sub": p.people.get(v.username).Subject, "sid": v.sid, "jti": randomName(),
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "events": map[string]any{logoutEvent: map[string]any{}},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	body := strings.NewReader(url.Values{"logout_token": {token}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return fmt.Errorf("telling %s of a sign-out: %w", v.client, err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := p.http.Do(request)
	if err != nil {
		return fmt.Errorf("telling %s of a sign-out: %w", v.client, err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("telling %s of a sign-out: status %d", v.client, response.StatusCode)
	}
	return nil
}

// endSession ends the provider's own session (OpenID Connect RP-Initiated Logout
// 1.0, section 2): at once for a client that shows an ID token of this very
// session, else after the person confirmed it on our page, because any site can
// send a browser here.
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	params, err := parameters(r)
	client, sid, good := p.hint(params)
	if err != nil || !good {
		p.page(w, http.StatusBadRequest, view{Kind: "error", Problem: "The request could not be read."})
		return
	}
	s, _, signedIn := p.session(r)
	confirmed := sid != "" && (!signedIn || s.sid == sid) ||
		r.Method == http.MethodPost && params.Has("confirm") && http.NewCrossOriginProtection().Check(r) == nil
	if !confirmed {
		hidden := map[string]string{}
		for _, name := range []string{"client_id", "id_token_hint", "post_logout_redirect_uri", "state"} {
			if params.Has(name) {
				hidden[name] = params.Get(name)
			}
		}
		p.page(w, http.StatusOK, view{Kind: "leave", Hidden: hidden})
		return
	}
	if signedIn {
		_ = p.EndSession(s.sid) // who could not be told is in the log
	}
	p.setCookie(w, "_session", "")
	next := params.Get("post_logout_redirect_uri")
	u, err := url.Parse(next)
	if err != nil || !slices.Contains(p.clients[client].PostLogoutRedirectURIs, next) {
		p.page(w, http.StatusOK, view{Kind: "left"})
		return
	}
	if params.Has("state") {
		query := u.Query()
		query.Set("state", params.Get("state"))
		u.RawQuery = query.Encode()
	}
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// hint reads the ID token that a client shows. One that is over is good enough;
// one that we did not make, or that another client got, is not.
func (p *Provider) hint(params url.Values) (client, sid string, ok bool) {
	client = params.Get("client_id")
	if !params.Has("id_token_hint") {
		return client, "", true
	}
	token, ok := parseJWS(params.Get("id_token_hint"))
	if !ok || !token.signedWith(p.signer.key.Public()) || token.header["typ"] != "JWT" || token.claims["iss"] != p.issuer {
		return "", "", false
	}
	audience, _ := token.claims["aud"].(string)
	sid, _ = token.claims["sid"].(string)
	return audience, sid, client == "" || client == audience
}
