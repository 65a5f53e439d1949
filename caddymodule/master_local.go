package caddymodule

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// MasterLocal is a master key in a file: 32 bytes, mode 0600, made at the first start. All nodes of one store need the same file.
type MasterLocal struct {
	formerSite
	// The file. Default: `master.key` in the app's directory.
	File string `json:"file,omitempty"`
	// Where the line stands, for messages.
	At string `json:"at,omitempty"`

	there bool // it must exist: none is made
}

// CaddyModule returns the module's information.
func (*MasterLocal) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom.master.local", New: func() caddy.Module { return new(MasterLocal) }}
}

// UnmarshalCaddyfile reads
//
//	master local [FILE] {
//		former local FILE | awskms KEY { … }   # what wrapped the data keys before; may be repeated
//	}
func (m *MasterLocal) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "local"
	m.At = at(d)
	switch args := d.RemainingArgs(); {
	case len(args) > 1:
		return d.Errf("local takes one file, not %q besides", args[1])
	case len(args) == 1:
		m.File = args[0]
		if !filepath.IsAbs(m.File) {
			return d.Errf("local %q: write the absolute path of the key file", m.File)
		}
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if word := d.Val(); word != "former" {
			return d.Errf("unrecognized line %q of local; want former", word)
		}
		if err := m.formerLine(d); err != nil {
			return err
		}
	}
	return nil
}

// Provision loads the predecessors.
func (m *MasterLocal) Provision(ctx caddy.Context) error { return m.provisionFormer(ctx) }

// Key tells two settings apart.
func (m *MasterLocal) Key(dir string) string { return "local " + m.path(dir) + m.formerKey(dir) }

func (m *MasterLocal) path(dir string) string {
	if m.File == "" {
		return filepath.Join(dir, "master.key")
	}
	return filepath.Clean(m.File)
}

func (*MasterLocal) cache() (time.Duration, int64) { return 0, 0 }

// existing is the same file, which must be there: a former master that is made anew has wrapped nothing.
func (m *MasterLocal) existing() *MasterLocal {
	e := *m
	e.there = true
	return &e
}

// Open reads the file, and makes it when nothing can have been sealed yet.
func (m *MasterLocal) Open(ctx context.Context, dir string, logger *slog.Logger) (envelope.Master, []envelope.Master, error) {
	former, err := m.openFormer(ctx, dir, logger)
	if err != nil {
		return nil, nil, err
	}
	key, db := m.path(dir), filepath.Join(dir, "store.db")
	switch {
	case exists(key):
	case m.there:
		return nil, nil, fmt.Errorf("%s: the former master key %s is missing: put it back from a backup, or remove the line `former` when `anteroom keys status` names nothing under it", m.where(), key)
	case exists(db) && len(former) == 0:
		// A new key would open nothing of what the old one sealed, and hide that it is lost.
		return nil, nil, fmt.Errorf("the master key %s is missing, but the store %s that it sealed is there: put the key back from a backup; without one, move the store away, which ends all sessions and loses every password ring in it; when the master key was in AWS KMS, name it with `former awskms KEY`", key, db)
	}
	local, err := envelope.OpenLocal(key)
	if err != nil {
		return nil, nil, err
	}
	if next := key + nextKeySuffix; exists(next) { // `keys rotate master` was cut short, and goes on (keyFile)
		m, err := envelope.OpenLocal(next)
		if err != nil {
			return nil, nil, err
		}
		return m, unique(m, append([]envelope.Master{local}, former...)), nil
	}
	return local, unique(local, former), nil
}

func (m *MasterLocal) where() string {
	if m.At == "" {
		return "master"
	}
	return m.At
}

var _ Master = (*MasterLocal)(nil)
