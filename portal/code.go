package portal

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// codeTTL is how long a one-time code lives: the time of two redirects on a bad
// line. It stands in an address, and addresses end up in logs.
const codeTTL = 30 * time.Second

// pass is what a one-time code stands for. It is in the store only, sealed,
// under a hash of the code: who reads the store learns neither.
type pass struct {
	Site      string // the ask's site, state and challenge: no other browser,
	State     string // no other attempt of it, and no other site gets in
	Challenge []byte
	Session   string // the sign-on that is joined; never shown
	Grant     session.Grant
	Started   time.Time
	Created   int64 // Unix seconds
}

// Reasons of codes that are not honoured, as they stand in the audit log.
const (
	reasonCodeUnknown = "code.unknown" // made up, used, or swept after its time
	reasonCodeExpired = "code.expired"
	reasonCodeSite    = "code.site"
	reasonCodeAttempt = "code.attempt"
	reasonCodeEnded   = "code.ended" // the sign-on ended between code and redemption
)

// newCode makes a code for the ask and returns the address that brings it to
// the site. Nothing else in it says who comes.
func (p *Portal) newCode(ctx context.Context, k ask, s *session.Session) (string, error) {
	code := newState() // 256 random bits, as a state
	text, err := p.sealJSON(ctx, labelCode, pass{
		Site: k.Site, State: k.State, Challenge: k.Challenge,
		Session: s.ID, Grant: s.Grant, Started: s.Started, Created: p.now().Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("making a one-time code: %w", err)
	}
	if err := p.store.Put(ctx, codeKey(code), []byte(text), p.now().Add(codeTTL)); err != nil {
		return "", fmt.Errorf("storing a one-time code: %w", err)
	}
	q := url.Values{"code": {code}, "state": {k.State}}
	return p.callbackURL(k.Site, handOffName) + "?" + q.Encode(), nil
}

// takeCode gives what a code stands for, once: of any number of callers on any
// number of nodes one gets it. An unknown code is store.ErrNotFound.
func (p *Portal) takeCode(ctx context.Context, code string) (pass, error) {
	if !isCode(code) {
		return pass{}, store.ErrNotFound
	}
	text, err := p.store.Take(ctx, codeKey(code))
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return pass{}, err
		}
		return pass{}, fmt.Errorf("taking a one-time code: %w", err)
	}
	var c pass
	if err := p.openJSON(ctx, labelCode, string(text), &c); err != nil {
		return pass{}, fmt.Errorf("opening a one-time code: %w", err)
	}
	return c, nil
}

func codeKey(code string) string {
	return labelCodeID + "/" + hex.EncodeToString(labelled(labelCodeID, code))
}

// isCode keeps the store from being asked about what newCode cannot have made.
func isCode(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 32
}

// fits reports why a code must not be redeemed for this attempt here and now,
// or "".
func (c pass) fits(a attempt, host string, now time.Time) string {
	created := time.Unix(c.Created, 0)
	switch {
	case now.Sub(created) >= codeTTL, created.Sub(now) > codeTTL:
		return reasonCodeExpired
	case c.Site != strings.ToLower(host):
		return reasonCodeSite
	case subtle.ConstantTimeCompare([]byte(c.State), []byte(a.State)) != 1,
		subtle.ConstantTimeCompare(c.Challenge, challenge(a.Keep)) != 1:
		return reasonCodeAttempt
	}
	return ""
}

// redeem turns the code of a callback into a session at this site. It is the
// same sign-on as at the portal: one sign-out ends both.
func (p *Portal) redeem(r *http.Request, a attempt, code string) (*session.Session, []*http.Cookie, *failure) {
	c, err := p.takeCode(context.WithoutCancel(r.Context()), code)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil, &failure{page: pageAttempt, reason: reasonCodeUnknown, err: err}
		}
		page, reason := classify(err)
		return nil, nil, &failure{page: page, reason: reason, err: err}
	}
	if reason := c.fits(a, r.Host, p.now()); reason != "" {
		return nil, nil, &failure{page: pageAttempt, reason: reason}
	}
	s, cookies, err := p.sessions.Join(r.Context(), &session.Session{Grant: c.Grant, ID: c.Session, Started: c.Started}, r.Host)
	switch {
	case errors.Is(err, session.ErrNone):
		return nil, nil, &failure{page: pageAttempt, reason: reasonCodeEnded, err: err}
	case err != nil:
		page, reason := classify(err)
		if reason == reasonUnknown {
			reason = reasonIssue
		}
		return nil, nil, &failure{page: page, reason: reason, err: err}
	}
	return s, cookies, nil
}
