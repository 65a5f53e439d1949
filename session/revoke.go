package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// revokeTimeout bounds a revocation, which goes on when the browser hangs up.
	revokeTimeout = 10 * time.Second
)

// User names an account by its source and subject, or everybody of a username, or
// both.
type User struct{ Source, Subject, Username string }

// Revoke ends a session for good, as a sign-out does. When it returns nil the
// revocation is durable, holds on this node and its watchers have been told; other
// nodes follow within milliseconds. On an error nothing is certain: tell the person
// that the sign-out failed. The end of ctx does not stop a revocation that has
// begun, since a browser that hangs up still wanted to sign out. It is safe to
// repeat.
func (m *Manager) Revoke(ctx context.Context, sid string) error {
	if !isID(sid) {
		return errors.New("revoking session: not a session id")
	}
	if err := m.revoking(); err != nil {
		return fmt.Errorf("revoking session: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	if err := m.end(ctx, sid, causeSignedOut); err != nil {
		return fmt.Errorf("revoking session: %w", err)
	}
	return nil
}

// revoking asks only whether the manager runs: a store that was silent until now
// may take a revocation all the same.
func (m *Manager) revoking() error {
	if !m.running.Load() {
		return ErrClosed
	}
	return nil
}

// until is when a session that is revoked now has no token any more. It ends within
// the absolute lifetime; a node that has not heard yet may renew it for a while,
// and a token lives for a day at most.
func (m *Manager) until() time.Time {
	return m.now().Add(m.longest + longestIdle + staleAfter).Truncate(time.Second)
}

// end revokes one session.
func (m *Manager) end(ctx context.Context, sid string, c cause) error {
	return m.enact(ctx, revocation{Kind: labelRevoked, ID: sid, Reason: causeWords[c], Until: m.until().Unix()})
}

// enact makes revocations durable, obeys them and waits until they have cut whom
// they concern. A cut that hangs keeps nobody waiting: the session is over all the
// same.
func (m *Manager) enact(ctx context.Context, all ...revocation) error {
	if err := m.append(ctx, all...); err != nil {
		return err
	}
	cuts := m.obeyHere(all...)
	var over []owed
	for _, r := range all {
		if r.Kind == labelRevoked {
			over = append(over, owed{Entry: r})
		}
	}
	m.forget(ctx, over...)
	await(ctx, cuts)
	return nil
}

// carryOut obeys, on this node, revocations that the store did not take.
func (m *Manager) carryOut(ctx context.Context, all ...revocation) { await(ctx, m.obeyHere(all...)) }

func (m *Manager) obeyHere(all ...revocation) (cuts []<-chan struct{}) {
	for _, r := range all {
		cuts = append(cuts, m.take(r))
	}
	return append(cuts, m.cutRevoked())
}

func await(ctx context.Context, cuts []<-chan struct{}) {
	for _, done := range cuts {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

// RevokeUser ends every session of a user that began until now and returns how many
// live ones there were. Usernames are compared without regard to case. What is said
// of [Manager.Revoke] holds here too; an error may come after some have ended, and with
// a [Config.Journal] means "not everywhere yet": it holds here, and everywhere as soon
// as the store is back.
func (m *Manager) RevokeUser(ctx context.Context, u User) (n int, err error) {
	if u.Username == "" && (u.Source == "" || u.Subject == "") {
		return 0, errors.New("revoking user: a username, or a source and a subject, is required")
	}
	if err := m.revoking(); err != nil {
		return 0, fmt.Errorf("revoking user: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	before := m.now().Unix()
	var all []revocation
	if u.Source != "" && u.Subject != "" {
		all = append(all, revocation{Kind: labelRevokedAccount, Key: accountID(u.Source, u.Subject).String(), Before: before, Until: m.untilOf(before)})
	}
	if u.Username != "" {
		all = append(all, revocation{Kind: labelRevokedUsername, Key: usernameID(u.Username).String(), Before: before, Until: m.untilOf(before)})
	}
	if err := m.enact(ctx, all...); err != nil {
		m.putOff(ctx, listOf(u), all...)
		return 0, fmt.Errorf("revoking user: %w", err)
	}
	// One by one as well, so that it does not matter whose clock was ahead.
	records, err := m.recordsOf(ctx, u)
	if err != nil {
		return 0, fmt.Errorf("revoking user: %w", err)
	}
	for batch := range slices.Chunk(records, batchSize) {
		all = all[:0]
		for _, r := range batch {
			all = append(all, revocation{Kind: labelRevoked, ID: r.ID, Reason: causeWords[causeUser], Until: m.until().Unix()})
		}
		if err := m.enact(ctx, all...); err != nil {
			return n, fmt.Errorf("revoking user: %w", err)
		}
		n += len(batch)
	}
	return n, nil
}

// recordsOf returns the sign-ons of a user that were not revoked one by one.
func (m *Manager) recordsOf(ctx context.Context, u User) ([]*record, error) {
	now := m.now()
	own := func(r *record) bool {
		return r.ID != "" && now.Unix() < min(r.Expires, r.Ends) && !m.live.isRevoked(r.ID) &&
			(u.Source != "" && r.Source == u.Source && r.Subject == u.Subject || u.Username != "" && usernameID(r.Username) == usernameID(u.Username))
	}
	if u.Username != "" {
		return m.allRecords(ctx, own)
	}
	var list account
	if _, err := m.readCell(ctx, accountKey(u.Source, u.Subject), &list); err != nil {
		return nil, err
	}
	return m.listedRecords(ctx, list.Sessions, own)
}
