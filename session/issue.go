package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// Issue starts a session on host (as the browser sent it) and returns it with the
// two cookies to set. Everything in it is new: no value that the browser held
// before is adopted. It returns [ErrGrant] for a grant or host that a session
// must not hold, [ErrTooLarge] when a cookie would exceed 4096 bytes (many roles,
// groups or claims, long names), a [LimitError] when the person has as many sign-ins as the role
// allows, [ErrNone] when the provider's session was ended meanwhile, [ErrStale] and
// [ErrClosed] as Find does.
func (m *Manager) Issue(ctx context.Context, g Grant, host string, a Admission) (*Session, []*http.Cookie, error) {
	s, cookies, err := m.issue(ctx, g, host, a)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing session: %w", err)
	}
	return s, cookies, nil
}

func (m *Manager) issue(ctx context.Context, g Grant, host string, a Admission) (*Session, []*http.Cookie, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if err := m.available(); err != nil {
		return nil, nil, err
	}
	if err := g.check(); err != nil {
		return nil, nil, err
	}
	g = g.clone()
	if !g.AuthTime.IsZero() {
		g.AuthTime = time.Unix(g.AuthTime.Unix(), 0).UTC()
	}
	if g.ProviderSession != "" {
		g.ProviderSession = providerSession(g.Source, g.ProviderSession)
	}
	if len(a.Keep) > maxKeep {
		return nil, nil, fmt.Errorf("%d bytes to keep for the identity source: %w", len(a.Keep), ErrTooLarge)
	}
	s := &Session{Grant: g, ID: newID(), verify: a.Verify}
	var err error
	if s.Started, err = m.start(s, a.Proved); err != nil {
		return nil, nil, err
	}
	cookies, err := m.mintPair(s, host, standing{})
	if err != nil {
		return nil, nil, err
	}
	if err := m.list(ctx, s, a); err != nil {
		return nil, nil, err
	}
	m.live.seen(s, m.now())
	return s, cookies, nil
}

// start is when a new session begins: now, or, where everything until now was
// revoked, in the second after that. That may be one of another node whose clock is
// a little ahead. Whoever proved themselves before that has proved nothing; by whose
// clock they did, ours or the revoking node's, is not known, so that a minute counts.
func (m *Manager) start(s *Session, proved time.Time) (time.Time, error) {
	now := second(m.now())
	n := namesOf(s.ID, &s.Grant, now)
	floor := m.live.over.floor(&n)
	if !proved.IsZero() && floor >= proved.Add(-aheadAtMost).Unix() {
		return now, errRevoked
	}
	if floor >= now.Unix() {
		now = time.Unix(floor+1, 0).UTC()
		n.started = uint32(now.Unix())
	}
	switch {
	case now.After(m.now().Add(aheadAtMost)):
		return now, fmt.Errorf("sessions were revoked by a clock that is ahead of ours: %w", ErrStale)
	case m.live.over.why(&n) != notRevoked:
		return now, errRevoked
	}
	return now, nil
}

// list makes a new sign-on known to all nodes: its record first, as one without a
// record counts as ended; what is kept for its source; and its place in the account's
// list. Who ends a provider's session marks it first and then looks for what began
// with it, here it is the other way round: one of the two sees the other.
func (m *Manager) list(ctx context.Context, s *Session, a Admission) error {
	r := record{Browser: a.Device.Browser, System: a.Device.System}
	r.update(s)
	if err := m.noteProvider(ctx, s); err != nil {
		return err
	}
	if _, err := m.writeCell(ctx, recordKey(s.ID), nil, r, s.Expires); err != nil {
		return err
	}
	err := m.keep(ctx, s, a)
	if err == nil {
		err = m.enlist(ctx, s, a, m.lifetime.Of(s.Roles))
	}
	if err == nil {
		n := namesOf(s.ID, &s.Grant, s.Started)
		err = m.live.over.why(&n).err()
	}
	if err != nil {
		m.unlist(ctx, s.ID)
	}
	return err
}

// Join takes a sign-on to another site: same sid, grant and start, everything else
// is new. Only Grant, ID and Started of s matter. A sign-on that was revoked or has
// ended is [ErrNone]; other errors are those of Issue.
func (m *Manager) Join(ctx context.Context, s *Session, host string) (*Session, []*http.Cookie, error) {
	next, cookies, err := m.join(ctx, s, host)
	if err != nil {
		return nil, nil, fmt.Errorf("joining session: %w", err)
	}
	return next, cookies, nil
}

func (m *Manager) join(ctx context.Context, s *Session, host string) (*Session, []*http.Cookie, error) {
	if err := m.available(); err != nil {
		return nil, nil, err
	}
	next := &Session{Grant: s.Grant, ID: s.ID, Started: second(s.Started), verify: s.verify}
	if !isID(next.ID) || next.ProviderSession != "" && !isID(next.ProviderSession) || next.Started.After(m.now().Add(aheadAtMost)) {
		return nil, nil, ErrGrant
	}
	if err := next.Grant.check(); err != nil {
		return nil, nil, err
	}
	next.Grant = next.Grant.clone()
	n := namesOf(next.ID, &next.Grant, next.Started)
	if why := m.live.over.why(&n); why != notRevoked {
		return nil, nil, why.err()
	}
	// What another site's renewal was told holds here as well.
	st, err := m.joining(ctx, next)
	if err != nil {
		return nil, nil, err
	}
	next.Grant = st.grant
	cookies, err := m.mintPair(next, host, st)
	if err != nil {
		return nil, nil, err
	}
	if err := m.touch(ctx, next); err != nil {
		return nil, nil, err
	}
	m.live.seen(next, m.now())
	return next, cookies, nil
}

// mintPair makes a token with a context of its own for a session of which the grant,
// the sid and the start are known.
func (m *Manager) mintPair(s *Session, host string, st standing) ([]*http.Cookie, error) {
	aud, ok := audience(host)
	if !ok {
		return nil, fmt.Errorf("host: %w", ErrGrant)
	}
	life := m.lifetime.Of(s.Roles)
	now := second(m.now())
	s.Issuer, s.Audience, s.TokenID = "https://"+host, aud, newID()
	s.idle, s.Ends = life.Idle, s.Started.Add(life.Absolute)
	s.IssuedAt, s.Expires = later(now, s.Started), st.cap(earlier(now.Add(s.idle), s.Ends))
	if !s.Expires.After(s.IssuedAt) {
		return nil, errExpired
	}
	var secret [32]byte
	rand.Read(secret[:])
	s.context = sha256.Sum256(secret[:])
	token, _, err := m.sign(s)
	if err != nil {
		return nil, err
	}
	return []*http.Cookie{
		cookie(CookieToken, token),
		cookie(CookieContext, base64.RawURLEncoding.EncodeToString(secret[:])),
	}, nil
}

// sign makes the token of s and refuses one that a browser would drop.
func (m *Manager) sign(s *Session) (token, kid string, err error) {
	k := m.ring.Load().signer(m.now())
	if k == nil { // before Start, or the last key was killed a moment ago
		return "", "", ErrClosed
	}
	token, err = jws.Sign(k.private, k.kid, tokenType, s.wire())
	if err != nil {
		// Everything in it was checked before: only its size is left.
		return "", "", fmt.Errorf("%w: %w", s.Grant.tooLarge(0), err)
	}
	if size := len(CookieToken) + len(token); size > maxCookie {
		return "", "", s.Grant.tooLarge(size)
	}
	return token, k.kid, nil
}

// tooLarge says what of a grant takes the room, and what to do about it. Nothing that
// the grant holds is in it.
func (g Grant) tooLarge(size int) error {
	bytes := func(list []string) (n int) {
		for _, s := range list {
			n += len(s) + len(`"",`)
		}
		return n
	}
	claims := 0
	for name, text := range g.Claims {
		claims += len(name) + len(text) + len(`"":"",`)
	}
	what := ""
	if size > 0 {
		what = fmt.Sprintf(" (%d bytes)", size)
	}
	// Encoding makes four bytes of three.
	return fmt.Errorf("%w%s: %d roles take about %d bytes of it, %d groups %d, %d claims %d; let the configuration take over fewer with its lines `role`, `group` and `claim`",
		ErrTooLarge, what, len(g.Roles), bytes(g.Roles)*4/3, len(g.Groups), bytes(g.Groups)*4/3, len(g.Claims), claims*4/3)
}

// clone is a grant that shares nothing with the caller's.
func (g Grant) clone() Grant {
	g.Roles, g.Groups, g.AMR, g.Claims = slices.Clone(g.Roles), slices.Clone(g.Groups), slices.Clone(g.AMR), maps.Clone(g.Claims)
	return g
}

// newID returns 128 random bits (RFC 4648, base64url). rand.Read never fails.
func newID() string {
	var raw [idBytes]byte
	rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func second(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
