package bearer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
)

const maxAnswer = 16 << 10 // bytes of one answer: what comes of it is remembered

// ask gives the issuer's word on a token: the one it gave lately, or a new one. All
// who ask about one token at one time share one question; one that gives up does
// not end it for the others.
func (a *answers) ask(ctx context.Context, token string) (facts, error) {
	name := sha256.Sum256([]byte(token))
	a.mu.Lock()
	if known, ok := a.recall(name, a.issuer.now()); ok {
		a.mu.Unlock()
		return known.facts, known.err
	}
	q := a.asked[name]
	if q == nil {
		if len(a.asked) >= maxAsked {
			a.mu.Unlock()
			return facts{}, unavailable("introspection.busy", fmt.Errorf("asking %s about a token: %d questions are open", a.issuer.issuer, maxAsked))
		}
		q = &question{done: make(chan struct{})}
		a.asked[name] = q
		go a.run(context.WithoutCancel(ctx), name, token, q)
	}
	a.mu.Unlock()
	select {
	case <-q.done:
		return q.facts, q.err
	case <-ctx.Done():
		return facts{}, unavailable("cancelled", ctx.Err())
	}
}

// run asks once. The client bounds its time.
func (a *answers) run(ctx context.Context, name [sha256.Size]byte, token string, q *question) {
	defer close(q.done)
	began := a.issuer.now()
	q.facts, q.err = a.fetch(ctx, token)
	if errors.Is(q.err, identity.ErrUnavailable) {
		a.issuer.log.Error("asking the issuer about a token", "error", q.err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.asked, name)
	a.remember(name, q.answer, began)
}

// fetch makes the request of RFC 7662, section 2.1.
func (a *answers) fetch(ctx context.Context, token string) (facts, error) {
	address, err := a.address(ctx)
	if err != nil {
		return facts{}, err
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if a.secret.reveal() == "" {
		form.Set("client_id", a.clientID) // the certificate says the rest: RFC 8705, section 2
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return facts{}, unavailable("introspection.unreachable", errors.New("unusable address"))
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if a.secret.reveal() != "" {
		// RFC 6749, section 2.3.1: each is form-encoded before.
		r.SetBasicAuth(url.QueryEscape(a.clientID), url.QueryEscape(a.secret.reveal()))
	}
	response, err := a.issuer.client.Do(r)
	if err != nil {
		return facts{}, unavailable("introspection.unreachable", issuer.Cause(err))
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return facts{}, unavailable("introspection.client", fmt.Errorf("asking %s about a token: it does not know us: check client_id and client_secret of `introspect`", a.issuer.issuer))
	case status != http.StatusOK:
		return facts{}, unavailable("introspection.unreachable", issuer.StatusError(status))
	case !issuer.IsJSON(response.Header):
		return facts{}, unavailable("introspection.malformed", issuer.ErrType)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return facts{}, unavailable("introspection.unreachable", issuer.Cause(err))
	}
	return a.issuer.readAnswer(body, a.issuer.now())
}

// address is where to ask.
func (a *answers) address(ctx context.Context) (string, error) {
	if a.url != "" {
		return a.url, nil
	}
	s, _, err := a.issuer.server.Get(ctx)
	if err != nil {
		return "", err
	}
	if s.introspectURL == "" {
		return "", unavailable("discovery.introspection_endpoint", fmt.Errorf("reading metadata of %s: introspection_endpoint is missing: write its address after `introspect`", a.issuer.issuer))
	}
	return s.introspectURL, nil
}

// readAnswer reads an answer (RFC 7662, section 2.2). One that is no answer at all
// is the issuer's failure; one that does not say plainly that this is a good access
// token is a refusal.
func (i *Issuer) readAnswer(body []byte, now time.Time) (facts, error) {
	if len(body) > maxAnswer {
		return facts{}, unavailable("introspection.malformed", fmt.Errorf("answer larger than %d bytes", maxAnswer))
	}
	c, err := issuer.ParseObject(body)
	if err != nil {
		return facts{}, unavailable("introspection.malformed", err)
	}
	active, present, err := c.Bool("active")
	if err != nil || !present {
		return facts{}, no("token.active")
	}
	if !active {
		return facts{}, no("token.inactive")
	}
	// Refresh tokens and ID tokens are active, too. Servers tell them apart in
	// one of these members; what says nothing is no access token.
	told := false
	for name, kinds := range map[string][]string{
		"token_type": {"Bearer", "DPoP"},                    // RFC 6749, section 7.1
		"token_use":  {"access_token", "access"},            // said by some besides
		"typ":        {"Bearer", "DPoP", "JWT", typeAccess}, // likewise
	} {
		kind, present, err := optional(c, name)
		if err != nil || present && !oneOf(kind, kinds) {
			return facts{}, no("token.kind")
		}
		told = told || present && name != "typ"
	}
	if !told {
		return facts{}, no("token.kind")
	}
	f, err := i.facts(c, false, now)
	if err != nil {
		return facts{}, err
	}
	if kind, _, _ := optional(c, "token_type"); strings.EqualFold(kind, schemeDPoP) && f.key.dpop == "" {
		return facts{}, no("token.cnf")
	}
	return f, nil
}

func oneOf(s string, words []string) bool {
	for _, word := range words {
		if strings.EqualFold(s, word) {
			return true
		}
	}
	return false
}
