package envelope_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/envelope/mastertest"
)

// TestLocalMaster: the key file passes the suite that every master passes.
func TestLocalMaster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	b := mastertest.Backend{Limit: time.Second, Open: func(t *testing.T) envelope.Master {
		m, err := envelope.OpenLocal(path)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}}
	mastertest.Run(t, b)
	mastertest.RunEnvelope(t, b)
}
