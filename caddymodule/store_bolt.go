package caddymodule

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/anteroom-proxy/anteroom/store/bolt"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Bolt is the embedded store: one file, `store.db` in the app's directory. It needs no other
// process and serves one machine.
type Bolt struct{}

// CaddyModule returns the module's information.
func (*Bolt) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom.store.bolt", New: func() caddy.Module { return new(Bolt) }}
}

// UnmarshalCaddyfile reads
//
//	store bolt
func (*Bolt) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "bolt"
	if d.NextArg() || d.NextBlock(0) {
		return d.Errf("`store bolt` takes nothing more; its folder is set by `directory`")
	}
	return nil
}

// Key names the file, for the pool.
func (*Bolt) Key(dir string) string { return "bolt " + filepath.Join(dir, "store.db") }

// Name is the same.
func (b *Bolt) Name(dir string) string { return b.Key(dir) }

// OpenStore opens the file; another process that holds it is an error after a short wait. Whoever can read the file can read
// the master key beside it: what must be sealed is sealed by those who store it.
func (b *Bolt) OpenStore(dir string, m masters, logger *slog.Logger) (sealedStore, error) {
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store.db"), Logger: logger})
	if err != nil {
		return sealedStore{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	env, err := m.ring(ctx, b.Name(dir), ringOwn, s, poolLogger("envelope"))
	if err != nil && !away(err) { // what lies there unsealed, password rings among it, is served meanwhile
		return sealedStore{}, errors.Join(err, s.Close())
	}
	stop := follow(env)
	return sealedStore{&heldBolt{s, stop}, env, s, err}, nil
}

// heldBolt is a store whose key ring is followed until it is closed.
type heldBolt struct {
	*bolt.Store
	stop func()
}

// Close ends the following first, which reads from the store.
func (h *heldBolt) Close() error { h.stop(); return h.Store.Close() }
