package session

import (
	"errors"
	"testing"

	"github.com/anteroom-proxy/anteroom/store"
)

// wantErased expects that the store holds nothing any more of what was kept.
func wantErased(t *testing.T, m *Manager, sid string) {
	t.Helper()
	if _, err := m.store.Get(t.Context(), keptKey(sid)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was kept is still there: %v", err)
	}
	if got, err := m.Kept(t.Context(), sid); got != nil || err != nil {
		t.Errorf("kept: %d bytes, %v", len(got), err)
	}
}
