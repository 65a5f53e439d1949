package session

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// minPrefix is the least of a key's name that KillKey takes for it.
const minPrefix = 8

// KeyError says that a name stands for no key, or for several.
type KeyError struct {
	KID     string
	Matches int
}

func (e *KeyError) Error() string {
	switch {
	case e.Matches > 1:
		return fmt.Sprintf("%d signing keys begin with %q; give more of the name", e.Matches, e.KID)
	case len(e.KID) < minPrefix:
		return fmt.Sprintf("a signing key is named by its kid or by at least its first %d characters", minPrefix)
	}
	return fmt.Sprintf("no signing key is named %q", e.KID)
}

// KillKey makes an end of a session or assertion key that may have been stolen,
// whose name or first eight or more characters are given. What it signed is
// refused: on this node before anything else happens, even when the store then
// fails; on other nodes, with open connections cut, as soon as they read the feed.
// No process that has heard of it takes the key again, also when the store is set
// back to a time when it was good. When no key is left to sign, a new one does at
// once. When it returns nil that is durable; on an error it is not: repeat it. The
// error is a [KeyError] when the name is not one key's.
//
// Everybody whose session the key signed must sign in again.
func (m *Manager) KillKey(ctx context.Context, kid string) error {
	if !m.running.Load() {
		return fmt.Errorf("killing signing key: %w", ErrClosed)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	kid, err := m.killStored(ctx, kid)
	if err != nil {
		return fmt.Errorf("killing signing key: %w", err)
	}
	// The record says it as well. The feed says it sooner, and again when
	// somebody sets the record back and starts a process anew.
	until := m.now().Add(killedFor)
	value, err := json.Marshal(struct {
		Kind  string `json:"kind"`
		KID   string `json:"kid"`
		Until int64  `json:"until"`
	}{labelKilledKey, kid, until.Unix()})
	if err != nil {
		return fmt.Errorf("killing signing key: %w", err)
	}
	if _, err := m.store.Append(ctx, value, until); err != nil {
		return fmt.Errorf("killing signing key: %w", err)
	}
	return nil
}

// killStored refuses the key here and takes it out of its record.
func (m *Manager) killStored(ctx context.Context, name string) (string, error) {
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	kid, err := m.nameKey(name)
	if err != nil {
		// Another node may have made it a moment ago.
		for _, p := range purposes {
			if err := m.refresh(ctx, p, nil); err != nil {
				return "", err
			}
		}
		if kid, err = m.nameKey(name); err != nil {
			return "", err
		}
	}
	m.kill(kid)
	for _, p := range purposes {
		if err := m.refresh(ctx, p, nil); err != nil {
			return "", err
		}
	}
	return kid, nil
}

// nameKey finds the key that a name means. Killed ones count, so that a kill
// whose outcome was not known can be repeated.
func (m *Manager) nameKey(name string) (string, error) {
	found := make(map[string]struct{})
	if len(name) >= minPrefix {
		for kid := range m.keys.killed {
			found[kid] = struct{}{}
		}
		for _, p := range purposes {
			if r := m.ringOf(p).Load(); r != nil {
				for _, k := range r.keys {
					found[k.kid] = struct{}{}
				}
			}
		}
		maps.DeleteFunc(found, func(kid string, _ struct{}) bool { return !strings.HasPrefix(kid, name) })
	}
	if len(found) != 1 {
		return "", &KeyError{KID: name, Matches: len(found)}
	}
	return slices.Collect(maps.Keys(found))[0], nil
}

// kill refuses a key in this process from now on. keys.mu is held.
func (m *Manager) kill(kid string) {
	m.keys.killed[kid] = struct{}{}
	for _, p := range purposes {
		if r := m.ringOf(p).Load(); r.find(kid) != nil {
			m.useRing(p, r)
		}
	}
}

// replaceKeys kills all session keys; a new one signs at once. Those of assertions
// stay: applications that keep a copy of the JWK set would refuse everybody, and
// whoever has one of them makes no session.
func (m *Manager) replaceKeys(ctx context.Context) error {
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	for _, k := range m.ring.Load().keys {
		m.kill(k.kid)
	}
	return m.refresh(ctx, forSessions, nil)
}

// obeyKilledKey takes in a feed entry that kills a key.
func (m *Manager) obeyKilledKey(r revocation) error {
	if !isKID(r.KID) {
		return errFeed
	}
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	m.kill(r.KID)
	return nil
}
