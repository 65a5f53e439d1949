package session

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	assertionLife  = 60 * time.Second
	assertionReuse = 30 * time.Second
	// mintEntries bounds the assertions in memory. One is a kilobyte or two.
	mintEntries = 16384
	mintShards  = 16
	maxAudience = 255
)

// Assertion returns a signed statement for an application: who the session is,
// for that audience and the next minute at most, never beyond the session's idle
// end. It is a JWT of typ anteroom-assertion+jwt by a key of its own, which
// verifies with [Manager.JWKS]; an application must check typ, iss, aud and exp.
// Its sid is the same for all assertions of one session and is not ours.
//
// One is made at most every 30 seconds for a session, its site and an audience,
// and again when what it says has changed; in between the same one comes back. It
// is for a session that [Manager.Find] has just returned. Errors: [ErrNone] for
// one that has ended, [ErrGrant] for an audience that is empty, too long or not
// text, [ErrClosed] as Find, [ErrTooLarge].
func (m *Manager) Assertion(s *Session, audience string) (string, error) {
	now := m.now()
	switch {
	case !m.running.Load():
		return "", fmt.Errorf("asserting session: %w", ErrClosed)
	case s == nil || s.ID == "":
		return "", fmt.Errorf("asserting session: %w", ErrNone)
	case now.Unix() >= s.Expires.Unix():
		return "", fmt.Errorf("asserting session: %w", errExpired)
	case audience == "" || len(audience) > maxAudience || !isText(audience):
		return "", fmt.Errorf("asserting session: audience: %w", ErrGrant)
	}
	r := m.keys.assertions.Load()
	key := mintKey{s.ID, s.Issuer, audience}
	shard := m.keys.minted.shard(key)
	shard.mu.RLock()
	a := shard.young[key]
	good := a.good(s, r, now)
	shard.mu.RUnlock()
	if !good {
		var err error
		if a, err = shard.mint(key, r, s, now); err != nil {
			return "", fmt.Errorf("asserting session: %w", err)
		}
	}
	// Asked each time, of what was made long ago as of what is new.
	if err := m.revoked(&a.verified); err != nil {
		return "", fmt.Errorf("asserting session: %w", err)
	}
	return a.token, nil
}

// mint makes an assertion. Of parallel requests one does and the others find it.
func (s *mintShard) mint(key mintKey, r *ring, session *Session, now time.Time) (*assertion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.get(key)
	if !a.good(session, r, now) {
		var err error
		if a, err = r.assert(session, key.audience, now); err != nil {
			return nil, err
		}
	}
	s.put(key, a)
	return a, nil
}

// assert makes an assertion.
func (r *ring) assert(s *Session, audience string, now time.Time) (*assertion, error) {
	k := r.signer(now)
	if k == nil {
		return nil, fmt.Errorf("no key may sign: %w", ErrClosed)
	}
	issued := second(now)
	expires := earlier(issued.Add(assertionLife), s.Expires)
	// No confirmation and not our sid: whoever reads it in an application learns
	// nothing that could be used as a session or to end one.
	w := s.statement(audience, issued, expires, newID(), assertionID(s.ID))
	token, err := jws.Sign(k.private, k.kid, assertionType, w)
	if err != nil {
		// Everything in it was checked before: only its size is left.
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return &assertion{
		verified: verified{session: s, kid: k.kid, expires: expires.Unix(), names: namesOf(s.ID, &s.Grant, s.Started)},
		token:    token, made: now,
	}, nil
}

// assertionID is the sid that applications see.
func assertionID(sid string) string {
	sum := sha256.Sum256([]byte(labelAssertionID + "\x00" + sid))
	return base64.RawURLEncoding.EncodeToString(sum[:idBytes])
}

// assertion is one that was made, with what a verified token is remembered with:
// the session that it was made for, the key, and whether that was revoked.
type assertion struct {
	verified
	caller *Caller // nil: made for a session
	token  string
	made   time.Time
}

// good says whether it may be given out for s now. Its place in the cache says
// that session, site and audience are the same; whether it still tells the truth
// is asked each time: roles change with a renewal, keys are killed.
func (a *assertion) good(s *Session, r *ring, now time.Time) bool {
	return a != nil && a.caller == nil && a.isYoung(r, now) && (a.session == s || sameClaims(a.session, s))
}

func (a *assertion) isYoung(r *ring, now time.Time) bool {
	return !now.Before(a.made) && now.Sub(a.made) < assertionReuse && now.Unix() < a.expires && r.find(a.kid) != nil
}

// sameClaims says whether two tokens of one session on one site give the same
// assertion.
func sameClaims(a, b *Session) bool {
	return a.ID == b.ID && a.Issuer == b.Issuer && sameGrant(&a.Grant, &b.Grant)
}

// sameGrant compares what no assertion says, too: it is one rule less to keep in mind.
func sameGrant(a, b *Grant) bool {
	return a.Source == b.Source && a.Subject == b.Subject &&
		a.Username == b.Username && a.Name == b.Name && a.Email == b.Email && a.Org == b.Org && a.ACR == b.ACR &&
		a.ProviderSession == b.ProviderSession && a.AuthTime.Equal(b.AuthTime) && slices.Equal(a.Roles, b.Roles) &&
		slices.Equal(a.Groups, b.Groups) && slices.Equal(a.AMR, b.AMR) &&
		a.Device == b.Device && maps.Equal(a.Claims, b.Claims)
}

// mint remembers the assertions that were made. The key is the three values, not
// a text made of them: no two sessions, sites or audiences ever meet in one.
type mint struct {
	shards [mintShards]mintShard
}

type mintKey struct{ sid, issuer, audience string }

// mintShard has two generations, as those of the verified tokens.
type mintShard struct {
	mu         sync.RWMutex
	limit      int
	young, old map[mintKey]*assertion
}

func (m *mint) init(entries int) {
	for i := range m.shards {
		m.shards[i].limit = max(1, entries/mintShards/2)
		m.shards[i].young = make(map[mintKey]*assertion)
	}
}

// shard chooses by the last but one character of a sid, one of 64 and random.
func (m *mint) shard(key mintKey) *mintShard {
	return &m.shards[key.sid[max(0, len(key.sid)-2)]%mintShards]
}

func (s *mintShard) get(key mintKey) *assertion {
	if a := s.young[key]; a != nil {
		return a
	}
	return s.old[key]
}

func (s *mintShard) put(key mintKey, a *assertion) {
	if s.young[key] == nil && len(s.young) >= s.limit {
		s.old = s.young
		s.young = make(map[mintKey]*assertion)
	}
	s.young[key] = a
	delete(s.old, key)
}
