package bolt_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
	"github.com/anteroom-proxy/anteroom/store/storetest"
)

func openStore(t *testing.T, path string, now func() time.Time) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(bolt.Config{Path: path, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.Store {
		return openStore(t, filepath.Join(t.TempDir(), "data", "anteroom.db"), now)
	})
}
