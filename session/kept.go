package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// maxKeep bounds what an identity source may have kept. Three tokens of 8 KiB fit.
const maxKeep = 24 << 10

// Kept is what lies in the store for the identity source of a sign-on.
type Kept struct {
	Bytes    []byte    // as the source gave them last; may be nil
	Verified time.Time // when the source vouched last
	// Unsure says that an earlier asking was cut off, by a crash or a timeout: the
	// source may have used Bytes up without our hearing what comes after them. That it
	// refuses them then may mean only that.
	Unsure bool
}

// kept is how it lies there, sealed: one cell for a sign-on on all its sites. Fence
// and Holder say who asks the source, so that one does at a time: a refresh token is
// replaced at each use, and the provider takes the second use of one for theft.
type kept struct {
	Bytes    []byte `json:"keep,omitempty"`
	Verify   bool   `json:"verify,omitempty"`
	Verified int64  `json:"verified"`       // seconds
	Told     *told  `json:"told,omitempty"` // nil: as at the sign-in
	Lives    int64  `json:"lives"`          // seconds: its own expiry

	Fence  uint64 `json:"fence"`
	Holder string `json:"holder,omitempty"`
	Until  int64  `json:"until,omitempty"`  // milliseconds: when another one may ask
	Rest   int64  `json:"rest,omitempty"`   // milliseconds: not to be asked before
	Silent bool   `json:"silent,omitempty"` // the last asking brought no verdict
	Unsure bool   `json:"unsure,omitempty"`
}

// told is what a verdict may change of a grant. Who it is, how they proved it, with
// which browser, and the provider's session are not in it: a level never rises by
// itself.
type told struct {
	Username string            `json:"username,omitempty"`
	Name     string            `json:"name,omitempty"`
	Email    string            `json:"email,omitempty"`
	Roles    []string          `json:"roles,omitempty"`
	Groups   []string          `json:"groups,omitempty"`
	Claims   map[string]string `json:"claims,omitempty"`
	Org      string            `json:"org,omitempty"`
}

func (t *told) grant(g Grant) Grant {
	if t != nil {
		g.Username, g.Name, g.Email, g.Org = t.Username, t.Name, t.Email, t.Org
		g.Roles, g.Groups, g.Claims = slices.Clone(t.Roles), slices.Clone(t.Groups), maps.Clone(t.Claims)
	}
	return g
}

// tell is the inverse of told.grant.
func tell(g Grant) *told {
	g = g.clone()
	return &told{Username: g.Username, Name: g.Name, Email: g.Email, Roles: g.Roles, Groups: g.Groups, Claims: g.Claims, Org: g.Org}
}

func keptKey(sid string) string { return cellKey(labelKept, sid) }

// lives is when the cell of a sign-on that is renewed now has to be there still: at the
// idle end, and a little later, so that not each renewal has to move it on.
func lives(now time.Time, idle time.Duration, ends time.Time) int64 {
	return earlier(now.Add(idle+verifyEvery(idle)), ends).Unix() + 1
}

// readKept returns what is kept of a sign-on, or nil, and what lies in the store.
func (m *Manager) readKept(ctx context.Context, sid string) (*kept, []byte, error) {
	var k kept
	sealed, err := m.readCell(ctx, keptKey(sid), &k)
	if err != nil || sealed == nil {
		return nil, nil, err
	}
	return &k, sealed, nil
}

func (m *Manager) writeKept(ctx context.Context, sid string, old []byte, k *kept) ([]byte, error) {
	return m.writeCell(ctx, keptKey(sid), old, k, time.Unix(k.Lives, 0))
}

// keep writes what the source of a new sign-on gave.
func (m *Manager) keep(ctx context.Context, s *Session, a Admission) error {
	if len(a.Keep) == 0 && !a.Verify {
		return nil
	}
	now := m.now()
	k := kept{Bytes: a.Keep, Verify: a.Verify, Verified: now.Unix(), Lives: lives(now, s.idle, s.Ends)}
	_, err := m.writeKept(ctx, s.ID, nil, &k)
	return err
}

// moveOn keeps the cell for as long as a token that is made now may live.
func (m *Manager) moveOn(ctx context.Context, s *Session, sealed []byte, k *kept, life Lifetime) error {
	now, ends := m.now(), s.Started.Add(life.Absolute)
	if k.Lives > earlier(now.Add(life.Idle), ends).Unix() {
		return nil
	}
	next := *k
	next.Lives = lives(now, life.Idle, ends)
	_, err := m.writeKept(ctx, s.ID, sealed, &next)
	return err
}

// Kept returns what was kept for the identity source of a sign-on, nil when there is
// nothing. Of a sign-on that was revoked or is over it is nil as well: ask before
// [Manager.Revoke].
func (m *Manager) Kept(ctx context.Context, sid string) ([]byte, error) {
	if err := m.available(); err != nil {
		return nil, fmt.Errorf("reading what was kept of a session: %w", err)
	}
	r, _, err := m.readRecord(ctx, sid)
	if err != nil {
		return nil, fmt.Errorf("reading what was kept of a session: %w", err)
	}
	if r == nil || !m.isLive(r) {
		return nil, nil
	}
	k, _, err := m.readKept(ctx, sid)
	if err != nil {
		return nil, fmt.Errorf("reading what was kept of a session: %w", err)
	}
	if k == nil {
		return nil, nil
	}
	return bytes.Clone(k.Bytes), nil
}

// discard deletes what the store holds of a sign-on that is over: first what could be
// used elsewhere.
func (m *Manager) discard(ctx context.Context, sid string) error {
	return errors.Join(m.store.Delete(ctx, keptKey(sid)), m.store.Delete(ctx, recordKey(sid)))
}

// unavailable says whether an error leaves open what the store did.
func unavailable(err error) bool {
	return errors.Is(err, store.ErrUnavailable)
}
