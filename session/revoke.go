package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// revokeTimeout bounds a revocation, which goes on when the browser hangs up.
const revokeTimeout = 10 * time.Second

// revocation is one feed entry.
type revocation struct {
	Kind  string `json:"kind"`
	ID    string `json:"sid"`
	KID   string `json:"kid,omitempty"`
	Until int64  `json:"until"` // seconds: the session cannot live longer
}

var errFeed = errors.New("the revocation feed holds an entry that this version does not understand; run the newest version on every node")

// Revoke ends a session for good. When it returns nil the revocation is durable,
// holds on this node and its watchers have been told; other nodes follow within
// about a second. On an error nothing is certain: tell the person that the
// sign-out failed. The end of ctx does not stop a revocation that has begun,
// since a browser that hangs up still wanted to sign out. It is safe to repeat.
func (m *Manager) Revoke(ctx context.Context, sid string) error {
	if !isID(sid) {
		return errors.New("revoking session: not a session id")
	}
	if !m.running.Load() {
		return fmt.Errorf("revoking session: %w", ErrClosed)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	// The session ends within the absolute lifetime from now; a node that
	// has not heard yet may renew for half a minute more.
	until := m.now().Add(m.longest + longestIdle + staleAfter).Truncate(time.Second)
	value, err := json.Marshal(revocation{Kind: labelRevoked, ID: sid, Until: until.Unix()})
	if err != nil {
		return fmt.Errorf("revoking session: %w", err)
	}
	if _, err := m.store.Append(ctx, value, until); err != nil {
		return fmt.Errorf("revoking session: %w", err)
	}
	select {
	case <-m.fire(m.live.revoke(sid, until.Unix()), ErrNone):
	case <-ctx.Done(): // somebody's cut hangs; the session is over all the same
	}
	return nil
}

// User names an account by its source and subject, or everybody of a username, or
// both.
type User struct{ Source, Subject, Username string }

// RevokeUser ends every session of a user that began until now and returns how
// many live ones there were.
func (m *Manager) RevokeUser(ctx context.Context, u User) (n int, err error) {
	return 0, fmt.Errorf("revoking user: %w", m.available())
}

// RevokeProviderSession ends every session that began with this session of the
// provider, as it says by back-channel logout.
func (m *Manager) RevokeProviderSession(ctx context.Context, source, sid string) error {
	return fmt.Errorf("revoking provider session: %w", m.available())
}

// providerSession is what a token holds of a provider's session id.
func providerSession(source, sid string) string {
	key := keyOf(labelProvider, source, sid)
	return base64.RawURLEncoding.EncodeToString(key[:])
}

// keyOf is 128 bits of SHA-256 over texts with their lengths, so that no two lists
// of texts look the same.
func keyOf(label string, texts ...string) (key [16]byte) {
	h := sha256.New()
	for _, text := range append([]string{label}, texts...) {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(text)))
		h.Write(size[:])
		h.Write([]byte(text))
	}
	copy(key[:], h.Sum(nil))
	return key
}

// obey takes in one feed entry. An entry of ours that is not understood is an
// error, which makes the node stale: it may well be a revocation.
func (m *Manager) obey(value []byte) error {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(value, &kind); err != nil || kind.Kind == "" {
		return errFeed
	}
	if !strings.HasPrefix(kind.Kind, labelFamily) {
		return nil // another package's
	}
	var r revocation
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err == nil && r.Kind == labelKilledKey {
		return m.obeyKilledKey(r)
	} else if err != nil || r.Kind != labelRevoked || !isID(r.ID) || r.Until < 1 {
		return errFeed
	}
	if r.Until > m.now().Unix() {
		m.fire(m.live.revoke(r.ID, r.Until), ErrNone)
	}
	return nil
}
