package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/anteroom-proxy/anteroom/session"
)

// markFile keeps, beside the master key, up to where this node has heard the revocation feed. A store that was set back to an
// older state is recognized by it at the next start: sessions that were ended since would live again.
type markFile struct {
	path  string
	store string // a mark of another store says nothing about this one
}

// mark is the mark of this app's store.
func (a *App) mark() session.Mark {
	sum := sha256.Sum256([]byte(a.storeFrom.Name(a.Directory)))
	return markFile{path: filepath.Join(a.Directory, "feed.mark"), store: hex.EncodeToString(sum[:8])}
}

// Load returns the cursor, "" when there is none for this store.
func (m markFile) Load() (string, error) {
	text, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	store, cursor, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if store != m.store {
		return "", nil
	}
	return cursor, nil
}

// Save replaces the file, so that a crash leaves the old one or the new one.
func (m markFile) Save(cursor string) error {
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	next := m.path + ".new"
	if err := os.WriteFile(next, []byte(m.store+" "+cursor+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, m.path)
}
