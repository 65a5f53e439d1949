package session

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// maxClient bounds the name of a client and of a patient.
const maxClient = 255

// Caller is who an access token speaks for, and what it was given for. No session
// comes of it.
type Caller struct {
	Grant
	ClientID string
	Scopes   []string // scope-tokens (RFC 6749, section 3.3)
	Patient  string   // the patient in context, "" when there is none
	Expires  time.Time
	Token    [32]byte // names the token
}

// callerStatement is an assertion about a caller: without sid, with what RFC 9068,
// section 2.2, and SMART App Launch call these.
type callerStatement struct {
	statement
	ClientID string `json:"client_id,omitempty"`
	Scope    string `json:"scope,omitempty"`
	Patient  string `json:"patient,omitempty"`
}

// AssertCaller returns what [Manager.Assertion] does for a request with an access
// token, on host as the client sent it: it holds no longer than the token and, having
// no session, has no sid. One is made at most every 30 seconds for a token, a site and
// an audience. Errors: [ErrNone] when the token is over, [ErrGrant] for what must not
// stand in an assertion, [ErrClosed] and [ErrTooLarge] as there. Whether the token is
// good is the caller's to know, at each request.
func (m *Manager) AssertCaller(c Caller, host, audience string) (string, error) {
	token, err := m.assertCaller(c, host, audience)
	if err != nil {
		return "", fmt.Errorf("asserting caller: %w", err)
	}
	return token, nil
}

func (m *Manager) assertCaller(c Caller, host, to string) (string, error) {
	now := m.now()
	_, ok := hostName(host)
	switch {
	case !m.running.Load():
		return "", ErrClosed
	case now.Unix() >= c.Expires.Unix():
		return "", errExpired
	case !ok || to == "" || len(to) > maxAudience || !isText(to):
		return "", fmt.Errorf("host or audience: %w", ErrGrant)
	}
	r := m.keys.assertions.Load()
	// No sid is as long as that: the two kinds never meet.
	key := mintKey{base64.RawURLEncoding.EncodeToString(c.Token[:]), "https://" + host, to}
	shard := m.keys.minted.shard(key)
	shard.mu.RLock()
	a := shard.young[key]
	shard.mu.RUnlock()
	if a.goodFor(&c, r, now) {
		return a.token, nil
	}
	if err := c.check(); err != nil {
		return "", err
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	a = shard.get(key)
	if !a.goodFor(&c, r, now) {
		var err error
		if a, err = r.assertCaller(&c, key, now); err != nil {
			return "", err
		}
	}
	shard.put(key, a)
	return a.token, nil
}

// assertCaller makes an assertion.
func (r *ring) assertCaller(c *Caller, key mintKey, now time.Time) (*assertion, error) {
	k := r.signer(now)
	if k == nil {
		return nil, fmt.Errorf("no key may sign: %w", ErrClosed)
	}
	held := *c // what the caller's slices hold is theirs
	held.Grant, held.Scopes = c.Grant.clone(), slices.Clone(c.Scopes)
	issued := second(now)
	expires := earlier(issued.Add(assertionLife), second(c.Expires))
	s := &Session{Grant: held.Grant, Issuer: key.issuer}
	w := callerStatement{
		statement: s.statement(key.audience, issued, expires, newID(), ""),
		ClientID:  c.ClientID, Scope: strings.Join(c.Scopes, " "), Patient: c.Patient,
	}
	token, err := jws.Sign(k.private, k.kid, assertionType, w)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	a := &assertion{caller: &held, token: token, made: now}
	a.session, a.kid, a.expires = s, k.kid, expires.Unix()
	return a, nil
}

// goodFor says whether an assertion may be given out for c now.
func (a *assertion) goodFor(c *Caller, r *ring, now time.Time) bool {
	return a != nil && a.caller != nil && a.isYoung(r, now) && a.caller.same(c)
}

func (c *Caller) same(d *Caller) bool {
	return c.Token == d.Token && c.ClientID == d.ClientID && c.Patient == d.Patient && c.Expires.Equal(d.Expires) &&
		slices.Equal(c.Scopes, d.Scopes) && sameGrant(&c.Grant, &d.Grant)
}

// check refuses what would be read otherwise than it is meant.
func (c *Caller) check() error {
	if err := c.Grant.check(); err != nil {
		return err
	}
	if len(c.ClientID) > maxClient || !isText(c.ClientID) || len(c.Patient) > maxClient || !isText(c.Patient) {
		return fmt.Errorf("client or patient: %w", ErrGrant)
	}
	for _, scope := range c.Scopes {
		if !isScope(scope) {
			return fmt.Errorf("scope: %w", ErrGrant)
		}
	}
	return nil
}

// isScope accepts a scope-token: printable ASCII without blank, quotation mark and
// backslash.
func isScope(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}
