package session

import (
	"crypto/sha256"
	"crypto/subtle"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

var (
	errToken    error = none("token refused")
	errContext  error = none("context does not match")
	errExpired  error = none("expired")
	errRevoked  error = none("revoked")
	errMoved    error = none("moved to another sign-in")
	errProvider error = none("ended by the identity provider")
	errKey      error = none("signing key retired")
	errAudience error = none("another site's token")
)

// Find returns the session that the Cookie lines of a request carry for host, the
// host as the browser sent it. The error is [ErrNone] for everything that is not a
// session, [ErrStale] for a good session while the store is silent, [ErrClosed]
// when the manager does not run. With ErrStale the session is returned when this
// node had verified it before it last heard from the store; whether that is enough,
// and for how long ([Manager.Silence]), is the caller's to decide. Nothing leaves the process, and a token that was
// seen before costs two hashes.
func (m *Manager) Find(cookieLines []string, host string) (*Session, error) {
	v, err := m.find(cookieLines, host, m.now())
	if v == nil {
		return nil, err
	}
	return v.session, err
}

func (m *Manager) find(cookieLines []string, host string, now time.Time) (*verified, error) {
	token, contextValue, err := scan(cookieLines)
	if err != nil {
		return nil, err
	}
	if !m.running.Load() {
		return nil, ErrClosed
	}
	raw, ok := decodeContext(contextValue)
	if !ok {
		return nil, errCookie
	}
	if m.skewed() {
		return nil, ErrStale // no time in a token can be judged: neither "expired" nor "good" would be true
	}
	// The exact bytes are the key: a prefix or the sid would let a forged
	// token borrow another one's verification.
	key := hash(token)
	v := m.cache.get(key)
	cached := v != nil
	if !cached {
		if v, err = m.verify(token, now); err != nil {
			return nil, err
		}
	}
	// What changes with time or with the request is asked each time.
	confirm := sha256.Sum256(raw[:])
	switch {
	case subtle.ConstantTimeCompare(confirm[:], v.session.context[:]) != 1:
		return nil, errContext
	case !isAudience(v.session.Audience, host):
		return nil, errAudience
	case now.Unix() >= v.expires || now.Add(aheadAtMost).Before(v.session.IssuedAt):
		return nil, errExpired
	case m.ring.Load().find(v.kid) == nil:
		return nil, errKey
	}
	if err := m.revoked(v); err != nil {
		return nil, err
	}
	stale := m.stale(now)
	if stale && !m.live.known(v.session.ID, *m.heard.Load()) {
		return nil, ErrStale
	}
	if !cached {
		m.live.seen(v.session, now)
		m.cache.put(key, v)
	}
	if stale {
		return v, ErrStale
	}
	return v, nil
}

// revoked says whether a token's session was revoked. It looks once in each
// generation of the revocations.
func (m *Manager) revoked(v *verified) error {
	generation := m.live.over.generation.Load()
	if v.looked.Load() == generation {
		return nil
	}
	if why := m.live.over.why(&v.names); why != notRevoked {
		return why.err()
	}
	v.looked.Store(generation)
	return nil
}

// verify checks a token as such, in the order of RFC 8725: shape, algorithm,
// type, key, signature, claims.
func (m *Manager) verify(token string, now time.Time) (*verified, error) {
	t, err := jws.Parse(token)
	if err != nil {
		return nil, errToken
	}
	// Our own tokens have one spelling of typ, and one algorithm.
	if t.Header.Alg != "EdDSA" || t.Header.Typ != tokenType {
		return nil, errToken
	}
	key := m.ring.Load().find(t.Header.Kid)
	if key == nil {
		return nil, errToken
	}
	if err := t.Verify("EdDSA", key.public); err != nil {
		return nil, errToken
	}
	claims, err := t.Claims()
	if err != nil {
		return nil, errToken
	}
	s, err := m.readSession(claims, now)
	if err != nil {
		return nil, errToken
	}
	return &verified{session: s, kid: key.kid, expires: s.Expires.Unix(), names: namesOf(s.ID, &s.Grant, s.Started)}, nil
}

// hash is the SHA-256 of a string's bytes, through a buffer on the stack: a
// conversion would copy the token to the heap at every request. Most tokens fit
// the small buffer, which costs less to clear than to hash.
func hash(token string) [32]byte {
	var small [1024]byte
	if len(token) <= len(small) {
		return sha256.Sum256(small[:copy(small[:], token)])
	}
	var buffer [maxCookie]byte
	return sha256.Sum256(buffer[:copy(buffer[:], token)])
}
