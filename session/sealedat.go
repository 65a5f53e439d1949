package session

import (
	"context"
	"fmt"
	"strings"
)

// sealedCells are the purposes whose store keys are made by cellKey: each value is
// sealed under the whole key.
var sealedCells = [...]string{labelRecord, labelList, labelRenewal, labelKept, labelOpened}

// SealedAt says under which label the value at a store key of this package is sealed,
// for whoever seals all of them anew under another key. ok is false for keys of others
// and for what is not sealed.
func SealedAt(key string) (label string, ok bool) {
	for _, p := range purposes {
		if key == p.record {
			return p.seal, true
		}
	}
	for _, prefix := range sealedCells {
		if strings.HasPrefix(key, prefix+"/") {
			return key, true
		}
	}
	return "", false
}

// SealedFirst are the store keys without which no manager starts: they are sealed anew
// before the key that sealed them is refused.
func SealedFirst() []string { return []string{forSessions.record, forAssertions.record} }

// EndAll ends every session that began until now, on every node. When it returns nil
// that is durable. It is safe to repeat: whoever signed in meanwhile signs in once
// more. Where keys may have been stolen, kill them as well ([Manager.KillKey]).
func (m *Manager) EndAll(ctx context.Context) error {
	if err := m.revoking(); err != nil {
		return fmt.Errorf("ending all sessions: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	now := m.now().Unix()
	if err := m.enact(ctx, revocation{Kind: labelRevokedAll, Before: now, Until: m.untilOf(now)}); err != nil {
		return fmt.Errorf("ending all sessions: %w", err)
	}
	return nil
}
